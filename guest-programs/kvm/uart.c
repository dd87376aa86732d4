#include "uart.h"

#include "system.h"

enum { DATA, INTERRUPTS, IDENTIFICATION, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS, MODEM_STATUS, SCRATCH };
enum { ON_DATA = 1, ON_EMPTY = 2 };           /* in INTERRUPTS */
enum { LATCH = 0x80 };                        /* in LINE_CONTROL: the divisor is in reach */
enum { OUT2 = 8, LOOP = 16 };                 /* in MODEM_CONTROL */
enum { IS_DATA = 4, IS_EMPTY = 2, IS_NONE = 1, FIFOS = 0xc0 }; /* in IDENTIFICATION */
enum { HAS_DATA = 1, EMPTY = 0x60 };          /* in LINE_STATUS: what is sent is gone at once */

/* Linux's terminal settings, of which only the modes count here (struct termios). */
struct terminal {
  u32 input, output, control, local;
  u8 rest[24];
};
enum { TERMINAL_GET = 0x5401, TERMINAL_SET = 0x5402 };

static struct {
  int machine, is_terminal;
  struct terminal before;
  u8 interrupts, line_control, modem_control, scratch, divisor[2], fifos;
  u8 data, has_data, was_emptied, line;
} uart;

static u8 cause(void) {
  if (uart.interrupts & ON_DATA && uart.has_data) return IS_DATA;
  if (uart.interrupts & ON_EMPTY && uart.was_emptied) return IS_EMPTY;
  return IS_NONE;
}

/* Drives the interrupt line. */
static void update(void) {
  u8 line = cause() != IS_NONE && uart.modem_control & OUT2;
  if (line == uart.line) return;
  uart.line = line;
  const u32 level[] = {4, line};
  request("KVM_IRQ_LINE", uart.machine, KVM_IRQ_LINE, level);
}

void uart_open(int machine) {
  uart.machine = machine;
  uart.is_terminal = call(SYS_IOCTL, 0, TERMINAL_GET, (u32)&uart.before) == 0;
  if (!uart.is_terminal) return;
  struct terminal raw = uart.before;
  raw.input = raw.output = raw.local = 0;
  call(SYS_IOCTL, 0, TERMINAL_SET, (u32)&raw);
}

void uart_close(void) {
  if (uart.is_terminal) call(SYS_IOCTL, 0, TERMINAL_SET, (u32)&uart.before);
}

void uart_poll(void) {
  struct {
    int file;
    u16 wanted, found;
  } input = {.file = 0, .wanted = 1};
  if (uart.has_data || call(SYS_POLL, (u32)&input, 1, 0) != 1) return;
  uart.has_data = call(SYS_READ, 0, (u32)&uart.data, 1) == 1;
  update();
}

/* With LOOP the modem's inputs are the outputs; without it there is a carrier, and the other end is ready. */
static u8 modem_status(void) {
  u8 out = uart.modem_control;
  if (!(out & LOOP)) return 0xb0;
  return (out & 0xc) << 4 | (out & 2) << 3 | (out & 1) << 5;
}

static u8 identification(void) {
  u8 found = cause();
  if (found == IS_EMPTY) uart.was_emptied = 0;
  return found | uart.fifos;
}

static u8 read_register(u16 n) {
  if (n <= INTERRUPTS && uart.line_control & LATCH) return uart.divisor[n];
  switch (n) {
    case DATA: uart.has_data = 0; return uart.data;
    case INTERRUPTS: return uart.interrupts;
    case IDENTIFICATION: return identification();
    case LINE_CONTROL: return uart.line_control;
    case MODEM_CONTROL: return uart.modem_control;
    case LINE_STATUS: return EMPTY | (uart.has_data ? HAS_DATA : 0);
    case MODEM_STATUS: return modem_status();
    default: return uart.scratch;
  }
}

u8 uart_read(u16 port) {
  u8 value = read_register(port - UART_FIRST);
  uart_poll();
  update();
  return value;
}

static void send(u8 value) {
  call(SYS_WRITE, 1, (u32)&value, 1);
  uart.was_emptied = 1;
}

static void write_register(u16 n, u8 value) {
  if (n <= INTERRUPTS && uart.line_control & LATCH) {
    uart.divisor[n] = value;
    return;
  }
  switch (n) {
    case DATA: send(value); break;
    case INTERRUPTS:
      if (value & ~uart.interrupts & ON_EMPTY) uart.was_emptied = 1;
      uart.interrupts = value & 15;
      break;
    case IDENTIFICATION: uart.fifos = value & 1 ? FIFOS : 0; break;
    case LINE_CONTROL: uart.line_control = value; break;
    case MODEM_CONTROL: uart.modem_control = value & 31; break;
    case SCRATCH: uart.scratch = value; break;
  }
}

void uart_write(u16 port, u8 value) {
  write_register(port - UART_FIRST, value);
  update();
}

/* Boots a Linux kernel on /dev/kvm: boot KERNEL INITRD [COMMAND LINE]. The machine has one processor, 64 MiB, the
   kernel's own interrupt controllers and timer, and the serial port of uart.c. It ends when its guest resets it. */
#include "system.h"
#include "uart.h"

#define MEMORY (64u << 20)
/* Where things lie in the guest's memory. */
#define GDT 0x8000u
#define PARAMETERS 0x10000u
#define COMMAND_LINE 0x20000u
#define KERNEL 0x100000u
/* Three pages that KVM may use for itself, in the guest's addresses. */
#define TSS 0xfffbd000

/* The boot protocol's header, and the parameters that begin with it (Documentation/arch/x86/boot.rst): offsets. */
enum {
  SETUP_SECTORS = 0x1f1,
  HEADER_LENGTH = 0x201,
  MAGIC = 0x202,
  LOADER = 0x210,
  RAMDISK = 0x218,
  RAMDISK_SIZE = 0x21c,
  COMMAND_LINE_AT = 0x228,
  MAP_ENTRIES = 0x1e8,
  MAP = 0x2d0,
};
enum { HDRS = 0x53726448, UNKNOWN_LOADER = 0xff };

/* Commands of the keyboard controller. */
enum { CONTROLLER = 0x64, RESET = 0xfe };

struct file {
  int number;
  u32 size;
};

static u8 *memory;
static struct run *shared;

static u32 *word(u32 at) { return (u32 *)(memory + at); }

static struct file open_file(const char *name) {
  struct file f = {.number = call(SYS_OPEN, (u32)name, 0, 0)};
  if (f.number < 0) fail("this file does not open: ", name);
  f.size = call(SYS_LSEEK, f.number, 0, END);
  return f;
}

/* Reads `size` bytes of `f` from `offset` on to guest address `to`. */
static void read_file(struct file f, u32 offset, u32 size, u32 to) {
  if (to > MEMORY || size > MEMORY - to) fail("the files do not fit into the guest's memory", "");
  call(SYS_LSEEK, f.number, offset, 0);
  for (u32 done = 0; done < size;) {
    int got = call(SYS_READ, f.number, (u32)memory + to + done, size - done);
    if (got <= 0) fail("a file cannot be read to its end", "");
    done += got;
  }
}

/* The kernel, its header among the parameters. */
static void load_kernel(const char *name) {
  struct file f = open_file(name);
  u8 *p = memory + PARAMETERS;
  if (f.size < 0x1000) fail("this is no Linux kernel: ", name);
  read_file(f, 0, 0x400, PARAMETERS);
  if (*(u32 *)(p + MAGIC) != HDRS) fail("this is no Linux kernel: ", name);
  u32 end = MAGIC + p[HEADER_LENGTH], setup = (p[SETUP_SECTORS] ? p[SETUP_SECTORS] : 4) * 512 + 512;
  for (u32 n = 0; n < 0x400; n++)
    if (n < SETUP_SECTORS || n >= end) p[n] = 0;
  read_file(f, setup, f.size - setup, KERNEL);
}

static void load_ramdisk(const char *name) {
  struct file f = open_file(name);
  u32 at = (MEMORY - f.size) & ~0xfff;
  read_file(f, 0, f.size, at);
  *word(PARAMETERS + RAMDISK) = at;
  *word(PARAMETERS + RAMDISK_SIZE) = f.size;
}

static void describe_memory(u32 n, u32 from, u32 to) {
  u32 *entry = word(PARAMETERS + MAP + 20 * n);
  entry[0] = from, entry[2] = to - from, entry[4] = 1 /* usable */;
  memory[PARAMETERS + MAP_ENTRIES] = n + 1;
}

static void fill_parameters(char **words) {
  char *at = (char *)memory + COMMAND_LINE;
  for (; *words; words++, *at++ = ' ')
    for (const char *c = *words; *c; c++) *at++ = *c;
  memory[PARAMETERS + LOADER] = UNKNOWN_LOADER;
  *word(PARAMETERS + COMMAND_LINE_AT) = COMMAND_LINE;
  describe_memory(0, 0, 0x9f000);
  describe_memory(1, KERNEL, MEMORY);
}

/* Flat segments, whose selectors the boot protocol fixes, and protected mode. */
static void start_processor(int processor) {
  struct system_registers s = {0};
  request("KVM_GET_SREGS", processor, KVM_GET_SREGS, &s);
  *word(GDT + 16) = *word(GDT + 24) = 0xffff;
  *word(GDT + 20) = 0xcf9b00, *word(GDT + 28) = 0xcf9300;
  s.gdt = (struct table){.base = GDT, .limit = 31};
  s.cs = (struct segment){.limit = ~0u, .selector = 16, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
  s.ds = (struct segment){.limit = ~0u, .selector = 24, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  s.es = s.fs = s.gs = s.ss = s.ds;
  s.cr0 |= 1;
  request("KVM_SET_SREGS", processor, KVM_SET_SREGS, &s);
  struct registers r = {.eip = KERNEL, .esi = PARAMETERS, .eflags = 2};
  request("KVM_SET_REGS", processor, KVM_SET_REGS, &r);
}

/* The processor is what KVM can make of the one below. It says that it is KVM's, whose clock Linux then uses. */
static void identify_processor(int kvm, int processor) {
  static struct cpuid all;
  all.entries = sizeof all.entry / sizeof *all.entry;
  request("KVM_GET_SUPPORTED_CPUID", kvm, KVM_GET_SUPPORTED_CPUID, &all);
  for (u32 n = 0; n < all.entries; n++)
    if (all.entry[n].leaf == 1) all.entry[n].ecx |= 1u << 31;
  request("KVM_SET_CPUID2", processor, KVM_SET_CPUID2, &all);
}

static int make_machine(int kvm) {
  int machine = request("KVM_CREATE_VM", kvm, KVM_CREATE_VM, 0);
  request("KVM_SET_TSS_ADDR", machine, KVM_SET_TSS_ADDR, (void *)TSS);
  request("KVM_CREATE_IRQCHIP", machine, KVM_CREATE_IRQCHIP, 0);
  static const struct timer timer = {.flags = 1 /* the speaker's port, too */};
  request("KVM_CREATE_PIT2", machine, KVM_CREATE_PIT2, &timer);
  struct memory_region all = {.size = MEMORY, .here = (u32)memory};
  request("KVM_SET_USER_MEMORY_REGION", machine, KVM_SET_USER_MEMORY_REGION, &all);
  return machine;
}

/* A signal is no answer to a byte that came just before KVM_RUN: the flag makes that call return at once. */
static void on_input(int signal) {
  (void)signal;
  shared->immediate_exit = 1;
}

asm("return_from_signal: pop eax; mov eax, 119; int 0x80");
void return_from_signal(void);

/* From now on a byte at the terminal is a signal. */
static u32 signal_input(void) {
  enum { SIGIO = 29, OWN_RETURN = 0x4000000, GET_FLAGS = 3, SET_FLAGS = 4, SET_OWNER = 8, SIGNALS = 0x2000 };
  struct {
    void (*handler)(int);
    u32 mask, flags;
    void (*after)(void);
  } action = {on_input, 0, OWN_RETURN, return_from_signal};
  call(SYS_SIGACTION, SIGIO, (u32)&action, 0);
  u32 flags = call(SYS_FCNTL, 0, GET_FLAGS, 0);
  call(SYS_FCNTL, 0, SET_OWNER, call(SYS_GETPID, 0, 0, 0));
  call(SYS_FCNTL, 0, SET_FLAGS, flags | SIGNALS);
  return flags;
}

/* An access of the guest to ports: only bytes of the serial port are anything. Whether the guest goes on. */
static int answer_port(void) {
  u8 *data = (u8 *)shared + shared->io.data_offset;
  u16 port = shared->io.port;
  int is_uart = port >= UART_FIRST && port <= UART_LAST && shared->io.size == 1;
  if (shared->io.out && port == CONTROLLER && *data == RESET) return 0;
  for (u32 n = 0; n < shared->io.count * shared->io.size; n++) {
    if (is_uart && shared->io.out) uart_write(port, data[n]);
    if (!shared->io.out) data[n] = is_uart ? uart_read(port) : 0xff;
  }
  return 1;
}

/* Answers an exit; whether the guest goes on. */
static int answer(void) {
  switch (shared->reason) {
    case KVM_EXIT_IO: return answer_port();
    case KVM_EXIT_MMIO: *(u64 *)shared->mmio.data = ~0ull; return 1;
    case KVM_EXIT_SHUTDOWN: return 0;
    default: print_hex("exit ", shared->reason), print_hex(" ", shared->suberror), fail("", "");
  }
}

static void run(int processor) {
  enum { INTERRUPTED = -4 };
  for (;;) {
    int result = call(SYS_IOCTL, processor, KVM_RUN, 0);
    if (result == INTERRUPTED) {
      shared->immediate_exit = 0;
      uart_poll();
    } else if (result < 0) {
      print_hex("KVM_RUN: error ", -result);
      return;
    } else if (!answer()) {
      print("the guest reset its machine\n");
      return;
    }
  }
}

__attribute__((used)) static void begin(u32 *stack) {
  char **words = (char **)(stack + 1);
  if (*stack < 3) fail("give a kernel and an initial RAM disk: boot KERNEL INITRD [COMMAND LINE]", "");
  int kvm = open_kvm();
  memory = map(MEMORY, -1);
  load_kernel(words[1]);
  load_ramdisk(words[2]);
  fill_parameters(words + 3);
  int machine = make_machine(kvm), processor = request("KVM_CREATE_VCPU", machine, KVM_CREATE_VCPU, 0);
  shared = shared_page(kvm, processor);
  identify_processor(kvm, processor);
  start_processor(processor);
  uart_open(machine);
  u32 flags = signal_input();
  run(processor);
  call(SYS_FCNTL, 0, 4, flags);
  uart_close();
  quit(0);
}

asm(".globl _start; _start: mov eax, esp; push eax; call begin");

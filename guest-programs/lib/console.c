/* Serial output by polling (National Semiconductor PC16550D datasheet, section 8), a small print, and exit.
   Output goes out in lines, a FIFO's worth of bytes for each look at the line status register: under a monitor every
   port access is an exit, and a console that polls once a byte would drown what a guest measures. */
#include <stdarg.h>
#include "console.h"
#include "cpu.h"
#include "io.h"

enum { COM1 = 0x3F8, DATA = COM1, IER = COM1 + 1, FCR = COM1 + 2, LCR = COM1 + 3, MCR = COM1 + 4, LSR = COM1 + 5 };
enum { LCR_8N1 = 0x03, LCR_DLAB = 0x80, LSR_THRE = 0x20, FIFO = 16, DEBUG_EXIT = 0xF4 };

static char line[128];                  /* what is not sent yet, without a line feed */
static unsigned length;

void console_init(void)
{
    outb(IER, 0);                   /* no interrupts: we poll */
    outb(LCR, LCR_DLAB);
    outb(DATA, 1);                  /* divisor 1: 115200 baud */
    outb(IER, 0);
    outb(LCR, LCR_8N1);
    outb(FCR, 0x07);                /* FIFOs on and empty */
    outb(MCR, 0x03);                /* DTR and RTS */
}

/* THRE says that the transmitter's FIFO is empty: it takes 16 bytes now. */
static void flush(void)
{
    for (unsigned at = 0; at < length; at += FIFO) {
        while (!(inb(LSR) & LSR_THRE)) {}
        outsb(DATA, line + at, length - at < FIFO ? length - at : FIFO);
    }
    length = 0;
}

static void put_raw(char c)
{
    line[length++] = c;
    if (c == '\n' || length == sizeof line) flush();
}

void put(char c)
{
    if (c == '\n') put_raw('\r');   /* terminals want both */
    put_raw(c);
}

static void put_padded(const char *text, int size, int width, char pad)
{
    int left = width < 0;
    if (left) width = -width;
    for (int i = size; !left && i < width; i++) put(pad);
    for (int i = 0; i < size; i++) put(text[i]);
    for (int i = size; left && i < width; i++) put(' ');
}

static void put_number(uint32_t value, unsigned base, int negative, int width, char pad)
{
    char text[12];
    int at = sizeof text;
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative) text[--at] = '-';
    put_padded(text + at, sizeof text - at, width, pad);
}

static void put_string(const char *text, int width)
{
    int size = 0;
    while (text[size]) size++;
    put_padded(text, size, width, ' ');
}

void print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (; *format; format++) {
        if (*format != '%') { put(*format); continue; }
        char pad = ' ';
        int width = 0, left = 0;
        format++;
        if (*format == '-') { left = 1; format++; }
        if (*format == '0') { pad = '0'; format++; }
        while (*format >= '0' && *format <= '9') width = width * 10 + (*format++ - '0');
        if (left) width = -width;
        switch (*format) {
        case 'd': { int v = va_arg(args, int); put_number(v < 0 ? 0u - v : (uint32_t)v, 10, v < 0, width, pad); break; }
        case 'u': put_number(va_arg(args, uint32_t), 10, 0, width, pad); break;
        case 'x': put_number(va_arg(args, uint32_t), 16, 0, width, pad); break;
        case 's': put_string(va_arg(args, const char *), width); break;
        case 'c': put(va_arg(args, int)); break;
        case 0: format--; break;
        default: put(*format);
        }
    }
    va_end(args);
}

void exit(int status)
{
    flush();
    outb(DEBUG_EXIT, status);
    for (;;) {
        cli();
        hlt();
    }
}

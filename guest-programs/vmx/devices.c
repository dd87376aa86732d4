/* The guest's ports. Serial port and timer are the machine's, by our hand. The interrupt controller is made
   up: the real one answers to the hypervisor. What is not there reads as ones. */
#include "../lib/io.h"
#include "vmx.h"

/* An 8259A as kernels use it: fixed priorities, edges, no second chip behind it. */
static struct { uint8_t requests, service, mask, base, words_left; } pic = { .mask = 0xFF };

static void pic_command(uint8_t value)
{
    if (value & 0x10) {                                 /* ICW1: three more words follow, all is forgotten */
        pic.words_left = 3;
        pic.requests = pic.service = pic.mask = 0;
    } else if (value == 0x20) {                         /* OCW2: the interrupt of highest priority is done */
        pic.service &= pic.service - 1;
    } else if ((value & 0xF8) == 0x60) {                /* OCW2: this one is done */
        pic.service &= ~(1 << (value & 7));
    }
}

static void pic_data(uint8_t value)
{
    if (pic.words_left == 3) pic.base = value & 0xF8;   /* ICW2 */
    if (pic.words_left) pic.words_left--;
    else pic.mask = value;                              /* OCW1 */
}

void raise_interrupt(void) { pic.requests |= 1; }

/* The request of highest priority, unless that or a higher one is in service: the lowest bit comes first. */
static uint8_t waiting(void)
{
    uint8_t open = pic.requests & ~pic.mask, first = open & -open;
    return !pic.service || first < (pic.service & -pic.service) ? first : 0;
}

int interrupt_waits(void) { return waiting() != 0; }

uint32_t take_interrupt(void)
{
    uint8_t taken = waiting();
    pic.requests &= ~taken;
    pic.service |= taken;
    return pic.base + __builtin_ctz(taken);
}

/* The timer's counters, and COM1. */
static int is_real(uint16_t port) { return (port & ~3) == 0x40 || (port & ~7) == 0x3F8; }

uint32_t port_in(uint16_t port, unsigned size)
{
    if (size == 1 && is_real(port)) return inb(port);
    if (size == 1 && port == 0x20) return pic.requests;
    return size == 1 && port == 0x21 ? pic.mask : ~0u;
}

void port_out(uint16_t port, unsigned size, uint32_t value)
{
    if (size != 1) return;
    if (is_real(port)) outb(port, value);
    if (port == 0x20) pic_command(value);
    if (port == 0x21) pic_data(value);
    if (port == 0xF4) status = value & 0xFF;            /* how our kernels end */
}

/* The host's side: paging, exceptions that are expected, and an interrupt request that waits. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "vmx.h"

enum { CR0_NE = 1 << 5, CR4_PSE = 1 << 4, PDE_LARGE = 0x87, PIC = 0x20, PIC2 = 0xA0, PIT = 0x40,
  PIT_COMMAND = 0x43 };
enum { READ_IRR = 0x0A, EOI = 0x20 };

static __attribute__((aligned(4096))) uint32_t directory[1024];

int caught_vector;
uint32_t caught_code;
extern uint32_t recovery_stack;
extern void recover(void);

struct frame *trap(struct frame *f)
{
    if (!recovery_stack) {
        print("unexpected %s, error %x, at %x\n", exception_name(f->vector), f->error, f->eip);
        exit(2);
    }
    caught_vector = f->vector;
    caught_code = f->error;
    f->eip = (uint32_t)recover;
    return f;
}

/* VMX operation wants paging: all 4 GiB as they are, in pages of 4 MiB. */
static void paging_init(void)
{
    for (uint32_t i = 0; i < 1024; i++) directory[i] = i << 22 | PDE_LARGE;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_NE);
}

/* Vectors 20h to 2Fh, all requests but IRQ 0 masked. ICW1 forgets requests. */
static void pic_init(void)
{
    outb(PIC, 0x11);
    outb(PIC + 1, 0x20);
    outb(PIC + 1, 4);
    outb(PIC + 1, 1);
    outb(PIC2, 0x11);
    outb(PIC2 + 1, 0x28);
    outb(PIC2 + 1, 2);
    outb(PIC2 + 1, 1);
    outb(PIC + 1, 0xFE);
    outb(PIC2 + 1, 0xFF);
    outb(PIC, READ_IRR);
}

void machine_init(void)
{
    segments_init();
    traps_init();
    paging_init();
    end_interrupt();
}

void request_interrupt(void)
{
    outb(PIT_COMMAND, 0x30);            /* counter 0, mode 0: the output rises at the end of the count */
    outb(PIT, 20);
    outb(PIT, 0);
    while (!(inb(PIC) & 1)) {}
}

void end_interrupt(void)
{
    outb(PIT_COMMAND, 0x30);            /* the output is low */
    outb(PIC, EOI);
    pic_init();
}

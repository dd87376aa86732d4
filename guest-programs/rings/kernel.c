/* rings: start, traps, and the verdict. A small kernel that runs tasks in ring 3, each in its own address space. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/multiboot.h"
#include "../lib/segments.h"
#include "rings.h"
#ifndef CLEAN
#include "../lib/sensitive.h"
#endif

enum { PIC1 = 0x20, PIC2 = 0xA0, EOI = 0x20, PIT_CHANNEL0 = 0x40, PIT_COMMAND = 0x43, PIT_HZ = 1193182 };
enum { VECTOR_SPURIOUS = 0x27, OPEN_PORT = 0x80 };

struct counters counters;
static unsigned failures;

void check(int ok, const char *what)
{
    if (ok) return;
    failures++;
    print("FAILED: %s\n", what);
}

void panic(const char *what, const struct frame *f)
{
    print("PANIC: %s\n", what);
    if (f) print("%s error %x at %08x, CR2 %08x\n", exception_name(f->vector), f->error, f->eip, read_cr2());
    exit(2);
}

/* ICW1-ICW4: edge triggered, cascade, vectors 20h-2Fh, 8086 mode. Only IRQ 0 is open. Intel 8259A datasheet. */
static void pic_init(void)
{
    outb(PIC1, 0x11); outb(PIC1 + 1, VECTOR_IRQ0); outb(PIC1 + 1, 4); outb(PIC1 + 1, 1);
    outb(PIC2, 0x11); outb(PIC2 + 1, VECTOR_IRQ0 + 8); outb(PIC2 + 1, 2); outb(PIC2 + 1, 1);
    outb(PIC1 + 1, 0xFE); outb(PIC2 + 1, 0xFF);
}

/* Channel 0, low byte then high byte, mode 2 (rate generator). Intel 8254 datasheet. */
static void timer_init(void)
{
    outb(PIT_COMMAND, 0x34);
    outb(PIT_CHANNEL0, (PIT_HZ / HZ) & 0xFF);
    outb(PIT_CHANNEL0, PIT_HZ / HZ >> 8);
}

static void sysenter_init(void)
{
    if (!has_sysenter()) return;
    wrmsr(MSR_SYSENTER_CS, KERNEL_CS);
    wrmsr(MSR_SYSENTER_ESP, (uint32_t)&tss.esp0);
    wrmsr(MSR_SYSENTER_EIP, (uint32_t)sysenter_entry);
}

static void kill(const struct frame *f)
{
    if (f->vector == VECTOR_PF)
        print("  killed by #PF: user %s of %08x, %s\n", f->error & 2 ? "write" : "read", read_cr2(),
              f->error & 1 ? "not allowed" : "not mapped");
    else
        print("  killed by %s\n", exception_name(f->vector));
    task_exit(KILLED + f->vector);
}

static void exception(const struct frame *f)
{
    uint32_t address = read_cr2();
    if (f->vector == VECTOR_PF && page_fault_resolved(current->directory, address, f->error)) {
        if (!from_user(f)) counters.kernel_faults++;
        return;
    }
    if (!from_user(f)) panic("the kernel faulted", f);
    kill(f);
}

static void timer(const struct frame *f)
{
    outb(PIC1, EOI);
    tick();
    if (from_user(f)) counters.preemptions++;
}

static void power_off(void) __attribute__((noreturn));
static void power_off(void)
{
    check(counters.preemptions > 0, "the timer preempted no task");
    check(frames_in_use() == 1, "frames leaked");       /* the shared page stays */
    print("\n%s: all tasks ended, no frame leaked, %u failures.\n", failures ? "FAILED" : "Good", failures);
    exit(failures != 0);
}

struct frame *trap(struct frame *f)
{
#ifndef CLEAN
    check(!(pushf() & EFLAGS_IF), "an interrupt gate leaves interrupts on");
#endif
    int give_way = 0;
    switch (f->vector) {
    case VECTOR_IRQ0: timer(f); give_way = 1; break;
    case VECTOR_SPURIOUS: break;
    case VECTOR_SYSCALL:
    case VECTOR_SYSENTER: give_way = syscall(f); break;
    default: exception(f);
    }
    if (!from_user(f)) return f;                        /* idle(), or the kernel on a page of the user's */
    if (!any_task()) power_off();
    if (!give_way && current->state == READY) return f;
    return schedule();
}

#ifndef CLEAN
/* What a kernel sees of itself in ring 0. A monitor that pushed it into another ring would be found out here. */
static void show_myself(void)
{
    print("CS says ring %d, SS says ring %d.\n", read_cs() & 3, read_ss() & 3);
    print("STR says %xh, SGDT gives %s, SIDT gives %s.\n", str(), sgdt().base == (uint32_t)gdt ? "our GDT" : "another GDT",
          sidt().base == (uint32_t)idt ? "our IDT" : "another IDT");
    check((read_cs() & 3) == 0 && (read_ss() & 3) == 0, "the kernel is not in ring 0");
    check(str() == TSS_SEL, "STR is not what LTR loaded");
    check(sgdt().base == (uint32_t)gdt, "SGDT is not what LGDT loaded");
    check(sidt().base == (uint32_t)idt, "SIDT is not what LIDT loaded");
}
#endif

static void first_task(void)
{
    struct task *t = task_new(0, space_new());
    t->frame = (struct frame){
        .es = USER_DS, .ds = USER_DS, .eip = (uint32_t)user_main, .cs = USER_CS, .eflags = EFLAGS_ONE | EFLAGS_IF,
        .esp = USER_STACK_END - 16, .ss = USER_DS,
    };
}

int kernel_main(uint32_t magic, const struct multiboot *info)
{
    (void)info;
    if (magic != MULTIBOOT_MAGIC) return 1;
    segments_init();
    traps_init();
    pic_init();
    memory_init();
    sysenter_init();
    timer_init();
    tss.io_bits[OPEN_PORT / 8] &= ~(1 << OPEN_PORT % 8);        /* ring 3 may use this one port */
#ifdef CLEAN
    print("rings: a kernel in ring 0 that never asks which ring it is in.\n");
#else
    print("rings: a kernel in ring 0, and it looks.\n");
    show_myself();
#endif
    print("Paging is on; tasks follow in ring 3.\n\n");
    first_task();
    resume(schedule());
}

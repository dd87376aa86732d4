/* sensitive: every sensitive unprivileged instruction of IA-32, used where its result shows. One line each: what it gave
   here, and "ok" if a processor gives that in this ring. A monitor that lets them run in another ring is found out. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/segments.h"
#include "../lib/sensitive.h"
#include "../lib/traps.h"
#include "transfers.h"

enum { LDT_SEL = 0x30, SMALL_SEL = 0x38, CONFORMING_SEL = 0x40, GATE_SEL = 0x48, SMALL_LIMIT = 0x1234 };
enum { VECTOR_INTERRUPT_GATE = 0x90, VECTOR_TRAP_GATE = 0x91, VECTOR_USER_GATE = 0x92 };
enum { ACCESSED = 1 };

static unsigned wrong;

/* One line of the transcript. Values are hexadecimal. */
static void line(const char *instruction, const char *what, uint32_t got, uint32_t hardware)
{
    print("%-7s %s = %x : ", instruction, what, got);
    if (got == hardware) {
        print("ok\n");
    } else {
        print("WRONG, hardware gives %x\n", hardware);
        wrong++;
    }
}

/* A line for a bit that was `from` before the instruction. */
static void change(const char *instruction, const char *bit, uint32_t from, uint32_t got, uint32_t hardware)
{
    print("%-7s %s %x -> %x : ", instruction, bit, from, got);
    if (got == hardware) {
        print("ok\n");
    } else {
        print("WRONG, hardware goes to %x\n", hardware);
        wrong++;
    }
}

static uint32_t if_of(uint32_t eflags) { return eflags >> 9 & 1; }
static uint32_t iopl_of(uint32_t eflags) { return eflags >> 12 & 3; }

/* LAR and friends answer with ZF whether the selector may be used from this ring. */
#define ZF_OF(instruction, selector) ({ \
    uint8_t zf; \
    asm volatile(instruction " %w1\n setz %0" : "=&q"(zf) : "r"((uint32_t)(selector)) : "cx", "cc"); \
    (uint32_t)zf; })
#define VALUE_OF(instruction, selector) ({ \
    uint32_t value = 0; \
    asm volatile(instruction " %0, %1" : "+r"(value) : "r"((uint32_t)(selector)) : "cc"); \
    value; })

/* ---- system registers ---- */

static void tables(void)
{
    struct table_register g = sgdt(), i = sidt();
    line("SGDT", "base is our GDT", g.base == (uint32_t)gdt, 1);
    line("SGDT", "limit", g.limit, sizeof gdt - 1);
    line("SIDT", "base is our IDT", i.base == (uint32_t)idt, 1);
    line("SIDT", "limit", i.limit, sizeof idt - 1);
    line("SLDT", "selector", sldt(), LDT_SEL);
    line("STR", "selector", str(), TSS_SEL);
}

static void machine_status(void)
{
    uint32_t cr0 = read_cr0();
    line("SMSW", "PE", smsw() & CR0_PE, CR0_PE);
    write_cr0(cr0 | CR0_TS);
    line("SMSW", "TS after setting it in CR0", (smsw() & CR0_TS) != 0, 1);
    asm volatile("clts");
    line("SMSW", "TS after CLTS", (smsw() & CR0_TS) != 0, 0);
    write_cr0(cr0);
}

/* ---- flags ---- */

static void flags(void)
{
    cli();
    line("PUSHF", "IF after CLI", if_of(pushf()), 0);
    sti();
    line("PUSHF", "IF after STI", if_of(pushf()), 1);
    popf(EFLAGS_ONE);
    change("POPF", "IF", 1, if_of(pushf()), 0);
    popf(EFLAGS_ONE | EFLAGS_IF);
    change("POPF", "IF", 0, if_of(pushf()), 1);
    popf(EFLAGS_ONE | EFLAGS_IOPL);
    change("POPF", "IOPL", 0, iopl_of(pushf()), 3);
    popf(EFLAGS_ONE);
    change("POPF", "IOPL", 3, iopl_of(pushf()), 0);
}

/* ---- descriptors ---- */

/* LAR is shown without the accessed bit, which QEMU 7.2 forgets to set when a far JMP loads CS. */
static void descriptors(void)
{
    line("LAR", "access byte of the kernel's code", VALUE_OF("lar", KERNEL_CS) >> 8 & 0xFE, ACCESS_CODE0);
    line("LAR", "access byte of the kernel's data", VALUE_OF("lar", KERNEL_DS) >> 8 & 0xFE, ACCESS_DATA0);
    line("LAR", "ZF for the kernel's data", ZF_OF("lar cx,", KERNEL_DS), 1);
    line("LAR", "ZF for it with RPL 3", ZF_OF("lar cx,", KERNEL_DS | 3), 0);
    line("LSL", "limit of a small segment", VALUE_OF("lsl", SMALL_SEL), SMALL_LIMIT);
    line("LSL", "limit of the kernel's data", VALUE_OF("lsl", KERNEL_DS), FLAT);
    line("VERR", "ZF for the kernel's data", ZF_OF("verr", KERNEL_DS), 1);
    line("VERW", "ZF for the kernel's data", ZF_OF("verw", KERNEL_DS), 1);
    line("VERW", "ZF for the kernel's code", ZF_OF("verw", KERNEL_CS), 0);
}

/* ---- segment registers ---- */

static void reading_segments(void)
{
    uint32_t cs, ss, ds;
    line("MOV", "from CS, its RPL", read_cs() & 3, 0);
    line("MOV", "from SS, its RPL", read_ss() & 3, 0);
    asm volatile("push cs; pop %0; push ss; pop %1; push ds; pop %2" : "=r"(cs), "=r"(ss), "=r"(ds));
    /* Whether the upper half of the stack word is written, too, differs between processors. */
    line("PUSH", "CS", cs & 0xFFFF, KERNEL_CS);
    line("PUSH", "SS", ss & 0xFFFF, KERNEL_DS);
    line("PUSH", "DS", ds & 0xFFFF, KERNEL_DS);
}

static uint32_t through_fs(uint32_t offset)
{
    uint32_t value;
    asm volatile("mov %0, fs:[%1]" : "=r"(value) : "r"(offset));
    return value;
}

static void load_fs(uint32_t selector) { asm volatile("mov fs, %0" : : "r"(selector) : "memory"); }

/* A segment register keeps the descriptor it was loaded with: what happens to the GDT later does not reach it. */
static void loading_segments(void)
{
    static uint32_t first = 0x1111, second = 0x2222;
    gdt[SMALL_SEL / 8] = descriptor((uint32_t)&first, SMALL_LIMIT, ACCESS_DATA0);
    load_fs(SMALL_SEL);
    line("MOV", "to FS, word at its base", through_fs(0), first);
    line("MOV", "to FS, accessed bit in the GDT", gdt[SMALL_SEL / 8] >> 40 & ACCESSED, 1);
    gdt[SMALL_SEL / 8] = descriptor((uint32_t)&second, SMALL_LIMIT, ACCESS_DATA0);
    line("MOV", "to FS, after the GDT changed", through_fs(0), first);
    asm volatile("push %0; pop fs" : : "r"(SMALL_SEL) : "memory");
    line("POP", "FS, word at the new base", through_fs(0), second);
    load_fs(KERNEL_DS);
    asm volatile("push %0; pop ss" : : "r"(KERNEL_DS) : "memory");
    line("POP", "SS, its RPL", read_ss() & 3, 0);
}

/* ---- control transfers ---- */

static void transfers(void)
{
    line("CALL", "far, CS that it pushed", far_call(), KERNEL_CS);
    line("CALL", "through a gate, CS that it pushed", gate_call(), KERNEL_CS);
    line("RETF", "CS after it", far_return(), KERNEL_CS);
    line("JMP", "far to conforming code, CS after it", far_jump(), CONFORMING_SEL);
}

static void interrupts(void)
{
    sti();
    int_interrupt_gate();
    line("INT n", "CS that it pushed", seen_cs, KERNEL_CS);
    line("INT n", "IF that it pushed", if_of(seen_eflags), 1);
    change("INT n", "interrupt gate, IF", 1, if_of(seen_inside), 0);
    int_trap_gate();
    change("INT n", "trap gate, IF", 1, if_of(seen_inside), 1);
    change("IRET", "IF", 1, if_of(iret_with(EFLAGS_ONE)), 0);
    change("IRET", "IF", 0, if_of(iret_with(EFLAGS_ONE | EFLAGS_IF)), 1);
    change("IRET", "IOPL", 0, iopl_of(iret_with(EFLAGS_ONE | EFLAGS_IOPL)), 3);
    change("IRET", "IOPL", 3, iopl_of(iret_with(EFLAGS_ONE)), 0);
    cli();
}

/* ---- ring 3: the same instructions, where they may only look ---- */

/* Ring 3 shares our flat memory: what it finds it leaves here, and ring 0 prints it. */
static volatile uint32_t found[16];
static uint8_t user_stack[4096];

static void user_part(void)
{
    uint32_t cs;
    found[0] = read_cs() & 3;
    found[1] = read_ss() & 3;
    found[2] = if_of(pushf());
    popf(EFLAGS_ONE | EFLAGS_IF | EFLAGS_IOPL);
    found[3] = if_of(pushf());
    found[4] = iopl_of(pushf());
    found[5] = if_of(iret_with(EFLAGS_ONE | EFLAGS_IF));
    found[6] = sgdt().base == (uint32_t)gdt;
    found[7] = sidt().base == (uint32_t)idt;
    found[8] = sldt();
    found[9] = str();
    found[10] = smsw() & CR0_PE;
    found[11] = ZF_OF("lar cx,", KERNEL_CS);
    found[12] = ZF_OF("lsl cx,", KERNEL_DS);
    found[13] = ZF_OF("verr", KERNEL_DS);
    found[14] = ZF_OF("verw", USER_DS);
    asm volatile("push cs; pop %0" : "=r"(cs));
    found[15] = cs & 0xFFFF;
    int_user_gate();
    asm volatile("int 0x81");
}

static void ring3(void)
{
    run_user(user_part, user_stack + sizeof user_stack);
    line("MOV", "from CS, its RPL", found[0], 3);
    line("MOV", "from SS, its RPL", found[1], 3);
    line("PUSHF", "IF, which ring 0 left at 0", found[2], 0);
    change("POPF", "IF", 0, found[3], 0);
    change("POPF", "IOPL", 0, found[4], 0);
    change("IRET", "IF", 0, found[5], 0);
    line("SGDT", "base is our GDT", found[6], 1);
    line("SIDT", "base is our IDT", found[7], 1);
    line("SLDT", "selector", found[8], LDT_SEL);
    line("STR", "selector", found[9], TSS_SEL);
    line("SMSW", "PE", found[10], 1);
    line("LAR", "ZF for the kernel's code", found[11], 0);
    line("LSL", "ZF for the kernel's data", found[12], 0);
    line("VERR", "ZF for the kernel's data", found[13], 0);
    line("VERW", "ZF for the user's data", found[14], 1);
    line("PUSH", "CS", found[15], USER_CS);
    line("INT n", "CS that it pushed", seen_cs, USER_CS);
}

struct frame *trap(struct frame *f)
{
    if (f->vector == VECTOR_LEAVE) leave_user(0);
    print("unexpected %s, error %x, at %08x\n", exception_name(f->vector), f->error, f->eip);
    exit(2);
}

static void own_descriptors(void)
{
    gdt[LDT_SEL / 8] = descriptor((uint32_t)gdt, 7, ACCESS_LDT);        /* an LDT of one null descriptor */
    gdt[SMALL_SEL / 8] = descriptor(0, SMALL_LIMIT, ACCESS_DATA0);
    gdt[CONFORMING_SEL / 8] = descriptor(0, FLAT, ACCESS_CONFORMING);
    uint32_t target = (uint32_t)gate_target;
    gdt[GATE_SEL / 8] = (uint64_t)((target & 0xFFFF0000) | ACCESS_GATE << 8) << 32 | KERNEL_CS << 16 | (target & 0xFFFF);
    lldt(LDT_SEL);
    set_gate(VECTOR_INTERRUPT_GATE, look_at_frame, GATE_INTERRUPT);
    set_gate(VECTOR_TRAP_GATE, look_at_frame, GATE_TRAP);
    set_gate(VECTOR_USER_GATE, look_at_frame, GATE_INTERRUPT | GATE_DPL3);
}

int kernel_main(void)
{
    segments_init();
    traps_init();
    own_descriptors();
    outb(0x21, 0xFF);           /* both interrupt controllers: every line masked, so that IF may be 1 */
    outb(0xA1, 0xFF);

    print("Ring 0\n");
    tables();
    machine_status();
    flags();
    descriptors();
    reading_segments();
    loading_segments();
    transfers();
    interrupts();
    print("\nRing 3\n");
    ring3();
    print("\n%u results differ from a processor's.\n", wrong);
    return wrong != 0;
}

/* The guest that every test begins with: 32-bit, paged, ring 0, its memory the machine's own; and how a
   test runs it. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "vmx.h"

struct registers guest;
struct caps caps;
int show;
static int launched;
static const uint8_t *code_begin, *code_end;
extern const uint8_t guest_stubs[], guest_stubs_end[];
extern void exited(void);

void *memcpy(void *to, const void *from, __SIZE_TYPE__ n);
void *memset(void *to, int value, __SIZE_TYPE__ n);

static void put_descriptor(uint32_t selector,
  uint64_t value) { *(uint64_t *)(GUEST_GDT + (selector & ~7)) = value; }

static void fill_segments(void)
{
    memset((void *)GUEST_GDT, 0, G_LAST + 8);
    put_descriptor(G_CODE, descriptor(0, FLAT, ACCESS_CODE0 | 1));
    put_descriptor(G_DATA, descriptor(0, FLAT, ACCESS_DATA0 | 1));
    put_descriptor(G_TSS, descriptor(GUEST_TSS, sizeof tss - 1, ACCESS_TSS | 2));
    put_descriptor(G_CODE3, descriptor(0, FLAT, ACCESS_CODE3 | 1));
    put_descriptor(G_DATA3, descriptor(0, FLAT, ACCESS_DATA3 | 1));
    put_descriptor(G_OTHER, descriptor(OTHER_TSS, sizeof tss - 1, ACCESS_TSS));
    put_descriptor(G_GATE, (uint64_t)0x8500 << 32 | G_OTHER << 16);
    put_descriptor(G_ABSENT, descriptor(0, FLAT, ACCESS_DATA0 & 0x7F));
    struct tss *t = (struct tss *)GUEST_TSS, *other = (struct tss *)OTHER_TSS;
    memset(t, 0, sizeof *t);
    t->ss0 = G_DATA;
    t->esp0 = STACK;
    t->io_map = sizeof *t;
    *other = *t;
    other->eip = CODE;
    other->cr3 = DIRECTORY;
    other->eflags = 2;
    other->cs = G_CODE;
    other->ss = other->ds = other->es = G_DATA;
    other->esp = STACK;
    t->link = G_OTHER;
}

static void fill_tables(void)
{
    memcpy((void *)STUBS, guest_stubs, guest_stubs_end - guest_stubs);
    uint32_t *gates = (uint32_t *)GUEST_IDT;
    for (uint32_t v = 0; v < 0x40; v++) {
        gates[2 * v] = G_CODE << 16 | ((STUBS + 8 * v) & 0xFFFF);
        gates[2 * v + 1] = (STUBS & 0xFFFF0000) | (v >= 0x30 || v == 3 || v == 4 ? 0xEE00 : 0x8E00);
    }
    uint32_t *directory = (uint32_t *)DIRECTORY, *table = (uint32_t *)TABLE;
    for (uint32_t i = 0; i < 1024; i++) directory[i] = i << 22 | 0xE7;
    directory[PAGED >> 22] = TABLE | 0x67;
    for (uint32_t i = 0; i < 1024; i++) table[i] = (PAGED + (i << 12)) | 0x67;
    table[1] = 0;
    table[2] &= ~2;
    memset((void *)IO_BITMAP_A, 0, MSR_STORE - IO_BITMAP_A);
}

static void segment(int n, uint32_t selector, uint32_t base, uint32_t limit, uint32_t rights)
{
    vmwrite(GUEST_ES + 2 * n, selector);
    vmwrite(BASES + 2 * n, base);
    vmwrite(LIMITS + 2 * n, limit);
    vmwrite(RIGHTS + 2 * n, rights);
}

static void fill_controls(void)
{
    static const uint16_t zeros[] = {
        EXCEPTIONS, PF_MASK, PF_MATCH, CR3_COUNT, EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT,
          ENTRY_MSR_LOAD_COUNT, ENTRY_EVENT,
        ENTRY_CODE, ENTRY_LENGTH, CR0_MASK, CR4_MASK, CR0_SHADOW, CR4_SHADOW, CR3_TARGET, CR3_TARGET + 2,
          CR3_TARGET + 4,
        CR3_TARGET + 6, TSC_OFFSET, TSC_OFFSET + 1,
    };
    for (unsigned i = 0; i < sizeof zeros / sizeof *zeros; i++) vmwrite(zeros[i], 0);
    static const uint32_t addresses[][2] = {
        { BITMAP_A, IO_BITMAP_A }, { BITMAP_B, IO_BITMAP_B }, { BITMAP_MSR, MSR_BITMAPS },
          { EXIT_MSR_STORE, MSR_STORE },
        { EXIT_MSR_LOAD, MSR_LOAD }, { ENTRY_MSR_LOAD, MSR_ENTRY },
    };
    for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        vmwrite(addresses[i][0], addresses[i][1]);
        vmwrite(addresses[i][0] + 1, 0);
    }
    vmwrite(PIN, caps.pin);
    vmwrite(PRIMARY, caps.primary);
    vmwrite(EXIT_CONTROLS, caps.exit);
    vmwrite(ENTRY_CONTROLS, caps.entry);
    vmwrite(LINK, ~0);
    vmwrite(LINK + 1, ~0);
}

static void fill_host(void)
{
    static uint32_t cr0, cr4;           /* as they were before any exit loaded others */
    if (!cr4) cr0 = read_cr0(), cr4 = read_cr4();
    for (int n = 0; n < 6; n++) vmwrite(HOST_ES + 2 * n, n == CS ? KERNEL_CS : KERNEL_DS);
    vmwrite(HOST_TR, TSS_SEL);
    vmwrite(HOST_CR0, cr0);
    vmwrite(HOST_CR3, read_cr3());
    vmwrite(HOST_CR4, cr4);
    vmwrite(HOST_FS_BASE, 0);
    vmwrite(HOST_GS_BASE, 0);
    vmwrite(HOST_TR_BASE, (uint32_t)&tss);
    vmwrite(HOST_GDTR_BASE, (uint32_t)gdt);
    vmwrite(HOST_IDTR_BASE, (uint32_t)idt);
    vmwrite(HOST_SYSENTER_CS, 0);
    vmwrite(HOST_SYSENTER_ESP, 0);
    vmwrite(HOST_SYSENTER_EIP, 0);
    vmwrite(HOST_RIP, (uint32_t)exited);
}

static void fill_guest(void)
{
    for (int n = 0; n < 6; n++) segment(n, n == CS ? G_CODE : G_DATA, 0, ~0, n == CS ? 0xC09B : 0xC093);
    segment(LDTR, 0, 0, 0, 0x10000);
    segment(TR, G_TSS, GUEST_TSS, sizeof tss - 1, 0x8B);
    vmwrite(GDTR_BASE, GUEST_GDT);
    vmwrite(GDTR_LIMIT, G_LAST + 7);
    vmwrite(IDTR_BASE, GUEST_IDT);
    vmwrite(IDTR_LIMIT, 8 * 0x40 - 1);
    vmwrite(GUEST_CR0, 0x80000031);
    vmwrite(GUEST_CR3, DIRECTORY);
    vmwrite(GUEST_CR4, 0x2010);
    vmwrite(GUEST_DR7, 0x400);
    vmwrite(GUEST_RSP, STACK);
    vmwrite(GUEST_RIP, CODE);
    vmwrite(GUEST_RFLAGS, 2);
    static const uint16_t zeros[] = {
        INTERRUPTIBILITY, ACTIVITY, PENDING_DEBUG, GUEST_DEBUGCTL, GUEST_DEBUGCTL + 1, GUEST_SYSENTER_CS,
          GUEST_SYSENTER_ESP,
        GUEST_SYSENTER_EIP,
    };
    for (unsigned i = 0; i < sizeof zeros / sizeof *zeros; i++) vmwrite(zeros[i], 0);
}

/* The test before may have left NMIs blocked: IRET ends that. */
static void unblock_nmis(void)
{
    asm volatile("pushfd\n push cs\n push offset 1f\n iretd\n 1:" : : : "memory");
}

void fresh(void)
{
    unblock_nmis();
    vmclear(VMCS_REGION);
    vmptrld(VMCS_REGION);
    launched = 0;
    fill_segments();
    fill_tables();
    fill_controls();
    fill_host();
    fill_guest();
    guest = (struct registers){ 0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555, 0x66666666,
      0x77777777 };
    show = 0;
    asm volatile("mov dr6, %0" : : "r"(0xFFFF0FF0));
}

void load(const uint8_t *begin, const uint8_t *end)
{
    fresh();
    code_begin = begin;
    code_end = end;
    memcpy((void *)CODE, begin, end - begin);
}

void primary(uint32_t set) { vmwrite(PRIMARY, get(PRIMARY) | set); }
void pin(uint32_t set) { vmwrite(PIN, get(PIN) | set); }

void ring3(void)
{
    for (int n = 0; n < 6; n++) segment(n, n == CS ? G_CODE3 : G_DATA3, 0, ~0, n == CS ? 0xC0FB : 0xC0F3);
    vmwrite(GUEST_RSP, STACK - 0x1000);
}

/* CS:IP 2000:0000 would be beyond the first MiB: the code lies at 8000h, the stack below it. */
void v86(void)
{
    for (int n = 0; n < 6; n++) segment(n, 0x800, 0x8000, 0xFFFF, 0xF3);
    memcpy((void *)0x8000, code_begin, code_end - code_begin);
    vmwrite(GUEST_RIP, 0);
    vmwrite(GUEST_RSP, 0x800);
    vmwrite(GUEST_RFLAGS, 0x23002);
}

static const char *reason_name(uint32_t reason)
{
    static const char *const names[] = {
        [0] = "exception", [1] = "external", [2] = "triple-fault", [7] = "interrupt-window",
          [8] = "nmi-window",
        [9] = "task-switch", [10] = "cpuid", [12] = "hlt", [13] = "invd", [14] = "invlpg", [15] = "rdpmc",
          [16] = "rdtsc",
        [18] = "vmcall", [19] = "vmclear", [20] = "vmlaunch", [21] = "vmptrld", [22] = "vmptrst",
          [23] = "vmread",
        [24] = "vmresume", [25] = "vmwrite", [26] = "vmxoff", [27] = "vmxon", [28] = "cr", [29] = "dr",
          [30] = "io",
        [31] = "rdmsr", [32] = "wrmsr", [33] = "bad-guest", [34] = "bad-msr", [36] = "mwait",
          [39] = "monitor", [40] = "pause",
        [43] = "tpr", [46] = "gdtr", [47] = "ldtr", [48] = "ept", [49] = "ept-misconfiguration",
          [50] = "invept",
        [52] = "timer", [53] = "invvpid", [54] = "wbinvd", [55] = "xsetbv",
    };
    return reason < sizeof names / sizeof *names && names[reason] ? names[reason] : "?";
}

static int software(uint32_t event) { return event >> 31 && (event >> 8 & 7) >= T_SOFTWARE; }

/* Whether the exit has an instruction's length (27.2.4). */
static int has_length(uint32_t reason, uint32_t qualification)
{
    if (software(get(EXIT_EVENT)) || software(get(VECTORING))) return 1;
    switch (reason) {
    case 0: case 1: case 2: case 7: case 8: case 33: case 34: case 43: case 48: case 49: case 52: return 0;
    case R_TASK_SWITCH: return qualification >> 30 != 3;
    default: return 1;
    }
}

/* The bits of instruction information that the manual defines for this exit (27.2.5). */
static uint32_t instruction_mask(uint32_t reason, uint32_t qualification, uint32_t information)
{
    if (reason == 30) {
        if (!(qualification & 16) || !(caps.basic >> 54 & 1)) return 0;
        return qualification & 8 ? 0x380 : 0x38380;
    }
    if (reason != 19 && reason != 21 && reason != 22 && reason != 23 && reason != 25 && reason != 27)
        return 0;
    int both = reason == 23 || reason == 25;
    if (both && information & 1 << 10) return 0xF0000478;
    uint32_t mask = 0x08438380;         /* both validities, segment, address size */
    if (!(information & 1 << 22)) mask |= 0x3C0003;
    if (!(information & 1 << 27)) mask |= 0x7800000;
    return mask | (both ? 0xF0000400 : 0);
}

static void print_event(const char *what, uint32_t event, uint32_t code_field)
{
    if (!(event >> 31)) return;
    print(" %s=%x", what, event);
    if (event & HAS_CODE) print("/%x", get(code_field));
}

static void print_if(const char *what, uint32_t value, uint32_t usual)
{
    if (value != usual) print(" %s=%x", what, value);
}

/* A handler of the guest's was reached: what lies on its stack. */
static void print_stack(uint32_t eip, uint32_t esp)
{
    if (eip < STUBS || eip >= STUBS + 8 * 0x40) return;
    print(" stack");
    for (unsigned n = 0; n < 12 && esp < STACK; n++, esp += 4) print(" %x", *(uint32_t *)esp);
    uint32_t vector = (eip - STUBS) / 8;
    if (vector == 1) print(" dr6=%x", read_dr6());
    if (vector == 14) print(" cr2=%x", read_cr2());
}

static void print_exit(const char *name, uint32_t reason, uint32_t qualification)
{
    print("%s: %u %s", name, reason & 0xFFFF, reason_name(reason & 0xFFFF));
    if (reason >> 31) {
        print(" entry-failure q=%x\n", qualification);
        return;
    }
    uint32_t information = get(EXIT_INSTRUCTION), mask = instruction_mask(reason, qualification, information);
    print_if("q", qualification, 0);
    print_event("event", get(EXIT_EVENT), EXIT_CODE);
    print_event("during", get(VECTORING), VECTORING_CODE);
    if (has_length(reason, qualification)) print(" length=%u", get(EXIT_LENGTH));
    if (mask) print(" info=%x", information & mask);
    if ((reason == 30 && qualification & 16) || (reason == 28 && (qualification & 0x70) == 0x70))
        print(" linear=%x", get(LINEAR));
    print(" eip=%x", get(GUEST_RIP));
    print_if("esp", get(GUEST_RSP), STACK);
    print_if("flags", get(GUEST_RFLAGS), 2);
    print_if("blocked", get(INTERRUPTIBILITY), 0);
    print_if("activity", get(ACTIVITY), 0);
    print_if("pending", get(PENDING_DEBUG), 0);
    print_if("cs", get(GUEST_CS), G_CODE);
    print_if("dr7", get(GUEST_DR7), 0x400);
    if (reason == R_VMCALL) print_stack(get(GUEST_RIP), get(GUEST_RSP));
    if (reason == R_VMCALL && show) print(" eax=%x", guest.eax);
    print("\n");
}

void print_failure(int outcome)
{
    if (outcome == FAILED_INVALID) print("VMfailInvalid\n");
    else print("VMfail %u\n", get(ERROR));
}

/* What a hypervisor does after the exit; whether the guest goes on. */
static int handle(uint32_t reason)
{
    switch (reason) {
    case R_EXCEPTION:
        return (get(EXIT_EVENT) >> 8 & 7) == T_NMI;
    case R_EXTERNAL:
        end_interrupt();
        vmwrite(ACTIVITY, 0);
        return 1;
    case R_INTERRUPT_WINDOW:
        vmwrite(PRIMARY, get(PRIMARY) & ~INTERRUPT_WINDOW);
        vmwrite(ACTIVITY, 0);
        return 1;
    case R_NMI_WINDOW:
        vmwrite(PRIMARY, get(PRIMARY) & ~NMI_WINDOW);
        vmwrite(ACTIVITY, 0);
        return 1;
    case R_TIMER:
        vmwrite(PIN, get(PIN) & ~PIN_TIMER);
        vmwrite(ACTIVITY, 0);
        return 1;
    case R_TRIPLE_FAULT: case R_TASK_SWITCH: case R_VMCALL:
        return 0;
    default:
        vmwrite(GUEST_RIP, get(GUEST_RIP) + get(EXIT_LENGTH));
        vmwrite(INTERRUPTIBILITY, get(INTERRUPTIBILITY) & ~3);
        return reason <= 64;
    }
}

void run(const char *name)
{
    for (unsigned n = 0; n < 8; n++) {
        int outcome = enter(&guest, launched);
        if (outcome) {
            print("%s: ", name);
            print_failure(outcome);
            return;
        }
        launched = 1;
        uint32_t reason = get(REASON);
        print_exit(name, reason, get(QUALIFICATION));
        if (!handle(reason)) return;
    }
}

/* The guest: a little kernel that knows of no hypervisor. vmx-guest.elf prints the same on a machine of its
   own. It does what a hypervisor has to look after: page tables, ring 3, the timer, control registers,
   MSRs. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/options.h"
#include "../lib/segments.h"
#include "../lib/traps.h"

enum { HEAP = 0x400000, LARGE = 0x800000, PAGE = 4096, PAGES = 64, ROUNDS = 8, TICKS = 10 };
enum { P = 1, W = 2, U = 4, PSE = 1 << 7 };
typedef uint32_t table_t[1024] __attribute__((aligned(4096)));
static table_t directories[2], low, heaps[2];           /* two address spaces: the heap is each one's own */
static __attribute__((aligned(4096))) uint8_t frames[PAGES][PAGE];
static volatile uint32_t ticks, faults, write_faults, lazy, debug_traps, debug_eip;
static uint32_t *heap = heaps[0];

static void check(const char *what, int good)
{
    print("%-48s %s\n", what, good ? "yes" : "NO");
    if (!good) exit(1);
}

static volatile uint32_t *page(unsigned n) { return (volatile uint32_t *)(HEAP + n * PAGE); }
static uint32_t frame(unsigned n) { return (uint32_t)frames[n]; }

/* ---- traps ---- */

static void page_fault(struct frame *f)
{
    uint32_t address = read_cr2(), n = (address - HEAP) / PAGE;
    if (from_user(f) && f->error & P) leave_user(f->error);         /* ring 3 touched what is the kernel's */
    if (n >= PAGES || !lazy) {
        print("page fault at %x, error %x, address %x\n", f->eip, f->error, address);
        exit(2);
    }
    if (f->error & P) write_faults++, heap[n] |= W, invlpg(address);
    else faults++, heap[n] = frame(n) | U | W | P;
}

struct frame *trap(struct frame *f)
{
    switch (f->vector) {
    case VECTOR_IRQ0: outb(0x20, ticks++ & 1 ? 0x60 : 0x20); break;    /* by number, or the highest */
    case VECTOR_PF: page_fault(f); break;
    case VECTOR_DB: debug_traps++, debug_eip = f->eip, f->eflags &= ~EFLAGS_TF; break;
    case VECTOR_GP: f->eax = 0; f->eip += 2; break;             /* RDMSR of a register that is not there */
    default: print("%s at %x\n", exception_name(f->vector), f->eip); exit(2);
    }
    return f;
}

/* ---- what it does ---- */

static void processor(void)
{
    struct cpuid id = cpuid(0);
    char vendor[13] = { 0 };
    __builtin_memcpy(vendor, (uint32_t[]){ id.ebx, id.edx, id.ecx }, 12);
    print("%s, %s VMX\n", vendor, cpuid(1).ecx & 1 << 5 ? "with" : "without");
    wrmsr(MSR_SYSENTER_EIP, 0x1234);
    uint32_t good, absent = 0x4321, edx;
    asm volatile("rdmsr" : "=a"(good), "=d"(edx) : "c"(MSR_SYSENTER_EIP));
    check("an MSR keeps what is written", good == 0x1234);
    asm volatile("rdmsr" : "+a"(absent), "=d"(edx) : "c"(0x1234567));
    check("an MSR that is not there makes a #GP", absent == 0);
    write_cr0(read_cr0() | CR0_TS);
    asm volatile("clts");
    check("CLTS clears CR0.TS", !(read_cr0() & CR0_TS));
}

/* A debugger's tools, and an instruction that exits between them. */
static void debugging(void)
{
    extern const uint8_t after_cpuid[];
    static volatile uint32_t watched;
    uint32_t *address = (uint32_t *)&watched, writes_of_4 = 0xD0402, off = 0x400;
    asm volatile("pushfd\n or dword ptr [esp], 0x100\n popfd\n cpuid\n .globl after_cpuid\n after_cpuid: nop"
                 : : "a"(0) : "ebx", "ecx", "edx", "cc", "memory");
    check("a single step ends behind CPUID", debug_traps == 1 && debug_eip == (uint32_t)after_cpuid);
    asm volatile("mov dr0, %0\n mov dr7, %1" : : "r"(address), "r"(writes_of_4));
    cpuid(0);
    watched = 1;
    asm volatile("mov dr7, %0" : : "r"(off));
    check("a watchpoint outlives a CPUID", debug_traps == 2);
}

static void paging_init(void)
{
    for (uint32_t i = 0; i < 1024; i++) low[i] = i * PAGE | W | P;
    for (int n = 0; n < 2; n++) {
        directories[n][0] = (uint32_t)low | W | P;
        directories[n][1] = (uint32_t)heaps[n] | U | W | P;
        directories[n][2] = PSE | W | P;                            /* the first 4 MiB again */
    }
    asm volatile("mov eax, cr4\n or eax, 0x10\n mov cr4, eax" : : : "eax");
    write_cr3((uint32_t)directories[0]);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
    check("a large page shows the same memory", *(volatile uint32_t *)(LARGE + (uint32_t)low) == low[0]);
}

static void demand_paging(void)
{
    uint32_t sum = 0;
    lazy = 1;
    for (unsigned n = 0; n < PAGES; n++) *page(n) = n;
    for (unsigned n = 0; n < PAGES; n++) sum += *page(n);
    check("each page comes at its first access", faults == PAGES && sum == PAGES * (PAGES - 1) / 2);
    for (unsigned n = 0; n < PAGES; n++) heap[n] &= ~W, invlpg((uint32_t)page(n));
    for (unsigned n = 0; n < PAGES; n++) sum += *page(n), *page(n) = n;
    check("a write to a read-only page faults", write_faults == PAGES && faults == PAGES);
    lazy = 0;
}

/* One page goes over all frames: a stale translation would show another frame's number. */
static void remapping(void)
{
    uint32_t wrong = 0;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned n = 0; n < PAGES; n++) {
            heap[0] = frame(n) | U | W | P;
            invlpg(HEAP);
            wrong += *page(0) != n;
        }
    heap[0] = frame(0) | U | W | P;
    invlpg(HEAP);
    check("INVLPG shows what the tables say now", !wrong);
}

/* Small pages take the place of a large one, of which the first page and the last have been read. INVLPG of
   one drops them all (4.10.4.1). */
static void splitting(void)
{
    volatile uint32_t *first = (volatile uint32_t *)LARGE, *last = first + (PAGES - 1) * PAGE / 4;
    volatile uint32_t *entry = &directories[0][2];
    (void)(*first + *last);
    *entry = (uint32_t)heaps[0] | U | W | P;
    invlpg(LARGE);
    check("one INVLPG is enough for a large page", *first == 0 && *last == PAGES - 1);
}

static void address_spaces(void)
{
    uint32_t wrong = 0;
    for (unsigned n = 0; n < PAGES; n++) heaps[1][n] = frame(PAGES - 1 - n) | U | W | P;
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        write_cr3((uint32_t)directories[round & 1]);
        for (unsigned n = 0; n < 8; n++) wrong += *page(n) != (round & 1 ? PAGES - 1 - n : n);
    }
    write_cr3((uint32_t)directories[0]);
    check("each address space has its own pages", !wrong);
}

/* The code of ring 3, copied to a page of the heap. */
asm(".globl user_code, user_end\n user_code: mov eax, [0x100000]\n int 0x81\n user_end:");
extern const uint8_t user_code[], user_end[];

static void ring_3(void)
{
    __builtin_memcpy((void *)page(1), user_code, user_end - user_code);
    uint32_t error = run_user((void (*)(void))page(1), (void *)page(3));
    check("ring 3 may not read the kernel", error == (U | P));
}

static void timer(void)
{
    static const uint8_t words[] = { 0x11, 0x20, 4, 1, 0xFE };
    for (unsigned n = 0; n < sizeof words; n++) outb(n ? 0x21 : 0x20, words[n]);
    outb(0x43, 0x34);                                           /* counter 0, mode 2: 1,000 times a second */
    outb(0x40, 1193 & 0xFF);
    outb(0x40, 1193 >> 8);
    while (ticks < TICKS) sti_hlt_cli();
    check("the timer ends HLT", ticks == TICKS);
    while (ticks < 2 * TICKS) {
        for (volatile unsigned n = 0; n < 1000; n++) {}
        asm volatile("sti\n nop\n cli" : : : "memory");        /* the tick may have come before this */
    }
    check("the timer interrupts a loop", ticks >= 2 * TICKS);
    outb(0x21, 0xFF);
}

int kernel_main(uint32_t magic, struct multiboot *information)
{
    segments_init();
    traps_init();
    if (is_name(command_line(magic, information), 12, "triple-fault")) {
        print("The guest loads an empty IDT and divides by zero.\n");
        lidt(&(struct table_register){ 0, 0 });
        asm volatile("div %0" : : "r"(0), "a"(0), "d"(0));
    }
    processor();
    debugging();
    paging_init();
    demand_paging();
    remapping();
    splitting();
    address_spaces();
    ring_3();
    timer();
    print("The guest is done.\n");
    return 0;
}

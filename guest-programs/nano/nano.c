/* nano: the nanobenchmarks of Adams and Agesen, "A Comparison of Software and Hardware Techniques for x86
   Virtualization" (ASPLOS 2006). Each repeats one operation that a monitor makes dearer or cheaper.
   The loops are in ops.S; counts come from the command line: `all=10000`, or `in=500 syscall=1000`. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/options.h"
#include "../lib/phase.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "ops.h"
#ifndef CLEAN
#include "../lib/sensitive.h"
#endif

enum { PAGE = 4096, PRESENT = 1, WRITABLE = 2, USER = 4, DEFAULT_COUNT = 1000 };

static uint32_t directory[1024] __attribute__((aligned(PAGE)));
static uint32_t tables[4][1024] __attribute__((aligned(PAGE)));
static uint32_t pages[2][1024] __attribute__((aligned(PAGE)));
static uint8_t user_stack[4096];

static uint32_t traps_taken;            /* by the test that runs */

/* The first 16 MiB at their physical addresses, open to ring 3 as well; TEST_PAGE is a page of its own. */
static void paging_init(void)
{
    for (unsigned t = 0; t < 4; t++) {
        for (unsigned i = 0; i < 1024; i++) tables[t][i] = t << 22 | i << 12 | PRESENT | WRITABLE | USER;
        directory[t] = (uint32_t)tables[t] | PRESENT | WRITABLE | USER;
    }
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static uint32_t *test_entry(void) { return &tables[TEST_PAGE >> 22][TEST_PAGE >> 12 & 1023]; }
static uint32_t entry_to(const uint32_t *page) { return (uint32_t)page | PRESENT | WRITABLE | USER; }

/* ---- the operations, `count` times each ---- */

static void syscall(uint32_t count) { run_user_count(op_syscall, count, user_stack + sizeof user_stack); }
static void sysenter(uint32_t count) { run_user_count(op_sysenter, count, user_stack + sizeof user_stack); }

/* Each fault is answered by trap(): it maps the page; the loop takes it away again. */
static void pgfault(uint32_t count)
{
    volatile uint32_t *page = (volatile uint32_t *)TEST_PAGE;
    for (uint32_t i = 0; i < count; i++) {
        *test_entry() = 0;
        invlpg(TEST_PAGE);
        *page = i;
    }
}

/* Points one entry at two pages in turn and reads through it. No fault on a bare machine. */
static void ptemod(uint32_t count)
{
    volatile uint32_t *page = (volatile uint32_t *)TEST_PAGE;
    pages[0][0] = 0;
    pages[1][0] = 1;
    for (uint32_t i = 0; i < count; i++) {
        *test_entry() = entry_to(pages[i & 1]);
        invlpg(TEST_PAGE);
        if (*page != (i & 1)) {
            print("ptemod: the old page is still there\n");
            exit(1);
        }
    }
}

static struct {
    struct phase phase;
    void (*run)(uint32_t count);
    int traps;                      /* whether each operation must enter trap() once */
    const char *what;
} tests[] = {
    { PHASE("syscall"),   syscall,     1, "ring 3 to 0 and back: INT 80h, IRET" },
    { PHASE("sysenter"),  sysenter,    0, "ring 3 to 0 and back: SYSENTER, SYSEXIT" },
    { PHASE("in"),        op_in,       0, "IN from port 80h" },
    { PHASE("cr8wr"),     op_crwr,     0, "MOV to CR0 of the value it has (IA-32 has no CR8)" },
    { PHASE("callret"),   op_callret,  0, "near CALL and RET" },
    { PHASE("pgfault"),   pgfault,     1, "clear a PTE, touch the page, map it in the handler" },
    { PHASE("divzero"),   op_divzero,  1, "DIV by zero; the handler steps over it" },
    { PHASE("ptemod"),    ptemod,      0, "change a PTE, INVLPG, read through it" },
};

/* Every vector is an interrupt gate, so interrupts are off here. An ordinary kernel looks (xv6 panics with "sched
   interruptible"), and PUSHF is how: in ring 1 it gives the real IF, which a monitor leaves on. */
#ifndef CLEAN
static void check_interrupts_off(void)
{
    if (!(pushf() & EFLAGS_IF)) return;
    print("panic: interrupts are on behind an interrupt gate\n");
    exit(2);
}
#else
static void check_interrupts_off(void) {}
#endif

struct frame *trap(struct frame *f)
{
    check_interrupts_off();
    traps_taken++;
    switch (f->vector) {
    case VECTOR_SYSCALL: return f;
    case VECTOR_LEAVE: traps_taken--; leave_user(0);
    case VECTOR_DE: f->eip += DIV_LENGTH; return f;
    case VECTOR_PF:
        if ((read_cr2() & ~(PAGE - 1)) == TEST_PAGE) {
            *test_entry() = entry_to(pages[0]);
            return f;
        }
    }
    print("unexpected %s, error %x, at %08x\n", exception_name(f->vector), f->error, f->eip);
    exit(2);
}

/* 64 by 32 bits, in two steps so that the quotient may be as large as it likes; it saturates. */
static uint32_t divide(uint64_t n, uint32_t by)
{
    uint32_t high = n >> 32, low = n, remainder = high % by, quotient;
    if (high / by) return -1;
    asm("div %2" : "=a"(quotient), "+d"(remainder) : "r"(by), "a"(low) : "cc");
    return quotient;
}

enum { TESTS = sizeof tests / sizeof *tests };

/* What a test showed. All is measured first and printed then: the console is no part of what is measured. */
static struct { uint32_t count, each, traps; } results[TESTS];

static int is_test(const char *name, unsigned length)
{
    for (unsigned i = 0; i < TESTS; i++)
        if (is_name(name, length, tests[i].phase.name)) return 1;
    return is_name(name, length, "all");
}

static void measure(unsigned i, uint32_t count)
{
    traps_taken = 0;
    phase_mark(&tests[i].phase);
    uint64_t start = rdtsc();
    tests[i].run(count);
    uint64_t ticks = rdtsc() - start;
    tests[i].phase.operations = count;
    phase_mark(&tests[i].phase);
    results[i].count = count;
    results[i].each = divide(ticks, count);
    results[i].traps = traps_taken;
}

/* Prints a test's line; whether it trapped otherwise than it must. */
static int report(unsigned i)
{
    uint32_t count = results[i].count, traps = results[i].traps;
    print("%-9s %9u  %10u  %s\n", tests[i].phase.name, count, results[i].each, tests[i].what);
    if (traps == (tests[i].traps ? count : 0)) return 0;
    print("%s: %u traps are not what was expected\n", tests[i].phase.name, traps);
    return 1;
}

static void refuse(const char *word)
{
    print("nano: no such option: ");
    for (unsigned i = 0; i < word_length(word); i++) put(word[i]);
    print("\ngive NAME=COUNT with one of: all");
    for (unsigned i = 0; i < TESTS; i++) print(" %s", tests[i].phase.name);
    print("\n");
    exit(1);
}

int kernel_main(uint32_t magic, const struct multiboot *info)
{
    const char *line = command_line(magic, info), *unknown = unknown_option(line, is_test);
    uint32_t all = option(line, "all", -1);
    int failed = 0, chosen = 0;
    if (unknown) refuse(unknown);
    segments_init();
    traps_init();
    paging_init();
    if (has_sysenter()) op_init();
    for (unsigned i = 0; i < TESTS; i++) chosen |= option(line, tests[i].phase.name, 0) != 0;
    if (all == -1u) all = chosen ? 0 : DEFAULT_COUNT;
    phase_calibrate();

    for (unsigned i = 0; i < TESTS; i++) {
        uint32_t count = option(line, tests[i].phase.name, all);
        if (count && (tests[i].run != sysenter || has_sysenter())) measure(i, count);
    }
    print("test          count  ticks each  operation\n");
    for (unsigned i = 0; i < TESTS; i++) {
        if (results[i].count) failed |= report(i);
        else if (option(line, tests[i].phase.name, all)) print("%-9s not on this processor\n", tests[i].phase.name);
    }
    return failed;
}

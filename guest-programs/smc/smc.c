/* smc: code that changes code. Each test writes an instruction that has been, or is about to be, executed, and shows
   that the new one runs. SDM volume 3, section 8.1.3: P6 processors see a store to code at once when it goes through the
   linear address that is executed; through another one, a serializing instruction must stand between. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "code.h"

enum { PAGE = 4096, PRESENT = 1, WRITABLE = 2, ALIAS = 0x00C00000, WINDOW = 0x00C01000 };

static uint32_t directory[1024] __attribute__((aligned(PAGE)));
static uint32_t tables[4][1024] __attribute__((aligned(PAGE)));
static unsigned failures;

/* The first 16 MiB at their physical addresses, all writable. */
static void paging_init(void)
{
    for (unsigned t = 0; t < 4; t++) {
        for (unsigned i = 0; i < 1024; i++) tables[t][i] = t << 22 | i << 12 | PRESENT | WRITABLE;
        directory[t] = (uint32_t)tables[t] | PRESENT | WRITABLE;
    }
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG);
}

static void map(uint32_t address, const void *page)
{
    tables[address >> 22][address >> 12 & 1023] = ((uint32_t)page & ~(PAGE - 1)) | PRESENT | WRITABLE;
    invlpg(address);
}

static void report(const char *what, uint32_t got, uint32_t expected)
{
    print("%-58s", what);
    if (got == expected) {
        print("ok\n");
    } else {
        print("WRONG: %u, not %u\n", got, expected);
        failures++;
    }
}

/* Functions that patch an instruction to give their argument: each with many values, so that it runs patched code,
   patches it again and runs it again. The sum shows every step. */
static uint32_t sum_of(uint32_t (*patch_and_run)(uint32_t))
{
    uint32_t sum = 0;
    for (uint32_t value = 1; value <= 100; value++) sum = sum * 3 + patch_and_run(value);
    return sum;
}

static uint32_t identity(uint32_t value) { return value; }

static void patches(void)
{
    uint32_t expected = sum_of(identity);
    report("the very next instruction", sum_of(next_instruction), expected);
    report("some instructions ahead in the same block", sum_of(same_block), expected);
    report("another function in the same page", sum_of(same_page), expected);
    report("a function in another page", sum_of(other_page), expected);
    report("an instruction across a page boundary", sum_of(across_pages), expected);
    report("one byte of it, in the first page", sum_of(across_first_byte), expected);
    report("one byte of it, in the second page", sum_of(across_second_byte), expected);
    report("by PUSH", sum_of(by_push), expected);
    report("by XCHG", sum_of(by_xchg), expected);
    report("by LOCK CMPXCHG", sum_of(by_cmpxchg), expected);
    report("by REP MOVSB, over what follows it", sum_of(by_rep_movs), expected);
    report("by REP STOSD, over what follows it", sum_of(by_rep_stos), expected);
}

static void loops(void)
{
    report("a loop that counts in its own immediate", own_immediate(1000), 1000 * 1001 / 2);
    report("a loop that turns its ADD into SUB half way", add_to_sub(1000), 0);
    report("a loop that takes out its own jump", own_jump(), 10);
    report("an instruction that becomes two shorter ones", shorter(), 7);
    report("a counter in the bytes behind the code that counts", counter_beside_code(1000), 1000);
}

/* Hot code, then a patch: whoever translated it must notice. */
static uint32_t hot(void)
{
    uint32_t sum = 0;
    for (uint32_t round = 1; round <= 3; round++) {
        patch_target(round);
        for (int i = 0; i < 10000; i++) sum += target();
    }
    return sum;
}

/* mov eax, value; ret */
static void generate(uint8_t *at, uint32_t value)
{
    at[0] = 0xB8;
    for (int i = 0; i < 4; i++) at[1 + i] = value >> 8 * i;
    at[5] = 0xC3;
    asm volatile("" : : "r"(at) : "memory");        /* tells the compiler that somebody reads these bytes */
}

static uint32_t on_stack(uint32_t value)
{
    uint8_t code[8];
    generate(code, value);
    return ((uint32_t (*)(void))code)();
}

/* The patch goes through ALIAS, a second address of the page that is executed; CPUID serializes. */
static uint32_t by_alias(uint32_t value)
{
    static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
    map(ALIAS, page);
    generate((uint8_t *)ALIAS, value);
    cpuid(0);
    return ((uint32_t (*)(void))page)();
}

/* The address stays and the page behind it changes: nothing is written to any code. */
static uint32_t by_remapping(uint32_t value)
{
    static uint8_t page[2][PAGE] __attribute__((aligned(PAGE)));
    generate(page[0], value);
    generate(page[1], value * 2);
    map(WINDOW, page[0]);
    uint32_t first = ((uint32_t (*)(void))WINDOW)();
    map(WINDOW, page[1]);
    uint32_t second = ((uint32_t (*)(void))WINDOW)();
    return second - first;
}

int kernel_main(void)
{
    uint32_t expected = sum_of(identity);
    print("Paging off\n");
    patches();
    loops();
    report("code that ran 10000 times, patched twice", hot(), 60000);
    report("code made on the stack", sum_of(on_stack), expected);

    paging_init();
    print("\nPaging on\n");
    patches();
    loops();
    report("code that ran 10000 times, patched twice", hot(), 60000);
    report("through a second mapping of the page", sum_of(by_alias), expected);
    report("by mapping another page in its place", sum_of(by_remapping), expected);

    print("\n%u failures.\n", failures);
    return failures != 0;
}

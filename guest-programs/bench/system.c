/* What an operating system adds: system calls from ring 3, page faults, and port reads. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/io.h"
#include "../lib/traps.h"
#include "bench.h"

enum { PAGE = 4096, PRESENT = 1, WRITABLE = 2, USER = 4, TEST = 0x00C00000, TEST_PAGES = 64, PORT = 0x80 };

static uint32_t directory[1024] __attribute__((aligned(PAGE)));
static uint32_t tables[4][1024] __attribute__((aligned(PAGE)));
static uint32_t target[PAGE / 4] __attribute__((aligned(PAGE)));
static uint8_t user_stack[4096];
static uint32_t served;

uint32_t user_rounds;
extern void user_syscalls(void);

struct frame *trap(struct frame *f)
{
    uint32_t address = read_cr2();
    switch (f->vector) {
    case VECTOR_SYSCALL:
        served++;
        f->eax = f->eax * 31 + f->ebx;
        return f;
    case VECTOR_LEAVE: leave_user(f->eax);
    case VECTOR_PF:
        if (address - TEST >= TEST_PAGES * PAGE) break;
        served++;
        tables[TEST >> 22][address >> 12 & 1023] = (uint32_t)target | PRESENT | WRITABLE;
        return f;
    }
    print("unexpected %s, error %x, at %08x\n", exception_name(f->vector), f->error, f->eip);
    exit(2);
}

/* A system call is about 38 instructions, both ways and the loop. */
uint32_t syscalls(uint32_t rounds)
{
    served = 0;
    user_rounds = rounds * 26000;
    return run_user(user_syscalls, user_stack + sizeof user_stack) + served;
}

/* The tables are written while paging is off: an entry in use that changes would have to be flushed. */
static void paging_on(void)
{
    for (unsigned t = 0; t < 4; t++) {
        for (unsigned i = 0; i < 1024; i++) tables[t][i] = t << 22 | i << 12 | PRESENT | WRITABLE;
        directory[t] = (uint32_t)tables[t] | PRESENT | WRITABLE;
    }
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG);
}

/* Takes 64 pages away, and touches each. A fault is about 54 instructions with its share of the rest. */
uint32_t pagefaults(uint32_t rounds)
{
    served = 0;
    paging_on();
    for (uint32_t i = 0; i < rounds * 300; i++) {
        for (uint32_t p = 0; p < TEST_PAGES; p++) tables[TEST >> 22][(TEST >> 12 & 1023) + p] = 0;
        write_cr3((uint32_t)directory);
        for (uint32_t p = 0; p < TEST_PAGES; p++) *(volatile uint32_t *)(TEST + p * PAGE) += p;
    }
    write_cr0(read_cr0() & ~CR0_PG);
    return served + target[0];
}

/* The POST code's port: a read of it does nothing on any PC, and what it gives is left out of the sum. */
uint32_t portio(uint32_t rounds)
{
    uint32_t reads = 0;
    for (uint32_t i = 0; i < rounds * 250000; i++) {
        inb(PORT);
        reads++;
    }
    return reads;
}

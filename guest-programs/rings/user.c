/* The user program: one task that starts others and tells what comes of them. All of it runs in ring 3.
   What is printed depends on the order of logical events only (who waits for whom, whose turn it is), never on where a
   time slice ends, so that the transcript is the same on any machine. */
#include "abi.h"

#define SHARED ((struct shared *)USER_SHARED)
#define HEAP ((volatile uint32_t *)USER_HEAP)

/* ---- system calls ---- */

static uint32_t by_int(uint32_t number, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t result;
    asm volatile("int 0x80" : "=a"(result) : "a"(number), "b"(a), "S"(b), "D"(c) : "memory");
    return result;
}

static uint32_t by_sysenter(uint32_t number, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t result;
    asm volatile("mov ecx, esp\n mov edx, offset .Lback%=\n sysenter\n.Lback%=:"
                 : "=a"(result) : "a"(number), "b"(a), "S"(b), "D"(c) : "ecx", "edx", "memory");
    return result;
}

static void say(const char *format, uint32_t a, uint32_t b) { by_int(SYS_SAY, (uint32_t)format, a, b); }
static uint32_t pid(void) { return by_int(SYS_PID, 0, 0, 0); }
static uint32_t fork(void) { return by_int(SYS_FORK, 0, 0, 0); }
static uint32_t wait(uint32_t child) { return by_int(SYS_WAIT, child, 0, 0); }
static void yield(void) { by_int(SYS_YIELD, 0, 0, 0); }
static uint32_t frame(volatile uint32_t *at) { return by_int(SYS_FRAME, (uint32_t)at, 0, 0); }
static void count(struct counters *into) { by_int(SYS_COUNTERS, (uint32_t)into, 0, 0); }

static void __attribute__((noreturn)) leave(uint32_t status)
{
    for (;;) by_int(SYS_EXIT, status, 0, 0);
}

/* Runs `body` in a new task and gives the pid. */
static uint32_t start(uint32_t (*body)(uint32_t), uint32_t argument)
{
    uint32_t child = fork();
    if (child) return child;
    leave(body(argument));
}

#define expect(ok, what) do { if (!(ok)) { say("FAILED: " what "\n", 0, 0); wrong++; } } while (0)

/* ---- the tests: each says what it does and gives the number of things that went wrong ---- */

static uint32_t ring(void)
{
    uint32_t wrong = 0;
    say("Ring 3: task %d runs.\n", pid(), 0);
#ifndef CLEAN
    uint32_t cs, before, after;
    asm volatile("mov %0, cs" : "=r"(cs));
    /* POPF may not clear IF here; it does not fault, it is ignored. */
    asm volatile("pushfd; pop %0; push 2; popfd; pushfd; pop %1" : "=&r"(before), "=&r"(after) : : "cc", "memory");
    say("  CS says ring %d; POPF tried to clear IF: ", cs & 3, 0);
    say("IF %d -> %d.\n", before >> 9 & 1, after >> 9 & 1);
    expect((cs & 3) == 3, "CS is not of ring 3");
    expect(before & after & 0x200, "a user task could turn interrupts off");
#endif
    return wrong;
}

static uint32_t system_calls(void)
{
    uint32_t wrong = 0, me = pid();
    for (int i = 0; i < 100; i++) expect(by_int(SYS_PID, 0, 0, 0) == me, "INT 80h");
    if (!SHARED->has_sysenter) {
        say("System calls: INT 80h; this processor has no SYSENTER.\n", 0, 0);
        return wrong;
    }
    for (int i = 0; i < 100; i++) expect(by_sysenter(SYS_PID, 0, 0, 0) == me, "SYSENTER");
    expect(by_sysenter(999, 0, 0, 0) == (uint32_t)-1, "an unknown call is refused");
    say("System calls: INT 80h and SYSENTER agree, 100 times each.\n", 0, 0);
    return wrong;
}

static uint32_t demand_paging(void)
{
    enum { PAGES = 16, STRIDE = 4 * 1024 };     /* in words: every fourth page */
    uint32_t wrong = 0, nonzero = 0;
    volatile uint32_t *base = HEAP + 64 * 1024;
    struct counters before, after;
    count(&before);
    for (uint32_t i = 0; i < PAGES; i++) {
        if (i % 2) nonzero |= base[i * STRIDE];         /* first touch by a read */
        base[i * STRIDE] = i;                           /* or by a write */
    }
    count(&after);
    say("Demand paging: touched %d pages, took %d faults", PAGES, after.zero_pages - before.zero_pages);
    say(nonzero ? ", not all zero.\n" : ", all zero at first.\n", 0, 0);
    expect(after.zero_pages - before.zero_pages == PAGES, "one fault a page");
    expect(!nonzero, "new pages are zero");
    expect(frame(base) && !frame(base + 1024), "only what was touched has a frame");
    return wrong;
}

/* The kernel itself touches a new page: it writes the counters there. */
static uint32_t kernel_fault(void)
{
    uint32_t wrong = 0;
    struct counters *there = (struct counters *)(USER_HEAP + 0x80000), after;
    count(there);
    count(&after);
    say("The kernel wrote to an untouched user page: %d fault in ring 0.\n", after.kernel_faults, 0);
    expect(after.kernel_faults == 1, "exactly one fault in ring 0");
    return wrong;
}

static uint32_t cow_child(uint32_t parents_frame)
{
    uint32_t wrong = 0;
    say("  child:  reads %d, same frame as the parent: %d\n", HEAP[0], frame(HEAP) == parents_frame);
    expect(HEAP[0] == 11 && frame(HEAP) == parents_frame, "shared after fork");
    HEAP[0] = 22;
    say("  child:  writes %d, same frame as the parent: %d\n", HEAP[0], frame(HEAP) == parents_frame);
    expect(HEAP[0] == 22 && frame(HEAP) != parents_frame, "copied on write");
    return wrong;
}

static uint32_t copy_on_write(void)
{
    uint32_t wrong = 0;
    say("Copy on write\n", 0, 0);
    HEAP[0] = 11;
    uint32_t mine = frame(HEAP);
    say("  parent: writes %d and forks\n", HEAP[0], 0);
    wrong += wait(start(cow_child, mine));
    say("  parent: reads %d\n", HEAP[0], 0);
    expect(HEAP[0] == 11, "the parent keeps its value");

    struct counters before, after;
    count(&before);
    HEAP[0] = 33;
    count(&after);
    expect(after.reused_pages - before.reused_pages == 1 && frame(HEAP) == mine, "the last holder keeps the frame");
    say("  parent: writes %d, keeps its frame: %d\n", HEAP[0], frame(HEAP) == mine);
    return wrong;
}

/* Two tasks use one address at the same time. Each waits, without giving way, until the other has written too. */
static uint32_t same_address(uint32_t value)
{
    uint32_t wrong = 0;
    HEAP[1024] = value;
    asm volatile("lock inc dword ptr [%0]" : : "r"(&SHARED->ready) : "memory");
    while (SHARED->ready < 2) {}
    expect(HEAP[1024] == value, "the other task's value at our address");
    return wrong ? wrong : HEAP[1024];
}

static uint32_t address_spaces(void)
{
    uint32_t wrong = 0;
    SHARED->ready = 0;
    uint32_t a = start(same_address, 1000), b = start(same_address, 2000);
    uint32_t x = wait(a), y = wait(b);
    say("Address spaces: one address, two tasks, values %d and %d.\n", x, y);
    expect(x == 1000 && y == 2000, "each task its own memory");
    return wrong;
}

/* Each task spins until it is its turn. None ever gives way: only the timer can take the processor from a spinning
   task, so that the turn moves at all proves preemption. */
static uint32_t spin(uint32_t me)
{
    enum { TASKS = 3, ROUNDS = 4 };
    for (uint32_t round = 0; round < ROUNDS; round++) {
        while (SHARED->turn != round * TASKS + me) {}
        say("  turn %d: spinner %d\n", SHARED->turn, me);
        SHARED->turn = SHARED->turn + 1;
    }
    return 0;
}

static uint32_t preemption(void)
{
    uint32_t wrong = 0;
    struct counters before, after;
    say("Preemption: three tasks spin and never give way\n", 0, 0);
    SHARED->turn = 0;
    count(&before);
    uint32_t last = start(spin, 2), middle = start(spin, 1), first = start(spin, 0);    /* the worst order */
    wait(first);
    wait(middle);
    wait(last);
    count(&after);
    expect(SHARED->turn == 12, "every turn was taken");
    expect(after.preemptions > before.preemptions, "the timer took the processor from a task");
    return wrong;
}

static uint32_t polite(uint32_t me)
{
    while (SHARED->turn != me) yield();
    SHARED->turn = me + 1;
    return me * me;
}

static uint32_t giving_way(void)
{
    uint32_t wrong = 0, tasks[4], sum = 0;
    SHARED->turn = 0;
    for (uint32_t i = 0; i < 4; i++) tasks[i] = start(polite, 3 - i);
    for (uint32_t i = 0; i < 4; i++) sum += wait(tasks[i]);
    say("Giving way: four tasks, sum of squares %d.\n", sum, 0);
    expect(sum == 14, "statuses come back to the parent");
    return wrong;
}

static uint32_t sleeping(void)
{
    uint32_t wrong = 0;
    struct counters before, after;
    count(&before);
    for (int i = 0; i < 3; i++) by_int(SYS_SLEEP, 3, 0, 0);
    count(&after);
    say("Sleep: nobody could run, and the kernel halted: %d\n", after.idle_halts > before.idle_halts, 0);
    expect(after.idle_halts > before.idle_halts, "the kernel halts when all sleep");
    return wrong;
}

/* ---- what a task must not do ---- */

static uint32_t read_kernel(uint32_t _) { return (void)_, *(volatile uint32_t *)0x100000; }
static uint32_t write_program(uint32_t _) { return (void)_, *(volatile uint32_t *)USER_TEXT = 0; }
static uint32_t read_nothing(uint32_t _) { return (void)_, *(volatile uint32_t *)0x0BAD0000; }
static uint32_t run_cli(uint32_t _) { asm volatile("cli"); return _; }
static uint32_t run_hlt(uint32_t _) { asm volatile("hlt"); return _; }
static uint32_t load_cr3(uint32_t _) { asm volatile("mov cr3, %0" : : "r"(_)); return _; }
static uint32_t open_port(uint32_t _) { asm volatile("out 0x80, al" : : "a"(_)); return _; }
static uint32_t closed_port(uint32_t _) { asm volatile("out 0x21, al" : : "a"(0xFF)); return _; }
static uint32_t divide(uint32_t _) { asm volatile("div %0" : : "r"(0), "a"(1), "d"(0) : "cc"); return _; }
static uint32_t undefined(uint32_t _) { asm volatile("ud2"); return _; }
static uint32_t breakpoint(uint32_t _) { asm volatile("int3"); return _; }
static uint32_t closed_gate(uint32_t _) { asm volatile("int 0x20"); return _; }
static uint32_t out_of_bounds(uint32_t _)
{
    int32_t limits[2] = { 0, 9 };
    asm volatile("bound %0, %1" : : "r"(10), "m"(limits));
    return _;
}

static uint32_t overflow(uint32_t _)
{
    asm volatile("mov eax, 0x7FFFFFFF; add eax, 1; into" : : : "eax", "cc");
    return _;
}

static uint32_t misdeed(const char *what, uint32_t (*body)(uint32_t), uint32_t expected)
{
    uint32_t wrong = 0;
    say(what, 0, 0);
    uint32_t status = wait(start(body, 0));
    expect(status == expected, "another end was expected");
    return wrong;
}

static uint32_t misdeeds(void)
{
    uint32_t wrong = 0;
    say("Misdeeds, each in a task of its own\n", 0, 0);
    wrong += misdeed(" read kernel memory\n", read_kernel, KILLED + 14);
    wrong += misdeed(" write to the program\n", write_program, KILLED + 14);
    wrong += misdeed(" read where nothing is\n", read_nothing, KILLED + 14);
    wrong += misdeed(" CLI\n", run_cli, KILLED + 13);
    wrong += misdeed(" HLT\n", run_hlt, KILLED + 13);
    wrong += misdeed(" MOV CR3\n", load_cr3, KILLED + 13);
    wrong += misdeed(" OUT to the interrupt controller\n", closed_port, KILLED + 13);
    wrong += misdeed(" OUT to port 80h, which the I/O bitmap allows\n", open_port, 0);
    wrong += misdeed(" INT 20h, the timer's own gate\n", closed_gate, KILLED + 13);
    wrong += misdeed(" divide by zero\n", divide, KILLED + 0);
    wrong += misdeed(" UD2\n", undefined, KILLED + 6);
    wrong += misdeed(" INT3\n", breakpoint, KILLED + 3);
    wrong += misdeed(" BOUND\n", out_of_bounds, KILLED + 5);
    wrong += misdeed(" INTO\n", overflow, KILLED + 4);
    return wrong;
}

/* ---- what the common operations cost: phases, which `compare --by-phase` shows ---- */

static void phase(enum measured what, uint32_t operations) { by_int(SYS_PHASE, what, operations, 0); }

/* Two empty phases: in the first one a monitor may still have to get to know the way. */
static void calibrate(void)
{
    for (int i = 0; i < 4; i++) phase(EMPTY, 0);
}

static void null_calls(void)
{
    enum { CALLS = 500 };
    phase(NULL_CALL, 0);
    for (int i = 0; i < CALLS; i++) pid();
    phase(NULL_CALL, CALLS);
    if (!SHARED->has_sysenter) return;
    phase(FAST_CALL, 0);
    for (int i = 0; i < CALLS; i++) by_sysenter(SYS_PID, 0, 0, 0);
    phase(FAST_CALL, CALLS);
}

enum { TOUCHED = 64 };                          /* pages */

static void touch(enum measured what)
{
    phase(what, 0);
    for (int i = 0; i < TOUCHED; i++) HEAP[(192 + i) * 1024] = i;
    phase(what, TOUCHED);
}

static uint32_t copy_pages(uint32_t _)
{
    uint32_t wrong = 0;
    struct counters before, after;
    count(&before);
    touch(WRITE_FAULT);
    count(&after);
    expect(after.copied_pages - before.copied_pages == TOUCHED, "one copy a page");
    return (void)_, wrong;
}

/* In a task of its own, so that the first one stays as small as it is. */
static uint32_t page_faults(uint32_t _)
{
    uint32_t wrong = 0;
    struct counters before, after;
    count(&before);
    touch(PAGE_FAULT);
    count(&after);
    expect(after.zero_pages - before.zero_pages == TOUCHED, "one new frame a page");
    return (void)_, wrong + wait(start(copy_pages, 0));
}

static uint32_t nothing(uint32_t _) { return _; }

static void forks(void)
{
    enum { FORKS = 16 };
    phase(FORK_EXIT, 0);
    for (int i = 0; i < FORKS; i++) wait(start(nothing, 0));
    phase(FORK_EXIT, FORKS);
}

static uint32_t give_way(uint32_t _)
{
    while (!SHARED->turn) yield();
    return _;
}

/* There and back is two switches; the first time is the other task's start. */
static void switches(void)
{
    enum { TURNS = 200 };
    SHARED->turn = 0;
    uint32_t other = start(give_way, 0);
    yield();
    phase(CONTEXT_SWITCH, 0);
    for (int i = 0; i < TURNS; i++) yield();
    phase(CONTEXT_SWITCH, 2 * TURNS);
    SHARED->turn = 1;
    wait(other);
}

static uint32_t measure(void)
{
    calibrate();
    null_calls();
    uint32_t wrong = wait(start(page_faults, 0));
    forks();
    switches();
    return wrong;
}

void user_main(void)
{
    uint32_t wrong = ring();
    wrong += system_calls();
    wrong += demand_paging();
    wrong += kernel_fault();
    wrong += copy_on_write();
    wrong += address_spaces();
    wrong += preemption();
    wrong += giving_way();
    wrong += sleeping();
    wrong += misdeeds();
    wrong += measure();
    leave(wrong);
}

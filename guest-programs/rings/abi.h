/* What the kernel and the user program agree on: the map of a task's memory, and the system calls. */
#ifndef ABI_H
#define ABI_H
#include <stdint.h>

enum {
    USER_TEXT   = 0x40000000,   /* the program: read only, the same frames in every task */
    USER_SHARED = 0x50000000,   /* one page that every task sees and may write */
    USER_HEAP   = 0x60000000,   /* 1 MiB, a zeroed frame on first touch */
    USER_HEAP_END = 0x60100000,
    USER_STACK  = 0x7FFF0000,   /* 64 KiB, a zeroed frame on first touch */
    USER_STACK_END = 0x80000000,
};

/* Number in EAX, arguments in EBX, ESI, EDI (SYSENTER needs ECX and EDX for the way back), result in EAX. */
enum syscall {
    SYS_SAY,        /* (format, a, b): print; the format may hold %d, %x and %% */
    SYS_PID,
    SYS_FORK,       /* 0 in the child, the child's pid in the parent */
    SYS_EXIT,       /* (status) */
    SYS_WAIT,       /* (pid): the child's status, -1 if there is no such child */
    SYS_YIELD,
    SYS_SLEEP,      /* (ticks) */
    SYS_FRAME,      /* (address): the physical page behind it, 0 if none */
    SYS_COUNTERS,   /* (struct counters *) */
    SYS_PHASE,      /* (enum measured, operations): begin a phase for whoever runs this machine, or end it */
};

/* What the first task measures, each a phase (../lib/phase.h). EMPTY is for the cost of SYS_PHASE itself. */
enum measured { EMPTY, NULL_CALL, FAST_CALL, PAGE_FAULT, WRITE_FAULT, FORK_EXIT, CONTEXT_SWITCH, MEASURED };

/* A task that did what it must not ends with this plus the vector. */
enum { KILLED = 0x100 };

struct counters { uint32_t zero_pages, copied_pages, reused_pages, preemptions, idle_halts, kernel_faults; };

struct shared {
    volatile uint32_t turn, ready, has_sysenter;
};

#endif

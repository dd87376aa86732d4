/* The system calls, the same for INT 80h and SYSENTER. */
#include "../lib/console.h"
#include "../lib/phase.h"
#include "../lib/segments.h"
#include "rings.h"

/* A string of the user's, read byte by byte: any byte may page-fault, in ring 0, and be brought in. */
static int copy_string(char *to, uint32_t from, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        if (!user_may(from + i, 1, 0)) return 0;
        to[i] = *(const char *)(from + i);
        if (!to[i]) return 1;
        if (i && to[i - 1] == '%' && to[i] != 'd' && to[i] != 'x' && to[i] != '%') return 0;
    }
    return 0;
}

static uint32_t say(uint32_t format, uint32_t a, uint32_t b)
{
    char text[128];
    if (!copy_string(text, format, sizeof text)) return -1;
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    print(text, a, b);
    return 0;
}

static uint32_t fork(const struct frame *f)
{
    struct task *child = task_new(current->pid, space_fork(current->directory));
    child->frame = *f;
    child->frame.eax = 0;
    return child->pid;
}

static uint32_t sleep(uint32_t count)
{
    current->wake_at = ticks + count;
    current->state = SLEEPING;
    return 0;
}

static uint32_t give_counters(uint32_t to)
{
    if (!user_may(to, sizeof counters, 1)) return -1;
    *(struct counters *)to = counters;
    return 0;
}

static uint32_t mark(uint32_t which, uint32_t operations)
{
    static struct phase phases[MEASURED] = {
        [EMPTY]          = PHASE("(empty)"),
        [NULL_CALL]      = PHASE("null call"),
        [FAST_CALL]      = PHASE("sysenter"),
        [PAGE_FAULT]     = PHASE("page fault"),
        [WRITE_FAULT]    = PHASE("write fault"),
        [FORK_EXIT]      = PHASE("fork+exit"),
        [CONTEXT_SWITCH] = PHASE("switch"),
    };
    if (which >= MEASURED) return -1;
    phases[which].operations = operations;
    phase_mark(&phases[which]);
    return 0;
}

int syscall(struct frame *f)
{
    uint32_t a = f->ebx, b = f->esi, c = f->edi;
    switch (f->eax) {
    case SYS_SAY: f->eax = say(a, b, c); break;
    case SYS_PID: f->eax = current->pid; break;
    case SYS_FORK: f->eax = fork(f); break;
    case SYS_EXIT: task_exit(a); break;
    case SYS_WAIT: f->eax = task_wait(a); break;
    case SYS_YIELD: f->eax = 0; return 1;
    case SYS_SLEEP: f->eax = sleep(a); break;
    case SYS_FRAME: f->eax = frame_behind(current->directory, a); break;
    case SYS_COUNTERS: f->eax = give_counters(a); break;
    case SYS_PHASE: f->eax = mark(a, b); break;
    default: f->eax = -1;
    }
    return 0;
}

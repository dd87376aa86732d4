/* Tasks and the scheduler. A task is in the kernel only while interrupts are off, so it has nothing on its kernel stack
   but its frame when another one runs. */
#include "../lib/cpu.h"
#include "../lib/segments.h"
#include "rings.h"
#ifndef CLEAN
#include "../lib/sensitive.h"
#endif

static struct task tasks[TASKS];
static uint32_t next_pid = 1;
struct task *current;
uint32_t ticks;

struct task *task_new(uint32_t parent, uint32_t *directory)
{
    for (struct task *t = tasks; t < tasks + TASKS; t++) {
        if (t->state != FREE) continue;
        t->state = READY;
        t->pid = next_pid++;
        t->parent = parent;
        t->directory = directory;
        return t;
    }
    panic("out of tasks", 0);
}

static struct task *find(uint32_t pid)
{
    for (struct task *t = tasks; t < tasks + TASKS; t++)
        if (t->state != FREE && t->pid == pid) return t;
    return 0;
}

int any_task(void)
{
    for (struct task *t = tasks; t < tasks + TASKS; t++)
        if (t->state != FREE && t->state != ZOMBIE) return 1;
    return 0;
}

/* The parent that waits takes the status and the slot; one that does not will find a zombie. */
void task_exit(uint32_t status)
{
    struct task *parent = find(current->parent);
    space_free(current->directory);
    current->status = status;
    current->state = ZOMBIE;
    if (!current->parent) check(status == 0, "the first task found something wrong");
    if (parent && parent->state == WAITING && parent->wait_for == current->pid) {
        parent->frame.eax = status;
        parent->state = READY;
        current->state = FREE;
    }
}

uint32_t task_wait(uint32_t pid)
{
    struct task *child = find(pid);
    if (!child || child->parent != current->pid) return -1;
    if (child->state == ZOMBIE) {
        child->state = FREE;
        return child->status;
    }
    current->wait_for = pid;
    current->state = WAITING;
    return 0;                       /* task_exit() of the child puts the status in its place */
}

void tick(void)
{
    ticks++;
    for (struct task *t = tasks; t < tasks + TASKS; t++)
        if (t->state == SLEEPING && (int32_t)(ticks - t->wake_at) >= 0) t->state = READY;
}

static struct task *next_ready(void)
{
    unsigned start = current ? current - tasks + 1 : 0;
    for (unsigned i = 0; i < TASKS; i++) {
        struct task *t = &tasks[(start + i) % TASKS];
        if (t->state == READY) return t;
    }
    return 0;
}

/* Lets interrupts in until one has come. */
static void idle(void)
{
    counters.idle_halts++;
#ifdef CLEAN
    sti_hlt_cli();
#else
    uint32_t flags = pushf();       /* the usual way: save the flags, let interrupts in, put the flags back */
    sti();
    hlt();
    popf(flags);
    check(!(pushf() & EFLAGS_IF), "POPF turned interrupts off again");
#endif
}

struct frame *schedule(void)
{
    struct task *next;
    while (!(next = next_ready())) idle();
    current = next;
    tss.esp0 = (uint32_t)(&next->frame + 1);    /* the next trap of this task fills its frame again */
    space_switch(next->directory);
    return &next->frame;
}

/* The kernel's own header: tasks, memory, system calls. */
#ifndef RINGS_H
#define RINGS_H
#include <stdint.h>
#include "../lib/traps.h"
#include "abi.h"

enum { PAGE = 4096, TASKS = 8, HZ = 1000 };
enum { VECTOR_SYSENTER = 0x100 };               /* no vector of the processor: our mark in a frame */
enum task_state { FREE, READY, SLEEPING, WAITING, ZOMBIE };

/* The kernel stack comes first, so that its end, where every frame lies, has a fixed place in the task. */
struct task {
    uint8_t stack[PAGE - sizeof(struct frame)];
    struct frame frame;                         /* what the task resumes with; the processor itself fills it */
    enum task_state state;
    uint32_t pid, parent, status;
    uint32_t wake_at;                           /* SLEEPING: at this tick */
    uint32_t wait_for;                          /* WAITING: for this pid */
    uint32_t *directory;
} __attribute__((aligned(16)));

/* kernel.c */
extern struct counters counters;
void check(int ok, const char *what);
void panic(const char *what, const struct frame *f) __attribute__((noreturn));

/* memory.c */
void memory_init(void);
uint32_t *space_new(void);
uint32_t *space_fork(uint32_t *parent);
void space_free(uint32_t *directory);
void space_switch(const uint32_t *directory);
uint32_t frame_behind(const uint32_t *directory, uint32_t address);
/* True if the fault was one that the kernel wants: first touch, or copy on write. */
int page_fault_resolved(uint32_t *directory, uint32_t address, uint32_t error);
int user_may(uint32_t address, uint32_t length, int write);
unsigned frames_in_use(void);

/* task.c */
extern struct task *current;
extern uint32_t ticks;
struct task *task_new(uint32_t parent, uint32_t *directory);
void task_exit(uint32_t status);
uint32_t task_wait(uint32_t pid);
void tick(void);
/* Picks the next ready task, round robin, and gives the frame to resume; halts while there is none. */
struct frame *schedule(void);
int any_task(void);

/* syscall.c */
/* Does what the frame asks; true if the task gives up the rest of its time slice. */
int syscall(struct frame *f);

/* entry.S */
void sysenter_entry(void);

/* user.c */
void user_main(void);

#endif

/* Interrupts and exceptions: the IDT, and what an entry leaves on the stack. SDM volume 3, chapter 6. */
#ifndef TRAPS_H
#define TRAPS_H
#include <stdint.h>

enum { VECTOR_DE = 0, VECTOR_DB = 1, VECTOR_BP = 3, VECTOR_OF = 4, VECTOR_BR = 5, VECTOR_UD = 6, VECTOR_GP = 13,
       VECTOR_PF = 14, VECTOR_IRQ0 = 0x20, VECTOR_SYSCALL = 0x80, VECTOR_LEAVE = 0x81 };
enum { GATE_INTERRUPT = 0x8E, GATE_TRAP = 0x8F, GATE_DPL3 = 0x60 };

/* From the lowest address up: PUSHAD and two segments by traps.S, then what the processor pushed. */
struct frame {
    uint32_t edi, esi, ebp, pushad_esp, ebx, edx, ecx, eax;
    uint32_t es, ds;
    uint32_t vector, error;
    uint32_t eip, cs, eflags;
    uint32_t esp, ss;               /* only when the trap came from another ring */
};

static inline int from_user(const struct frame *f) { return (f->cs & 3) == 3; }

extern uint64_t idt[256];

/* Every guest with traps_init() defines this: it gets what was interrupted, and says which frame to resume. */
struct frame *trap(struct frame *f);

/* Leaves the kernel by a frame that no trap made: how the first task starts. */
void resume(struct frame *f) __attribute__((noreturn));

/* Fills the IDT with interrupt gates (vectors 0-2Fh closed to ring 3 save 3 and 4; 80h and 81h open) and loads it. */
void traps_init(void);
void set_gate(unsigned vector, void (*handler)(void), uint8_t access);
/* "#GP" and so on. */
const char *exception_name(unsigned vector);

/* Calls `entry` in ring 3 on `stack`; comes back with EAX when it does INT 81h and trap() calls leave_user(). */
uint32_t run_user(void (*entry)(void), void *stack);
void leave_user(uint32_t value) __attribute__((noreturn));

#endif

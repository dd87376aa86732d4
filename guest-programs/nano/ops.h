/* The loops of the nanobenchmarks in assembly, so that an iteration holds the operation and the loop, no more. */
#ifndef OPS_H
#define OPS_H
#define TEST_PAGE  0x00C00000
#define DIV_LENGTH 2            /* bytes of `div ecx` */
#define PORT       0x80         /* the POST code's port: reading it does nothing on any PC */
#ifndef __ASSEMBLER__
#include <stdint.h>

void op_init(void);                 /* points SYSENTER at a way back; only where the processor has it */
void op_in(uint32_t count);
void op_crwr(uint32_t count);
void op_callret(uint32_t count);
void op_divzero(uint32_t count);
/* In ring 3, with the count in EAX; they end by INT 81h. */
void op_syscall(void);
void op_sysenter(void);
void run_user_count(void (*entry)(void), uint32_t count, void *stack);
#endif

#endif

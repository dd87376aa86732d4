/* Far transfers, interrupts and returns, each in the form whose result shows (transfers.S). */
#ifndef TRANSFERS_H
#define TRANSFERS_H
#include <stdint.h>

uint32_t far_call(void);                /* the CS that a far CALL pushed */
uint32_t gate_call(void);               /* the CS that a CALL through the call gate 48h pushed */
uint32_t far_return(void);              /* CS after a far RET to 08h */
uint32_t far_jump(void);                /* CS after a far JMP to the conforming segment 40h */
uint32_t iret_with(uint32_t eflags);    /* EFLAGS as PUSHF sees them after an IRET that loads these */

void int_interrupt_gate(void);          /* INT 90h */
void int_trap_gate(void);               /* INT 91h */
void int_user_gate(void);               /* INT 92h */
void look_at_frame(void);               /* the handler of the three: fills the words below */
extern uint32_t seen_cs, seen_eflags;   /* what INT n pushed */
extern uint32_t seen_inside;            /* EFLAGS in the handler */

void gate_target(void);

#endif

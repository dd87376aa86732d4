/* The code that patches and the code that is patched: code.S. */
#ifndef CODE_H
#define CODE_H
#include <stdint.h>

/* Each stores its argument in an instruction's immediate, runs that instruction and returns what it gave. */
uint32_t next_instruction(uint32_t value);
uint32_t same_block(uint32_t value);
uint32_t same_page(uint32_t value);
uint32_t other_page(uint32_t value);
uint32_t across_pages(uint32_t value);
uint32_t across_first_byte(uint32_t value);
uint32_t across_second_byte(uint32_t value);
uint32_t by_push(uint32_t value);
uint32_t by_xchg(uint32_t value);
uint32_t by_cmpxchg(uint32_t value);
uint32_t by_rep_movs(uint32_t value);
uint32_t by_rep_stos(uint32_t value);

uint32_t own_immediate(uint32_t rounds);        /* 1 + 2 + ... + rounds */
uint32_t add_to_sub(uint32_t rounds);           /* rounds/2 times +1, then rounds/2 times -1 */
uint32_t own_jump(void);                        /* rounds until the loop's jump is gone: 10 */
uint32_t shorter(void);
uint32_t counter_beside_code(uint32_t rounds);

void patch_target(uint32_t value);              /* makes target() return value */
uint32_t target(void);

#endif

/* The compute kernels of the speed benches. Each does `rounds` rounds of about a million instructions and returns a
   checksum that depends on all its work, so that a wrong machine shows and no compiler can leave work out. */
#ifndef BENCH_H
#define BENCH_H
#include <stdint.h>

/* compute.c */
uint32_t sieve(uint32_t rounds);
uint32_t mix(uint32_t rounds);
/* memory.c */
uint32_t copy_loop(uint32_t rounds);
uint32_t copy_rep(uint32_t rounds);
uint32_t chase(uint32_t rounds);
/* branches.c */
uint32_t calls(uint32_t rounds);
uint32_t indirect(uint32_t rounds);
/* system.c */
uint32_t syscalls(uint32_t rounds);
uint32_t pagefaults(uint32_t rounds);
uint32_t portio(uint32_t rounds);

/* A linear congruential generator: the same numbers on every machine. */
static inline uint32_t next_random(uint32_t *state) { return (*state = *state * 1664525 + 1013904223) >> 8; }

#endif

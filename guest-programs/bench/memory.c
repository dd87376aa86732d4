/* Memory: copies by loop and by REP, and a pointer chase that no prefetcher can follow. */
#include "bench.h"

enum { WORDS = 64 * 1024, CHASE = 256 * 1024 };       /* 256 KiB each way; a chase over 1 MiB */

static uint32_t from[WORDS], to[WORDS];
static uint32_t links[CHASE];

static void fill(void)
{
    uint32_t seed = 7;
    for (uint32_t i = 0; i < WORDS; i++) from[i] = next_random(&seed);
}

static uint32_t sum_of(const uint32_t *words)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < WORDS; i += 64) sum = (sum ^ words[i]) * 0x01000193;
    return sum;
}

uint32_t copy_loop(uint32_t rounds)
{
    uint32_t sum = 0;
    fill();
    for (uint32_t r = 0; r < rounds * 3; r++) {
        for (uint32_t i = 0; i < WORDS; i++) to[i] = from[i] + r;
        sum = (sum ^ sum_of(to)) * 0x01000193;
    }
    return sum;
}

static void rep_movs(uint32_t *d, const uint32_t *s, uint32_t n)
{
    asm volatile("rep movsd" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

static void rep_stosb(void *d, uint8_t byte, uint32_t n)
{
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(byte) : "memory");
}

/* Here an iteration of REP counts as one of the million. */
uint32_t copy_rep(uint32_t rounds)
{
    uint32_t sum = 0;
    fill();
    for (uint32_t r = 0; r < rounds * 3; r++) {
        rep_movs(to, from, WORDS);
        rep_stosb(to + r % 1024, r, WORDS * 4 - 4096);
        sum = (sum ^ sum_of(to)) * 0x01000193;
    }
    return sum;
}

/* One cycle through all links, in random order (Sattolo's algorithm). */
static void build_cycle(void)
{
    uint32_t seed = 3;
    for (uint32_t i = 0; i < CHASE; i++) links[i] = i;
    for (uint32_t i = CHASE - 1; i > 0; i--) {
        uint32_t j = next_random(&seed) % i, t = links[i];
        links[i] = links[j];
        links[j] = t;
    }
}

uint32_t chase(uint32_t rounds)
{
    uint32_t at = 0;
    build_cycle();
    for (uint32_t i = 0; i < rounds * 250000; i++) at = links[at];
    return at;
}

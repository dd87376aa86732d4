/* Control flow: direct calls and returns (a recursion), jump tables, and calls through pointers. */
#include "bench.h"

/* noipa: the compiler must not turn the recursion into a loop or copy it into itself. */
__attribute__((noipa)) static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

uint32_t calls(uint32_t rounds)
{
    uint32_t sum = 0;
    while (rounds--) sum = sum * 31 + fib(22);
    return sum;
}

typedef uint32_t operation(uint32_t);
static uint32_t op_add(uint32_t x) { return x + 0x9E3779B9; }
static uint32_t op_rotate(uint32_t x) { return x << 7 | x >> 25; }
static uint32_t op_times(uint32_t x) { return x * 5 + 1; }
static uint32_t op_xor(uint32_t x) { return x ^ x >> 11; }
static uint32_t op_not(uint32_t x) { return ~x; }
static uint32_t op_swap(uint32_t x) { return x >> 16 | x << 16; }
static uint32_t op_less(uint32_t x) { return x - (x >> 3); }
static uint32_t op_negate(uint32_t x) { return 0 - x; }

static operation *const operations[8] = {
    op_add, op_rotate, op_times, op_xor, op_not, op_swap, op_less, op_negate,
};

/* A little interpreter: one indirect jump per opcode. */
static uint32_t interpret(uint32_t program, uint32_t x)
{
    for (int i = 0; i < 8; i++, program >>= 4) {
        switch (program & 15) {
        case 0: x += 3; break;
        case 1: x ^= 0x55555555; break;
        case 2: x = x << 3 | x >> 29; break;
        case 3: x *= 9; break;
        case 4: x -= 0x1234567; break;
        case 5: x = ~x; break;
        case 6: x ^= x >> 7; break;
        case 7: x += x << 2; break;
        case 8: x |= 1; break;
        case 9: x ^= x << 13; break;
        case 10: x += program; break;
        case 11: x -= program; break;
        case 12: x = x >> 9 | x << 23; break;
        case 13: x ^= 0xFF00FF; break;
        case 14: x *= 3; break;
        default: x = 0 - x;
        }
    }
    return x;
}

uint32_t indirect(uint32_t rounds)
{
    uint32_t seed = 5, x = 1;
    for (uint32_t i = 0; i < rounds * 6300; i++) {
        uint32_t r = next_random(&seed) * 257;
        for (int k = 0; k < 4; k++) x = operations[r >> 3 * k & 7](x);
        x = interpret(r, x);
    }
    return x;
}

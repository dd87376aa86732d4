/* Computing: a sieve over bytes, and a mix in the manner of CoreMark (list, matrix, state machine, CRC), our own. */
#include "bench.h"

enum { SIEVE_SIZE = 65536, NODES = 256, N = 12 };

/* ---- sieve of Eratosthenes, one byte a number ---- */

static uint8_t composite[SIEVE_SIZE];

static uint32_t primes(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SIEVE_SIZE; i++) composite[i] = 0;
    for (uint32_t i = 2; i < SIEVE_SIZE; i++) {
        if (composite[i]) continue;
        count++;
        for (uint32_t multiple = i * 2; multiple < SIEVE_SIZE; multiple += i) composite[multiple] = 1;
    }
    return count;
}

uint32_t sieve(uint32_t rounds)
{
    uint32_t sum = 0;
    while (rounds--) sum = sum * 31 + primes();
    return sum;
}

/* ---- the mix ---- */

static uint16_t crc16(uint16_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1;
    return crc;
}

static uint16_t crc_word(uint16_t crc, uint32_t word)
{
    for (int i = 0; i < 4; i++) crc = crc16(crc, word >> 8 * i);
    return crc;
}

struct node { struct node *next; uint32_t key; };
static struct node nodes[NODES];

static struct node *build_list(uint32_t *seed)
{
    struct node *head = 0;
    for (int i = 0; i < NODES; i++) {
        nodes[i] = (struct node){ head, next_random(seed) & 0xFFFF };
        head = &nodes[i];
    }
    return head;
}

static struct node *reverse(struct node *list)
{
    struct node *done = 0;
    while (list) {
        struct node *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static struct node *merge(struct node *a, struct node *b)
{
    struct node *head = 0, **end = &head;
    while (a && b) {
        struct node **least = a->key <= b->key ? &a : &b;
        *end = *least;
        end = &(*least)->next;
        *least = *end;
    }
    *end = a ? a : b;
    return head;
}

/* Splits by taking every second node, sorts both halves, merges. */
static struct node *sort(struct node *list)
{
    struct node *half[2] = { 0, 0 };
    if (!list || !list->next) return list;
    for (int side = 0; list; side ^= 1) {
        struct node *next = list->next;
        list->next = half[side];
        half[side] = list;
        list = next;
    }
    return merge(sort(half[0]), sort(half[1]));
}

static uint16_t list_work(uint16_t crc, uint32_t *seed)
{
    struct node *list = reverse(sort(build_list(seed)));
    for (struct node *n = list; n; n = n->next) crc = crc16(crc, n->key);
    return crc;
}

static uint16_t matrix_work(uint16_t crc, uint32_t *seed)
{
    static int32_t a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N * N; i++) {
        a[i / N][i % N] = (int16_t)next_random(seed);
        b[i / N][i % N] = (int16_t)next_random(seed);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int32_t sum = 0;
            for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
            c[i][j] = sum >> 3;
        }
    for (int i = 0; i < N; i++) crc = crc_word(crc, c[i][i] ^ c[i][N - 1 - i]);
    return crc;
}

/* Counts what kind of number each word of a text is: integer, fraction, exponent, or none. */
enum state { START, INTEGER, FRACTION, EXPONENT, NONE, STATES };

static enum state step(enum state s, char c)
{
    int digit = c >= '0' && c <= '9';
    switch (s) {
    case START: return digit || c == '-' ? INTEGER : NONE;
    case INTEGER: return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : NONE;
    case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : NONE;
    case EXPONENT: return digit || c == '-' ? EXPONENT : NONE;
    default: return NONE;
    }
}

static uint16_t state_work(uint16_t crc, uint32_t *seed)
{
    static const char letters[16] = "0123456789.e- ,x";
    uint32_t ends[STATES] = { 0 };
    enum state s = START;
    for (int i = 0; i < 2048; i++) {
        char c = letters[next_random(seed) & 15];
        if (c == ' ' || c == ',') {
            ends[s]++;
            s = START;
        } else {
            s = step(s, c);
        }
    }
    for (int i = 0; i < STATES; i++) crc = crc_word(crc, ends[i]);
    return crc;
}

uint32_t mix(uint32_t rounds)
{
    uint32_t seed = 1;
    uint16_t crc = 0xFFFF;
    for (uint32_t i = 0; i < rounds * 6; i++) {
        crc = list_work(crc, &seed);
        crc = matrix_work(crc, &seed);
        crc = state_work(crc, &seed);
    }
    return crc;
}

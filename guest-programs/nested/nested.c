/* A kernel that dies a few calls deep, built with debug information: what a post-mortem can make of source lines. It has
 * no interrupt descriptor table, so its division by zero is its end. */

struct basket {
    unsigned apples;
    unsigned children;
};

static volatile unsigned given;

static __attribute__((noinline)) void give(unsigned apples)
{
    given += apples;
}

static inline __attribute__((always_inline)) unsigned share(const struct basket *b)
{
    return b->apples / b->children;
}

static __attribute__((noinline)) void hand_out(const struct basket *b)
{
    give(share(b));
    give(0);
}

static __attribute__((noinline)) void feast(struct basket *b, unsigned guests)
{
    while (guests--) {
        b->children = guests;
        hand_out(b);
    }
}

int kernel_main(void)
{
    struct basket basket = { .apples = 12, .children = 0 };
    feast(&basket, 3);
    return 0;
}

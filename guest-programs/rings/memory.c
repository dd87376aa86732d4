/* Frames, address spaces, demand paging and copy on write. SDM volume 3, chapter 4 (32-bit paging).
   The kernel sees the first 16 MiB at their physical addresses, supervisor only, in every address space. */
#include "../lib/cpu.h"
#include "rings.h"

enum { PRESENT = 1, WRITABLE = 2, USER = 4, COW = 0x200 };     /* bits 9-11 of an entry are software's own */
enum { ERROR_PRESENT = 1, ERROR_WRITE = 2 };
enum { KERNEL_TABLES = 4, POOL_FRAMES = 512 };

extern char user_load[], user_end[];                 /* from rings.ld: where the program is loaded, and its last address */
#define USER_SIZE ((uint32_t)user_end - USER_TEXT)

static uint8_t users[POOL_FRAMES];                  /* how many address spaces hold each frame of the pool */
static uint32_t pool;                               /* physical address of the first */
static uint32_t kernel_tables[KERNEL_TABLES][1024] __attribute__((aligned(PAGE)));
static uint32_t kernel_directory[1024] __attribute__((aligned(PAGE)));
static uint32_t shared_page;

/* ---- frames ---- */

static uint8_t *users_of(uint32_t frame) { return &users[(frame - pool) / PAGE]; }

static uint32_t frame_new(void)
{
    for (unsigned i = 0; i < POOL_FRAMES; i++) {
        if (users[i]) continue;
        users[i] = 1;
        uint32_t *page = (uint32_t *)(pool + i * PAGE);
        for (unsigned k = 0; k < PAGE / 4; k++) page[k] = 0;
        return (uint32_t)page;
    }
    panic("out of frames", 0);
}

static void frame_drop(uint32_t frame) { --*users_of(frame); }

unsigned frames_in_use(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < POOL_FRAMES; i++) n += users[i] != 0;
    return n;
}

/* ---- address spaces ---- */

static uint32_t *table_of(uint32_t entry) { return (uint32_t *)(entry & ~(PAGE - 1)); }

/* The page-table entry for `address`, or null where there is no page table. */
static uint32_t *entry_for(const uint32_t *directory, uint32_t address)
{
    uint32_t pde = directory[address >> 22];
    return pde & PRESENT ? &table_of(pde)[address >> 12 & 1023] : 0;
}

static void map(uint32_t *directory, uint32_t address, uint32_t entry)
{
    uint32_t *pde = &directory[address >> 22];
    if (!(*pde & PRESENT)) *pde = frame_new() | PRESENT | WRITABLE | USER;
    *entry_for(directory, address) = entry;
}

/* Only frames of the private regions belong to the address space that maps them. */
static int is_private(unsigned directory_index) { return directory_index >= (unsigned)USER_HEAP >> 22; }

uint32_t *space_new(void)
{
    uint32_t *directory = (uint32_t *)frame_new();
    for (unsigned i = 0; i < KERNEL_TABLES; i++) directory[i] = kernel_directory[i];
    for (uint32_t at = 0; at < USER_SIZE; at += PAGE)
        map(directory, USER_TEXT + at, ((uint32_t)user_load + at) | PRESENT | USER);
    map(directory, USER_SHARED, shared_page | PRESENT | WRITABLE | USER);
    return directory;
}

/* Both sides keep every private page, read only; whoever writes first gets a copy. */
static uint32_t share(uint32_t *entry)
{
    if (!(*entry & PRESENT)) return 0;
    if (*entry & WRITABLE) *entry = (*entry & ~WRITABLE) | COW;
    ++*users_of(*entry & ~(PAGE - 1));
    return *entry;
}

uint32_t *space_fork(uint32_t *parent)
{
    uint32_t *child = space_new();
    for (unsigned d = 0; d < 1024; d++) {
        if (!is_private(d) || !(parent[d] & PRESENT)) continue;
        for (unsigned t = 0; t < 1024; t++) {
            uint32_t entry = share(&table_of(parent[d])[t]);
            if (entry) map(child, d << 22 | t << 12, entry);
        }
    }
    space_switch(parent);           /* the TLB may still hold the parent's entries as writable */
    return child;
}

void space_free(uint32_t *directory)
{
    space_switch(kernel_directory);
    for (unsigned d = KERNEL_TABLES; d < 1024; d++) {
        if (!(directory[d] & PRESENT)) continue;
        uint32_t *table = table_of(directory[d]);
        for (unsigned t = 0; is_private(d) && t < 1024; t++)
            if (table[t] & PRESENT) frame_drop(table[t] & ~(PAGE - 1));
        frame_drop((uint32_t)table);
    }
    frame_drop((uint32_t)directory);
}

void space_switch(const uint32_t *directory) { write_cr3((uint32_t)directory); }

uint32_t frame_behind(const uint32_t *directory, uint32_t address)
{
    uint32_t *entry = entry_for(directory, address);
    return entry && *entry & PRESENT ? *entry & ~(PAGE - 1) : 0;
}

/* ---- faults ---- */

static int within(uint32_t address, uint32_t length, uint32_t start, uint32_t end)
{
    return address >= start && address <= end && length <= end - address;
}

static int on_demand(uint32_t address, uint32_t length)
{
    return within(address, length, USER_HEAP, USER_HEAP_END) || within(address, length, USER_STACK, USER_STACK_END);
}

int user_may(uint32_t address, uint32_t length, int write)
{
    return on_demand(address, length) || within(address, length, USER_SHARED, USER_SHARED + PAGE)
        || (!write && within(address, length, USER_TEXT, USER_TEXT + USER_SIZE));
}

static void first_touch(uint32_t *directory, uint32_t address)
{
    counters.zero_pages++;
    map(directory, address, frame_new() | PRESENT | WRITABLE | USER);
}

/* The last holder of a frame may simply have it back; any other gets a copy. */
static void copy_on_write(uint32_t *entry, uint32_t address)
{
    uint32_t frame = *entry & ~(PAGE - 1);
    if (*users_of(frame) > 1) {
        uint32_t copy = frame_new();
        for (unsigned k = 0; k < PAGE / 4; k++) ((uint32_t *)copy)[k] = ((uint32_t *)frame)[k];
        frame_drop(frame);
        frame = copy;
        counters.copied_pages++;
    } else {
        counters.reused_pages++;
    }
    *entry = frame | PRESENT | WRITABLE | USER;
    invlpg(address);
}

int page_fault_resolved(uint32_t *directory, uint32_t address, uint32_t error)
{
    uint32_t *entry = entry_for(directory, address);
    if (!(error & ERROR_PRESENT) && on_demand(address, 1)) {
        first_touch(directory, address);
        return 1;
    }
    if (error & ERROR_WRITE && entry && (*entry & (PRESENT | COW)) == (PRESENT | COW)) {
        copy_on_write(entry, address);
        return 1;
    }
    return 0;
}

void memory_init(void)
{
    pool = ((uint32_t)user_load + USER_SIZE + PAGE - 1) & ~(PAGE - 1);
    for (unsigned t = 0; t < KERNEL_TABLES; t++) {
        for (unsigned i = 0; i < 1024; i++) kernel_tables[t][i] = t << 22 | i << 12 | PRESENT | WRITABLE;
        kernel_directory[t] = (uint32_t)kernel_tables[t] | PRESENT | WRITABLE;
    }
    shared_page = frame_new();
    ((struct shared *)shared_page)->has_sysenter = has_sysenter();
    space_switch(kernel_directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);    /* WP: the kernel, too, faults on a copy-on-write page */
}

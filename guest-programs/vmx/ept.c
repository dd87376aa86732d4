/* Nested paging (SDM 28.2): the processor walks the guest's own tables, and takes every guest-physical
   address on the way through these. So MOV CR3, INVLPG and the guest's page faults need no exit. The tables
   are filled page by page, each at its first access. */
#include "vmx.h"

enum { ACCESS = 7, WRITE_BACK = 6, FOUR_LEVELS = 3 << 3, TABLES = 3 + MOST / (2 << 20) };
static __attribute__((aligned(4096))) uint64_t tables[TABLES][512];     /* the first is the root */
static unsigned used = 1;

void ept_init(void)
{
    vmwrite(EPT_POINTER, (uint32_t)tables[0] | FOUR_LEVELS | WRITE_BACK);
    vmwrite(EPT_POINTER + 1, 0);
}

/* The entry of the last level for a guest-physical address; tables on the way are made. There are enough for
   MOST: three for the upper levels, and one for each 2 MiB. */
static uint64_t *entry_of(uint32_t physical)
{
    uint64_t *table = tables[0];
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t *entry = &table[(uint64_t)physical >> shift & 511];
        if (!*entry) *entry = (uint32_t)tables[used++] | ACCESS;
        table = (uint64_t *)(uint32_t)(*entry & ~0xFFFull);
    }
    return &table[physical >> 12 & 511];
}

/* An access found no entry. No processor keeps an entry that is not present, so a new one needs no INVEPT. */
void ept_violation(void)
{
    uint32_t physical = get(GUEST_PHYSICAL);
    uint32_t frame = (uint32_t)needed_frame(physical);
    *entry_of(physical) = frame | WRITE_BACK << 3 | ACCESS;
}

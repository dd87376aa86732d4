/* Shadow page tables: the ones that the processor walks map the guest's linear addresses to our memory; the
   guest's own only say what belongs there. An entry is filled at the first access, and goes when the guest
   does INVLPG or loads CR3: to a guest that keeps the manual's rules for a TLB, this is one. */
#include "../lib/cpu.h"
#include "vmx.h"

enum { PRESENT = 1, WRITE = 2, USER = 4, ACCESSED = 1 << 5, DIRTY = 1 << 6, LARGE = 1 << 7,
       OF_LARGE = 1 << 9, TABLES = 32 };         /* bit 9 is software's: a table with parts of a large page */
static __attribute__((aligned(4096))) uint32_t directory[1024], tables[TABLES][1024];
static unsigned used;
uint32_t shadowed_cr3;

void shadow_init(void)
{
    __builtin_memset(directory, 0, sizeof directory);
    used = 0;
    vmwrite(GUEST_CR3, (uint32_t)directory);
}

/* The shadow's entry for a page. Each VM entry empties the processor's TLB (there is no VPID): the change
   of an entry needs nothing else. */
static uint32_t *slot(uint32_t linear)
{
    uint32_t *entry = &directory[linear >> 22];
    if (!*entry) {
        if (used == TABLES) shadow_init();              /* a TLB may forget whenever it likes */
        __builtin_memset(tables[used], 0, sizeof tables[used]);
        *entry = (uint32_t)tables[used++] | USER | WRITE | PRESENT;
    }
    return (uint32_t *)(*entry & ~0xFFFu) + (linear >> 12 & 1023);
}

/* A large page of the guest's is many small ones here. One INVLPG drops them all (4.10.4.1). */
void shadow_drop(uint32_t linear)
{
    uint32_t *table = &directory[linear >> 22];
    if (*table & OF_LARGE) *table = 0;
    else if (*table) *slot(linear) = 0;
}

/* ---- the guest's own tables, in either mode ---- */

/* What a walk finds: the page, the rights that both levels grant, and the entries, to mark them. */
struct walk { uint32_t *upper, *entry, physical, rights; };

/* Walks as the processor does (4.3). Without PRESENT in the rights there is no translation. */
static struct walk walk(uint32_t linear)
{
    struct walk w = { 0, 0, linear & ~0xFFFu, PRESENT | WRITE | USER };
    if (!(guest_cr0() & CR0_PG)) return w;
    w.upper = (uint32_t *)needed_frame(nested ? get(GUEST_CR3) : shadowed_cr3) + (linear >> 22);
    if (*w.upper & LARGE && get(nested ? GUEST_CR4 : CR4_SHADOW) & CR4_PSE) {
        w.entry = w.upper;
        w.physical = (*w.entry & 0xFFC00000) | (linear & 0x3FF000);
    } else if (*w.upper & PRESENT) {
        w.entry = (uint32_t *)needed_frame(*w.upper) + (linear >> 12 & 1023);
        w.physical = *w.entry & ~0xFFFu;
    } else {
        w.entry = w.upper;
    }
    w.rights = *w.upper & *w.entry & (PRESENT | WRITE | USER);
    return w;
}

/* Whether the guest's tables allow an access; the bits of an error code are those of rights. */
static int allowed(uint32_t rights, uint32_t code)
{
    if (!(rights & PRESENT) || (code & USER && !(rights & USER))) return 0;
    if (!(code & WRITE) || rights & WRITE) return 1;
    return !(code & USER) && !(guest_cr0() & CR0_WP);
}

uint8_t *guest_byte(uint32_t linear)
{
    struct walk w = walk(linear);
    uint32_t code = (get(RIGHTS + 2 * SS) >> 5 & 3) == 3 ? USER : 0;
    if (allowed(w.rights, code)) return needed_frame(w.physical) + (linear & 0xFFF);
    inject_page_fault(linear, code | (w.rights & PRESENT));
    return 0;
}

/* A page fault: the guest's own if its tables refuse the access; otherwise a hidden one, for want of an
   entry here. The marks "accessed" and "dirty" are ours to set, so a page that is not dirty stays read-only
   here until its first write. Where ring 0 writes a read-only page (no WP), the entry is writable, and not
   the user's. */
void shadow_fault(uint32_t linear, uint32_t code)
{
    struct walk w = walk(linear);
    if (!allowed(w.rights, code))
        return inject_page_fault(linear, (code & ~PRESENT) | (w.rights & PRESENT));
    uint8_t *frame = needed_frame(w.physical);
    if (w.entry) {
        *w.upper |= ACCESSED;
        *w.entry |= code & WRITE ? ACCESSED | DIRTY : ACCESSED;
        if (!(*w.entry & DIRTY)) w.rights &= ~WRITE;
        if (code & WRITE && !(w.rights & WRITE)) w.rights = PRESENT | WRITE;
    }
    hidden_faults++;
    *slot(linear) = (uint32_t)frame | w.rights;
    if (w.entry == w.upper) directory[linear >> 22] |= OF_LARGE;
}

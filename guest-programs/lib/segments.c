/* The GDT and the TSS. The model is flat: segments only carry the ring, paging does the rest. */
#include "segments.h"
#include "cpu.h"

__attribute__((aligned(4096))) struct gdt_page gdt_page;
struct tss tss;

uint64_t descriptor(uint32_t base, uint32_t limit, uint8_t access)
{
    uint32_t flags = access & 0x10 ? 0x4 : 0;               /* code and data segments: 32-bit */
    if (limit > 0xFFFFF) { limit >>= 12; flags |= 0x8; }    /* granularity: pages */
    uint32_t low = base << 16 | (limit & 0xFFFF);
    uint32_t high = (base & 0xFF000000) | flags << 20 | (limit & 0xF0000) | access << 8 | (base >> 16 & 0xFF);
    return (uint64_t)high << 32 | low;
}

/* A clean kernel keeps the user's data selector in DS and ES, always: the descriptor is flat and ring 0 may use it, so
   that no trap has to save, load and restore them. An ordinary one has its own and changes at each crossing. */
#ifdef CLEAN
#define DATA_SELECTOR USER_DS
#else
#define DATA_SELECTOR KERNEL_DS
#endif

/* LGDT changes nothing by itself: each register keeps its hidden descriptor until it is loaded again. */
static void load_segments(void)
{
    asm volatile("ljmp %0, offset .Lreloaded%=\n"
                 ".Lreloaded%=:\n"
                 "mov ss, %1\n"
                 "mov ds, %2\n mov es, %2\n mov fs, %2\n mov gs, %2"
                 : : "i"(KERNEL_CS), "r"(KERNEL_DS), "r"(DATA_SELECTOR) : "memory");
}

void segments_init(void)
{
    gdt[KERNEL_CS / 8] = descriptor(0, FLAT, ACCESS_CODE0);
    gdt[KERNEL_DS / 8] = descriptor(0, FLAT, ACCESS_DATA0);
    gdt[USER_CS / 8] = descriptor(0, FLAT, ACCESS_CODE3);
    gdt[USER_DS / 8] = descriptor(0, FLAT, ACCESS_DATA3);
    gdt[TSS_SEL / 8] = descriptor((uint32_t)&tss, sizeof tss - 1, ACCESS_TSS);
    tss.ss0 = KERNEL_DS;
    tss.io_map = __builtin_offsetof(struct tss, io_bits);
    for (unsigned i = 0; i < sizeof tss.io_bits; i++) tss.io_bits[i] = 0xFF;

    struct table_register r = { sizeof gdt - 1, (uint32_t)gdt };
    lgdt(&r);
    load_segments();
    ltr(TSS_SEL);
}

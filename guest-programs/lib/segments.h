/* The GDT and the TSS of our kernels. SDM volume 3, chapter 3 (segmentation) and 8 (task state). */
#ifndef SEGMENTS_H
#define SEGMENTS_H
#include <stdint.h>

/* SYSENTER and SYSEXIT want these four in this order. */
enum { KERNEL_CS = 0x08, KERNEL_DS = 0x10, USER_CS = 0x18 | 3, USER_DS = 0x20 | 3, TSS_SEL = 0x28, SPARE_SEL = 0x30 };
enum { GDT_ENTRIES = 16 };      /* from SPARE_SEL on they are the guest's own */

/* Access bytes: present, DPL, and the type. */
enum { ACCESS_CODE0 = 0x9A, ACCESS_DATA0 = 0x92, ACCESS_CODE3 = 0xFA, ACCESS_DATA3 = 0xF2, ACCESS_TSS = 0x89,
       ACCESS_LDT = 0x82, ACCESS_GATE = 0x8C, ACCESS_CONFORMING = 0x9E };
enum { FLAT = 0xFFFFFFFF };

struct tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
    uint8_t io_bits[0x400 / 8 + 1];         /* ports 0 to 3FFh, and the closing byte of ones */
};

/* The GDT has a page of its own. A monitor that shadows descriptor tables protects the page that they lie in, and a write to
   whatever shares it faults: a compute loop whose data lay there ran 24 % slower. */
struct gdt_page { uint64_t entries[GDT_ENTRIES]; uint8_t rest[4096 - 8 * GDT_ENTRIES]; };
extern struct gdt_page gdt_page;
#define gdt gdt_page.entries
extern struct tss tss;

/* A 32-bit descriptor. A limit over 1 MiB must end in FFFh: it is kept in pages. */
uint64_t descriptor(uint32_t base, uint32_t limit, uint8_t access);
/* Loads the GDT, every segment register and the task register. All ports are closed to ring 3. */
void segments_init(void);

#endif

/* One C function per system instruction. All of these are privileged, or harmless in any ring: the sensitive
   unprivileged ones (PUSHF, SGDT, ...) stand in sensitive.h, so that a "clean" build can be seen not to use them. */
#ifndef CPU_H
#define CPU_H
#include <stdint.h>

enum { CR0_PE = 1, CR0_MP = 2, CR0_TS = 8, CR0_WP = 1 << 16, CR0_PG = 1u << 31 };
enum { EFLAGS_ONE = 1 << 1, EFLAGS_TF = 1 << 8, EFLAGS_IF = 1 << 9, EFLAGS_IOPL = 3 << 12 };
enum { MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176 };

static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline void hlt(void) { asm volatile("hlt" : : : "memory"); }
/* STI holds interrupts back for one instruction, so no interrupt can slip in between and leave HLT waiting for ever. */
static inline void sti_hlt_cli(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

static inline uint32_t read_cr0(void) { uint32_t v; asm volatile("mov %0, cr0" : "=r"(v)); return v; }
static inline uint32_t read_cr2(void) { uint32_t v; asm volatile("mov %0, cr2" : "=r"(v)); return v; }
static inline uint32_t read_cr3(void) { uint32_t v; asm volatile("mov %0, cr3" : "=r"(v)); return v; }
static inline void write_cr0(uint32_t v) { asm volatile("mov cr0, %0" : : "r"(v) : "memory"); }
static inline void write_cr3(uint32_t v) { asm volatile("mov cr3, %0" : : "r"(v) : "memory"); }
static inline void invlpg(uint32_t address) { asm volatile("invlpg [%0]" : : "r"(address) : "memory"); }

struct cpuid { uint32_t eax, ebx, ecx, edx; };
static inline struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

/* CPUID's SEP bit is also set on the first Pentium Pros, which do not have SYSENTER: the manual says to look at the
   family, model and stepping too (SDM volume 2, SYSENTER). */
static inline int has_sysenter(void)
{
    struct cpuid id = cpuid(1);
    unsigned family = id.eax >> 8 & 15, model = id.eax >> 4 & 15, stepping = id.eax & 15;
    if (!(id.edx & 1 << 11)) return 0;
    return !(family == 6 && (id.eax >> 16 & 15) == 0 && model < 3 && stepping < 3);
}

static inline uint64_t rdtsc(void) { uint64_t v; asm volatile("rdtsc" : "=A"(v) : : "memory"); return v; }
static inline void wrmsr(uint32_t msr, uint32_t low) { asm volatile("wrmsr" : : "c"(msr), "a"(low), "d"(0)); }

struct __attribute__((packed)) table_register { uint16_t limit; uint32_t base; };
static inline void lgdt(const struct table_register *r) { asm volatile("lgdt %0" : : "m"(*r)); }
static inline void lidt(const struct table_register *r) { asm volatile("lidt %0" : : "m"(*r)); }
static inline void ltr(uint16_t selector) { asm volatile("ltr %0" : : "r"(selector)); }
static inline void lldt(uint16_t selector) { asm volatile("lldt %0" : : "r"(selector)); }

#endif

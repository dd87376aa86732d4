/* VMX as the test kernel uses it (SDM volume 3, chapters 24 to 30). */
#ifndef VMX_H
#define VMX_H
#include <stdint.h>
#include "../lib/vmx.h"

/* Where things of the guest are: its memory is the machine's, page for page. */
enum {
    CODE = 0x200000, STACK = 0x208000, GUEST_GDT = 0x209000, GUEST_IDT = 0x20A000, GUEST_TSS = 0x20B000,
    OTHER_TSS = 0x20C000, DIRECTORY = 0x20D000, TABLE = 0x20E000, STUBS = 0x20F000, VMXON_REGION = 0x210000,
    VMCS_REGION = 0x211000, SPARE_REGION = 0x212000, IO_BITMAP_A = 0x213000, IO_BITMAP_B = 0x214000,
    MSR_BITMAPS = 0x215000, MSR_STORE = 0x216000, MSR_LOAD = 0x217000, MSR_ENTRY = 0x218000,
    DATA_PAGE = 0x219000,
    POINTERS = 0x21A000,
    PAGED = 0x400000                    /* 4 MiB with 4 KiB pages; 0x401000 is missing, 0x402000 read-only */
};

/* The guest's selectors. */
enum { G_CODE = 0x08, G_DATA = 0x10, G_TSS = 0x18, G_CODE3 = 0x20 | 3, G_DATA3 = 0x28 | 3, G_OTHER = 0x30,
       G_GATE = 0x38, G_ABSENT = 0x40, G_CODE16 = 0x48, G_LAST = 0x48 };

static inline uint32_t read_dr6(void) { uint32_t v; asm volatile("mov %0, dr6" : "=r"(v)); return v; }
static inline uint32_t read_dr7(void) { uint32_t v; asm volatile("mov %0, dr7" : "=r"(v)); return v; }

struct registers { uint32_t eax, ecx, edx, ebx, ebp, esi, edi; };

/* All tests run. `hard=0` leaves out those at which Bochs 2.7 stops, or sleeps for ever. */
extern int hard;

/* What the processor offers: MSRs 480h to 484h. */
struct caps { uint64_t basic, pin, primary, exit, entry, misc, secondary; };
extern struct caps caps;
/* Whether these controls may be set. */
static inline int allows(uint64_t control, uint32_t bits)
{
    return ((uint32_t)(control >> 32) & bits) == bits;
}

/* machine.c: the host's side */
void machine_init(void);
/* Runs `f`; the vector of the exception that it caused, or -1. */
int caught(void (*f)(void));
extern uint32_t caught_code;
/* Leaves an interrupt request of the timer pending; ends it. */
void request_interrupt(void);
void end_interrupt(void);

/* guest.c: the guest that the tests begin with, and how they run it */
extern struct registers guest;
extern int show;                        /* the last line of a run has EAX, too */
void fresh(void);                       /* a cleared control structure with all of the guest's defaults */
void load(const uint8_t *code, const uint8_t *end);
void run(const char *name);
void print_failure(int outcome);        /* the outcome of an entry that is no guest's */
int enter(struct registers *guest, int resume);
int shadowed_launch(void);
void primary(uint32_t set);             /* sets controls */
void pin(uint32_t set);
void ring3(void);
void v86(void);

#define GUEST_CODE(text)                                                                        \
    do {                                                                                        \
        const uint8_t *begin_, *end_;                                                           \
        asm volatile(".pushsection .rodata.guest, \"a\", @progbits\n.Lb%=:\n" text "\n.Le%=:\n.popsection\n" \
                     "mov %0, offset .Lb%=\nmov %1, offset .Le%=" : "=r"(begin_), "=r"(end_));  \
        load(begin_, end_);                                                                     \
    } while (0)

/* One test: a guest that runs `text` and then VMCALL, after some changes to the defaults. */
#define T(name, text, ...) do { GUEST_CODE(text "\nvmcall"); __VA_ARGS__; run(name); } while (0)

static inline void poke(uint32_t at, uint32_t value) { *(volatile uint32_t *)at = value; }

/* The lists of tests. */
void test_instructions(void);
void test_control_registers(void);
void test_io(void);
void test_msrs(void);
void test_exceptions(void);
void test_interrupts(void);
void test_task_switches(void);
void test_injection(void);
void test_debug(void);
void test_state(void);
void test_errors(void);
void test_entries(void);

#endif

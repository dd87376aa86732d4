/* VMX as the test kernel uses it (SDM volume 3, chapters 24 to 30 and appendices A to C). */
#ifndef VMX_H
#define VMX_H
#include <stdint.h>

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

/* Fields (appendix B). */
enum {
    VPID = 0, GUEST_ES = 0x800, GUEST_CS = 0x802, GUEST_SS = 0x804, GUEST_DS = 0x806, GUEST_FS = 0x808,
    GUEST_GS = 0x80A,
    GUEST_LDTR = 0x80C, GUEST_TR = 0x80E, HOST_ES = 0xC00, HOST_CS = 0xC02, HOST_SS = 0xC04, HOST_DS = 0xC06,
    HOST_FS = 0xC08, HOST_GS = 0xC0A, HOST_TR = 0xC0C,
    BITMAP_A = 0x2000, BITMAP_B = 0x2002, BITMAP_MSR = 0x2004, EXIT_MSR_STORE = 0x2006,
    EXIT_MSR_LOAD = 0x2008,
    ENTRY_MSR_LOAD = 0x200A, TSC_OFFSET = 0x2010, VIRTUAL_APIC = 0x2012, LINK = 0x2800,
    GUEST_DEBUGCTL = 0x2802,
    PIN = 0x4000, PRIMARY = 0x4002, EXCEPTIONS = 0x4004, PF_MASK = 0x4006, PF_MATCH = 0x4008,
    CR3_COUNT = 0x400A,
    EXIT_CONTROLS = 0x400C, EXIT_MSR_STORE_COUNT = 0x400E, EXIT_MSR_LOAD_COUNT = 0x4010,
    ENTRY_CONTROLS = 0x4012,
    ENTRY_MSR_LOAD_COUNT = 0x4014, ENTRY_EVENT = 0x4016, ENTRY_CODE = 0x4018, ENTRY_LENGTH = 0x401A,
    TPR_THRESHOLD = 0x401C, SECONDARY = 0x401E,
    ERROR = 0x4400, REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_CODE = 0x4406, VECTORING = 0x4408,
    VECTORING_CODE = 0x440A,
    EXIT_LENGTH = 0x440C, EXIT_INSTRUCTION = 0x440E,
    LIMITS = 0x4800, GDTR_LIMIT = 0x4810, IDTR_LIMIT = 0x4812, RIGHTS = 0x4814, INTERRUPTIBILITY = 0x4824,
    ACTIVITY = 0x4826, GUEST_SYSENTER_CS = 0x482A, TIMER = 0x482E, HOST_SYSENTER_CS = 0x4C00,
    CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006, CR3_TARGET = 0x6008,
    QUALIFICATION = 0x6400, LINEAR = 0x640A,
    GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, BASES = 0x6806, GDTR_BASE = 0x6816,
    IDTR_BASE = 0x6818,
    GUEST_DR7 = 0x681A, GUEST_RSP = 0x681C, GUEST_RIP = 0x681E, GUEST_RFLAGS = 0x6820, PENDING_DEBUG = 0x6822,
    GUEST_SYSENTER_ESP = 0x6824, GUEST_SYSENTER_EIP = 0x6826,
    HOST_CR0 = 0x6C00, HOST_CR3 = 0x6C02, HOST_CR4 = 0x6C04, HOST_FS_BASE = 0x6C06, HOST_GS_BASE = 0x6C08,
    HOST_TR_BASE = 0x6C0A, HOST_GDTR_BASE = 0x6C0C, HOST_IDTR_BASE = 0x6C0E, HOST_SYSENTER_ESP = 0x6C10,
    HOST_SYSENTER_EIP = 0x6C12, HOST_RSP = 0x6C14, HOST_RIP = 0x6C16
};

/* Segment registers: a field's encoding is that of ES plus 2n. */
enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

/* Controls (24.6 to 24.8). */
enum { PIN_EXTERNAL = 1 << 0, PIN_NMI = 1 << 3, PIN_VIRTUAL_NMI = 1 << 5, PIN_TIMER = 1 << 6 };
enum { INTERRUPT_WINDOW = 1 << 2, OFFSETTING = 1 << 3, HLT_EXITING = 1 << 7, INVLPG_EXITING = 1 << 9,
    MWAIT_EXITING = 1 << 10,
       RDPMC_EXITING = 1 << 11, RDTSC_EXITING = 1 << 12, CR3_LOAD = 1 << 15, CR3_STORE = 1 << 16,
       NMI_WINDOW = 1 << 22,
       DR_EXITING = 1 << 23, IO_EXITING = 1 << 24, IO_BITMAPS = 1 << 25, USE_MSR_BITMAPS = 1 << 28,
       MONITOR_EXITING = 1 << 29, PAUSE_EXITING = 1 << 30 };
#define ACTIVATE_SECONDARY (1u << 31)
enum { SAVE_DEBUG = 1 << 2, ACKNOWLEDGE = 1 << 15 };

/* Basic exit reasons (appendix C) that the kernel acts upon. */
enum { R_EXCEPTION = 0, R_EXTERNAL = 1, R_TRIPLE_FAULT = 2, R_INTERRUPT_WINDOW = 7, R_NMI_WINDOW = 8,
    R_TASK_SWITCH = 9,
       R_VMCALL = 18, R_TIMER = 52, R_FAILED_ENTRY = 33 };

/* Events (tables 24-13 and 24-15). */
#define EVENT(type, vector) (0x80000000u | (type) << 8 | (vector))
enum { T_EXTERNAL = 0, T_NMI = 2, T_HARDWARE = 3, T_SOFTWARE = 4, T_PRIVILEGED = 5, T_EXCEPTION = 6,
    HAS_CODE = 1 << 11 };

/* What became of a VMX instruction (30.2). */
enum { SUCCEEDED, FAILED_INVALID, FAILED };

#define OUTCOME(r) "mov %0, 0\n jnc 1f\n inc %0\n 1: jnz 2f\n mov %0, 2\n 2:" : "=&q"(r)
static inline int vmwrite(uint32_t field, uint32_t value)
{
    int r;
    asm volatile("vmwrite %1, %2\n" OUTCOME(r) : "r"(field), "r"(value) : "cc", "memory");
    return r;
}

static inline int vmread(uint32_t field, uint32_t *value)
{
    int r;
    uint32_t v;
    asm volatile("vmread %1, %2\n mov %0, 0\n jnc 1f\n inc %0\n 1: jnz 2f\n mov %0, 2\n 2:"
                 : "=&q"(r), "=&r"(v) : "r"(field) : "cc", "memory");
    *value = v;
    return r;
}

static inline uint32_t get(uint32_t field)
{
    uint32_t v = 0;
    vmread(field, &v);
    return v;
}

#define POINTER_INSTRUCTION(name, mnemonic)                                                     \
    static inline int name(uint64_t address)                                                    \
    {                                                                                           \
        int r;                                                                                  \
        asm volatile(mnemonic " %1\n" OUTCOME(r) : "m"(address) : "cc", "memory");              \
        return r;                                                                               \
    }
POINTER_INSTRUCTION(vmxon, "vmxon")
POINTER_INSTRUCTION(vmclear, "vmclear")
POINTER_INSTRUCTION(vmptrld, "vmptrld")

static inline uint64_t vmptrst(void)
{
    uint64_t address = 0;
    asm volatile("vmptrst %0" : "=m"(address) : : "cc", "memory");
    return address;
}

#define BARE_INSTRUCTION(name, mnemonic)                                                        \
    static inline int name(void)                                                                \
    {                                                                                           \
        int r;                                                                                  \
        asm volatile(mnemonic "\n" OUTCOME(r) : : "cc", "memory");                              \
        return r;                                                                               \
    }
BARE_INSTRUCTION(vmxoff, "vmxoff")
BARE_INSTRUCTION(root_vmcall, "vmcall")
BARE_INSTRUCTION(vmlaunch, "vmlaunch")
BARE_INSTRUCTION(vmresume, "vmresume")

static inline uint64_t rdmsr(uint32_t msr)
{
    uint64_t v;
    asm volatile("rdmsr" : "=A"(v) : "c"(msr));
    return v;
}

static inline uint32_t read_dr6(void) { uint32_t v; asm volatile("mov %0, dr6" : "=r"(v)); return v; }
static inline uint32_t read_dr7(void) { uint32_t v; asm volatile("mov %0, dr7" : "=r"(v)); return v; }
static inline uint32_t read_cr4(void) { uint32_t v; asm volatile("mov %0, cr4" : "=r"(v)); return v; }
static inline void write_cr4(uint32_t v) { asm volatile("mov cr4, %0" : : "r"(v) : "memory"); }

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

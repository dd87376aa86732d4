/* VMX: the fields and controls of the VMCS, and the instructions (SDM volume 3, chapters 24 and 30, and
   appendices A to C). */
#ifndef LIB_VMX_H
#define LIB_VMX_H
#include <stdint.h>

/* Fields (appendix B). A 64-bit field has its high half at the encoding plus 1; a segment register's
   fields are those of ES plus twice its number. */
enum {
    VPID = 0, GUEST_ES = 0x800, GUEST_CS = 0x802, GUEST_SS = 0x804, GUEST_DS = 0x806, GUEST_FS = 0x808,
    GUEST_GS = 0x80A, GUEST_LDTR = 0x80C, GUEST_TR = 0x80E, HOST_ES = 0xC00, HOST_CS = 0xC02, HOST_SS = 0xC04,
    HOST_DS = 0xC06, HOST_FS = 0xC08, HOST_GS = 0xC0A, HOST_TR = 0xC0C,
    BITMAP_A = 0x2000, BITMAP_B = 0x2002, BITMAP_MSR = 0x2004, EXIT_MSR_STORE = 0x2006,
    EXIT_MSR_LOAD = 0x2008, ENTRY_MSR_LOAD = 0x200A, TSC_OFFSET = 0x2010, VIRTUAL_APIC = 0x2012,
    EPT_POINTER = 0x201A, GUEST_PHYSICAL = 0x2400, LINK = 0x2800, GUEST_DEBUGCTL = 0x2802,
    PIN = 0x4000, PRIMARY = 0x4002, EXCEPTIONS = 0x4004, PF_MASK = 0x4006, PF_MATCH = 0x4008,
    CR3_COUNT = 0x400A, EXIT_CONTROLS = 0x400C, EXIT_MSR_STORE_COUNT = 0x400E, EXIT_MSR_LOAD_COUNT = 0x4010,
    ENTRY_CONTROLS = 0x4012, ENTRY_MSR_LOAD_COUNT = 0x4014, ENTRY_EVENT = 0x4016, ENTRY_CODE = 0x4018,
    ENTRY_LENGTH = 0x401A, TPR_THRESHOLD = 0x401C, SECONDARY = 0x401E,
    ERROR = 0x4400, REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_CODE = 0x4406, VECTORING = 0x4408,
    VECTORING_CODE = 0x440A, EXIT_LENGTH = 0x440C, EXIT_INSTRUCTION = 0x440E,
    LIMITS = 0x4800, GDTR_LIMIT = 0x4810, IDTR_LIMIT = 0x4812, RIGHTS = 0x4814, INTERRUPTIBILITY = 0x4824,
    ACTIVITY = 0x4826, GUEST_SYSENTER_CS = 0x482A, TIMER = 0x482E, HOST_SYSENTER_CS = 0x4C00,
    CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006, CR3_TARGET = 0x6008,
    QUALIFICATION = 0x6400, LINEAR = 0x640A,
    GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, BASES = 0x6806, GDTR_BASE = 0x6816,
    IDTR_BASE = 0x6818, GUEST_DR7 = 0x681A, GUEST_RSP = 0x681C, GUEST_RIP = 0x681E, GUEST_RFLAGS = 0x6820,
    PENDING_DEBUG = 0x6822, GUEST_SYSENTER_ESP = 0x6824, GUEST_SYSENTER_EIP = 0x6826,
    HOST_CR0 = 0x6C00, HOST_CR3 = 0x6C02, HOST_CR4 = 0x6C04, HOST_FS_BASE = 0x6C06, HOST_GS_BASE = 0x6C08,
    HOST_TR_BASE = 0x6C0A, HOST_GDTR_BASE = 0x6C0C, HOST_IDTR_BASE = 0x6C0E, HOST_SYSENTER_ESP = 0x6C10,
    HOST_SYSENTER_EIP = 0x6C12, HOST_RSP = 0x6C14, HOST_RIP = 0x6C16
};
enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

/* Controls (24.6 to 24.8): pin-based, primary, secondary, of exits and entries. */
enum { PIN_EXTERNAL = 1 << 0, PIN_NMI = 1 << 3, PIN_VIRTUAL_NMI = 1 << 5, PIN_TIMER = 1 << 6 };
enum { INTERRUPT_WINDOW = 1 << 2, OFFSETTING = 1 << 3, HLT_EXITING = 1 << 7, INVLPG_EXITING = 1 << 9,
       MWAIT_EXITING = 1 << 10, RDPMC_EXITING = 1 << 11, RDTSC_EXITING = 1 << 12, CR3_LOAD = 1 << 15,
       CR3_STORE = 1 << 16, NMI_WINDOW = 1 << 22, DR_EXITING = 1 << 23, IO_EXITING = 1 << 24,
       IO_BITMAPS = 1 << 25, USE_MSR_BITMAPS = 1 << 28, MONITOR_EXITING = 1 << 29, PAUSE_EXITING = 1 << 30 };
#define ACTIVATE_SECONDARY (1u << 31)
enum { USE_EPT = 1 << 1, UNRESTRICTED = 1 << 7 };
enum { SAVE_DEBUG = 1 << 2, LOAD_DEBUG = 1 << 2, ACKNOWLEDGE = 1 << 15 };

/* Basic exit reasons (appendix C). */
enum { R_EXCEPTION = 0, R_EXTERNAL = 1, R_TRIPLE_FAULT = 2, R_INTERRUPT_WINDOW = 7, R_NMI_WINDOW = 8,
       R_TASK_SWITCH = 9, R_CPUID = 10, R_HLT = 12, R_INVD = 13, R_INVLPG = 14, R_VMCALL = 18, R_VMXON = 27,
       R_CR = 28, R_IO = 30, R_RDMSR = 31, R_WRMSR = 32, R_FAILED_ENTRY = 33, R_EPT = 48, R_TIMER = 52 };

/* Events that an entry injects or an exit reports (tables 24-13 and 24-15). */
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

static inline uint32_t read_cr4(void) { uint32_t v; asm volatile("mov %0, cr4" : "=r"(v)); return v; }
static inline void write_cr4(uint32_t v) { asm volatile("mov cr4, %0" : : "r"(v) : "memory"); }

#endif

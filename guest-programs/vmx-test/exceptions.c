/* Exceptions with and without their bit of the exception bitmap, page faults by mask and match, task switches
   (25.2, 25.4.2). */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

#define BIT(vector) vmwrite(EXCEPTIONS, 1u << (vector))
/* The same guest with the bit clear and set. */
#define BOTH(name, vector, text, ...)                                                           \
    do {                                                                                        \
        T(name, text, __VA_ARGS__);                                                             \
        T(name ", exits", text, __VA_ARGS__, BIT(vector));                                      \
    } while (0)
#define NOTHING (void)0

static void each(void)
{
    BOTH("#DE", 0, "xor ecx, ecx\n div ecx", NOTHING);
    BOTH("#DB, single step", 1, "pushfd\n or dword ptr [esp], 0x100\n popfd\n nop", NOTHING);
    BOTH("#DB, icebp", 1, ".byte 0xF1", NOTHING);
    BOTH("#DB, instruction breakpoint", 1,
      "mov eax, 0x200010\n mov dr0, eax\n jmp 1f\n .fill 6, 1, 0x90\n nop\n 1: nop",
      vmwrite(GUEST_DR7, 0x402));
    BOTH("#DB, instruction breakpoint hit", 1,
      "mov eax, 0x200020\n mov dr1, eax\n .fill 24, 1, 0x90\n nop", vmwrite(GUEST_DR7, 0x408));
    BOTH("#DB, data breakpoint", 1, "mov eax, 0x219000\n mov dr2, eax\n mov [eax], al\n nop",
      vmwrite(GUEST_DR7, 0x0D000420));
    BOTH("#BP", 3, "int3", NOTHING);
    BOTH("#BP by int 3", 3, ".byte 0xCD, 3", NOTHING);
    BOTH("#OF", 4, "mov eax, 0x7FFFFFFF\n inc eax\n into", NOTHING);
    BOTH("#BR", 5, "mov dword ptr [0x219000], 1\n mov dword ptr [0x219004], 2\n bound eax, [0x219000]",
      NOTHING);
    BOTH("#UD", 6, "ud2", NOTHING);
    BOTH("#NM", 7, "fninit", vmwrite(GUEST_CR0, 0x80000039));
    BOTH("#NP", 11, "mov eax, 0x40\n mov ds, eax", NOTHING);
    BOTH("#SS", 12, "mov eax, 0x40\n mov ss, eax", NOTHING);
    BOTH("#GP", 13, "mov eax, 0x58\n mov ds, eax", NOTHING);
    BOTH("#GP, ring 3", 13, "cli", ring3());
    BOTH("#GP, v86", 13, "cli", v86(), vmwrite(GUEST_RFLAGS, 0x20002));
    BOTH("#PF, read", 14, "mov eax, [0x401234]", NOTHING);
    BOTH("#PF, write, ring 3", 14, "mov [0x402FFE], eax", ring3());
    BOTH("#PF, fetch", 14, "mov eax, 0x401500\n jmp eax", NOTHING);
    BOTH("#MF", 16, "fninit\n push 0x37B\n fldcw [esp]\n fldz\n fld1\n fdivrp st(1), st\n fwait",
      vmwrite(GUEST_CR0, 0x80000031), vmwrite(GUEST_RSP, STACK));
    BOTH("#AC", 17, "mov eax, [0x219001]", ring3(), vmwrite(GUEST_CR0, 0x80040031),
      vmwrite(GUEST_RFLAGS, 0x40002));
    T("int 30h", "int 0x30");
    T("int 30h, all bits", "int 0x30", vmwrite(EXCEPTIONS, ~0));
    T("int 14 with bit 14", ".byte 0xCD, 14", BIT(14));
    T("int 20h, ring 3: gate closed", "int 0x20", ring3());
    T("int 20h, ring 3: gate closed, exits", "int 0x20", ring3(), BIT(13));
    T("int 30h, v86 without IOPL", "int 0x30", v86(), vmwrite(GUEST_RFLAGS, 0x20002), BIT(13));
    T("int3, v86 without IOPL", "int3", v86(), vmwrite(GUEST_RFLAGS, 0x20002));
    T("#DB, single step over cpuid", "pushfd\n or dword ptr [esp], 0x100\n popfd\n cpuid\n nop", BIT(1));
    T("#DB, single step over pop ss",
      "push ss\n pushfd\n or dword ptr [esp], 0x100\n popfd\n pop ss\n nop\n nop", BIT(1));
}

static void match(uint32_t bit, uint32_t mask, uint32_t value)
{
    vmwrite(EXCEPTIONS, bit << 14);
    vmwrite(PF_MASK, mask);
    vmwrite(PF_MATCH, value);
}

#define READ "mov eax, [0x401234]"
#define WRITE_PRESENT "mov [0x402000], eax"

static void page_faults(void)
{
    T("#PF 0, bit 1, mask 0 match 0", READ, match(1, 0, 0));
    T("#PF 0, bit 1, mask 0 match 1", READ, match(1, 0, 1));
    T("#PF 0, bit 0, mask 0 match 0", READ, match(0, 0, 0));
    T("#PF 0, bit 0, mask 0 match 1", READ, match(0, 0, 1));
    T("#PF 0, bit 1, mask 1 match 0", READ, match(1, 1, 0));
    T("#PF 0, bit 1, mask 1 match 1", READ, match(1, 1, 1));
    T("#PF 0, bit 0, mask 1 match 0", READ, match(0, 1, 0));
    T("#PF 0, bit 0, mask 1 match 1", READ, match(0, 1, 1));
    T("#PF 7, bit 1, mask 1 match 0", WRITE_PRESENT, match(1, 1, 0), ring3());
    T("#PF 7, bit 1, mask 1 match 1", WRITE_PRESENT, match(1, 1, 1), ring3());
    T("#PF 7, bit 0, mask 1 match 0", WRITE_PRESENT, match(0, 1, 0), ring3());
    T("#PF 7, bit 0, mask 7 match 7", WRITE_PRESENT, match(0, 7, 7), ring3());
    T("#PF 7, bit 1, mask 5 match 1", WRITE_PRESENT, match(1, 5, 1), ring3());
    T("#PF 3, bit 1, mask 4 match 0", WRITE_PRESENT, match(1, 4, 0), vmwrite(GUEST_CR0, 0x80010031));
    T("#PF 3, bit 1, all", WRITE_PRESENT, match(1, ~0, 3), vmwrite(GUEST_CR0, 0x80010031));
}

/* An exception that exits leaves CR2 and DR6 alone; one that is delivered, or was to be, does not (27.1). */
static void side_effects(void)
{
    T("cr2, exits", "mov eax, 0x1234\n mov cr2, eax\n" READ, match(1, 0, 0));
    print("cr2, exits: %x\n", read_cr2());
    T("cr2, delivered", "mov eax, 0x1234\n mov cr2, eax\n" READ);
    T("cr2, exits while delivered", "mov eax, 0x1234\n mov cr2, eax\n" READ, vmwrite(GUEST_RSP, 0x401800),
      match(1, 2, 2));
    print("cr2, exits while delivered: %x\n", read_cr2());
    T("dr6, exits", "nop\n nop", vmwrite(GUEST_RFLAGS, 0x102), BIT(1));
    print("dr6, exits: %x\n", read_dr6());
    T("dr6, exits while delivered", "nop\n nop", vmwrite(GUEST_RFLAGS, 0x102),
      vmwrite(GUEST_RSP, 0x401800), BIT(14));
    print("dr6, exits while delivered: %x\n", read_dr6());
}

/* Faults while an event is delivered: what the exit tells of both. */
static void nested(void)
{
    T("int 30h, no gate", "int 0x30", vmwrite(IDTR_LIMIT, 8 * 0x30 - 1), BIT(13));
    T("int3, gate absent", "int3", poke(GUEST_IDT + 8 * 3 + 4, 0), BIT(13));
    T("into, gate absent", "mov eax, 0x7FFFFFFF\n inc eax\n into", poke(GUEST_IDT + 8 * 4 + 4, 0x200E00),
      BIT(11));
    T("#UD, gate absent", "ud2", poke(GUEST_IDT + 8 * 6 + 4, 0x200E00), BIT(11));
    T("#GP, gate absent: double fault", "mov eax, 0x58\n mov ds, eax",
      poke(GUEST_IDT + 8 * 13 + 4, 0x200E00), BIT(8));
    T("#GP, gate absent: first fault", "mov eax, 0x58\n mov ds, eax",
      poke(GUEST_IDT + 8 * 13 + 4, 0x200E00), BIT(11));
    T("#GP, gate absent: delivered", "mov eax, 0x58\n mov ds, eax", poke(GUEST_IDT + 8 * 13 + 4, 0x200E00));
    T("#PF, gate absent: double fault", READ, poke(GUEST_IDT + 8 * 14 + 4, 0x200E00), BIT(8));
    T("#PF during #PF", READ, vmwrite(GUEST_RSP, 0x401800), match(1, 2, 2));
    T("#PF during #UD", "ud2", vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("#PF during int 30h", "int 0x30", vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("#PF during icebp", ".byte 0xF1", vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("#PF during int3 in ring 3", "int3", ring3(), poke(GUEST_TSS + 4, 0x401800), BIT(14));
    T("#TS during #DE in ring 3", "xor ecx, ecx\n div ecx", ring3(), poke(GUEST_TSS + 8, 0x58), BIT(10));
    T("triple fault", "ud2", vmwrite(IDTR_LIMIT, 0));
    T("triple fault, ring 3", "ud2", vmwrite(IDTR_LIMIT, 0), ring3());
    T("triple fault, by #DF's gate", READ, poke(GUEST_IDT + 8 * 14 + 4, 0x200E00),
      poke(GUEST_IDT + 8 * 8 + 4, 0x200E00));
    T("triple fault, not: #DF exits", "ud2", vmwrite(IDTR_LIMIT, 0), BIT(8));
}

void test_exceptions(void)
{
    each();
    page_faults();
    side_effects();
    nested();
}

/* A task gate for `vector`. */
static void task_gate(uint32_t vector)
{
    poke(GUEST_IDT + 8 * vector, G_OTHER << 16);
    poke(GUEST_IDT + 8 * vector + 4, 0xE500);
}

void test_task_switches(void)
{
    T("task: jmp", "jmp 0x30:0");
    T("task: call", "call 0x30:0x12345678");
    T("task: jmp to a gate", "jmp 0x38:0");
    T("task: call to a gate", "call 0x38:0");
    T("task: call through memory", "call fword ptr [0x219000]", poke(DATA_PAGE, 0),
      poke(DATA_PAGE + 4, G_OTHER));
    T("task: iret", "iretd", vmwrite(GUEST_RFLAGS, 0x4002),
      poke(GUEST_GDT + G_OTHER + 4, 0x8B20 | OTHER_TSS >> 16));
    T("task: iret, busy flag clear", "iretd", vmwrite(GUEST_RFLAGS, 0x4002));
    T("task: int 20h", "int 0x20", task_gate(0x20));
    T("task: int3", "int3", task_gate(3));
    T("task: into", "mov eax, 0x7FFFFFFF\n inc eax\n into", task_gate(4));
    T("task: icebp", ".byte 0xF1", task_gate(1));
    T("task: #UD", "ud2", task_gate(6));
    T("task: #GP", "mov eax, 0x58\n mov ds, eax", task_gate(13));
    T("task: #PF", READ, task_gate(14));
    T("task: #PF exits first", READ, task_gate(14), BIT(14));
    T("task: #DB, single step", "pushfd\n or dword ptr [esp], 0x100\n popfd\n nop", task_gate(1));
    T("task: #DF", READ, poke(GUEST_IDT + 8 * 14 + 4, 0x200E00), task_gate(8));
    T("task: int 20h, ring 3", "int 0x20", task_gate(0x20), ring3());
    T("task: jmp, ring 3", "jmp 0x30:0", ring3());
    T("task: jmp, absent", "jmp 0x30:0", poke(GUEST_GDT + G_OTHER + 4, 0x0920 | OTHER_TSS >> 16));
    T("task: jmp, absent, exits", "jmp 0x30:0", poke(GUEST_GDT + G_OTHER + 4, 0x0920 | OTHER_TSS >> 16),
      BIT(11));
    T("task: jmp, busy", "jmp 0x30:0", poke(GUEST_GDT + G_OTHER + 4, 0x8B20 | OTHER_TSS >> 16));
    T("task: jmp, limit too small", "jmp 0x30:0",
      poke(GUEST_GDT + G_OTHER, (uint32_t)OTHER_TSS << 16 | 0x66), BIT(10));
}

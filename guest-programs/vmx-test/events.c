/* Interrupts and their windows, NMIs, activity, injection, pending debug exceptions (25.2, 26.5 to
   26.7, 27.3.4). */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

enum { IF = 0x200, TF = 0x100, BY_STI = 1, BY_MOV_SS = 2, BY_NMI = 8, HALTED = 1 };
#define FLAGS(f) vmwrite(GUEST_RFLAGS, 2 | (f))
#define BLOCKED(b) vmwrite(INTERRUPTIBILITY, b)
#define BIT(vector) vmwrite(EXCEPTIONS, 1u << (vector))
#define ACK vmwrite(EXIT_CONTROLS, get(EXIT_CONTROLS) | ACKNOWLEDGE)
/* The timer's interrupt request comes some 200 us later. */
#define START_TIMER "mov al, 0x30\n out 0x43, al\n mov al, 240\n out 0x40, al\n xor eax, eax\n out 0x40, al\n"
/* The local APIC sends an NMI to itself. */
#define SEND_NMI "mov eax, [0xFEE00020]\n mov [0xFEE00310], eax\n mov dword ptr [0xFEE00300], 0x4400\n"

static void interrupts(void)
{
    T("external", "nop\n nop", pin(PIN_EXTERNAL), request_interrupt());
    T("external, IF", "nop\n nop", pin(PIN_EXTERNAL), FLAGS(IF), request_interrupt());
    T("external, acknowledged", "nop\n nop", pin(PIN_EXTERNAL), ACK, request_interrupt());
    T("external, after sti", "nop\n nop", pin(PIN_EXTERNAL), FLAGS(IF), BLOCKED(BY_STI), request_interrupt());
    T("external, after mov ss", "nop\n nop", pin(PIN_EXTERNAL), BLOCKED(BY_MOV_SS), request_interrupt());
    T("external, after mov ss, cpuid first", "cpuid\n nop", pin(PIN_EXTERNAL), BLOCKED(BY_MOV_SS),
      request_interrupt());
    if (hard)
        T("external, halted", "nop", pin(PIN_EXTERNAL), vmwrite(ACTIVITY, HALTED), request_interrupt());
    end_interrupt();
    T("external, halted, IF", "nop", pin(PIN_EXTERNAL), vmwrite(ACTIVITY, HALTED), FLAGS(IF),
      request_interrupt());
    T("external, delivered", "nop\n nop", FLAGS(IF), request_interrupt());
    end_interrupt();
    T("external, delivered after sti", "sti\n nop\n nop", request_interrupt());
    end_interrupt();
    T("external, delivered to a halted guest", "nop\n nop", FLAGS(IF), vmwrite(ACTIVITY, HALTED),
      request_interrupt());
    end_interrupt();
    T("external, held off", "nop\n nop", request_interrupt());
    end_interrupt();
    T("external, in hlt", START_TIMER "sti\n hlt\n nop", pin(PIN_EXTERNAL));
    T("external, in a loop with IF clear", "cli\n" START_TIMER "mov ecx, 200000\n 1: loop 1b",
      pin(PIN_EXTERNAL), FLAGS(IF));
    T("external, injection first", "nop", pin(PIN_EXTERNAL), vmwrite(ENTRY_EVENT, EVENT(T_SOFTWARE, 0x30)),
      vmwrite(ENTRY_LENGTH, 2),
      request_interrupt());
    end_interrupt();
    T("external, #PF delivering it", "nop", FLAGS(IF), vmwrite(GUEST_RSP, 0x401800), BIT(14),
      request_interrupt());
    end_interrupt();
    T("external, halted, #PF delivering it", "nop", FLAGS(IF), vmwrite(ACTIVITY, HALTED),
      vmwrite(GUEST_RSP, 0x401800), BIT(14),
      request_interrupt());
    end_interrupt();
    T("external, task gate", "nop", FLAGS(IF), poke(GUEST_IDT + 8 * 0x20, G_OTHER << 16),
      poke(GUEST_IDT + 8 * 0x20 + 4, 0x8500),
      request_interrupt());
    end_interrupt();
}

static void windows(void)
{
    T("window, open", "nop", primary(INTERRUPT_WINDOW), FLAGS(IF));
    T("window, by sti", "nop\n sti\n nop\n nop", primary(INTERRUPT_WINDOW));
    T("window, by sti and cli", "sti\n cli\n nop", primary(INTERRUPT_WINDOW));
    T("window, by popfd", "push 0x202\n popfd\n nop", primary(INTERRUPT_WINDOW));
    T("window, by iretd", "push 0x202\n push 8\n push 0x200020\n iretd\n .fill 19, 1, 0xCC\n nop",
      primary(INTERRUPT_WINDOW));
    T("window, after sti", "nop\n nop", primary(INTERRUPT_WINDOW), FLAGS(IF), BLOCKED(BY_STI));
    T("window, after mov ss", "nop\n nop", primary(INTERRUPT_WINDOW), FLAGS(IF), BLOCKED(BY_MOV_SS));
    T("window, mov ss in the guest", "mov eax, ss\n sti\n mov ss, eax\n nop\n nop",
      primary(INTERRUPT_WINDOW));
    if (hard)
        T("window, halted", "nop", primary(INTERRUPT_WINDOW), FLAGS(IF), vmwrite(ACTIVITY, HALTED));
    if (hard)
        T("window, before hlt", "sti\n hlt\n nop", primary(INTERRUPT_WINDOW));
    T("window, after injection", "nop", primary(INTERRUPT_WINDOW), FLAGS(IF),
      vmwrite(ENTRY_EVENT, EVENT(T_EXTERNAL, 0x31)));
    T("window, comes before the interrupt", "nop", primary(INTERRUPT_WINDOW), FLAGS(IF), pin(PIN_EXTERNAL),
      request_interrupt());
    T("window, closed", "nop", primary(INTERRUPT_WINDOW));
}

static void shadows(void)
{
    T("shadow: sti", "sti\n cpuid");
    T("shadow: sti twice", "sti\n sti\n cpuid");
    T("shadow: sti, nop", "sti\n nop\n cpuid");
    T("shadow: mov ss", "mov eax, ss\n mov ss, eax\n cpuid");
    T("shadow: pop ss", "push ss\n pop ss\n cpuid");
    T("shadow: sti, mov ss", "mov eax, ss\n sti\n mov ss, eax\n cpuid");
    T("shadow: lss", "lss esp, [0x219000]\n cpuid", poke(DATA_PAGE, STACK), poke(DATA_PAGE + 4, G_DATA));
    T("shadow: entered with sti", "cpuid", FLAGS(IF), BLOCKED(BY_STI));
    T("shadow: entered with mov ss", "cpuid", BLOCKED(BY_MOV_SS));
    T("shadow: sti, hlt", "sti\n hlt", primary(HLT_EXITING));
    T("shadow: mov ss, fault", "mov eax, ss\n mov ss, eax\n ud2", BIT(6));
    T("shadow: sti, fault", "sti\n ud2", BIT(6));
    T("shadow: sti, fault while another is delivered", "sti\n ud2", vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("shadow: mov ss, fault while another is delivered", "mov eax, ss\n mov ss, eax\n ud2",
      vmwrite(GUEST_RSP, 0x401800), BIT(14));
}

static void nmis(void)
{
    T("nmi blocking: entered", "cpuid", BLOCKED(BY_NMI));
    T("nmi blocking: iret ends it", "pushfd\n push cs\n push 0x200010\n iretd\n .fill 8, 1, 0xCC\n cpuid",
      BLOCKED(BY_NMI));
    T("nmi blocking: iret with NMI exiting",
      "pushfd\n push cs\n push 0x200010\n iretd\n .fill 8, 1, 0xCC\n cpuid", BLOCKED(BY_NMI), pin(PIN_NMI));
    T("nmi blocking: iret faults", "pushfd\n push 0x58\n push 0x200010\n iretd", BLOCKED(BY_NMI), BIT(13));
    T("nmi blocking: iret faults with NMI exiting", "pushfd\n push 0x58\n push 0x200010\n iretd",
      BLOCKED(BY_NMI), BIT(13), pin(PIN_NMI));
    T("nmi blocking: iret faults, nothing blocked", "pushfd\n push 0x58\n push 0x200010\n iretd", BIT(13));
    T("nmi blocking: iret's page fault", "mov esp, 0x401800\n iretd", BLOCKED(BY_NMI), BIT(14));
    T("nmi, injected", "nop", vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)));
    T("nmi, injected while blocked", "nop", vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)), BLOCKED(BY_NMI));
    T("nmi, injected with NMI exiting", "nop", vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)), pin(PIN_NMI));
    T("nmi, injected into a halted guest", "nop", vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)),
      vmwrite(ACTIVITY, HALTED));
    T("nmi, injected, #PF", "nop", vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)), vmwrite(GUEST_RSP, 0x401800),
      BIT(14));
    if (cpuid(1).edx & 1 << 9) {
        T("nmi, delivered", SEND_NMI "nop\n nop");
        T("nmi, exits", SEND_NMI "nop\n nop", pin(PIN_NMI));
        T("nmi, blocked", SEND_NMI "nop\n cpuid\n pushfd\n push cs\n push 0x200040\n iretd\n"
          ".fill 33, 1, 0xCC\n nop\n nop", BLOCKED(BY_NMI));
    }
    if (!allows(caps.pin, PIN_VIRTUAL_NMI)) return;
    T("virtual nmi, injected", "nop", pin(PIN_NMI | PIN_VIRTUAL_NMI), vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)));
    T("virtual nmi, iret ends blocking",
      "pushfd\n push cs\n push 0x200010\n iretd\n .fill 8, 1, 0xCC\n cpuid", BLOCKED(BY_NMI),
      pin(PIN_NMI | PIN_VIRTUAL_NMI));
    T("virtual nmi, iret faults", "pushfd\n push 0x58\n push 0x200010\n iretd", BLOCKED(BY_NMI), BIT(13),
      pin(PIN_NMI | PIN_VIRTUAL_NMI));
    T("virtual nmi, exits while blocked", SEND_NMI "nop\n nop", BLOCKED(BY_NMI),
      pin(PIN_NMI | PIN_VIRTUAL_NMI));
    if (!allows(caps.primary, NMI_WINDOW)) return;
    T("nmi window, open", "nop", pin(PIN_NMI | PIN_VIRTUAL_NMI), primary(NMI_WINDOW));
    T("nmi window, by iret", "pushfd\n push cs\n push 0x200010\n iretd\n .fill 8, 1, 0xCC\n nop",
      BLOCKED(BY_NMI),
      pin(PIN_NMI | PIN_VIRTUAL_NMI), primary(NMI_WINDOW));
    T("nmi window, after mov ss", "nop\n nop", BLOCKED(BY_MOV_SS), pin(PIN_NMI | PIN_VIRTUAL_NMI),
      primary(NMI_WINDOW));
    T("nmi window, after sti", "nop\n nop", BLOCKED(BY_STI), FLAGS(IF), pin(PIN_NMI | PIN_VIRTUAL_NMI),
      primary(NMI_WINDOW));
    T("nmi window before interrupt window", "nop", pin(PIN_NMI | PIN_VIRTUAL_NMI),
      primary(NMI_WINDOW | INTERRUPT_WINDOW), FLAGS(IF));
}

void test_interrupts(void)
{
    interrupts();
    windows();
    shadows();
    nmis();
}

static void inject(uint32_t type, uint32_t vector, uint32_t length)
{
    vmwrite(ENTRY_EVENT, EVENT(type, vector));
    vmwrite(ENTRY_LENGTH, length);
}

static void inject_code(uint32_t vector, uint32_t code)
{
    vmwrite(ENTRY_EVENT, EVENT(T_HARDWARE, vector) | HAS_CODE);
    vmwrite(ENTRY_CODE, code);
}

static void kinds(void)
{
    T("inject external", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF));
    T("inject external, exiting", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF), pin(PIN_EXTERNAL));
    T("inject external, halted", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF), vmwrite(ACTIVITY, HALTED));
    T("inject #DE", "nop", inject(T_HARDWARE, 0, 0));
    T("inject #DE, all bits", "nop", inject(T_HARDWARE, 0, 0), vmwrite(EXCEPTIONS, ~0));
    T("inject #DB", "nop", inject(T_HARDWARE, 1, 0));
    T("inject #UD", "nop", inject(T_HARDWARE, 6, 0));
    T("inject #UD, TF", "nop", inject(T_HARDWARE, 6, 0), FLAGS(TF));
    T("inject #DF", "nop", inject_code(8, 0));
    T("inject #TS", "nop", inject_code(10, 0x1234));
    T("inject #NP", "nop", inject_code(11, 0x7FFF));
    T("inject #GP", "nop", inject_code(13, 0x58));
    T("inject #PF", "nop", inject_code(14, 6));
    T("inject #AC", "nop", inject_code(17, 0));
    T("inject #MC", "nop", inject(T_HARDWARE, 18, 0));
    T("inject #MC, halted", "nop", inject(T_HARDWARE, 18, 0), vmwrite(ACTIVITY, HALTED));
    T("inject #DB, halted", "nop", inject(T_HARDWARE, 1, 0), vmwrite(ACTIVITY, HALTED));
    T("inject #GP, after sti", "nop", inject_code(13, 0), BLOCKED(BY_STI), FLAGS(IF));
    T("inject #GP, after mov ss", "nop", inject_code(13, 0), BLOCKED(BY_MOV_SS));
    T("inject int 30h", "nop\n nop", inject(T_SOFTWARE, 0x30, 2));
    T("inject int 30h, length 1", "nop\n nop", inject(T_SOFTWARE, 0x30, 1));
    T("inject int 30h, length 15", "nop\n nop", inject(T_SOFTWARE, 0x30, 15));
    T("inject int 13", "nop\n nop", inject(T_SOFTWARE, 13, 2));
    T("inject int3", "nop", inject(T_EXCEPTION, 3, 1));
    T("inject into", "nop", inject(T_EXCEPTION, 4, 1));
    T("inject icebp", "nop", inject(T_PRIVILEGED, 1, 1));
    T("inject int 30h, ring 3", "nop\n nop", inject(T_SOFTWARE, 0x30, 2), ring3());
    T("inject int 20h, ring 3: gate closed", "nop\n nop", inject(T_SOFTWARE, 0x20, 2), ring3());
    T("inject int 20h, ring 3: gate closed, exits", "nop\n nop", inject(T_SOFTWARE, 0x20, 2), ring3(),
      BIT(13));
    T("inject icebp, ring 3: gate closed", "nop", inject(T_PRIVILEGED, 1, 1), ring3());
    T("inject external, ring 3", "nop", inject(T_EXTERNAL, 0x21, 0), FLAGS(IF), ring3());
    T("inject #GP, ring 3", "nop", inject_code(13, 0x1230), ring3());
    T("inject #UD, v86", "nop", inject(T_HARDWARE, 6, 0), v86());
    T("inject #GP, v86", "nop", inject_code(13, 0), v86());
    T("inject external, v86", "nop", inject(T_EXTERNAL, 0x21, 0), v86(), vmwrite(GUEST_RFLAGS, 0x23202));
    T("inject int 30h, v86", "nop\n nop", inject(T_SOFTWARE, 0x30, 2), v86());
    T("inject int 30h, v86 without IOPL", "nop\n nop", inject(T_SOFTWARE, 0x30, 2), v86(),
      vmwrite(GUEST_RFLAGS, 0x20002));
    T("inject int 20h, v86: gate closed", "nop\n nop", inject(T_SOFTWARE, 0x20, 2), v86());
    T("inject int3, v86", "nop", inject(T_EXCEPTION, 3, 1), v86());
}

static void faults(void)
{
    T("inject int 30h, no gate", "nop", inject(T_SOFTWARE, 0x30, 2), vmwrite(IDTR_LIMIT, 0x100), BIT(13));
    T("inject int3, no gate", "nop", inject(T_EXCEPTION, 3, 1), vmwrite(IDTR_LIMIT, 0), BIT(13));
    T("inject icebp, no gate", "nop", inject(T_PRIVILEGED, 1, 1), vmwrite(IDTR_LIMIT, 0), BIT(13));
    T("inject external, no gate", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF),
      vmwrite(IDTR_LIMIT, 0x100), BIT(13));
    T("inject external, no gate, delivered", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF),
      vmwrite(IDTR_LIMIT, 0x100));
    T("inject #UD, no gate", "nop", inject(T_HARDWARE, 6, 0), vmwrite(IDTR_LIMIT, 0), BIT(13));
    T("inject #GP, no gate", "nop", inject_code(13, 0x58), vmwrite(IDTR_LIMIT, 0), BIT(8));
    T("inject #GP, no gate, #GP exits", "nop", inject_code(13, 0x58), vmwrite(IDTR_LIMIT, 0), BIT(13));
    T("inject #GP, triple fault", "nop", inject_code(13, 0x58), vmwrite(IDTR_LIMIT, 0));
    T("inject #DF, triple fault", "nop", inject_code(8, 0), vmwrite(IDTR_LIMIT, 0));
    T("inject #DF, no gate, #GP exits", "nop", inject_code(8, 0), vmwrite(IDTR_LIMIT, 0), BIT(13));
    T("inject int 30h, #PF", "nop", inject(T_SOFTWARE, 0x30, 2), vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("inject #PF, #PF", "nop", inject_code(14, 2), vmwrite(GUEST_RSP, 0x401800), BIT(14));
    T("inject #PF, #DF", "nop", inject_code(14, 2), vmwrite(GUEST_RSP, 0x401800), BIT(8));
    T("inject int 30h, task gate", "nop", inject(T_SOFTWARE, 0x30, 2),
      poke(GUEST_IDT + 0x180, G_OTHER << 16), poke(GUEST_IDT + 0x184, 0xE500));
    T("inject int3, task gate", "nop", inject(T_EXCEPTION, 3, 1), poke(GUEST_IDT + 24, G_OTHER << 16),
      poke(GUEST_IDT + 28, 0xE500));
    T("inject icebp, task gate", "nop", inject(T_PRIVILEGED, 1, 1), poke(GUEST_IDT + 8, G_OTHER << 16),
      poke(GUEST_IDT + 12, 0xE500));
    T("inject #GP, task gate", "nop", inject_code(13, 0x58), poke(GUEST_IDT + 104, G_OTHER << 16),
      poke(GUEST_IDT + 108, 0xE500));
    T("inject external, task gate", "nop", inject(T_EXTERNAL, 0x31, 0), FLAGS(IF),
      poke(GUEST_IDT + 0x188, G_OTHER << 16),
      poke(GUEST_IDT + 0x18C, 0xE500));
    T("inject nothing: not valid", "nop", vmwrite(ENTRY_EVENT, 0x731));
}

void test_injection(void)
{
    kinds();
    faults();
}

enum { PENDING_BS = 1 << 14, ENABLED = 1 << 12 };

void test_debug(void)
{
    T("pending BS", "nop\n nop", vmwrite(PENDING_DEBUG, PENDING_BS), FLAGS(TF));
    T("pending BS, exits", "nop\n nop", vmwrite(PENDING_DEBUG, PENDING_BS), FLAGS(TF), BIT(1));
    T("pending BS, TF clear", "nop\n nop", vmwrite(PENDING_DEBUG, PENDING_BS), BIT(1));
    T("pending breakpoint", "nop\n nop", vmwrite(PENDING_DEBUG, ENABLED | 2), BIT(1));
    T("pending breakpoints and BS", "nop\n nop", vmwrite(PENDING_DEBUG, ENABLED | PENDING_BS | 9),
      FLAGS(TF), BIT(1));
    T("pending breakpoint, not enabled", "nop\n nop", vmwrite(PENDING_DEBUG, 2), BIT(1));
    T("pending breakpoint, delivered", "nop\n nop", vmwrite(PENDING_DEBUG, ENABLED | 4));
    T("pending, after mov ss", "nop\n nop", vmwrite(PENDING_DEBUG, ENABLED | 1), BLOCKED(BY_MOV_SS), BIT(1));
    T("pending, after mov ss, cpuid", "cpuid\n nop", vmwrite(PENDING_DEBUG, ENABLED | 1),
      BLOCKED(BY_MOV_SS), BIT(1));
    T("pending BS, after sti", "nop\n nop", vmwrite(PENDING_DEBUG, PENDING_BS), FLAGS(TF | IF),
      BLOCKED(BY_STI), BIT(1));
    if (hard)
        T("pending BS, halted", "nop", vmwrite(PENDING_DEBUG, PENDING_BS), FLAGS(TF),
          vmwrite(ACTIVITY, HALTED), BIT(1));
    T("pending, with an injected #UD", "nop", vmwrite(PENDING_DEBUG, ENABLED | 1),
      inject(T_HARDWARE, 6, 0), BIT(1));
    T("pending, with an injected interrupt", "nop", vmwrite(PENDING_DEBUG, ENABLED | 1),
      inject(T_EXTERNAL, 0x31, 0), FLAGS(IF), BIT(1));
    T("pending, with an open window", "nop", vmwrite(PENDING_DEBUG, ENABLED | 1),
      primary(INTERRUPT_WINDOW), FLAGS(IF), BIT(1));
    T("mov ss with data breakpoint, cpuid", "mov eax, 0x219000\n mov dr0, eax\n mov ss, [eax]\n cpuid\n nop",
      poke(DATA_PAGE, G_DATA), vmwrite(GUEST_DR7, 0xF0402), BIT(1));
    T("mov ss with data breakpoint", "mov eax, 0x219000\n mov dr0, eax\n mov ss, [eax]\n nop\n nop",
      poke(DATA_PAGE, G_DATA), vmwrite(GUEST_DR7, 0xF0402), BIT(1));
    T("single step, cpuid exits", "cpuid\n nop", FLAGS(TF), BIT(1));
    T("single step", "nop\n nop", FLAGS(TF), BIT(1));
    T("single step, rdtsc does not exit", "rdtsc\n nop", FLAGS(TF), BIT(1));
    T("data breakpoint, then cpuid", "mov eax, 0x219000\n mov dr3, eax\n mov [eax], al\n cpuid\n nop",
      vmwrite(GUEST_DR7, 0xD0000480), BIT(1));
    T("repeated instruction with TF", "mov edi, 0x219000\n mov ecx, 2\n rep stosb", FLAGS(0), BIT(1));
    T("general detect sets no DR6", "mov eax, dr0\n nop", vmwrite(GUEST_DR7, 0x2400), BIT(1));
    if (allows(caps.pin, PIN_TIMER)) {
        T("timer, 0", "nop", pin(PIN_TIMER), vmwrite(TIMER, 0));
        T("timer, halted", "nop", pin(PIN_TIMER), vmwrite(TIMER, 1), vmwrite(ACTIVITY, HALTED));
        T("timer, after mov ss", "nop\n nop", pin(PIN_TIMER), vmwrite(TIMER, 0), BLOCKED(BY_MOV_SS));
    }
}

/* What an exit saves of the guest's registers, and what it loads for the host (27.3, 27.5). */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

static void print_segment(const char *name, int n)
{
    uint32_t rights = get(RIGHTS + 2 * n);
    if (rights & 0x10000) print("saved %s: %x unusable\n", name, get(GUEST_ES + 2 * n));
    else print("saved %s: %x base %x limit %x rights %x\n", name, get(GUEST_ES + 2 * n),
      get(BASES + 2 * n), get(LIMITS + 2 * n), rights);
}

static void guest_segments(void)
{
    T("state: null ds", "xor eax, eax\n mov ds, eax");
    print_segment("ds", DS);
    T("state: es of ring 3", "mov eax, 0x2B\n mov es, eax");
    print_segment("es", ES);
    T("state: read-only fs", "mov eax, 0x40\n mov fs, eax", poke(GUEST_GDT + G_ABSENT, 0x56781234),
      poke(GUEST_GDT + G_ABSENT + 4, 0x9040B19A));
    print_segment("fs", FS);
    T("state: gs becomes accessed", "mov eax, 0x40\n mov gs, eax", poke(GUEST_GDT + G_ABSENT, 0x56781234),
      poke(GUEST_GDT + G_ABSENT + 4, 0x9055929A));
    print_segment("gs", GS);
    T("state: null lldt", "xor eax, eax\n lldt ax");
    print_segment("ldtr", LDTR);
    T("state: lldt", "mov eax, 0x40\n lldt ax", poke(GUEST_GDT + G_ABSENT, 0x90000027),
      poke(GUEST_GDT + G_ABSENT + 4, 0x00008221));
    print_segment("ldtr", LDTR);
    T("state: ltr", "mov eax, 0x30\n ltr ax");
    print_segment("tr", TR);
    T("state: ring 3", "nop", ring3());
    print_segment("cs", CS);
    print_segment("ss", SS);
    T("state: v86", "nop", v86());
    print_segment("cs", CS);
    T("state: retf to ring 3", "push 0x2B\n push 0x207000\n push 0x23\n push 0x200010\n retf\n nop\n nop");
    print_segment("ss", SS);
    print_segment("ds", DS);
}

static void guest_tables(void)
{
    T("state: lgdt", "lgdt [0x219000]", poke(DATA_PAGE, 0x56780123), poke(DATA_PAGE + 4, 0x1234));
    print("saved gdtr: %x %x\n", get(GDTR_BASE), get(GDTR_LIMIT));
    T("state: lidt", "lidt [0x219000]", poke(DATA_PAGE, 0x56780123), poke(DATA_PAGE + 4, 0x1234));
    print("saved idtr: %x %x\n", get(IDTR_BASE), get(IDTR_LIMIT));
    T("state: dr7 and flags", "mov eax, 0x403\n mov dr7, eax\n std\n stc");
    T("state: cr0 and cr4", "mov eax, 0x8001003B\n mov cr0, eax\n mov eax, 0x209C\n mov cr4, eax",
      vmwrite(CR0_MASK, 0), vmwrite(CR4_MASK, 0));
    print("saved cr0, cr4: %x %x\n", get(GUEST_CR0), get(GUEST_CR4));
    T("state: cr0 bits that entries leave alone", "mov eax, cr0", vmwrite(GUEST_CR0, 0x80000021), show = 1);
    T("state: dr7's fixed bits", "mov eax, dr7", vmwrite(GUEST_DR7, 0xD801), show = 1);
    T("state: entry event's valid bit", "nop", vmwrite(ENTRY_EVENT, EVENT(T_HARDWARE, 6)));
    print("entry event: %x\n", get(ENTRY_EVENT));
}

static void host(void)
{
    struct table_register gdtr, idtr;
    uint32_t ldt, tr, flags;
    T("host", "std\n stc");
    asm volatile("sgdt %0" : "=m"(gdtr));
    asm volatile("sidt %0" : "=m"(idtr));
    asm volatile("sldt %0" : "=r"(ldt));
    asm volatile("str %0" : "=r"(tr));
    asm volatile("pushfd\n pop %0" : "=r"(flags));
    print("host gdtr limit %x, idtr limit %x, ldtr %x, tr %x, dr7 %x, flags %x\n", gdtr.limit, idtr.limit,
      ldt & 0xFFFF, tr & 0xFFFF,
          read_dr7(), flags & 0x600);
    T("host sysenter", "", vmwrite(HOST_SYSENTER_CS, 0x1111), vmwrite(HOST_SYSENTER_ESP, 0x2222),
      vmwrite(HOST_SYSENTER_EIP, 0x3333));
    print("host sysenter %x %x %x\n", (uint32_t)rdmsr(0x174), (uint32_t)rdmsr(0x175), (uint32_t)rdmsr(0x176));
    T("host fs base", "", vmwrite(HOST_FS_BASE, 0x1000));
    uint32_t value;
    poke(DATA_PAGE, 0x5A5A5A5A);
    asm volatile("mov %0, fs:[%1]" : "=r"(value) : "r"((uint32_t)DATA_PAGE - 0x1000));
    print("host fs base: %x\n", value);
    T("host null gs", "", vmwrite(HOST_GS, 0));
    asm volatile("mov %0, gs" : "=r"(value));
    print("host null gs: %x\n", value & 0xFFFF);
    T("host again", "");
}

void test_state(void)
{
    guest_segments();
    guest_tables();
    host();
}

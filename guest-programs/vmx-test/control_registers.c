/* Control registers behind masks, shadows and the list of CR3 targets; debug registers; what VMX fixes
   (25.1.3, 25.3). */
#include "../lib/console.h"
#include "vmx.h"

enum { PE = 1, MP = 2, EM = 4, TS = 8, WP = 1 << 16, PSE = 1 << 4, TSD = 1 << 2, VMXE = 1 << 13 };

static void cr0(uint32_t mask, uint32_t shadow) { vmwrite(CR0_MASK, mask), vmwrite(CR0_SHADOW, shadow); }
static void cr4(uint32_t mask, uint32_t shadow) { vmwrite(CR4_MASK, mask), vmwrite(CR4_SHADOW, shadow); }

static void of_cr0(void)
{
    T("read cr0", "mov eax, cr0", show = 1);
    T("read cr0, all shadow", "mov eax, cr0", cr0(~0, 0x12345678), show = 1);
    T("read cr0, part shadow", "mov eax, cr0", cr0(0xFFFF, 0xABCD), show = 1);
    T("write cr0, owned bit differs", "mov eax, 0x80010031\n mov cr0, eax", cr0(WP, 0));
    T("write cr0, owned bit same", "mov ebx, 0x80010031\n mov cr0, ebx\n mov eax, cr0", cr0(WP, WP),
      show = 1);
    T("write cr0, owned bit kept", "mov ebx, 0x80010039\n mov cr0, ebx\n mov eax, cr0", cr0(WP, WP),
      show = 1);
    T("write cr0, from edi", "mov edi, 0x80000033\n mov cr0, edi", cr0(MP, 0));
    T("write cr0, from esp", "mov esp, 0x80000033\n mov cr0, esp", cr0(MP, 0));
    T("write cr0, not owned", "mov eax, 0x80000033\n mov cr0, eax\n xor eax, eax\n mov eax, cr0", show = 1);
    T("write cr0, NE fixed", "mov eax, 0x80000011\n mov cr0, eax");
    T("write cr0, PG fixed", "mov eax, 0x00000031\n mov cr0, eax");
    T("write cr0, NE owned and shadowed 0", "mov ebx, 0x80000011\n mov cr0, ebx\n mov eax, cr0",
      cr0(0x20, 0), show = 1);
    T("write cr0, PG without PE", "mov eax, 0x80000030\n mov cr0, eax", cr0(0x80000000, 0x80000000));
    T("write cr0, ring 3", "mov cr0, eax", cr0(~0, 0), ring3());
    T("smsw", "xor eax, eax\n smsw eax", cr0(0xFFFF, 0xABCD), show = 1);
    T("smsw, ring 3", "xor eax, eax\n smsw eax", cr0(0xF, 0xE), ring3(), show = 1);
    T("smsw, memory", "smsw [0x219000]\n movzx eax, word ptr [0x219000]", cr0(0xFF00, 0x5500), show = 1);
    T("smsw, v86", "smsw ax", cr0(0xFFFF, 0x4321), v86(), show = 1);
}

static void lmsw_and_clts(void)
{
    T("clts", "clts\n mov eax, cr0", vmwrite(GUEST_CR0, 0x80000039), show = 1);
    T("clts, owned, shadow 1", "clts", cr0(TS, TS));
    T("clts, owned, shadow 0", "clts\n mov eax, cr0", cr0(TS, 0), vmwrite(GUEST_CR0, 0x80000039), show = 1);
    T("clts, owned, shadow 0, kept", "clts\n mov eax, cr0", cr0(TS, 0), vmwrite(GUEST_CR0, 0x80000039),
      vmwrite(CR0_MASK, TS),
      show = 1);
    T("clts, ring 3", "clts", cr0(TS, TS), ring3());
    T("lmsw", "mov eax, 11\n lmsw ax\n mov eax, cr0", show = 1);
    T("lmsw, owned TS differs", "mov eax, 0xFFFFABC9\n lmsw ax", cr0(TS, 0));
    T("lmsw, owned TS same", "mov eax, 9\n lmsw ax\n mov eax, cr0", cr0(TS, TS), show = 1);
    T("lmsw, memory", "mov dword ptr [0x219000], 0x1234000B\n lmsw [0x219000]", cr0(MP, 0));
    T("lmsw, memory with base", "mov ebx, 0x218FF0\n mov dword ptr [0x219000], 5\n lmsw [ebx + 0x10]",
      cr0(EM, 0));
    T("lmsw, owned PE, shadow 1, to 0", "xor eax, eax\n lmsw ax\n mov eax, cr0", cr0(PE, PE), show = 1);
    T("lmsw, owned PE, shadow 0, to 1", "mov eax, 1\n lmsw ax", cr0(PE, 0));
    T("lmsw, owned PE, shadow 0, to 0", "xor eax, eax\n lmsw ax\n mov eax, cr0", cr0(PE, 0), show = 1);
    T("lmsw, owned NE does not count", "mov eax, 1\n lmsw ax\n mov eax, cr0", cr0(0x20, 0), show = 1);
    T("lmsw, ring 3", "lmsw ax", cr0(TS, 0), ring3());
}

static void targets(uint32_t count, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    vmwrite(CR3_COUNT, count);
    vmwrite(CR3_TARGET, a);
    vmwrite(CR3_TARGET + 2, b);
    vmwrite(CR3_TARGET + 4, c);
    vmwrite(CR3_TARGET + 6, d);
}

static void of_cr3(void)
{
    primary(0);
    T("write cr3", "mov eax, 0x20D000\n mov cr3, eax", primary(CR3_LOAD));
    T("write cr3, from ebp", "mov ebp, 0x20D000\n mov cr3, ebp", primary(CR3_LOAD));
    T("write cr3, first target", "mov eax, 0x20D000\n mov cr3, eax", primary(CR3_LOAD),
      targets(1, DIRECTORY, 0, 0, 0));
    T("write cr3, fourth target", "mov eax, 0x20D000\n mov cr3, eax", primary(CR3_LOAD),
      targets(4, 1, 2, 3, DIRECTORY));
    T("write cr3, fourth of three", "mov eax, 0x20D000\n mov cr3, eax", primary(CR3_LOAD),
      targets(3, 1, 2, 3, DIRECTORY));
    T("write cr3, target with flags", "mov eax, 0x20D018\n mov cr3, eax", primary(CR3_LOAD),
      targets(1, DIRECTORY, 0, 0, 0));
    T("write cr3, ring 3", "mov cr3, eax", primary(CR3_LOAD), ring3());
    T("read cr3", "mov eax, cr3", primary(CR3_STORE));
    T("read cr3, to esi", "mov esi, cr3", primary(CR3_STORE));
    T("read cr3, ring 3", "mov esi, cr3", primary(CR3_STORE), ring3());
}

static void of_cr4(void)
{
    T("read cr4", "mov eax, cr4", show = 1);
    T("read cr4, all shadow", "mov eax, cr4", cr4(~0, 0x55AA), show = 1);
    T("write cr4, owned differs", "mov eax, 0x2014\n mov cr4, eax", cr4(TSD, 0));
    T("write cr4, owned same", "mov eax, 0x2014\n mov cr4, eax\n xor eax, eax\n mov eax, cr4",
      cr4(TSD, TSD), show = 1);
    T("write cr4, not owned", "mov eax, 0x2014\n mov cr4, eax\n xor eax, eax\n mov eax, cr4", show = 1);
    T("write cr4, VMXE fixed", "mov eax, 0x10\n mov cr4, eax");
    T("write cr4, VMXE owned and shadowed 0", "mov eax, 0x10\n mov cr4, eax\n mov eax, cr4", cr4(VMXE, 0),
      show = 1);
    T("write cr4, from ebx", "mov ebx, 0x10\n mov cr4, ebx", cr4(VMXE, VMXE));
    T("write cr4, reserved bit", "mov eax, 0x80002010\n mov cr4, eax");
    T("write cr4, reserved bit owned", "mov eax, 0x80002010\n mov cr4, eax", cr4(0x80000000, 0));
    T("cr2 is the guest's", "mov eax, 0x1234\n mov cr2, eax\n xor eax, eax\n mov eax, cr2", cr0(~0, 0),
      cr4(~0, 0), show = 1);
}

static void of_debug_registers(void)
{
    T("write dr7", "mov dr7, eax", primary(DR_EXITING));
    T("read dr6", "mov ebx, dr6", primary(DR_EXITING));
    T("write dr0", "mov dr0, esp", primary(DR_EXITING));
    T("read dr3", "mov edi, dr3", primary(DR_EXITING));
    T("read dr4", "mov eax, dr4", primary(DR_EXITING));
    T("read dr5 with DE", "mov eax, dr5", primary(DR_EXITING), vmwrite(GUEST_CR4, 0x2018));
    T("read dr0, not", "mov eax, 0x1234\n mov dr0, eax\n xor eax, eax\n mov eax, dr0", show = 1);
    T("read dr7, ring 3", "mov eax, dr7", primary(DR_EXITING), ring3());
    T("read dr7, GD", "mov eax, dr7", primary(DR_EXITING), vmwrite(GUEST_DR7, 0x2400));
    T("read dr7, GD without exiting", "mov eax, dr7", vmwrite(GUEST_DR7, 0x2400));
    T("read dr7, GD with bitmap", "mov eax, dr7", vmwrite(GUEST_DR7, 0x2400), vmwrite(EXCEPTIONS, 2));
    T("dr7 of the guest", "mov eax, dr7", vmwrite(GUEST_DR7, 0x401), show = 1);
}

void test_control_registers(void)
{
    of_cr0();
    lmsw_and_clts();
    of_cr3();
    of_cr4();
    of_debug_registers();
}

/* Instructions that exit always or by a control, and those of VMX in every form of operand (25.1). */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

static void by_controls(void)
{
    T("cpuid", "cpuid");
    T("cpuid, ring 3", "cpuid", ring3());
    T("cpuid, v86", "cpuid", v86());
    T("cpuid, prefixes", ".byte 0x66, 0x2E, 0xF2\n cpuid");
    T("cpuid, locked", ".byte 0xF0\n cpuid");
    T("invd", "invd");
    T("invd, ring 3", "invd", ring3());
    T("hlt", "hlt", primary(HLT_EXITING));
    T("hlt, ring 3", "hlt", primary(HLT_EXITING), ring3());
    T("invlpg", "invlpg [0x401234]", primary(INVLPG_EXITING));
    T("invlpg, register", "invlpg [ebx + 4 * esi + 8]", primary(INVLPG_EXITING));
    T("invlpg, 16-bit address", ".byte 0x67\n .byte 0x0F, 0x01, 0x39", primary(INVLPG_EXITING));
    T("invlpg, not", "invlpg [0x401234]");
    T("invlpg, ring 3", "invlpg [0x401234]", primary(INVLPG_EXITING), ring3());
    T("rdpmc", "rdpmc", primary(RDPMC_EXITING));
    T("rdpmc, ring 3 without PCE", "rdpmc", primary(RDPMC_EXITING), ring3());
    T("rdtsc", "rdtsc", primary(RDTSC_EXITING));
    T("rdtsc, not", "rdtsc");
    T("rdtsc, offset", "rdtsc\n mov eax, edx\n rol eax, 16\n movzx eax, ax", primary(OFFSETTING),
      vmwrite(TSC_OFFSET + 1, 0x12340000), show = 1);
    T("rdtsc, offset not used", "rdtsc\n mov eax, edx\n rol eax, 16\n movzx eax, ax",
      vmwrite(TSC_OFFSET + 1, 0x12340000), show = 1);
    T("rdtsc, offset by rdmsr", "mov ecx, 0x10\n rdmsr\n mov eax, edx\n rol eax, 16\n movzx eax, ax",
      primary(OFFSETTING | USE_MSR_BITMAPS), vmwrite(TSC_OFFSET + 1, 0x12340000), show = 1);
    T("rdtsc, TSD in ring 3", "rdtsc", primary(RDTSC_EXITING), vmwrite(GUEST_CR4, 0x2014), ring3());
    T("pause", "pause", primary(PAUSE_EXITING));
    T("pause, not", "pause");
    T("wbinvd, not", "wbinvd");
    T("ud2", "ud2");
    if (!(cpuid(1).ecx & 8)) return;
    T("monitor", "mov eax, 0x219000\n xor ecx, ecx\n xor edx, edx\n monitor", primary(MONITOR_EXITING));
    T("monitor, not", "mov eax, 0x219000\n xor ecx, ecx\n xor edx, edx\n monitor");
    T("monitor, ring 3", "mov eax, 0x219000\n xor ecx, ecx\n xor edx, edx\n monitor",
      primary(MONITOR_EXITING), ring3());
    T("monitor, ECX not 0", "mov eax, 0x219000\n xor edx, edx\n monitor", primary(MONITOR_EXITING));
    T("mwait", "xor eax, eax\n xor ecx, ecx\n mwait", primary(MWAIT_EXITING));
    T("mwait, armed", "mov eax, 0x219000\n xor ecx, ecx\n xor edx, edx\n monitor\n xor eax, eax\n mwait",
      primary(MWAIT_EXITING));
}

static void of_vmx(void)
{
    T("vmcall", "");
    T("vmcall, ring 3", "", ring3());
    T("vmcall, v86", "", v86());
    T("vmclear", "vmclear [0x219000]");
    T("vmclear, base", "vmclear [ebx]");
    T("vmclear, base and displacement", "vmclear [ebx + 0x12]");
    T("vmclear, negative displacement", "vmclear [ebp - 4]");
    T("vmclear, index", "vmclear [ebx + 4 * esi + 0x1234]");
    T("vmclear, index alone", "vmclear [8 * edi + 0x1234]");
    T("vmclear, stack", "vmclear [esp + 4]");
    T("vmclear, fs", "vmclear fs:[ecx]");
    T("vmclear, 16-bit address", "vmclear [bx + si + 5]");
    T("vmclear, 16-bit displacement", ".byte 0x67, 0x66, 0x0F, 0xC7, 0x36, 0x34, 0x12");
    T("vmclear, register form", ".byte 0x66, 0x0F, 0xC7, 0xF0");
    T("vmclear, ring 3", "vmclear [0x219000]", ring3());
    T("vmclear, v86", ".byte 0x67\n vmclear [0x219000]", v86());
    T("vmptrld", "vmptrld [ebx + 2 * edx]");
    T("vmptrld, gs", "vmptrld gs:[edi + 0x7F]");
    T("vmptrst", "vmptrst [eax + eax]");
    T("vmptrst, ring 3", "vmptrst [eax + eax]", ring3());
    T("vmxon", "vmxon [esi]");
    T("vmxon, ss", "vmxon [ebp + 0x10]");
    T("vmxon, ring 3", "vmxon [esi]", ring3());
    T("vmxon, register form", ".byte 0xF3, 0x0F, 0xC7, 0xF0");
    T("vmxoff", "vmxoff");
    T("vmxoff, ring 3", "vmxoff", ring3());
    T("vmxoff, v86", "vmxoff", v86());
    T("vmlaunch", "vmlaunch");
    T("vmresume", "vmresume");
    T("vmlaunch, ring 3", "vmlaunch", ring3());
    T("vmread, register", "vmread ecx, eax");
    T("vmread, registers", "vmread edi, esi");
    T("vmread, memory", "vmread [ebx + 8], edx");
    T("vmread, absolute", "vmread [0x219000], ebp");
    T("vmread, index", "vmread [eax + 8 * ecx], esp");
    T("vmwrite, register", "vmwrite eax, ecx");
    T("vmwrite, registers", "vmwrite esi, edi");
    T("vmwrite, memory", "vmwrite edx, [ebx + 8]");
    T("vmwrite, es", "vmwrite esp, es:[4 * ebp]");
    T("vmwrite, ring 3", "vmwrite edx, [ebx + 8]", ring3());
    T("vmwrite, operand-size prefix", ".byte 0x66, 0x0F, 0x79, 0xC1");
    T("invept", "invept eax, [ebx]");
    T("invvpid", "invvpid eax, [ebx]");
}

void test_instructions(void)
{
    by_controls();
    of_vmx();
}

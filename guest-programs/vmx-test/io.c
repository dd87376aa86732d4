/* Ports by the bitmaps and by "unconditional I/O exiting" (25.1.3, table 27-5); MSRs by bitmaps and areas. */
#include "../lib/console.h"
#include "vmx.h"

static void port(uint32_t number)
{
    uint32_t bitmap = number < 0x8000 ? IO_BITMAP_A : IO_BITMAP_B;
    primary(IO_BITMAPS);
    ((uint8_t *)bitmap)[(number & 0x7FFF) / 8] |= 1 << (number & 7);
}

#define ALL primary(IO_EXITING)

static void unconditional(void)
{
    T("in al, imm", "in al, 0x80", ALL);
    T("in ax, imm", "in ax, 0x80", ALL);
    T("in eax, imm", "in eax, 0xFE", ALL);
    T("in al, dx", "mov edx, 0x3F8\n in al, dx", ALL);
    T("in ax, dx", "mov edx, 0x12345678\n in ax, dx", ALL);
    T("in eax, dx", "mov edx, 0xFFFF\n in eax, dx", ALL);
    T("out imm, al", "out 0x80, al", ALL);
    T("out imm, ax", "out 0x80, ax", ALL);
    T("out imm, eax", "out 0x80, eax", ALL);
    T("out dx, al", "mov edx, 0x80\n out dx, al", ALL);
    T("out dx, eax", "mov edx, 0x80\n out dx, eax", ALL);
    T("insb", "mov edi, 0x219000\n insb", ALL);
    T("insw", "mov edi, 0x219000\n insw", ALL);
    T("insd", "mov edi, 0x219000\n insd", ALL);
    T("outsb", "mov esi, 0x219000\n outsb", ALL);
    T("outsd", "mov esi, 0x219000\n outsd", ALL);
    T("rep insb", "mov edi, 0x219000\n mov ecx, 3\n rep insb", ALL);
    T("rep outsw", "mov esi, 0x219000\n mov ecx, 3\n rep outsw", ALL);
    T("repne outsb", "mov esi, 0x219000\n mov ecx, 3\n .byte 0xF2\n outsb", ALL);
    T("rep outsb, nothing", "mov esi, 0x219000\n xor ecx, ecx\n rep outsb", ALL);
    T("fs outsb", "mov esi, 0x219000\n .byte 0x64\n outsb", ALL);
    T("outsb, base", "mov esi, 0x9000\n .byte 0x64\n outsb", ALL, vmwrite(BASES + 2 * FS, 0x210000));
    T("outsb, 16-bit address", "mov esi, 0xABCD9000\n .byte 0x67\n outsb", ALL);
    T("rep insd, 16-bit address", "mov edi, 0xABCD9000\n mov ecx, 0xABCD0002\n .byte 0x67, 0xF3\n insd", ALL);
    T("outsb, backwards", "mov esi, 0x219000\n std\n outsb", ALL);
    T("outsb, missing page", "mov esi, 0x401000\n outsb", ALL);
    T("insb, missing page", "mov edi, 0x401000\n insb", ALL);
    T("in, ring 3 without IOPL", "in al, 0x80", ALL, ring3());
    T("in, ring 3 with IOPL", "in al, 0x80", ALL, ring3(), vmwrite(GUEST_RFLAGS, 0x3002));
    T("in, v86", "in al, 0x80", ALL, v86());
    T("in, v86 by the permission map", "in al, 0x80", ALL, v86(), vmwrite(LIMITS + 2 * TR, 0x200),
      vmwrite(BASES + 2 * TR, 0x21B000),
      poke(0x21B064, 0x680000));
    T("outsb, v86", "outsb", ALL, v86());
}

static void by_bitmaps(void)
{
    T("bitmaps, nothing set", "out 0x80, al", primary(IO_BITMAPS));
    T("bitmaps win over unconditional", "out 0x80, al", primary(IO_BITMAPS | IO_EXITING));
    T("bitmaps, port 80h", "out 0x80, al", port(0x80));
    T("bitmaps, port 80h for 81h", "out 0x81, al", port(0x80));
    T("bitmaps, second byte of a word", "out 0x80, ax", port(0x81));
    T("bitmaps, last byte of a doubleword", "out 0x80, eax", port(0x83));
    T("bitmaps, byte after a doubleword", "out 0x80, eax", port(0x84));
    T("bitmaps, port 0", "in al, 0", port(0));
    T("bitmaps, port 7FFFh", "mov edx, 0x7FFF\n in al, dx", port(0x7FFF));
    T("bitmaps, port 8000h", "mov edx, 0x8000\n in al, dx", port(0x8000));
    T("bitmaps, word at 7FFFh", "mov edx, 0x7FFF\n in ax, dx", port(0x8000));
    T("bitmaps, port FFFFh", "mov edx, 0xFFFF\n in al, dx", port(0xFFFF));
    T("bitmaps, word at FFFFh wraps", "mov edx, 0xFFFF\n in ax, dx", primary(IO_BITMAPS));
    T("bitmaps, doubleword at FFFDh wraps", "mov edx, 0xFFFD\n in eax, dx", primary(IO_BITMAPS));
    T("bitmaps, outsb", "mov esi, 0x219000\n mov edx, 0x80\n outsb", port(0x80));
}

void test_io(void)
{
    unconditional();
    by_bitmaps();
}

static void msr(uint32_t number, int write)
{
    primary(USE_MSR_BITMAPS);
    uint32_t at = MSR_BITMAPS + (number >> 31 ? 0x400 : 0) + (write ? 0x800 : 0);
    ((uint8_t *)at)[(number & 0x1FFF) / 8] |= 1 << (number & 7);
}

static void msr_bitmaps(void)
{
    T("rdmsr, no bitmaps", "mov ecx, 0x174\n rdmsr");
    T("wrmsr, no bitmaps", "mov ecx, 0x174\n wrmsr");
    T("rdmsr, no such register, no bitmaps", "mov ecx, 0x12345678\n rdmsr");
    T("rdmsr, bit clear", "mov ecx, 0x174\n rdmsr", primary(USE_MSR_BITMAPS),
      vmwrite(GUEST_SYSENTER_CS, 0x1234), show = 1);
    T("wrmsr, bit clear", "mov ecx, 0x175\n xor edx, edx\n wrmsr\n xor eax, eax\n rdmsr",
      primary(USE_MSR_BITMAPS), show = 1);
    T("rdmsr, bit set", "mov ecx, 0x174\n rdmsr", msr(0x174, 0));
    T("wrmsr, bit set", "mov ecx, 0x174\n wrmsr", msr(0x174, 1));
    T("wrmsr, bit of reads set", "mov ecx, 0x174\n xor edx, edx\n wrmsr", msr(0x174, 0));
    T("rdmsr, last of the low ones", "mov ecx, 0x1FFF\n rdmsr", msr(0x1FFF, 0));
    T("rdmsr, beyond the low ones", "mov ecx, 0x2000\n rdmsr", primary(USE_MSR_BITMAPS));
    T("rdmsr, high, set", "mov ecx, 0xC0000080\n rdmsr", msr(0xC0000080, 0));
    T("wrmsr, high, set", "mov ecx, 0xC0000080\n wrmsr", msr(0xC0000080, 1));
    T("wrmsr, last of the high ones", "mov ecx, 0xC0001FFF\n wrmsr", msr(0xC0001FFF, 1));
    T("wrmsr, beyond the high ones", "mov ecx, 0xC0002000\n wrmsr", primary(USE_MSR_BITMAPS));
    T("rdmsr, between", "mov ecx, 0xBFFFFFFF\n rdmsr", primary(USE_MSR_BITMAPS));
    T("rdmsr, no such register, bit clear", "mov ecx, 0x1FF0\n rdmsr", primary(USE_MSR_BITMAPS));
    T("rdmsr, no such register, bit set", "mov ecx, 0x1FF0\n rdmsr", msr(0x1FF0, 0));
    T("rdmsr, ring 3", "mov ecx, 0x174\n rdmsr", msr(0x174, 0), ring3());
}

static void entry(uint32_t area, unsigned n, uint32_t number, uint32_t reserved, uint32_t low, uint32_t high)
{
    poke(area + 16 * n, number);
    poke(area + 16 * n + 4, reserved);
    poke(area + 16 * n + 8, low);
    poke(area + 16 * n + 12, high);
}

static void bad_entry(uint32_t number, uint32_t reserved, uint32_t low)
{
    entry(MSR_ENTRY, 0, 0x174, 0, 0x1234, 0);
    entry(MSR_ENTRY, 1, number, reserved, low, 0);
    vmwrite(ENTRY_MSR_LOAD_COUNT, 2);
}

static void msr_areas(void)
{
    T("areas, entry load", "mov ecx, 0x175\n rdmsr", entry(MSR_ENTRY, 0, 0x175, 0, 0x5678, 0),
      vmwrite(ENTRY_MSR_LOAD_COUNT, 1),
      primary(USE_MSR_BITMAPS), show = 1);
    T("areas, reserved bits", "", bad_entry(0x175, 1, 0));
    T("areas, no such register", "", bad_entry(0x1FF0, 0, 0));
    T("areas, FS base", "", bad_entry(0xC0000100, 0, 0));
    T("areas, x2APIC", "", bad_entry(0x802, 0, 0));
    T("areas, SMM monitor", "", bad_entry(0x9B, 0, 0));
    T("areas, feature control", "", bad_entry(0x3A, 0, 5));
    T("areas, exit store", "", entry(MSR_STORE, 0, 0x174, 0, 1, 1), entry(MSR_STORE, 1, 0x176, 0, 1, 1),
      vmwrite(EXIT_MSR_STORE_COUNT, 2), vmwrite(GUEST_SYSENTER_CS, 0x4321),
        vmwrite(GUEST_SYSENTER_EIP, 0x8765));
    for (unsigned n = 0; n < 2; n++) print("areas, stored: %x %x\n", *(uint32_t *)(MSR_STORE + 16 * n + 8),
                                           *(uint32_t *)(MSR_STORE + 16 * n + 12));
    T("areas, exit load", "", entry(MSR_LOAD, 0, 0x175, 0, 0x9ABC, 0), vmwrite(EXIT_MSR_LOAD_COUNT, 1));
    print("areas, the host's: %x\n", (uint32_t)rdmsr(0x175));
}

void test_msrs(void)
{
    msr_bitmaps();
    msr_areas();
}

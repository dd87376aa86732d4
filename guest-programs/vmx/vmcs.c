/* The VMCS: what the guest starts as, where exits arrive, and what exits. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/segments.h"
#include "../lib/traps.h"
#include "vmx.h"

struct registers guest;
static __attribute__((aligned(4096))) uint32_t region[1024];
extern void exited(void);
int enter(int first);

/* A processor tells which controls it has: a 1 in the MSR's low half must be 1, a 0 in the high half must
   be 0 (appendix A.3). With bit 55 of IA32_VMX_BASIC, 48Dh to 490h let go of bits that 481h to 484h hold at
   1. */
static uint32_t allowed(uint32_t msr, uint32_t wanted)
{
    uint32_t better = msr != 0x48B && rdmsr(0x480) >> 55 & 1 ? msr + 0x48D - 0x481 : msr;
    uint64_t allows = rdmsr(better);
    if (wanted & ~(uint32_t)(allows >> 32)) give_up("This processor lacks a VMX control that is needed");
    return wanted | (uint32_t)allows;
}

/* What exits is decided here. Not asked for are exits by RDTSC and MOV DR; nor the bitmaps, without which
   every IN, OUT, RDMSR and WRMSR exits. CPUID, INVD and VMX instructions exit always. */
static void controls_init(void)
{
    vmwrite(PIN, allowed(0x481, PIN_EXTERNAL));
    vmwrite(PRIMARY, allowed(0x482, HLT_EXITING | IO_EXITING
                             | (nested ? ACTIVATE_SECONDARY : CR3_LOAD | CR3_STORE | INVLPG_EXITING)));
    if (nested) vmwrite(SECONDARY, allowed(0x48B, USE_EPT | UNRESTRICTED));
    vmwrite(EXIT_CONTROLS, allowed(0x483, SAVE_DEBUG));     /* DR7: an exit clears the processor's */
    vmwrite(ENTRY_CONTROLS, allowed(0x484, LOAD_DEBUG));
    vmwrite(EXCEPTIONS, nested ? 0 : 1 << V_PF);    /* a page fault may be the shadow's business */
    vmwrite(LINK, ~0u);
    vmwrite(LINK + 1, ~0u);
}

/* The state that each exit loads: this kernel's own. */
static void host_init(void)
{
    for (int n = ES; n <= GS; n++) vmwrite(HOST_ES + 2 * n, n == CS ? KERNEL_CS : KERNEL_DS);
    vmwrite(HOST_TR, TSS_SEL);
    vmwrite(HOST_TR_BASE, (uint32_t)&tss);
    vmwrite(HOST_GDTR_BASE, (uint32_t)gdt);
    vmwrite(HOST_IDTR_BASE, (uint32_t)idt);
    vmwrite(HOST_CR0, read_cr0());
    vmwrite(HOST_CR3, read_cr3());
    vmwrite(HOST_CR4, read_cr4());
    vmwrite(HOST_RSP, (uint32_t)(&guest + 1));
    vmwrite(HOST_RIP, (uint32_t)exited);
}

static void segment(int n, uint32_t selector, uint32_t limit, uint32_t rights)
{
    vmwrite(GUEST_ES + 2 * n, selector);
    vmwrite(BASES + 2 * n, 0);
    vmwrite(LIMITS + 2 * n, limit);
    vmwrite(RIGHTS + 2 * n, rights);
}

/* A new VMCS holds anything: what is 0 has to be written, too. */
static void zeros_init(void)
{
    static const uint16_t zeros[] = {
        PF_MASK, PF_MATCH, CR3_COUNT, EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT,
        HOST_FS_BASE, HOST_GS_BASE, HOST_SYSENTER_CS, HOST_SYSENTER_ESP, HOST_SYSENTER_EIP, GUEST_RSP,
        GUEST_CR3, GUEST_SYSENTER_CS, GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP, GDTR_BASE, GDTR_LIMIT,
        IDTR_BASE, IDTR_LIMIT, GUEST_DEBUGCTL, GUEST_DEBUGCTL + 1, INTERRUPTIBILITY, ACTIVITY, PENDING_DEBUG,
    };
    for (unsigned i = 0; i < sizeof zeros / sizeof *zeros; i++) vmwrite(zeros[i], 0);
}

/* As a Multiboot loader leaves a machine: flat 32-bit segments, paging off. */
static void guest_init(uint32_t entry, uint32_t multiboot)
{
    for (int n = ES; n <= GS; n++) segment(n, n == CS ? 0x08 : 0x10, ~0u, n == CS ? 0xC09B : 0xC093);
    segment(LDTR, 0, 0, 0x10000);                   /* unusable */
    segment(TR, 0, 0x67, 0x8B);
    vmwrite(GUEST_DR7, 0x400);
    vmwrite(GUEST_RFLAGS, 2);
    vmwrite(GUEST_RIP, entry);
    guest.eax = 0x2BADB002;
    guest.ebx = multiboot;
}

/* A bit of a mask is ours: the guest reads the shadow's, and its write of another value exits. VMX holds NE
   and VMXE at 1, which the guest must not see. Shadow paging needs PE, PG and WP whatever the guest thinks
   of them, and 4 KiB pages of our own making. */
static void control_registers_init(void)
{
    uint32_t cr0 = CR0_PE | CR0_NE | (nested ? 0 : CR0_PG | CR0_WP);
    vmwrite(GUEST_CR0, cr0);
    vmwrite(CR0_SHADOW, CR0_PE);
    vmwrite(CR0_MASK, nested ? CR0_NE : cr0);
    vmwrite(GUEST_CR4, CR4_VMXE);
    vmwrite(CR4_SHADOW, 0);
    vmwrite(CR4_MASK, ~(uint32_t)(nested ? CR4_TSD | CR4_PSE : CR4_TSD));
}

uint32_t guest_cr0(void) { return (get(CR0_SHADOW) & get(CR0_MASK)) | (get(GUEST_CR0) & ~get(CR0_MASK)); }

void vmcs_init(uint32_t entry, uint32_t multiboot)
{
    region[0] = (uint32_t)rdmsr(0x480) & 0x7FFFFFFF;
    vmclear((uint32_t)region);
    vmptrld((uint32_t)region);
    zeros_init();
    controls_init();
    host_init();
    guest_init(entry, multiboot);
    control_registers_init();
}

void vm_enter(int first)
{
    int outcome = enter(first);
    if (outcome == SUCCEEDED) return;
    if (outcome == FAILED_INVALID) give_up("VM entry failed: there is no current VMCS");
    print("VM entry failed with instruction error %u (SDM volume 3, table 30-1).\n", get(ERROR));
    give_up("The controls or the host's state in the VMCS are wrong");
}

/* What the hypervisor does at a VM exit: it gives the guest what the instruction or the event would have
   given it on a machine of its own, and counts. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

enum { REASONS = 64, EFLAGS_DF = 1 << 10 };
static uint32_t counts[REASONS];
uint32_t hidden_faults;
int status = -1;

/* ---- events for the guest ---- */

static uint32_t event, event_code, event_length;        /* for the next entry; 0 without one */

/* #DE, #TS, #NP, #SS and #GP: the exceptions that make a double fault of another one (table 6-5). */
static int contributory(uint32_t vector) { return vector == 0 || (vector >= 10 && vector <= V_GP); }

/* An exception for the guest. The exit may have come while the processor delivered another one to it. */
void inject(uint32_t vector, uint32_t has_code, uint32_t code)
{
    uint32_t first = get(VECTORING), other = first & 0xFF;
    int twice = first >> 31 && (first >> 8 & 7) == T_HARDWARE;
    if (twice && other == V_DF) give_up("The guest had a triple fault: its double fault found no way");
    if (twice && (contributory(vector) || vector == other) && (contributory(other) || other == V_PF))
        vector = V_DF, has_code = HAS_CODE, code = 0;
    event = EVENT(T_HARDWARE, vector) | has_code;
    event_code = code;
}

void inject_page_fault(uint32_t linear, uint32_t code)
{
    asm volatile("mov cr2, %0" : : "r"(linear));        /* no exit and no entry touches CR2 */
    inject(V_PF, HAS_CODE, code);
}

/* An exit in the middle of a delivery (its stack was not mapped, say): the event is injected once more. */
static void deliver_again(void)
{
    uint32_t first = get(VECTORING);
    if (event || !(first >> 31)) return;
    event = first & ~(1u << 12);                        /* undefined there, reserved here */
    event_code = get(VECTORING_CODE);
    event_length = get(EXIT_LENGTH);
}

/* An interrupt goes in if nothing else does and the guest is open to it (a single step's trap comes first);
   if not, the processor exits once it is. */
void prepare_entry(void)
{
    int open = get(GUEST_RFLAGS) & EFLAGS_IF && !(get(INTERRUPTIBILITY) & 3) && !get(PENDING_DEBUG);
    if (!event && open && interrupt_waits()) event = EVENT(T_EXTERNAL, take_interrupt());
    uint32_t primary = get(PRIMARY) & ~INTERRUPT_WINDOW;
    vmwrite(PRIMARY, interrupt_waits() ? primary | INTERRUPT_WINDOW : primary);
    vmwrite(ENTRY_EVENT, event);
    vmwrite(ENTRY_CODE, event_code);
    vmwrite(ENTRY_LENGTH, event_length);
    event = 0;
}

/* ---- instructions ---- */

/* The instruction is done. So is what STI or MOV SS before it held back. A single step ends behind it. */
static void skip(void)
{
    vmwrite(GUEST_RIP, get(GUEST_RIP) + get(EXIT_LENGTH));
    vmwrite(INTERRUPTIBILITY, get(INTERRUPTIBILITY) & ~3);
    if (get(GUEST_RFLAGS) & EFLAGS_TF) vmwrite(PENDING_DEBUG, 1 << 14);
}

/* Waits for the timer in the guest's place. */
static void halt(void)
{
    if (!(get(GUEST_RFLAGS) & EFLAGS_IF)) give_up("The guest halted with interrupts off");
    while (!interrupt_waits()) sti_hlt_cli();
    skip();
}

/* The guest's processor is this one with no more than is virtualized: FPU, PSE, TSC, MSRs, CMPXCHG8B,
   SYSENTER, CMOV, MMX. */
static void do_cpuid(void)
{
    uint32_t leaf = guest.eax;
    struct cpuid id = cpuid(leaf);
    if (leaf == 1) id.ecx = 0, id.edx &= 1 << 0 | 1 << 3 | 3 << 4 | 1 << 8 | 1 << 11 | 1 << 15 | 1 << 23;
    if (leaf == 0x80000001) id.ecx = id.edx = 0;
    guest.eax = id.eax, guest.ebx = id.ebx, guest.ecx = id.ecx, guest.edx = id.edx;
    skip();
}

/* The VMCS holds SYSENTER's three registers. There are no others. */
static void do_msr(int write)
{
    static const uint16_t fields[] = { GUEST_SYSENTER_CS, GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP };
    uint32_t n = guest.ecx - MSR_SYSENTER_CS;
    if (n > 2) return inject(V_GP, HAS_CODE, 0);
    if (write) vmwrite(fields[n], guest.eax);
    else guest.eax = get(fields[n]), guest.edx = 0;
    skip();
}

/* The guest reads what it wrote; the processor gets that, and the bits that VMX or the shadow needs. */
static void write_cr0_for_guest(uint32_t value)
{
    if (value & CR0_PG && !(value & CR0_PE)) return inject(V_GP, HAS_CODE, 0);
    if (!nested && !(value & CR0_PE)) give_up("The guest left protected mode, which shadow paging cannot");
    int changed = (get(CR0_SHADOW) ^ value) & (CR0_PG | CR0_WP);
    vmwrite(CR0_SHADOW, value);
    vmwrite(GUEST_CR0, value | get(CR0_MASK));
    if (!nested && changed) shadow_init();
    skip();
}

static void write_cr4_for_guest(uint32_t value)
{
    if (value & ~(CR4_TSD | CR4_PSE)) return inject(V_GP, HAS_CODE, 0); /* CPUID has promised no more */
    vmwrite(CR4_SHADOW, value);
    vmwrite(GUEST_CR4, CR4_VMXE | (nested ? value : value & CR4_TSD));
    if (!nested) shadow_init();
    skip();
}

/* Table 27-3: bits 3-0 tell the register, 5-4 MOV to, MOV from, CLTS or LMSW, 11-8 the general register. */
static void control_register(uint32_t q)
{
    uint32_t *const registers[] = { &guest.eax, &guest.ecx, &guest.edx, &guest.ebx, &guest.esp, &guest.ebp,
                                    &guest.esi, &guest.edi };
    uint32_t *general = registers[q >> 8 & 7];
    guest.esp = get(GUEST_RSP);
    switch (q & 0x3F) {
    case 0x00: return write_cr0_for_guest(*general);
    case 0x04: return write_cr4_for_guest(*general);
    case 0x20: return write_cr0_for_guest(guest_cr0() & ~CR0_TS);
    case 0x30: return write_cr0_for_guest((guest_cr0() & ~0xEu) | (q >> 16 & 0xF));
    case 0x03: shadowed_cr3 = *general; shadow_init(); break;
    case 0x13: *general = shadowed_cr3; vmwrite(GUEST_RSP, guest.esp); break;
    default: give_up("The guest used a control register that the hypervisor does not know");
    }
    skip();
}

/* OUTS of bytes, which come from the guest's memory one by one. Only 32-bit address sizes are known. */
static void out_string(uint16_t port, int repeated)
{
    uint32_t linear = get(LINEAR), count = repeated ? guest.ecx : 1;
    int step = get(GUEST_RFLAGS) & EFLAGS_DF ? -1 : 1;
    for (; count; count--, linear += step, guest.esi += step, guest.ecx -= !!repeated) {
        uint8_t *byte = guest_byte(linear);
        if (!byte) return;                              /* a page fault; the rest is done after it */
        port_out(port, 1, *byte);
    }
    skip();
}

/* Table 27-5: bits 2-0 are the size less 1, 3 is IN, 4 is INS or OUTS, 5 is REP, 31-16 are the port. */
static void port_access(uint32_t q)
{
    unsigned size = (q & 7) + 1;
    uint32_t mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
    if ((q & 0x1F) == 0x10) return out_string(q >> 16, q & 0x20);
    if (q & 0x10) give_up("The guest used INS, OUTSW or OUTSD, which the hypervisor does not know");
    if (q & 8) guest.eax = (guest.eax & ~mask) | (port_in(q >> 16, size) & mask);
    else port_out(q >> 16, size, guest.eax & mask);
    skip();
}

/* ---- the exit ---- */

static void unexpected(const char *sentence, uint32_t qualification)
{
    print("VM exit %u, qualification %x: EIP %08x, ESP %08x, IDT %08x with limit %x.\n", get(REASON) & 0xFFFF,
          qualification, get(GUEST_RIP), get(GUEST_RSP), get(IDTR_BASE), get(IDTR_LIMIT));
    give_up(sentence);
}

void handle_exit(void)
{
    uint32_t reason = get(REASON) & 0xFFFF, q = get(QUALIFICATION);
    counts[reason % REASONS]++;
    event_code = event_length = 0;
    switch (reason) {
    case R_EXCEPTION: shadow_fault(q, get(EXIT_CODE)); break;
    /* The request is still there; with interrupts on, this kernel's own handler takes it. */
    case R_EXTERNAL: asm volatile("sti\n nop\n cli" : : : "memory"); break;
    case R_TRIPLE_FAULT: unexpected("The guest had a triple fault: none handled its double fault", q); break;
    case R_INTERRUPT_WINDOW: break;                     /* prepare_entry() does the rest */
    case R_CPUID: do_cpuid(); break;
    case R_HLT: halt(); break;
    case R_INVD: skip(); break;                         /* the caches hold the hypervisor's data, too */
    case R_INVLPG: shadow_drop(q); skip(); break;
    case R_VMCALL ... R_VMXON: inject(V_UD, 0, 0); break;
    case R_CR: control_register(q); break;
    case R_IO: port_access(q); break;
    case R_RDMSR: do_msr(0); break;
    case R_WRMSR: do_msr(1); break;
    case R_FAILED_ENTRY: unexpected("VM entry failed: no processor can be in the guest's state", q); break;
    case R_EPT: ept_violation(); break;
    default: unexpected("The hypervisor does not know this exit", q);
    }
    deliver_again();
}

static const char *const names[REASONS] = {
    [R_EXCEPTION] = "page fault", [R_EXTERNAL] = "external interrupt",
    [R_INTERRUPT_WINDOW] = "interrupt window", [R_CPUID] = "CPUID", [R_HLT] = "HLT", [R_INVD] = "INVD",
    [R_INVLPG] = "INVLPG", [R_CR] = "control register", [R_IO] = "I/O", [R_RDMSR] = "RDMSR",
    [R_WRMSR] = "WRMSR", [R_EPT] = "EPT violation",
};

void print_exits(void)
{
    uint32_t all = 0;
    print("[hypervisor] the guest ended with status %d; VM exits by reason:\n", status);
    for (unsigned n = 0; n < REASONS; all += counts[n++]) {
        if (!counts[n]) continue;
        print("%4u  %-20s %6u", n, names[n] ? names[n] : "", counts[n]);
        if (n == R_EXCEPTION) print("   %u the guest's, %u hidden", counts[n] - hidden_faults, hidden_faults);
        print("\n");
    }
    print("      %-20s %6u\n", "all", all);
}

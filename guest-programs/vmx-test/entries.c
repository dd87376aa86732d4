/* Entries with one field changed: which of them fail, and how (26.2, 26.3, 26.7). */
#include "../lib/console.h"
#include "vmx.h"

static void result(void)
{
    int outcome = enter(&guest, 0);
    if (outcome) {
        print_failure(outcome);
        return;
    }
    uint32_t reason = get(REASON), event = get(EXIT_EVENT);
    print("%s%u", reason >> 31 ? "failure " : "exit ", reason & 0xFFFF);
    if (get(QUALIFICATION)) print(" q=%x", get(QUALIFICATION));
    if (!(reason >> 31) && event >> 31) print(" event=%x", event);
    print("\n");
}

static const uint8_t vmcall_code[] = { 0x0F, 0x01, 0xC1 };

/* One entry with `field` as `value`. An exit of the guest that runs then may be any. */
static void with(const char *name, uint32_t field, uint32_t value)
{
    print("%s %x: ", name, value);
    vmwrite(field, value);
    result();
}

#define E(name, field, value, ...)                                                             \
    do {                                                                                        \
        load(vmcall_code, vmcall_code + 3);                                                     \
        __VA_ARGS__;                                                                            \
        with(name, field, value);                                                               \
    } while (0)

/* Every bit of `mask` the other way round. */
static void flip(const char *name, uint32_t field, uint32_t mask, void (*prepare)(void))
{
    for (unsigned bit = 0; bit < 32; bit++) {
        if (!(mask >> bit & 1)) continue;
        load(vmcall_code, vmcall_code + 3);
        if (prepare) prepare();
        with(name, field, get(field) ^ 1u << bit);
    }
}

static void controls(void)
{
    flip("pin", PIN, ~0, 0);
    flip("primary", PRIMARY,
      ~(uint32_t)(INTERRUPT_WINDOW | ACTIVATE_SECONDARY | 1 << 21 | 1 << 27 | 1 << 17), 0);
    flip("exit", EXIT_CONTROLS, ~0x7C1200u, 0);
    flip("entry", ENTRY_CONTROLS, ~0xC200u, 0);
    for (uint32_t n = 3; n < 6; n++) E("cr3 targets", CR3_COUNT, n);
    E("i/o bitmap a", BITMAP_A, IO_BITMAP_A + 8, primary(IO_BITMAPS));
    E("i/o bitmap b", BITMAP_B, IO_BITMAP_B + 0x800, primary(IO_BITMAPS));
    E("i/o bitmap b, high", BITMAP_B + 1, 0x80000000, primary(IO_BITMAPS));
    E("i/o bitmap b, not used", BITMAP_B, IO_BITMAP_B + 0x800);
    E("msr bitmaps", BITMAP_MSR, MSR_BITMAPS + 1, primary(USE_MSR_BITMAPS));
    E("msr bitmaps, high", BITMAP_MSR + 1, 0x80000000, primary(USE_MSR_BITMAPS));
    E("msr bitmaps, not used", BITMAP_MSR, MSR_BITMAPS + 1);
    E("exit store", EXIT_MSR_STORE, MSR_STORE + 8, vmwrite(EXIT_MSR_STORE_COUNT, 1), poke(MSR_STORE, 0x174));
    E("exit store, no entries", EXIT_MSR_STORE, MSR_STORE + 8);
    E("exit store, high", EXIT_MSR_STORE + 1, 0x80000000, vmwrite(EXIT_MSR_STORE_COUNT, 1));
    E("exit load", EXIT_MSR_LOAD, MSR_LOAD + 4, vmwrite(EXIT_MSR_LOAD_COUNT, 1));
    E("entry load", ENTRY_MSR_LOAD, MSR_ENTRY + 15, vmwrite(ENTRY_MSR_LOAD_COUNT, 1));
    if (allows(caps.pin, PIN_VIRTUAL_NMI)) {
        E("virtual nmis alone", PIN, get(PIN) | PIN_VIRTUAL_NMI);
        E("nmi window alone", PRIMARY, get(PRIMARY) | NMI_WINDOW);
    }
}

static void injection(void)
{
    for (uint32_t type = 0; type < (hard ? 8 : 7); type++)
        for (uint32_t code = 0; code <= HAS_CODE; code += HAS_CODE) {
            static const uint8_t vectors[] = { 0, 1, 2, 3, 4, 6, 8, 9, 10, 13, 14, 15, 17, 18, 31, 32, 255 };
            for (unsigned i = 0; i < sizeof vectors; i++)
                E("inject", ENTRY_EVENT, EVENT(type, vectors[i]) | code, vmwrite(ENTRY_LENGTH, 2),
                  vmwrite(GUEST_RFLAGS, 0x202));
        }
    for (unsigned bit = 12; bit < 31; bit++) E("inject, reserved", ENTRY_EVENT,
      EVENT(T_HARDWARE, 6) | 1u << bit);
    for (unsigned bit = 14; bit < 32; bit++)
        E("error code", ENTRY_CODE, 1u << bit, vmwrite(ENTRY_EVENT, EVENT(T_HARDWARE, 13) | HAS_CODE));
    for (uint32_t length = 0; length < 17; length += length < 2 || length > 13 ? 1 : 6) {
        E("length, int n", ENTRY_LENGTH, length, vmwrite(ENTRY_EVENT, EVENT(T_SOFTWARE, 0x30)));
        E("length, int3", ENTRY_LENGTH, length, vmwrite(ENTRY_EVENT, EVENT(T_EXCEPTION, 3)));
        E("length, icebp", ENTRY_LENGTH, length, vmwrite(ENTRY_EVENT, EVENT(T_PRIVILEGED, 1)));
        E("length, #UD", ENTRY_LENGTH, length, vmwrite(ENTRY_EVENT, EVENT(T_HARDWARE, 6)));
    }
}

static void host(void)
{
    flip("host cr0", HOST_CR0, ~0x60000000u, 0);
    flip("host cr4", HOST_CR4, ~0x30u, 0);
    static const char *const names[] = { "host es", "host cs", "host ss", "host ds", "host fs", "host gs",
      "host tr" };
    for (int n = 0; n < 7; n++) {
        for (uint32_t bits = 1; bits < 8; bits <<= 1) E(names[n], HOST_ES + 2 * n,
          get(HOST_ES + 2 * n) | bits);
        if (n == CS || n == SS || n == 6) E(names[n], HOST_ES + 2 * n, 0);
    }
}

static void as_v86(void) { v86(); }
static void as_ring3(void) { ring3(); }
static void as_ldt(void)
{
    vmwrite(GUEST_LDTR, 0x10);
    vmwrite(RIGHTS + 2 * LDTR, 0x82);
    vmwrite(LIMITS + 2 * LDTR, 0xFF);
}

static void registers(void)
{
    flip("cr0", GUEST_CR0, ~0x60000000u, 0);
    flip("cr4", GUEST_CR4, ~0u, 0);
    flip("flags", GUEST_RFLAGS, ~0x100u, 0);
    flip("flags, v86", GUEST_RFLAGS, ~0x100u, as_v86);
    E("flags, external injected", GUEST_RFLAGS, 2, vmwrite(ENTRY_EVENT, EVENT(T_EXTERNAL, 0x31)));
    flip("debugctl", GUEST_DEBUGCTL, 0xFFFF003C, 0);
    E("debugctl, high", GUEST_DEBUGCTL + 1, 1);
    E("gdtr limit", GDTR_LIMIT, 0x10000);
    E("gdtr limit", GDTR_LIMIT, 0xFFFF);
    E("idtr limit", IDTR_LIMIT, 0x80000000);
    E("sysenter cs", GUEST_SYSENTER_CS, ~0);
    E("dr7", GUEST_DR7, 0);
    E("dr7", GUEST_DR7, ~0x2000);
    E("rip", GUEST_RIP, 0x401000);
}

static const char *const segments[] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

static void segment_rights(void)
{
    for (int n = 0; n < 8; n++) {
        print("rights of %s\n", segments[n]);
        flip(segments[n], RIGHTS + 2 * n, 0x1FFFF, n == LDTR ? as_ldt : 0);
        flip(segments[n], RIGHTS + 2 * n, 0x80020000, n == LDTR ? as_ldt : 0);
        for (uint32_t type = 0; type < 16; type++)
            E(segments[n], RIGHTS + 2 * n, (get(RIGHTS + 2 * n) & ~15u) | type,
              n == LDTR ? as_ldt() : (void)0);
    }
    for (int n = 0; n < 6; n++) {
        print("rights of %s, ring 3\n", segments[n]);
        flip(segments[n], RIGHTS + 2 * n, 0x7F, as_ring3);
    }
    for (int n = 0; n < 6; n++) {
        print("rights of %s, v86\n", segments[n]);
        flip(segments[n], RIGHTS + 2 * n, 0x1FFFF, as_v86);
    }
    E("cs conforming, dpl 0, cpl 3", RIGHTS + 2 * CS, 0xC09F, ring3());
    E("cs conforming, dpl 3, cpl 0", RIGHTS + 2 * CS, 0xC0FF);
    E("ds unusable, rights garbage", RIGHTS + 2 * DS, 0x10FFF);
    E("ss unusable, dpl 0", RIGHTS + 2 * SS, 0x10000);
    E("ss unusable, dpl 3", RIGHTS + 2 * SS, 0x10060);
}

static void segment_parts(void)
{
    for (int n = 0; n < 8; n++) {
        void (*prepare)(void) = n == LDTR ? as_ldt : 0;
        print("selector, limit and base of %s\n", segments[n]);
        for (unsigned bit = 0; bit < 3; bit++)
            E(segments[n], GUEST_ES + 2 * n, get(GUEST_ES + 2 * n) ^ 1u << bit,
              prepare ? prepare() : (void)0);
        for (unsigned bit = 0; bit < 32; bit += bit == 11 ? 1 : 11)
            E(segments[n], LIMITS + 2 * n, get(LIMITS + 2 * n) ^ 1u << bit, prepare ? prepare() : (void)0);
        E(segments[n], LIMITS + 2 * n, 0x100000, prepare ? prepare() : (void)0);
        E(segments[n], LIMITS + 2 * n, 0xFFFFF, prepare ? prepare() : (void)0);
        if (n == CS || n == SS) continue;
        E(segments[n], BASES + 2 * n, 0x80000000, prepare ? prepare() : (void)0);
    }
    for (int n = 0; n < 6; n++) {
        print("v86 %s\n", segments[n]);
        E(segments[n], BASES + 2 * n, 0x8010, v86());
        E(segments[n], LIMITS + 2 * n, 0xFFFE, v86());
        E(segments[n], LIMITS + 2 * n, 0x1FFFF, v86());
        E(segments[n], GUEST_ES + 2 * n, 0x801, v86());
        E(segments[n], RIGHTS + 2 * n, 0x93, v86());
    }
}

static void non_register(void)
{
    flip("blocking", INTERRUPTIBILITY, ~0u, 0);
    for (uint32_t bits = 0; bits < 16; bits++) {
        E("blocking, IF", INTERRUPTIBILITY, bits, vmwrite(GUEST_RFLAGS, 0x202));
        E("blocking, external injected", INTERRUPTIBILITY, bits, vmwrite(GUEST_RFLAGS, 0x202),
          vmwrite(ENTRY_EVENT, EVENT(T_EXTERNAL, 0x31)));
        E("blocking, nmi injected", INTERRUPTIBILITY, bits, vmwrite(GUEST_RFLAGS, 0x202),
          vmwrite(ENTRY_EVENT, EVENT(T_NMI, 2)));
        E("blocking, #UD injected", INTERRUPTIBILITY, bits, vmwrite(GUEST_RFLAGS, 0x202),
          vmwrite(ENTRY_EVENT, EVENT(T_HARDWARE, 6)));
    }
    static const uint32_t events[] = {
        EVENT(T_EXTERNAL, 0x31), EVENT(T_NMI, 2), EVENT(T_HARDWARE, 1), EVENT(T_HARDWARE, 6),
          EVENT(T_HARDWARE, 18),
        EVENT(T_SOFTWARE, 0x30), EVENT(T_EXCEPTION, 3), EVENT(T_PRIVILEGED, 1),
    };
    for (unsigned i = 0; i < sizeof events / sizeof *events; i++)
        for (uint32_t state = 1; state < 4; state++) {
            print("event %x, ", events[i]);
            E("activity", ACTIVITY, state, vmwrite(GUEST_RFLAGS, 0x202), vmwrite(ENTRY_EVENT, events[i]),
              vmwrite(ENTRY_LENGTH, 1));
        }
    E("activity", ACTIVITY, 4);
    E("activity", ACTIVITY, 0x80000000);
    E("activity, after sti", ACTIVITY, 1, vmwrite(INTERRUPTIBILITY, 1), vmwrite(GUEST_RFLAGS, 0x202));
    E("activity, after mov ss", ACTIVITY, 1, vmwrite(INTERRUPTIBILITY, 2), vmwrite(GUEST_RFLAGS, 0x202));
    E("activity, ring 3", ACTIVITY, 1, ring3());
    flip("pending debug", PENDING_DEBUG, ~0u, 0);
    E("pending debug, after mov ss, TF", PENDING_DEBUG, 0, vmwrite(INTERRUPTIBILITY, 2),
      vmwrite(GUEST_RFLAGS, 0x102));
    E("pending debug, after mov ss, TF", PENDING_DEBUG, 0x4000, vmwrite(INTERRUPTIBILITY, 2),
      vmwrite(GUEST_RFLAGS, 0x102));
    E("pending debug, after mov ss", PENDING_DEBUG, 0x4000, vmwrite(INTERRUPTIBILITY, 2));
    E("pending debug, after sti, TF", PENDING_DEBUG, 0, vmwrite(INTERRUPTIBILITY, 1),
      vmwrite(GUEST_RFLAGS, 0x302));
    E("pending debug, after mov ss, TF and BTF", PENDING_DEBUG, 0, vmwrite(INTERRUPTIBILITY, 2),
      vmwrite(GUEST_RFLAGS, 0x102),
      vmwrite(GUEST_DEBUGCTL, 2));
    E("pending debug, after mov ss, TF and BTF", PENDING_DEBUG, 0x4000, vmwrite(INTERRUPTIBILITY, 2),
      vmwrite(GUEST_RFLAGS, 0x102),
      vmwrite(GUEST_DEBUGCTL, 2));
    if (hard) E("pending debug, halted, TF", PENDING_DEBUG, 0, vmwrite(ACTIVITY, 1),
      vmwrite(GUEST_RFLAGS, 0x102));
}

#define LINKED(low, high) vmwrite(LINK + 1, high), vmwrite(LINK, low), vmwrite(LINK + 1, high)

static void link_and_pointers(void)
{
    poke(SPARE_REGION, (uint32_t)caps.basic);
    E("link", LINK + 1, 0, vmwrite(LINK, SPARE_REGION));
    E("link, not aligned", LINK + 1, 0, vmwrite(LINK, SPARE_REGION + 4));
    E("link, beyond all addresses", LINK + 1, 0x80000000, vmwrite(LINK, SPARE_REGION));
    E("link, the current one", LINK + 1, 0, vmwrite(LINK, VMCS_REGION));
    E("link, wrong revision", LINK + 1, 0, vmwrite(LINK, DATA_PAGE), poke(DATA_PAGE, 0x7777));
    E("pae, pointers of 0", GUEST_CR3, POINTERS, vmwrite(GUEST_CR4, 0x2030), poke(POINTERS, 0),
      poke(POINTERS + 4, 0));
    for (unsigned bit = 1; bit < 32; bit++) {
        print("pae, ");
        E("pointer bit", GUEST_CR3, POINTERS, vmwrite(GUEST_CR4, 0x2030),
          poke(POINTERS, 1 | DIRECTORY | 1u << bit));
        if (bit == 8) bit = 30;
    }
    E("pae, not present", GUEST_CR3, POINTERS, vmwrite(GUEST_CR4, 0x2030), poke(POINTERS, 0xFFE));
    E("pae, high bits", GUEST_CR3, POINTERS, vmwrite(GUEST_CR4, 0x2030), poke(POINTERS, 1),
      poke(POINTERS + 4, 0x80000000));
    E("pae, fourth", GUEST_CR3, POINTERS, vmwrite(GUEST_CR4, 0x2030), poke(POINTERS, 0),
      poke(POINTERS + 4, 0), poke(POINTERS + 24, 7));
    poke(POINTERS + 24, 0);
}

void test_entries(void)
{
    controls();
    injection();
    host();
    registers();
    segment_rights();
    segment_parts();
    non_register();
    link_and_pointers();
}

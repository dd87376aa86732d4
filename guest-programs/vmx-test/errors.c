/* VMX instructions in root operation, and outside VMX operation: their errors (30.4), #UD and #GP. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "vmx.h"

static void say(const char *what, int outcome)
{
    print("%s: ", what);
    if (outcome == SUCCEEDED) print("VMsucceed\n");
    else print_failure(outcome);
}

static void say_caught(const char *what, int vector)
{
    if (vector < 0) print("%s: no exception\n", what);
    else print("%s: exception %d, error %x\n", what, vector, caught_code);
}

static void pointers(void)
{
    fresh();
    print("vmptrst: %x %x\n", (uint32_t)vmptrst(), (uint32_t)(vmptrst() >> 32));
    say("vmclear, not aligned", vmclear(VMCS_REGION + 8));
    say("vmclear, beyond 32 bits", vmclear((uint64_t)1 << 36 | SPARE_REGION));
    say("vmclear, beyond all addresses", vmclear((uint64_t)1 << 63 | SPARE_REGION));
    say("vmclear, VMXON region", vmclear(VMXON_REGION));
    say("vmptrld, not aligned", vmptrld(VMCS_REGION + 0x800));
    say("vmptrld, beyond all addresses", vmptrld((uint64_t)1 << 63 | SPARE_REGION));
    say("vmptrld, VMXON region", vmptrld(VMXON_REGION));
    poke(SPARE_REGION, (uint32_t)caps.basic + 1);
    say("vmptrld, wrong revision", vmptrld(SPARE_REGION));
    poke(SPARE_REGION, (uint32_t)caps.basic | 0x80000000);
    say("vmptrld, shadow bit", vmptrld(SPARE_REGION));
    poke(SPARE_REGION, (uint32_t)caps.basic);
    say("vmclear, another", vmclear(SPARE_REGION));
    print("vmptrst: %x\n", (uint32_t)vmptrst());
    say("vmptrld, another", vmptrld(SPARE_REGION));
    print("vmptrst: %x\n", (uint32_t)vmptrst());
    vmwrite(GUEST_RIP, 0x12345678);
    say("vmptrld, the first", vmptrld(VMCS_REGION));
    print("its RIP: %x\n", get(GUEST_RIP));
    vmptrld(SPARE_REGION);
    print("the other's RIP: %x\n", get(GUEST_RIP));
    say("vmclear, the current one", vmclear(SPARE_REGION));
    print("vmptrst: %x %x\n", (uint32_t)vmptrst(), (uint32_t)(vmptrst() >> 32));
}

static void no_current(void)
{
    uint32_t value;
    say("vmread, none current", vmread(GUEST_RIP, &value));
    say("vmwrite, none current", vmwrite(GUEST_RIP, 0));
    say("vmlaunch, none current", vmlaunch());
    say("vmresume, none current", vmresume());
    say("vmclear, none current, not aligned", vmclear(1));
    say("vmptrld, none current, VMXON region", vmptrld(VMXON_REGION));
    say("vmxon, none current", vmxon(VMXON_REGION));
    if (hard) say("vmcall, none current", root_vmcall());
}

static void fields(void)
{
    uint32_t value;
    fresh();
    say("vmread, no such field", vmread(0x6C18, &value));
    say("vmread, encoding above 32767", vmread(0x10000 | GUEST_RIP, &value));
    say("vmread, upper half of a 32-bit field", vmread(PIN + 1, &value));
    say("vmread, upper half of a natural field", vmread(GUEST_RIP + 1, &value));
    say("vmwrite, no such field", vmwrite(0x4032, 0));
    say("vmwrite, exit reason", vmwrite(REASON, 0));
    say("vmwrite, qualification", vmwrite(QUALIFICATION, 0));
    say("vmwrite, guest-linear address", vmwrite(LINEAR, 0));
    say("vmwrite, instruction error", vmwrite(ERROR, 0));
    vmwrite(TSC_OFFSET, 0x11112222);
    vmwrite(TSC_OFFSET + 1, 0x33334444);
    print("64-bit halves: %x %x\n", get(TSC_OFFSET), get(TSC_OFFSET + 1));
    vmwrite(TSC_OFFSET, 0x55556666);
    print("lower half written: %x %x\n", get(TSC_OFFSET), get(TSC_OFFSET + 1));
    vmwrite(GUEST_CS, 0x12345678);
    print("16-bit field: %x\n", get(GUEST_CS));
    vmwrite(RIGHTS, 0xFFFFFFFF);
    print("access rights: %x\n", get(RIGHTS) & 0x1F0FF);
    vmwrite(PENDING_DEBUG, 0x12345678);
    print("natural field: %x\n", get(PENDING_DEBUG));
    uint32_t memory = 0;
    vmwrite(GUEST_RIP, 0xABCDEF01);
    asm volatile("vmread %0, %1" : "=m"(memory) : "r"((uint32_t)GUEST_RIP) : "cc");
    print("vmread to memory: %x\n", memory);
    memory = 0x7654321;
    asm volatile("vmwrite %0, %1" : : "r"((uint32_t)GUEST_RIP), "m"(memory) : "cc", "memory");
    print("vmwrite from memory: %x\n", get(GUEST_RIP));
}

static void entries(void)
{
    fresh();
    if (hard) say("vmcall in root", root_vmcall());
    say("vmxon in root", vmxon(VMXON_REGION));
    say("vmxon in root, bad address", vmxon(VMXON_REGION + 1));
    say("vmresume of a clear one", vmresume());
    vmwrite(CR3_COUNT, 5);
    say("vmlaunch, bad controls", vmlaunch());
    vmwrite(CR3_COUNT, 0);
    vmwrite(HOST_TR, 0);
    say("vmlaunch, bad host", vmlaunch());
    vmwrite(CR3_COUNT, 5);
    say("vmlaunch, both", vmlaunch());
    say("vmlaunch after mov ss", shadowed_launch());
    GUEST_CODE("vmcall");
    run("launched");
    say("vmlaunch of a launched one", vmlaunch());
    say("vmlaunch after mov ss, launched", shadowed_launch());
    vmwrite(CR3_COUNT, 5);
    say("vmresume, bad controls", vmresume());
    say("vmclear of a launched one", vmclear(VMCS_REGION));
    vmptrld(VMCS_REGION);
    say("vmresume after vmclear", vmresume());
}

static void ud(void) { asm volatile("vmclear [0x219000]" : : : "cc", "memory"); }
static void ud_vmread(void) { uint32_t v; vmread(GUEST_RIP, &v); }
static void ud_vmwrite(void) { vmwrite(GUEST_RIP, 0); }
static void ud_vmptrld(void) { vmptrld(VMCS_REGION); }
static void ud_vmptrst(void) { vmptrst(); }
static void ud_vmlaunch(void) { vmlaunch(); }
static void ud_vmresume(void) { vmresume(); }
static void ud_vmcall(void) { root_vmcall(); }
static void ud_vmxoff(void) { vmxoff(); }
static void on(void) { vmxon(VMXON_REGION); }
static void clear_ne(void) { write_cr0(read_cr0() & ~0x20); }
static void set_ne(void) { write_cr0(read_cr0() | 0x20); }
static void clear_pg(void) { write_cr0(read_cr0() & ~CR0_PG); }
static void clear_vmxe(void) { write_cr4(read_cr4() & ~0x2000); }
static void set_vmxe(void) { write_cr4(read_cr4() | 0x2000); }
static void lmsw0(void) { asm volatile("lmsw %0" : : "r"((uint16_t)0)); }
static void read_capability(void) { rdmsr(0x480); }
static void write_capability(void) { wrmsr(0x480, 0); }
static void write_control(void) { wrmsr(0x3A, 0); }

static void in_root(void)
{
    say_caught("root: clear CR0.NE", caught(clear_ne));
    say_caught("root: clear CR0.PG", caught(clear_pg));
    say_caught("root: clear CR4.VMXE", caught(clear_vmxe));
    say_caught("root: LMSW of 0", caught(lmsw0));
    say_caught("rdmsr 480h", caught(read_capability));
    say_caught("wrmsr 480h", caught(write_capability));
    say_caught("wrmsr 3Ah, locked", caught(write_control));
}

static void outside(void)
{
    static const struct { const char *name; void (*f)(void); } undefined[] = {
        { "off: vmclear", ud }, { "off: vmptrld", ud_vmptrld }, { "off: vmptrst", ud_vmptrst },
          { "off: vmread", ud_vmread },
        { "off: vmwrite", ud_vmwrite }, { "off: vmlaunch", ud_vmlaunch }, { "off: vmresume", ud_vmresume },
        { "off: vmcall", ud_vmcall }, { "off: vmxoff", ud_vmxoff },
    };
    say("vmxoff", vmxoff());
    for (unsigned i = 0; i < sizeof undefined / sizeof *undefined; i++)
        say_caught(undefined[i].name, caught(undefined[i].f));
    clear_ne();
    say_caught("off: vmxon without NE", caught(on));
    set_ne();
    clear_vmxe();
    say_caught("off: vmxon without VMXE", caught(on));
    set_vmxe();
    say("off: vmxon, not aligned", vmxon(VMXON_REGION + 8));
    say("off: vmxon, beyond all addresses", vmxon((uint64_t)1 << 63 | VMXON_REGION));
    poke(VMXON_REGION, (uint32_t)caps.basic + 1);
    say("off: vmxon, wrong revision", vmxon(VMXON_REGION));
    poke(VMXON_REGION, (uint32_t)caps.basic);
    say("off: vmxon", vmxon(VMXON_REGION));
    print("vmptrst: %x %x\n", (uint32_t)vmptrst(), (uint32_t)(vmptrst() >> 32));
}

void test_errors(void)
{
    pointers();
    no_current();
    fields();
    entries();
    in_root();
    outside();
}

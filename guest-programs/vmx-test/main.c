/* A kernel that turns VMX on, runs some hundred small guests, and prints each VM exit's fields,
  a line for each: the same
   lines on every right processor with the same capabilities. */
#include "../lib/console.h"
#include "../lib/cpu.h"
#include "../lib/multiboot.h"
#include "../lib/options.h"
#include "vmx.h"

int hard;

static void print_capability(const char *name,
  uint64_t value) { print("%s %08x %08x\n", name, (uint32_t)(value >> 32), (uint32_t)value); }

/* IA32_FEATURE_CONTROL (23.7), CR4.VMXE, VMXON. */
static int turn_on(void)
{
    if (!(cpuid(1).ecx & 1 << 5)) {
        print("this processor has no VMX\n");
        return 0;
    }
    if (!(rdmsr(0x3A) & 1)) wrmsr(0x3A, 5);
    if ((rdmsr(0x3A) & 5) != 5) {
        print("the firmware has turned VMX off\n");
        return 0;
    }
    caps = (struct caps){ rdmsr(0x480), rdmsr(0x481), rdmsr(0x482), rdmsr(0x483), rdmsr(0x484),
      rdmsr(0x485), 0 };
    print_capability("pin", caps.pin);
    print_capability("primary", caps.primary);
    print_capability("exit", caps.exit);
    print_capability("entry", caps.entry);
    write_cr4(read_cr4() | 0x2000);
    poke(VMXON_REGION, (uint32_t)caps.basic);
    poke(VMCS_REGION, (uint32_t)caps.basic);
    int outcome = vmxon(VMXON_REGION);
    if (outcome) print("VMXON failed\n");
    return !outcome;
}

int kernel_main(uint32_t magic, struct multiboot *info)
{
    hard = option(command_line(magic, info), "hard", 1);
    machine_init();
    if (!turn_on()) return 1;
    test_instructions();
    test_control_registers();
    test_io();
    test_msrs();
    test_exceptions();
    test_task_switches();
    test_interrupts();
    test_injection();
    test_debug();
    test_state();
    test_errors();
    test_entries();
    print("done\n");
    return 0;
}

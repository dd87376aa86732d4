//! Tiny hypervisors that never come to run their guests, one for each usual mistake of VMX.

use super::guest::{CODE, DIRECTORY, Guest, STACK};
use super::report::golden;
use subring::addr::GuestPhys;
use subring::cpu::Model;
use subring::cpu::vmx::Field;
use subring::debug::{Ending, any_report, explain};
use subring::machine::{Limits, Machine, Outcome};

/// The VMXON region, the control structure, and their pointers.
const VMXON: u32 = 0x6000;
const VMCS: u32 = 0x7000;
const VMXON_POINTER: u32 = 0x600;
const VMCS_POINTER: u32 = 0x608;
/// Where the host goes on after an exit: HLT with interrupts off.
const HOST: u32 = 0x10_a000;
const REVISION: u32 = 0x2b;
/// MOV AL, 1; OUT F4h, AL
const FAIL: [u8; 4] = [0xb0, 1, 0xe6, 0xf4];
const VMLAUNCH: [u8; 3] = [0x0f, 0x01, 0xc2];
const VMRESUME: [u8; 3] = [0x0f, 0x01, 0xc3];

impl Guest {
    /// MOV CR4 with VMXE; paging with CR0.NE.
    fn vmx_mode(&mut self) -> &mut Self {
        self.on(Model::Yonah).start().tables(7).paging();
        self.run(&[0x0f, 0x20, 0xe0, 0x0d, 0, 0x20, 0, 0, 0x0f, 0x22, 0xe0]);
        self.run(&[0x0f, 0x20, 0xc0, 0x0c, 0x20, 0x0f, 0x22, 0xc0])
    }
    /// IA32_FEATURE_CONTROL with the lock and VMX.
    fn unlock(&mut self) -> &mut Self {
        self.run(&[0xb9, 0x3a, 0, 0, 0, 0xb8, 5, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x30])
    }
    fn with_pointer(&mut self, code: &[u8], pointer: u32) -> &mut Self {
        self.run(code).run(&pointer.to_le_bytes())
    }
    fn vmxon(&mut self) -> &mut Self {
        self.dword(VMXON_POINTER, VMXON).dword(VMXON, REVISION);
        self.with_pointer(&[0xf3, 0x0f, 0xc7, 0x35], VMXON_POINTER)
    }
    fn vmptrld(&mut self) -> &mut Self {
        self.dword(VMCS_POINTER, VMCS).dword(VMCS, REVISION);
        self.with_pointer(&[0x66, 0x0f, 0xc7, 0x35], VMCS_POINTER);
        self.with_pointer(&[0x0f, 0xc7, 0x35], VMCS_POINTER)
    }
    /// VMX operation with a new, empty control structure.
    fn hypervisor(&mut self) -> &mut Self {
        self.vmx_mode().unlock().vmxon().vmptrld()
    }
    /// MOV EAX, encoding; MOV EBX, value; VMWRITE EAX, EBX
    fn vmwrite(&mut self, field: Field, value: u32) -> &mut Self {
        self.run(&[0xb8]).run(&u32::from(field.encoding()).to_le_bytes());
        self.run(&[0xbb]).run(&value.to_le_bytes()).run(&[0x0f, 0x79, 0xc3])
    }
    /// Controls that the model allows, and a host that halts; the guest's state stays empty.
    fn controls_and_host(&mut self) -> &mut Self {
        self.put(HOST, &[0xfa, 0xf4]);
        for (field, value) in [
            (Field::PinControls, 0x16),
            (Field::PrimaryControls, 0x0401_e172),
            (Field::ExitControls, 0x3_6dff),
            (Field::EntryControls, 0x11ff),
            (Field::HostCr0, 0x8000_0031),
            (Field::HostCr3, DIRECTORY),
            (Field::HostCr4, 0x2000),
            (Field::HostCs, 8),
            (Field::HostSs, 0x10),
            (Field::HostDs, 0x10),
            (Field::HostTr, 0x28),
            (Field::HostRsp, STACK),
            (Field::HostRip, HOST),
        ] {
            self.vmwrite(field, value);
        }
        self
    }
}

#[test]
fn a_processor_without_vmx() {
    let mut g = Guest::flat();
    g.start().vmxon().dies_of("vmxon-not-ready", "has no VMX: run with --cpu yonah");
}

#[test]
fn vmxon_without_vmxe() {
    let mut g = Guest::flat();
    g.on(Model::Yonah).start().vmxon().dies_of("vmxon-not-ready", "CR4.VMXE (bit 13) is clear");
}

#[test]
fn vmxon_with_feature_control_open() {
    let mut g = Guest::flat();
    g.vmx_mode()
        .vmxon()
        .dies_of("vmxon-not-ready", "and it is 0x0; if it is not locked, WRMSR of 5 sets both");
}

#[test]
fn vmxon_without_numeric_errors() {
    let mut g = Guest::flat();
    g.vmx_mode().unlock().run(&[0x0f, 0x20, 0xc0, 0x24, 0xdf, 0x0f, 0x22, 0xc0]);
    g.vmxon().dies_of("vmxon-not-ready", "needs CR0.PE, NE and PG set, and CR0 is 0x80000011");
}

/// IN AL, 92h; AND AL, FDh; OUT 92h, AL
const CLOSE_A20: [u8; 6] = [0xe4, 0x92, 0x24, 0xfd, 0xe6, 0x92];
/// Code in an even megabyte: MOV EAX, 8000h; JMP EAX leads there.
const LOW: u32 = 0x8000;
const TO_LOW: [u8; 7] = [0xb8, 0, 0x80, 0, 0, 0xff, 0xe0];

#[test]
fn vmxon_with_the_a20_gate_closed() {
    let mut g = Guest::flat();
    g.vmx_mode().unlock().vmxon();
    let vmxon = g.code[g.code.len() - 8..].to_vec();
    g.code.truncate(g.code.len() - 8);
    g.run(&TO_LOW).put(LOW, &[&CLOSE_A20[..], &vmxon].concat());
    g.dies_of("vmxon-not-ready", "VMXON at 0x00008006 is refused while the A20 gate is closed (A20M mode)");
}

/// SDM vol. 3, 23.8: a gate that is closed in VMX operation shows after VMXOFF. The guest reads 2 in an odd megabyte, then
/// 1, which is in the one below, wherever the machine is saved and restored in between.
#[test]
fn the_a20_gate_is_blocked_in_vmx_operation() {
    let (here, below) = (CODE + 0x700, 0x700);
    let mut g = Guest::flat();
    g.put(here, &[2]).put(below, &[1]).vmx_mode().unlock().vmxon().run(&CLOSE_A20).run(&TO_LOW);
    // MOV BL, [here]; VMXOFF; MOV BH, [here]; MOV AL, BL; SHL AL, 4; OR AL, BH; OUT F4h, AL
    let here = here.to_le_bytes();
    let after = [0x88, 0xd8, 0xc0, 0xe0, 0x04, 0x08, 0xf8, 0xe6, 0xf4];
    g.put(LOW, &[&[0x8a, 0x1d][..], &here, &[0x0f, 0x01, 0xc4, 0x8a, 0x3d], &here, &after].concat());
    let (end, ending) = g.end();
    assert!(matches!(ending, Ending::Exit(0x21)), "{ending:?}");
    for instructions in 1..end.cpu.retired() {
        let mut first = g.machine();
        first.run(Limits::instructions(instructions));
        let mut second = Machine::from_state(&first.save(), <_>::default(), <_>::default(), None).unwrap();
        let outcome = second.run(Limits::instructions(end.cpu.retired()));
        assert!(matches!(outcome, Outcome::Exit(0x21)), "saved after {instructions}: {outcome:?}");
    }
    // The reset line ends VMX operation: the gate is heeded again.
    let mut m = g.machine();
    m.run(Limits::instructions(end.cpu.retired() - 8));
    assert!(m.cpu.in_vmx_operation() && m.world.map.a20_closed());
    m.reset();
    m.world.map.set_a20(false);
    assert_eq!(m.world.map.gated(GuestPhys(1 << 20)), GuestPhys(0));
}

#[test]
fn vmptrld_before_vmxon() {
    let mut g = Guest::flat();
    g.vmx_mode()
        .unlock()
        .vmptrld()
        .dies_of("vmx-not-on", "VMCLEAR at 0x00100058 is undefined outside VMX operation");
}

#[test]
fn vmlaunch_without_a_structure() {
    let mut g = Guest::flat();
    let report = g.vmx_mode().unlock().vmxon().run(&VMLAUNCH).run(&FAIL);
    report.dies_of("vm-entry-refused", "VMfailInvalid (CF=1). There is no current VMCS");
}

#[test]
fn vmresume_of_a_new_structure() {
    let mut g = Guest::flat();
    let report = g.hypervisor().run(&VMRESUME).run(&FAIL);
    report.dies_of(
        "vm-entry-refused",
        "VM-instruction error 5. The processor refused VMRESUME with a VMCS that is not",
    );
}

#[test]
fn default_1_controls_are_clear() {
    let mut g = Guest::flat();
    let report = g.hypervisor().run(&VMLAUNCH).run(&FAIL);
    let report = report
        .dies_of("vm-entry-refused", "bits 1, 2, 4 must be 1 (IA32_VMX_PINBASED_CTLS; SDM vol. 3, 26.2.1.1)");
    golden("vm-entry.txt", &explain(&report));
}

#[test]
fn the_guests_state_is_empty() {
    let mut g = Guest::flat();
    let report = g.hypervisor().controls_and_host().run(&VMLAUNCH).run(&FAIL);
    report.dies_of(
        "vm-entry-refused",
        "bits 0 (PE), 5 (NE), 31 (PG) must be 1 (IA32_VMX_CR0_FIXED0 and _FIXED1; SDM vol. 3",
    );
}

/// The host's MSRs cannot be loaded after the entry has failed.
#[test]
fn an_exit_that_cannot_be_completed() {
    let mut g = Guest::flat();
    g.hypervisor()
        .controls_and_host()
        .vmwrite(Field::ExitMsrLoadCount, 1)
        .vmwrite(Field::ExitMsrLoad, 0x8000);
    let report = g.dword(0x8000, 0x9b).run(&VMLAUNCH).dies_of(
        "vmx-abort",
        "could not be loaded (the exit's reason was 33, VM-entry failure: invalid guest state)",
    );
    assert!(report.what.starts_with("VMX abort, with EIP at"), "{}", report.what);
}

/// A refused entry is no death where the guest ends well; asked for, the report tells of it.
#[test]
fn a_guest_that_ends_well_has_no_post_mortem() {
    let mut g = Guest::flat();
    g.hypervisor().run(&VMLAUNCH).run(&[0xb0, 0, 0xe6, 0xf4]);
    assert_eq!(g.report(), None);
    let (machine, ending) = g.end();
    let report = any_report(&machine, &ending, &[], None);
    assert_eq!(report.diagnoses[0].rule, "vm-entry-refused");
    assert!(report.chain[0].walk[0].contains("0x00000000  <- has bits set or clear"), "{:?}", report.chain);
}

//! Machines in VMX non-root operation: how they rest, go on and end where no instruction runs (SDM vol. 3, 26.7 and
//! 27.7), and guests behind extended page tables (28.2).

use subring::addr::GuestPhys;
use subring::cpu::vmx::{Abort, Field, Operation, Pin, Reason, Secondary};
use subring::cpu::{Activity, Model, Segment};
use subring::decode::SegReg;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, Outcome};

/// A guest in real mode whose code, at 0:1000h, is `code`.
fn guest(code: &[u8], activity: Activity) -> Machine {
    let board = BoardConfig { cpu: Model::YonahEpt, ram_size: 1 << 20, ..BoardConfig::default() };
    let config = Config { ram_size: 1 << 20, board, bios: None, vga_bios: None };
    let mut machine = Machine::new(config).unwrap();
    machine.store(GuestPhys(0x1000), code);
    let cpu = &mut machine.cpu;
    cpu.set_seg(SegReg::Cs, Segment::real(0));
    (cpu.eip, cpu.activity) = (0x1000, activity);
    let vmx = cpu.vmx.as_mut().unwrap();
    (vmx.operation, vmx.current) = (Operation::NonRoot, Some(0x8000));
    vmx.controls.pin = Pin::TIMER;
    // The host's stack pointer tells whether the host goes on.
    vmx.vmcs.set(Field::HostRsp, 0x7770u32);
    machine
}

fn in_host(machine: &Machine) -> Option<Reason> {
    let vmx = machine.cpu.vmx.as_ref()?;
    (vmx.operation == Operation::Root).then(|| Reason::of(vmx.vmcs.get32(Field::ExitReason) as u16))?
}

#[test]
fn a_guest_in_shutdown_ends_the_run_and_the_timer_ends_the_shutdown() {
    for activity in [Activity::Shutdown, Activity::WaitForSipi] {
        let mut machine = guest(&[], activity);
        assert_eq!(machine.run(Limits::until(10_000)), Outcome::HaltedForever);
        assert_eq!(in_host(&machine), None);
    }
    for activity in [Activity::Shutdown, Activity::Halted] {
        let mut machine = guest(&[], activity);
        machine.cpu.vmx.as_mut().unwrap().timer = Some(500);
        machine.run(Limits::until(501));
        assert_eq!((in_host(&machine), machine.cpu.now), (Some(Reason::Timer), 500), "{activity:?}");
    }
    let mut machine = guest(&[], Activity::WaitForSipi);
    machine.cpu.vmx.as_mut().unwrap().timer = Some(500);
    assert_eq!(machine.run(Limits::until(10_000)), Outcome::HaltedForever);
}

#[test]
fn an_exit_that_cannot_be_completed_ends_the_run_with_the_reason() {
    // CPUID; the MSR-load area of the exit names an MSR that does not exist.
    let mut machine = guest(&[0x0f, 0xa2], Activity::Running);
    machine.store(GuestPhys(0x2000), &0x9999u32.to_le_bytes());
    let vmcs = &mut machine.cpu.vmx.as_mut().unwrap().vmcs;
    vmcs.set(Field::ExitMsrLoadCount, 1u32);
    vmcs.set(Field::ExitMsrLoad, 0x2000u32);
    let aborted = Outcome::VmxAbort(Abort::LoadingHostMsrs);
    assert_eq!(machine.run(Limits::until(10_000)), aborted);
    assert_eq!(machine.run(Limits::until(20_000)), aborted, "only a reset ends it");
    let mut indicator = [0; 4];
    machine.world.map.read(GuestPhys(0x8004), &mut indicator);
    assert_eq!(indicator, [4, 0, 0, 0]);
    machine.reset();
    assert_ne!(machine.run(Limits::until(20_001)), aborted);
}

/// An area of more entries than IA32_VMX_MISC recommends is read no further than that.
#[test]
fn an_area_without_end_is_not_read_to_its_end() {
    let mut machine = guest(&[0x0f, 0xa2], Activity::Running);
    for n in 0..600 {
        machine.store(GuestPhys(0x2_0000 + 16 * n), &0x174u32.to_le_bytes());
    }
    let vmcs = &mut machine.cpu.vmx.as_mut().unwrap().vmcs;
    vmcs.set(Field::ExitMsrStoreCount, u64::from(u32::MAX));
    vmcs.set(Field::ExitMsrStore, 0x2_0000u32);
    assert_eq!(machine.run(Limits::until(10_000)), Outcome::VmxAbort(Abort::SavingGuestMsrs));
}

/// Extended page tables at 10000h to 13FFFh. Of guest-physical memory only 1000h to 2FFFh is mapped: to 21000h as
/// `code`, and to 22000h as `data`.
fn nested(code: &[u8], code_rights: u32, data_rights: u32) -> Machine {
    let mut machine = guest(&[], Activity::Running);
    machine.store(GuestPhys(0x2_1000), code);
    machine.store(GuestPhys(0x2_2000), &[0x5a]);
    let entries = [
        (0x1_0000, 0x1_1007),
        (0x1_1000, 0x1_2007),
        (0x1_2000, 0x1_3007),
        (0x1_3008, 0x2_1030 | code_rights),
        (0x1_3010, 0x2_2030 | data_rights),
    ];
    for (at, entry) in entries {
        machine.store(GuestPhys(at), &u64::from(entry).to_le_bytes());
    }
    let vmx = machine.cpu.vmx.as_mut().unwrap();
    vmx.controls.secondary = Secondary::EPT | Secondary::UNRESTRICTED;
    vmx.vmcs.set(Field::EptPointer, 0x1_0000u32 | 3 << 3 | 6);
    machine
}

/// Runs to the exit: reason, qualification, guest-physical address, guest RIP.
fn exit_of(mut machine: Machine) -> (Option<Reason>, u32, u64, u32, Machine) {
    while in_host(&machine).is_none() && machine.cpu.now < 100 {
        let next = machine.cpu.retired() + 1;
        machine.run(Limits::instructions(next));
    }
    let vmcs = &machine.cpu.vmx.as_ref().unwrap().vmcs;
    let qualification = vmcs.get32(Field::ExitQualification);
    let (physical, rip) = (vmcs.get(Field::GuestPhysical), vmcs.get32(Field::GuestRip));
    (in_host(&machine), qualification, physical, rip, machine)
}

// MOV AL, [2000h]; INC AL; MOV [2000h], AL; CPUID
const UPDATE: &[u8] = &[0xa0, 0x00, 0x20, 0xfe, 0xc0, 0xa2, 0x00, 0x20, 0x0f, 0xa2];

#[test]
fn a_guest_reaches_the_frames_that_its_extended_page_tables_name() {
    let (reason, _, _, rip, machine) = exit_of(nested(UPDATE, 7, 3));
    assert_eq!((reason, rip), (Some(Reason::Cpuid), 0x1008));
    let mut byte = [0];
    machine.world.map.read(GuestPhys(0x2_2000), &mut byte);
    assert_eq!(byte, [0x5b]);
    assert_eq!(
        (machine.world.nested.walks, machine.world.nested.references),
        (2, 8),
        "code, and data: the write finds what the read left in the TLB"
    );
}

#[test]
fn what_extended_page_tables_refuse_exits_with_what_was_refused() {
    let (reason, qualification, physical, rip, machine) = exit_of(nested(UPDATE, 7, 1));
    assert_eq!(
        (reason, qualification),
        (Some(Reason::EptViolation), 0x18a),
        "a write to a page that can be read"
    );
    assert_eq!((physical, rip), (0x2000, 0x1005));
    assert_eq!(machine.cpu.vmx.as_ref().unwrap().vmcs.get32(Field::GuestLinear), 0x2000);
    let (reason, qualification, physical, rip, _) = exit_of(nested(UPDATE, 3, 3));
    assert_eq!((reason, qualification), (Some(Reason::EptViolation), 0x19c), "a fetch");
    assert_eq!((physical, rip), (0x1000, 0x1000));
    // MOV AL, [3000h]
    let (reason, qualification, physical, _, _) = exit_of(nested(&[0xa0, 0x00, 0x30], 7, 3));
    assert_eq!((reason, qualification, physical), (Some(Reason::EptViolation), 0x181, 0x3000));
    let (reason, _, physical, _, _) = exit_of(nested(UPDATE, 7, 2));
    assert_eq!(
        (reason, physical),
        (Some(Reason::EptMisconfiguration), 0x2000),
        "a page that can only be written"
    );
}

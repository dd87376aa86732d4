//! How a machine rests, goes on and ends in VMX operation, where no instruction runs (SDM vol. 3, 26.7 and 27.7).

use subring::addr::GuestPhys;
use subring::cpu::vmx::{Abort, Field, Operation, Pin, Reason};
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

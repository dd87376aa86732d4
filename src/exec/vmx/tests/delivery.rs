//! What an exit tells of the delivery of events, found by comparison with another processor model.

use super::{GUEST_STACK, HOST_ENTRY, Lab, VMLAUNCH, VMRESUME};
use crate::cpu::vmx::{Field, Reason};
use crate::cpu::{Activity, Fault, Shadow, gpr};
use crate::exec::event::{Event, Raised, raise};
use crate::exec::testing::step;
use crate::exec::vmx::{event, leave};

/// IRETD.
const IRET: &[u8] = &[0xcf];

impl Lab {
    /// Raises `event` in the guest; it ends in an exit.
    #[track_caller]
    fn exits_by(&mut self, event: Event) -> Reason {
        assert_eq!(raise(&mut self.cpu, &mut self.world, event, |_, _| {}), Ok(Raised::VmExit));
        leave::complete(&mut self.cpu, &mut self.world).unwrap();
        assert_eq!(self.cpu.eip, HOST_ENTRY);
        self.in_host().0
    }

    /// Raises what an instruction of the guest raises; that ends in an exit.
    #[track_caller]
    fn faults(&mut self, code: &[u8]) -> Reason {
        let fault = step(&mut self.cpu, &mut self.world, code).unwrap_err();
        self.exits_by(Event::Exception(fault))
    }

    /// A gate that is not present for `vector`.
    fn absent_gate(&mut self, vector: u32) {
        self.world.put(0x2000 + 8 * vector, &0x0000_0e00_0008_0000u64.to_le_bytes());
    }

    /// A present interrupt gate to 8:6000h for `vector`, and a flat code descriptor.
    fn gate(&mut self, vector: u32) {
        self.world.put(0x2000 + 8 * vector, &0x0000_8e00_0008_6000u64.to_le_bytes());
        self.world.put(0x1008, &0x00cf_9b00_0000_ffffu64.to_le_bytes());
    }
}

// SDM vol. 3, 27.2.3: a double fault that exits is not met during delivery
#[test]
fn a_double_fault_has_no_vectoring_information() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 8);
    lab.run(VMLAUNCH);
    lab.absent_gate(13);
    assert_eq!(lab.exits_by(Event::Exception(Fault::gp(0x58))), Reason::Exception);
    assert_eq!((lab.get(Field::ExitInterruption), lab.get(Field::ExitErrorCode)), (0x8000_0b08, 0));
    assert_eq!(lab.get(Field::IdtVectoring), 0);
}

// SDM vol. 3, 27.2.3
#[test]
fn a_triple_fault_has_no_vectoring_information() {
    let mut lab = Lab::root();
    lab.set(Field::GuestIdtrLimit, 0);
    lab.run(VMLAUNCH);
    assert_eq!(lab.exits_by(Event::Exception(Fault::GP0)), Reason::TripleFault);
    assert_eq!(lab.get(Field::IdtVectoring), 0);
}

// SDM vol. 3, 27.2.3: but a fault while an injected double fault is delivered is
#[test]
fn a_fault_of_an_injected_double_faults_delivery_has_vectoring_information() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 13).set(Field::GuestIdtrLimit, 0);
    lab.set(Field::EntryInterruption, 0x8000_0b08);
    lab.run(VMLAUNCH);
    let injected = event::take_injected(&mut lab.cpu).unwrap();
    assert_eq!(lab.exits_by(injected), Reason::Exception);
    assert_eq!(lab.get(Field::ExitInterruption), 0x8000_0b0d);
    assert_eq!(lab.get(Field::IdtVectoring), 0x8000_0b08);
}

// SDM vol. 3, 25.3, 27.1 and 27.2.2: NMI exiting 0
#[test]
fn an_iret_that_faults_ends_blocking_by_nmi_and_the_exit_says_so() {
    for (blocked, information) in [(8u64, 0x8000_1b0d), (0, 0x8000_0b0d)] {
        let mut lab = Lab::root();
        lab.set(Field::ExceptionBitmap, 1 << 13).set(Field::Interruptibility, blocked);
        lab.run(VMLAUNCH);
        lab.world.put(GUEST_STACK + 4, &0xf8u32.to_le_bytes());
        assert_eq!(lab.faults(IRET), Reason::Exception);
        assert_eq!(lab.get(Field::ExitInterruption), information);
        assert_eq!(lab.get(Field::Interruptibility), 0);
    }
}

// SDM vol. 3, 25.3: NMI exiting 1, virtual NMIs 0
#[test]
fn an_iret_leaves_blocking_by_nmi_alone_where_nmis_exit() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 13).set(Field::Interruptibility, 8).add(Field::PinControls, 8);
    lab.run(VMLAUNCH);
    lab.world.put(GUEST_STACK + 4, &0xf8u32.to_le_bytes());
    lab.faults(IRET);
    assert_eq!(lab.get(Field::Interruptibility), 8);
}

// SDM vol. 3, 25.3 and 27.2.2: virtual NMIs 1
#[test]
fn an_iret_that_faults_ends_virtual_nmi_blocking_and_the_exit_says_so() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 13).set(Field::Interruptibility, 8).add(Field::PinControls, 0x28);
    lab.run(VMLAUNCH);
    lab.world.put(GUEST_STACK + 4, &0xf8u32.to_le_bytes());
    lab.faults(IRET);
    assert_eq!(lab.get(Field::ExitInterruption), 0x8000_1b0d);
    assert_eq!(lab.get(Field::Interruptibility), 0);
}

// SDM vol. 3, 27.1: an event that causes an exit indirectly
#[test]
fn an_exit_during_delivery_finds_the_processor_awake_unshadowed_and_nmis_blocked() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 13).set(Field::GuestIdtrLimit, 0);
    lab.run(VMLAUNCH);
    lab.cpu.activity = Activity::Halted;
    lab.cpu.shadow = Shadow::STI;
    assert_eq!(lab.exits_by(Event::Nmi), Reason::Exception);
    assert_eq!(lab.get(Field::IdtVectoring), 0x8000_0202);
    assert_eq!((lab.get(Field::Activity), lab.get(Field::Interruptibility)), (0, 8));
}

// SDM vol. 3, 27.1: an event that causes an exit directly
#[test]
fn an_exit_by_an_event_itself_finds_the_processor_as_it_was() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 6);
    lab.run(VMLAUNCH);
    lab.cpu.shadow = Shadow::SS;
    assert_eq!(lab.exits_by(Event::Exception(Fault::UD)), Reason::Exception);
    assert_eq!(lab.get(Field::Interruptibility), 2);
}

// SDM vol. 3, 26.5.1.1 and vol. 2, INT n: a fault points at the instruction
#[test]
fn a_fault_of_an_injected_interrupts_delivery_points_at_its_instruction() {
    let mut lab = Lab::root();
    lab.absent_gate(0x30);
    lab.gate(11);
    lab.set(Field::GuestIdtrLimit, 0xfff);
    lab.set(Field::EntryInterruption, 0x8000_0430).set(Field::EntryLength, 2);
    lab.run(VMLAUNCH);
    let start = lab.cpu.eip;
    let injected = event::take_injected(&mut lab.cpu).unwrap();
    assert_eq!(raise(&mut lab.cpu, &mut lab.world, injected, |_, _| {}), Ok(Raised::Delivered));
    assert_eq!(lab.cpu.eip, 0x6000);
    let frame = lab.cpu.regs[gpr::ESP];
    assert_eq!([0, 2, 4].map(|n| u32::from(lab.world.word(frame + n))), [0x182, 0, start]);
}

// SDM vol. 3, 27.3.3 and 17.3.1.1: what the old TSS would have
#[test]
fn a_task_gates_exit_saves_the_resume_flag_of_the_event() {
    for (vector, flags) in [(6u32, 0x1_0002), (3, 2)] {
        let mut lab = Lab::root();
        lab.world.put(0x2000 + 8 * vector, &0x0000_8500_0020_0000u64.to_le_bytes());
        lab.world.put(0x1020, &0x0000_8900_3000_0067u64.to_le_bytes());
        lab.run(VMLAUNCH);
        let event = if vector == 6 { Event::Exception(Fault::UD) } else { Event::SoftwareVector(3) };
        assert_eq!(lab.exits_by(event), Reason::TaskSwitch);
        assert_eq!((lab.get(Field::ExitQualification), lab.get(Field::GuestRflags)), (0xc000_0020, flags));
    }
}

// SDM vol. 3, 25.1.3
#[test]
fn pause_exits_by_its_control() {
    let mut lab = Lab::root();
    lab.add(Field::PrimaryControls, 1 << 30);
    lab.run(VMLAUNCH);
    assert_eq!(lab.exits(&[0xf3, 0x90]), (Reason::Pause, 0, 2));
    lab.run(VMRESUME);
    lab.run(&[0x90]);
}

// SDM vol. 3, 26.3.1.5 and 26.7
#[test]
fn only_blocking_by_sti_tells_of_the_nmi_that_it_blocks() {
    for (blocked, qualification) in [(1u64, 3), (2, 0)] {
        let mut lab = Lab::root();
        lab.set(Field::GuestRflags, 0x202).set(Field::Interruptibility, blocked);
        lab.set(Field::EntryInterruption, 0x8000_0202);
        lab.run(VMLAUNCH);
        assert_eq!(lab.get(Field::ExitReason), 0x8000_0021);
        assert_eq!(lab.get(Field::ExitQualification), qualification);
    }
}

// SDM vol. 3, 26.2.1.3
#[test]
fn entries_outside_of_system_management_mode_are_not_for_it() {
    for bit in [1 << 10, 1 << 11] {
        let mut lab = Lab::root();
        lab.add(Field::EntryControls, bit);
        lab.fails(VMLAUNCH, 7);
    }
}

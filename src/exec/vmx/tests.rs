//! VMX on a flat, unpaged world: instructions, entry checks one by one, exits one by one.

mod checks;
mod delivery;

use super::event as vmx_event;
use super::leave;
use crate::cpu::vmx::caps::{Allowed, VmxCaps, YONAH_EPT};
use crate::cpu::vmx::field::{HOST_SELECTORS, SEGMENTS};
use crate::cpu::vmx::{Field, Operation, Reason, Vmx};
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, Fault, Features, gpr};
use crate::exec::event::{Event, Raised, raise};
use crate::exec::testing::{World, flat, step};

/// A processor with everything that is built.
const CAPS: VmxCaps = VmxCaps {
    primary: Allowed { must: 0x0400_6172, may: 0xf7e1_fffe },
    secondary: Some(Allowed { must: 0, may: 0xe6 }),
    debugctl: 3,
    ..YONAH_EPT
};

const VMXON_REGION: u32 = 0x1_0000;
const VMCS_REGION: u32 = 0x1_1000;
const HOST_ENTRY: u32 = 0x4000;
const GUEST_ENTRY: u32 = 0x5000;
const GUEST_STACK: u32 = 0x9000;
/// Where operands of instructions are.
const OPERAND: u32 = 0x600;

const VMXON: &[u8] = &[0xf3, 0x0f, 0xc7, 0x35, 0x00, 0x06, 0, 0];
const VMXOFF: &[u8] = &[0x0f, 0x01, 0xc4];
const VMCLEAR: &[u8] = &[0x66, 0x0f, 0xc7, 0x35, 0x00, 0x06, 0, 0];
const VMPTRLD: &[u8] = &[0x0f, 0xc7, 0x35, 0x00, 0x06, 0, 0];
const VMPTRST: &[u8] = &[0x0f, 0xc7, 0x3d, 0x00, 0x06, 0, 0];
const VMREAD_EAX_EDX: &[u8] = &[0x0f, 0x78, 0xd0];
const VMWRITE_EDX_EAX: &[u8] = &[0x0f, 0x79, 0xd0];
const VMLAUNCH: &[u8] = &[0x0f, 0x01, 0xc2];
const VMRESUME: &[u8] = &[0x0f, 0x01, 0xc3];
const VMCALL: &[u8] = &[0x0f, 0x01, 0xc1];

/// A processor and its memory.
struct Lab {
    cpu: Cpu,
    world: World,
}

impl Lab {
    /// Outside of VMX operation, with all that VMXON asks for.
    fn off() -> Self {
        let mut cpu = flat(0);
        cpu.vmx = Some(Box::new(Vmx::new(CAPS)));
        cpu.features |= Features::VMX;
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::NE | Cr0::ET;
        cpu.cr4 |= Cr4::VMXE;
        cpu.msrs.feature_control = 5;
        let mut world = World::new();
        for region in [VMXON_REGION, VMCS_REGION] {
            world.put(region, &CAPS.revision().to_le_bytes());
        }
        Self { cpu, world }
    }

    /// In root operation, with a current control structure that can be launched.
    fn root() -> Self {
        let mut lab = Self::off();
        lab.operand(u64::from(VMXON_REGION));
        lab.succeeds(VMXON);
        lab.operand(u64::from(VMCS_REGION));
        lab.succeeds(VMCLEAR);
        lab.succeeds(VMPTRLD);
        fill(lab.vmx());
        lab
    }

    /// A guest that runs, in 32-bit protected mode without paging's effects.
    fn guest() -> Self {
        let mut lab = Self::root();
        lab.run(VMLAUNCH);
        assert_eq!(lab.vmx().operation, Operation::NonRoot);
        assert_eq!(lab.cpu.eip, GUEST_ENTRY);
        lab
    }

    fn vmx(&mut self) -> &mut Vmx {
        self.cpu.vmx.as_mut().unwrap()
    }

    fn set(&mut self, field: Field, value: u64) -> &mut Self {
        self.vmx().vmcs.set(field, value);
        self
    }

    fn add(&mut self, field: Field, bits: u32) -> &mut Self {
        let old = self.vmx().vmcs.get(field);
        self.set(field, old | u64::from(bits))
    }

    fn get(&self, field: Field) -> u32 {
        self.cpu.vmx.as_ref().unwrap().vmcs.get32(field)
    }

    fn operand(&mut self, value: u64) {
        self.world.put(OPERAND, &value.to_le_bytes());
    }

    fn run(&mut self, code: &[u8]) {
        assert_eq!(step(&mut self.cpu, &mut self.world, code), Ok(()), "{code:x?}");
    }

    fn succeeds(&mut self, code: &[u8]) {
        self.run(code);
        assert!(!self.cpu.eflags().intersects(Eflags::CF | Eflags::ZF), "{code:x?}: error {}", self.error());
    }

    fn error(&self) -> u32 {
        self.get(Field::InstructionError)
    }

    fn fails(&mut self, code: &[u8], error: u32) {
        self.run(code);
        assert!(self.cpu.eflags().contains(Eflags::ZF), "{code:x?}");
        assert_eq!(self.error(), error);
    }

    fn fails_invalid(&mut self, code: &[u8]) {
        self.run(code);
        assert!(self.cpu.eflags().contains(Eflags::CF), "{code:x?}");
    }

    /// Runs an instruction of the guest that exits, and completes the exit.
    fn exits(&mut self, code: &[u8]) -> (Reason, u32, u32) {
        let at = self.cpu.eip;
        assert_eq!(step(&mut self.cpu, &mut self.world, code), Err(Fault::VM_EXIT), "{code:x?}");
        leave::complete(&mut self.cpu, &mut self.world).unwrap();
        assert_eq!(self.get(Field::GuestRip), at);
        self.in_host()
    }

    fn in_host(&mut self) -> (Reason, u32, u32) {
        assert_eq!(self.vmx().operation, Operation::Root);
        assert_eq!((self.cpu.eip, self.cpu.regs[gpr::ESP]), (HOST_ENTRY, 0x7000));
        let reason = Reason::of(self.get(Field::ExitReason) as u16).unwrap();
        (reason, self.get(Field::ExitQualification), self.get(Field::ExitLength))
    }
}

/// Fields with which an entry succeeds.
fn fill(vmx: &mut Vmx) {
    let caps = vmx.caps;
    let vmcs = &mut vmx.vmcs;
    for (field, value) in [
        (Field::PinControls, caps.pin.must),
        (Field::PrimaryControls, caps.primary.must),
        (Field::ExitControls, caps.exit.must),
        (Field::EntryControls, caps.entry.must),
        (Field::HostCr0, 0x8000_0031),
        (Field::HostCr4, 0x2000),
        (Field::HostRip, HOST_ENTRY),
        (Field::HostRsp, 0x7000),
        (Field::GuestCr0, 0x8000_0031),
        (Field::GuestCr4, 0x2000),
        (Field::GuestRip, GUEST_ENTRY),
        (Field::GuestRsp, GUEST_STACK),
        (Field::GuestRflags, 2),
        (Field::GuestDr7, 0x400),
        (Field::GuestGdtrLimit, 0xff),
        (Field::GuestIdtrLimit, 0x7ff),
        (Field::GuestIdtrBase, 0x2000),
        (Field::GuestGdtrBase, 0x1000),
    ] {
        vmcs.set(field, value);
    }
    vmcs.set(Field::LinkPointer, u64::MAX);
    for field in HOST_SELECTORS.into_iter().chain([Field::HostTr]) {
        vmcs.set(field, 0x10u32);
    }
    for (n, fields) in SEGMENTS.into_iter().enumerate() {
        let (selector, rights, limit) = match n {
            1 => (8u32, 0xc09bu32, !0u32),
            6 => (0, 0x1_0000, 0),
            7 => (0x18, 0x8b, 0x67),
            _ => (0x10, 0xc093, !0),
        };
        vmcs.set(fields.selector, selector);
        vmcs.set(fields.rights, rights);
        vmcs.set(fields.limit, limit);
    }
}

#[test]
fn without_the_extensions_every_instruction_is_undefined() {
    let mut lab = Lab::root();
    lab.cpu.vmx = None;
    for code in [
        VMXON,
        VMXOFF,
        VMCLEAR,
        VMPTRLD,
        VMPTRST,
        VMREAD_EAX_EDX,
        VMWRITE_EDX_EAX,
        VMLAUNCH,
        VMRESUME,
        VMCALL,
    ] {
        assert_eq!(step(&mut lab.cpu, &mut lab.world, code), Err(Fault::UD), "{code:x?}");
    }
}

#[test]
fn vmxon_wants_its_enable_its_fixed_bits_and_its_region() {
    let fault = |change: fn(&mut Lab)| {
        let mut lab = Lab::off();
        lab.operand(u64::from(VMXON_REGION));
        change(&mut lab);
        step(&mut lab.cpu, &mut lab.world, VMXON)
    };
    assert_eq!(fault(|lab| lab.cpu.cr4 -= Cr4::VMXE), Err(Fault::UD));
    assert_eq!(fault(|lab| lab.cpu.cr0 -= Cr0::NE), Err(Fault::GP0));
    assert_eq!(fault(|lab| lab.cpu.cr0 -= Cr0::PG), Err(Fault::GP0));
    assert_eq!(fault(|lab| lab.cpu.msrs.feature_control = 4), Err(Fault::GP0));
    assert_eq!(fault(|lab| lab.cpu.msrs.feature_control = 1), Err(Fault::GP0));
    assert_eq!(fault(|lab| lab.cpu.set_cpl(3)), Err(Fault::GP0));
    assert_eq!(fault(|lab| lab.world.a20m = true), Err(Fault::GP0));
    assert_eq!(fault(|_| {}), Ok(()));
    for bad in [u64::from(VMXON_REGION) + 8, 1 << 32 | u64::from(VMXON_REGION), 0x2_0000] {
        let mut lab = Lab::off();
        lab.operand(bad);
        lab.fails_invalid(VMXON);
        assert_eq!(lab.vmx().operation, Operation::Off);
    }
    let mut lab = Lab::root();
    lab.fails(VMXON, 15);
    // In A20M mode it is refused before entry alone: within VMX operation A20M# is blocked.
    lab.world.a20m = true;
    assert!(lab.world.a20m_blocked);
    lab.fails(VMXON, 15);
    lab.succeeds(VMXOFF);
    assert!(!lab.world.a20m_blocked);
}

#[test]
fn pointers_are_loaded_stored_and_cleared() {
    let mut lab = Lab::root();
    lab.operand(0);
    lab.succeeds(VMPTRST);
    assert_eq!(lab.world.memory[OPERAND as usize..][..8], u64::from(VMCS_REGION).to_le_bytes());
    lab.operand(u64::from(VMXON_REGION));
    lab.fails(VMPTRLD, 10);
    lab.fails(VMCLEAR, 3);
    lab.operand(u64::from(VMCS_REGION) + 1);
    lab.fails(VMPTRLD, 9);
    lab.fails(VMCLEAR, 2);
    lab.operand(0x2_0000);
    lab.fails(VMPTRLD, 11);
    lab.operand(u64::from(VMCS_REGION));
    lab.succeeds(VMCLEAR);
    lab.succeeds(VMPTRST);
    assert_eq!(lab.world.memory[OPERAND as usize..][..8], u64::MAX.to_le_bytes());
    lab.fails_invalid(VMLAUNCH);
    lab.fails_invalid(VMREAD_EAX_EDX);
    // The data is in memory.
    lab.operand(u64::from(VMCS_REGION));
    lab.succeeds(VMPTRLD);
    assert_eq!(lab.get(Field::GuestRip), GUEST_ENTRY);
}

#[test]
fn fields_are_read_and_written_by_encoding() {
    let mut lab = Lab::root();
    let mut access = |code: &[u8], encoding: u32, value: u32, error: Option<u32>| {
        lab.cpu.regs[gpr::EDX] = encoding;
        lab.cpu.regs[gpr::EAX] = value;
        match error {
            Some(error) => lab.fails(code, error),
            None => lab.succeeds(code),
        }
        lab.cpu.regs[gpr::EAX]
    };
    access(VMWRITE_EDX_EAX, 0x2010, 0x89ab_cdef, None);
    access(VMWRITE_EDX_EAX, 0x2011, 0x0123_4567, None);
    assert_eq!(access(VMREAD_EAX_EDX, 0x2010, 0, None), 0x89ab_cdef);
    assert_eq!(access(VMREAD_EAX_EDX, 0x2011, 0, None), 0x0123_4567);
    access(VMWRITE_EDX_EAX, 0x0802, 0x1234_5678, None);
    assert_eq!(access(VMREAD_EAX_EDX, 0x0802, 0, None), 0x5678);
    access(VMWRITE_EDX_EAX, 0x4402, 0, Some(13));
    access(VMWRITE_EDX_EAX, 0x6c18, 0, Some(12));
    access(VMREAD_EAX_EDX, 0x4403, 0, Some(12));
}

#[test]
fn launching_and_resuming_heed_the_launch_state() {
    let mut lab = Lab::root();
    lab.fails(VMRESUME, 5);
    lab.run(VMLAUNCH);
    assert_eq!(lab.exits(&[0x0f, 0xa2]), (Reason::Cpuid, 0, 2));
    lab.fails(VMLAUNCH, 4);
    lab.set(Field::GuestRip, u64::from(GUEST_ENTRY) + 2);
    lab.run(VMRESUME);
    assert_eq!(lab.cpu.eip, GUEST_ENTRY + 2);
    let mut lab = Lab::root();
    lab.succeeds(VMXOFF);
    assert_eq!(step(&mut lab.cpu, &mut lab.world, VMLAUNCH), Err(Fault::UD));
}

fn secondary(lab: &mut Lab, bits: u32) -> &mut Lab {
    lab.add(Field::PrimaryControls, 1 << 31).set(Field::SecondaryControls, u64::from(bits))
}

#[test]
fn failed_entries_end_by_stage() {
    let mut lab = Lab::root();
    lab.set(Field::Cr3TargetCount, 9);
    lab.fails(VMLAUNCH, 7);
    lab.set(Field::Cr3TargetCount, 0).set(Field::HostCr0, 0);
    lab.fails(VMLAUNCH, 8);
    lab.set(Field::HostCr0, 0x8000_0031).set(Field::LinkPointer, 1);
    lab.run(VMLAUNCH);
    assert_eq!(lab.get(Field::ExitReason), 0x8000_0021);
    assert_eq!(lab.get(Field::ExitQualification), 4);
    assert_eq!(lab.cpu.eip, HOST_ENTRY);
    assert!(!lab.vmx().vmcs.launched);
    // An MSR that cannot be loaded.
    let mut lab = Lab::root();
    lab.set(Field::EntryMsrLoadCount, 2).set(Field::EntryMsrLoad, 0x3_0000);
    lab.world.put(0x3_0000, &0x174u32.to_le_bytes());
    lab.world.put(0x3_0010, &0x9999u32.to_le_bytes());
    lab.run(VMLAUNCH);
    assert_eq!((lab.get(Field::ExitReason), lab.get(Field::ExitQualification)), (0x8000_0022, 2));
}

#[test]
fn instructions_exit_by_their_controls() {
    let cases: &[(&[u8], u32, Reason, u32)] = &[
        (&[0xf4], 1 << 7, Reason::Hlt, 0),
        (&[0x0f, 0x01, 0x3d, 0x00, 0x08, 0, 0], 1 << 9, Reason::Invlpg, 0x800),
        (&[0x0f, 0x33], 1 << 11, Reason::Rdpmc, 0),
        (&[0x0f, 0x31], 1 << 12, Reason::Rdtsc, 0),
        (&[0x0f, 0x22, 0xdb], 1 << 15, Reason::ControlRegister, 0x303),
        (&[0x0f, 0x20, 0xd9], 1 << 16, Reason::ControlRegister, 0x113),
        (&[0x0f, 0x23, 0xf8], 1 << 23, Reason::MovDr, 0x007),
        (&[0x0f, 0x21, 0xf3], 1 << 23, Reason::MovDr, 0x316),
        (&[0xe4, 0x60], 1 << 24, Reason::Io, 0x0060_0048),
        (&[0xef], 1 << 24, Reason::Io, 0x0123_0003),
        (&[0x0f, 0x32], 0, Reason::Rdmsr, 0),
        (&[0x0f, 0x30], 0, Reason::Wrmsr, 0),
        (&[0x0f, 0x08], 0, Reason::Invd, 0),
        (&[0x0f, 0x01, 0xc1], 0, Reason::Vmcall, 0),
        (VMXOFF, 0, Reason::Vmxoff, 0),
        (VMPTRLD, 0, Reason::Vmptrld, OPERAND),
    ];
    for (code, control, reason, qualification) in cases {
        let mut lab = Lab::root();
        lab.add(Field::PrimaryControls, *control);
        lab.run(VMLAUNCH);
        lab.cpu.regs[gpr::EDX] = 0x123;
        assert_eq!(lab.exits(code), (*reason, *qualification, code.len() as u32), "{code:x?}");
    }
}

#[test]
fn privilege_faults_come_before_exits() {
    let mut lab = Lab::root();
    lab.add(Field::PrimaryControls, 1 << 7);
    lab.run(VMLAUNCH);
    lab.cpu.set_cpl(3);
    assert_eq!(step(&mut lab.cpu, &mut lab.world, &[0xf4]), Err(Fault::GP0));
    assert_eq!(step(&mut lab.cpu, &mut lab.world, &[0x0f, 0x32]), Err(Fault::GP0));
}

#[test]
fn host_owned_bits_of_cr0_are_read_from_the_shadow() {
    let mut lab = Lab::root();
    lab.set(Field::Cr0Mask, 0x0000_0008).set(Field::Cr0Shadow, 0x0000_0008);
    lab.run(VMLAUNCH);
    lab.run(&[0x0f, 0x20, 0xc0]);
    assert_eq!(lab.cpu.regs[gpr::EAX], 0x8000_0039, "TS as its shadow");
    lab.cpu.regs[gpr::EAX] |= 2;
    lab.run(&[0x0f, 0x22, 0xc0]);
    assert_eq!(lab.cpu.cr0.bits() & 10, 2, "MP is the guest's, TS stays");
    assert_eq!(lab.exits(&[0x0f, 0x06]), (Reason::ControlRegister, 0x20, 2), "CLTS");
    lab.run(VMRESUME);
    lab.cpu.regs[gpr::EAX] = 0x8000_0031;
    assert_eq!(lab.exits(&[0x0f, 0x22, 0xc0]), (Reason::ControlRegister, 0, 3));
}

#[test]
fn vmx_operation_fixes_bits() {
    let mut lab = Lab::root();
    lab.cpu.regs[gpr::EAX] = 0x31;
    assert_eq!(step(&mut lab.cpu, &mut lab.world, &[0x0f, 0x22, 0xc0]), Err(Fault::GP0));
    lab.cpu.regs[gpr::EAX] = 0;
    assert_eq!(step(&mut lab.cpu, &mut lab.world, &[0x0f, 0x22, 0xe0]), Err(Fault::GP0));
}

#[test]
fn exceptions_exit_by_the_bitmap() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 14 | 1 << 3);
    lab.set(Field::PageFaultMask, 2).set(Field::PageFaultMatch, 2);
    lab.run(VMLAUNCH);
    lab.cpu.cr2 = 0x1111;
    let fault = Fault::page(0x1234_5000, 2);
    let raised = raise(&mut lab.cpu, &mut lab.world, Event::Exception(fault), |_, _| {});
    assert_eq!(raised, Ok(Raised::VmExit));
    leave::complete(&mut lab.cpu, &mut lab.world).unwrap();
    assert_eq!(lab.in_host(), (Reason::Exception, 0x1234_5000, 0));
    assert_eq!((lab.get(Field::ExitInterruption), lab.get(Field::ExitErrorCode)), (0x8000_0b0e, 2));
    assert_eq!((lab.cpu.cr2, lab.get(Field::GuestRflags)), (0x1111, 0x1_0002));
    // A read does not match; INT3 exits with its length.
    lab.run(VMRESUME);
    assert!(!vmx_event::exits(&mut lab.cpu, Event::Exception(Fault::page(0x5000, 0)), 0));
    assert_eq!(lab.exits(&[0xcc]), (Reason::Exception, 0, 1));
    assert_eq!(lab.get(Field::ExitInterruption), 0x8000_0603);
}

#[test]
fn a_fault_while_an_event_is_delivered_is_told_with_the_event() {
    let mut lab = Lab::root();
    lab.set(Field::ExceptionBitmap, 1 << 11).set(Field::GuestIdtrLimit, 0xfff);
    lab.run(VMLAUNCH);
    // The gate of vector 30h is absent.
    lab.world.put(0x2000 + 8 * 0x30, &0x0000_0e00_0008_0000u64.to_le_bytes());
    let code = [0xcd, 0x30];
    let fault = step(&mut lab.cpu, &mut lab.world, &code).unwrap_err();
    assert_eq!(fault, Fault::np(0x182));
    let raised = raise(&mut lab.cpu, &mut lab.world, Event::Exception(fault), |_, _| {});
    assert_eq!(raised, Ok(Raised::VmExit));
    leave::complete(&mut lab.cpu, &mut lab.world).unwrap();
    assert_eq!(lab.in_host(), (Reason::Exception, 0, 2));
    assert_eq!(lab.get(Field::ExitInterruption), 0x8000_0b0b);
    assert_eq!(lab.get(Field::IdtVectoring), 0x8000_0430);
}

#[test]
fn three_faults_exit_instead_of_shutting_down() {
    let mut lab = Lab::root();
    lab.set(Field::GuestIdtrLimit, 0);
    lab.run(VMLAUNCH);
    let raised = raise(&mut lab.cpu, &mut lab.world, Event::Exception(Fault::GP0), |_, _| {});
    assert_eq!(raised, Ok(Raised::VmExit));
    leave::complete(&mut lab.cpu, &mut lab.world).unwrap();
    assert_eq!(lab.in_host().0, Reason::TripleFault);
}

#[test]
fn an_injected_event_is_delivered_with_its_error_code() {
    let mut lab = Lab::root();
    // A present 32-bit interrupt gate to 8:6000h, and a flat code descriptor.
    lab.world.put(0x2000 + 8 * 14, &0x0000_8e00_0008_6000u64.to_le_bytes());
    lab.world.put(0x1008, &0x00cf_9b00_0000_ffffu64.to_le_bytes());
    lab.set(Field::EntryInterruption, 0x8000_0b0e).set(Field::EntryErrorCode, 6);
    lab.run(VMLAUNCH);
    let event = vmx_event::take_injected(&mut lab.cpu).unwrap();
    let raised = raise(&mut lab.cpu, &mut lab.world, event, |_, _| {});
    assert_eq!(raised, Ok(Raised::Delivered));
    assert_eq!((lab.cpu.eip, lab.cpu.regs[gpr::ESP]), (0x6000, GUEST_STACK - 16));
    assert_eq!(lab.world.word(GUEST_STACK - 16), 6);
    assert_eq!(lab.cpu.cr2, 0);
}

#[test]
fn the_guest_comes_back_as_it_was_left() {
    let mut lab = Lab::root();
    for (n, fields) in SEGMENTS.into_iter().enumerate().take(6) {
        lab.set(fields.base, if n == 1 { 0 } else { 0x10 * n as u64 });
    }
    lab.run(VMLAUNCH);
    let before = lab.cpu.clone();
    lab.exits(&[0x0f, 0xa2]);
    lab.run(VMRESUME);
    let mut after = lab.cpu.clone();
    (after.now, after.vmx) = (before.now, before.vmx.clone());
    assert_eq!(after, before);
}

#[test]
fn guests_of_the_default_kind_run() {
    let mut lab = Lab::guest();
    lab.run(&[0xb8, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!(lab.cpu.regs[gpr::EAX], 0x1234_5678);
}

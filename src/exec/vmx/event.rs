//! Events in non-root operation: which of them cause VM exits instead of being delivered, what an exit tells
//! of one that was being delivered, and the injection of events (SDM vol. 3, 25.2, 26.6, 27.2).

use super::{guest, guest_mut, request};
use crate::cpu::event::Event;
use crate::cpu::vmx::{EventType, Exit, ExitControls, Field, Interruption, Pin, Reason};
use crate::cpu::{Activity, Cpu, Eflags, Fault, Vector};

/// Debug-exception bits of an exit qualification: the breakpoints, BD and BS.
const DEBUG_BITS: u32 = 0x600f;

/// What interruption information says of `event`.
pub fn interruption(event: Event) -> Interruption {
    let kind = match event {
        Event::Exception(_) => EventType::HardwareException,
        Event::Software(_) => EventType::SoftwareException,
        Event::SoftwareVector(_) => EventType::SoftwareInterrupt,
        Event::PrivilegedSoftware(_) => EventType::PrivilegedSoftwareException,
        Event::External(_) => EventType::External,
        Event::Nmi => EventType::Nmi,
        Event::Injected(event) => return event,
    };
    let code = match event {
        Event::Exception(fault) => fault.code().map(u32::from),
        _ => None,
    };
    Interruption { code, ..Interruption::new(event.vector(), kind) }
}

/// Whether the exception bitmap sends `fault` to the hypervisor (SDM vol. 3, 25.2).
fn intercepted(cpu: &Cpu, fault: Fault) -> bool {
    let Some(vmx) = guest(cpu) else { return false };
    let bit = vmx.vmcs.get32(Field::ExceptionBitmap) >> fault.vector() & 1 != 0;
    if !fault.is(Vector::Pf) {
        return bit;
    }
    let code = u32::from(fault.code().unwrap_or(0));
    let matches = code & vmx.vmcs.get32(Field::PageFaultMask) == vmx.vmcs.get32(Field::PageFaultMatch);
    bit == matches
}

/// Notes the exit that `event`, an exception, causes instead of being delivered, if it does. `length` is that
/// of the instruction, for INT3, INTO and INT1. Neither CR2 nor DR6 is changed (SDM vol. 3, 27.1).
pub fn exits(cpu: &mut Cpu, event: Event, length: u8) -> bool {
    let fault = match event {
        Event::Exception(fault) | Event::Software(fault) | Event::PrivilegedSoftware(fault) => fault,
        _ => return false,
    };
    let unblocked_nmi = guest_mut(cpu).is_some_and(|vmx| std::mem::take(&mut vmx.unblocked_nmi));
    if !intercepted(cpu, fault) {
        return false;
    }
    if fault.is(Vector::Df) {
        forget_delivery(cpu);
    }
    let qualification = fault.address().unwrap_or(fault.dr6() & DEBUG_BITS);
    let faults = matches!(event, Event::Exception(_)) && !fault.is(Vector::Db) && !fault.is(Vector::Df);
    request(
        cpu,
        Exit {
            interruption: Some(Interruption { unblocked_nmi, ..interruption(event) }),
            length,
            resume_flag: faults,
            ..Exit::new(Reason::Exception, qualification)
        },
    );
    true
}

/// A double fault or a triple fault does not count as met during delivery of the event that led to it (SDM
/// vol. 3, 27.2.3).
fn forget_delivery(cpu: &mut Cpu) {
    if let Some(vmx) = guest_mut(cpu) {
        vmx.vectoring = None;
    }
}

/// Notes that delivery of `event` begins: the processor is awake, and an NMI blocks the next one, whether the
/// handler is reached or an exit comes first (SDM vol. 3, 27.1).
#[inline]
pub fn begin(cpu: &mut Cpu, event: Event) {
    let Some(vmx) = guest_mut(cpu) else { return };
    let interruption = interruption(event);
    vmx.vectoring = Some((interruption, vmx.length));
    if interruption.kind == EventType::Nmi {
        block_nmi(cpu);
    }
    cpu.activity = Activity::Running;
}

/// An NMI's handler is to run: the next NMI waits for IRET. Under "virtual NMIs" that is the guest's own
/// affair.
pub fn block_nmi(cpu: &mut Cpu) {
    match guest_mut(cpu).filter(|vmx| vmx.controls.pin.contains(Pin::VIRTUAL_NMIS)) {
        Some(vmx) => vmx.virtual_nmi_blocked = true,
        None => cpu.nmi_blocked = true,
    }
}

/// Notes that delivery succeeded.
#[inline]
pub fn end(cpu: &mut Cpu) {
    if let Some(vmx) = guest_mut(cpu) {
        (vmx.vectoring, vmx.injected_from) = (None, None);
    }
}

/// Notes the length of the software interrupt that runs.
#[inline]
pub fn note_length(cpu: &mut Cpu, length: u8) {
    if let Some(vmx) = guest_mut(cpu) {
        vmx.length = length;
    }
}

/// Whether external interrupts cause exits.
pub fn external_exits(cpu: &Cpu) -> bool {
    super::under_pin(cpu, Pin::EXTERNAL_INTERRUPT)
}

/// Whether maskable interrupts are taken: IF lets them through, or they cause exits whatever IF is. Neither
/// holds in shutdown or in the wait for a start-up interrupt.
pub fn takes_interrupts(cpu: &Cpu) -> bool {
    let awake = matches!(cpu.activity, Activity::Running | Activity::Halted);
    awake && (cpu.system_flags.contains(Eflags::IF) || external_exits(cpu))
}

/// Whether NMIs cause exits.
pub fn nmi_exits(cpu: &Cpu) -> bool {
    super::under_pin(cpu, Pin::NMI)
}

/// The exit of an external interrupt; `acknowledge` fetches its vector from the interrupt controller, where
/// the controls ask for that.
pub fn external(cpu: &mut Cpu, acknowledge: impl FnOnce() -> u8) {
    let acknowledges = guest(cpu).is_some_and(|vmx| vmx.controls.exit.contains(ExitControls::ACKNOWLEDGE));
    let interruption = acknowledges.then(|| Interruption::new(acknowledge(), EventType::External));
    request(cpu, Exit { interruption, ..Exit::new(Reason::ExternalInterrupt, 0) });
}

/// The exit of a non-maskable interrupt.
pub fn nmi(cpu: &mut Cpu) {
    let interruption = Some(Interruption::new(Vector::Nmi as u8, EventType::Nmi));
    request(cpu, Exit { interruption, ..Exit::new(Reason::Exception, 0) });
}

/// The exit of a triple fault.
pub fn triple_fault(cpu: &mut Cpu) {
    forget_delivery(cpu);
    request(cpu, Exit::new(Reason::TripleFault, 0));
}

/// The event that the last entry injects, if it has not been delivered yet. Of an event that an instruction
/// caused, EIP is that of the next one.
pub fn take_injected(cpu: &mut Cpu) -> Option<Event> {
    let eip = cpu.eip;
    let vmx = guest_mut(cpu)?;
    let (event, length) = vmx.injected.take()?;
    if event.kind.has_length() {
        vmx.length = length;
        vmx.injected_from = Some(eip);
        cpu.eip = eip.wrapping_add(u32::from(length));
    }
    Some(Event::Injected(event))
}

/// Puts EIP back to where the injected event's instruction is, for an exit or another fault during its
/// delivery.
pub fn rewind_injected(cpu: &mut Cpu) {
    if let Some(vmx) = guest_mut(cpu)
        && let Some(eip) = vmx.injected_from.take()
    {
        cpu.eip = eip;
    }
}

//! VMX: entries, exits, and what non-root operation makes of instructions and events (SDM vol. 3, 25 to 27).
//! The instructions themselves are in `ops::vmx`, the state in [`crate::cpu::vmx`].
//!
//! An instruction that causes a VM exit notes it in [`Vmx::exit`] and returns [`Fault::VM_EXIT`]: like a fault
//! it has committed nothing. Whoever runs the processor then completes the exit: on the bare machine
//! [`leave::complete`] saves the guest and loads the host; a monitor of ours takes the [`Exit`] as a value.

pub mod checks;
pub mod entry;
pub mod event;
pub mod intercept;
pub mod leave;
mod msr_areas;
pub mod state;

#[cfg(test)]
mod tests;

use crate::clock::Ticks;
use crate::cpu::vmx::{Exit, Field, Pin, Primary, Reason, Secondary, Vmx};
use crate::cpu::{Activity, Cpu, Eflags, Fault, Special};
use crate::mmu::two_dimensional::Refused;

/// The VMX state, if a guest runs in non-root operation.
#[inline]
pub fn guest(cpu: &Cpu) -> Option<&Vmx> {
    cpu.vmx.as_deref().filter(|vmx| vmx.non_root())
}

/// As [`guest`], to change.
#[inline]
pub fn guest_mut(cpu: &mut Cpu) -> Option<&mut Vmx> {
    cpu.vmx.as_deref_mut().filter(|vmx| vmx.non_root())
}

/// Whether a guest runs under these primary controls.
#[inline]
pub fn under(cpu: &Cpu, controls: Primary) -> bool {
    guest(cpu).is_some_and(|vmx| vmx.controls.primary.contains(controls))
}

/// Whether a guest runs under these pin-based controls.
#[inline]
pub fn under_pin(cpu: &Cpu, controls: Pin) -> bool {
    guest(cpu).is_some_and(|vmx| vmx.controls.pin.contains(controls))
}

/// The EPT pointer of the guest that runs, if extended page tables translate for it.
#[inline]
pub fn ept_pointer(cpu: &Cpu) -> Option<u64> {
    let vmx = guest(cpu)?;
    vmx.controls.secondary.contains(Secondary::EPT).then(|| vmx.vmcs.get(Field::EptPointer))
}

/// Whether the guest that was entered last has a virtual-processor identifier of its own.
pub fn has_vpid(cpu: &Cpu) -> bool {
    cpu.vmx.as_ref().is_some_and(|vmx| vmx.controls.secondary.contains(Secondary::VPID))
}

/// The exit that an access causes which extended page tables refuse.
pub fn ept_exit(refused: &Refused) -> Exit {
    let reason = match refused.qualification {
        Some(_) => Reason::EptViolation,
        None => Reason::EptMisconfiguration,
    };
    Exit {
        linear: refused.linear.map(|at| at.0),
        physical: Some(u64::from(refused.at.0)),
        resume_flag: true,
        ..Exit::new(reason, refused.qualification.unwrap_or(0))
    }
}

/// Notes the exit that is due, and returns what the semantics return for it.
pub fn request(cpu: &mut Cpu, exit: Exit) -> Fault {
    if let Some(vmx) = &mut cpu.vmx {
        vmx.exit = Some(exit);
    }
    Fault::VM_EXIT
}

/// What is due in non-root operation before the next instruction, apart from interrupts. The timer and an open
/// NMI window end shutdown, too; an interrupt window does not; nothing ends the wait for a start-up interrupt
/// (SDM vol. 3, 26.7.2 to 26.7.6).
pub fn due_before_instruction(cpu: &Cpu) -> Option<Exit> {
    let vmx = guest(cpu).filter(|_| cpu.activity != Activity::WaitForSipi)?;
    if vmx.timer.is_some_and(|at| cpu.now >= at) {
        return Some(Exit::new(Reason::Timer, 0));
    }
    let blocked = cpu.special.intersects(Special::STI_SHADOW | Special::SS_SHADOW);
    let primary = vmx.controls.primary;
    if primary.contains(Primary::NMI_WINDOW) && !vmx.virtual_nmi_blocked && !blocked {
        return Some(Exit::new(Reason::NmiWindow, 0));
    }
    let awake = cpu.activity != Activity::Shutdown;
    let open = cpu.system_flags.contains(Eflags::IF) && !blocked && awake;
    (primary.contains(Primary::INTERRUPT_WINDOW) && open).then_some(Exit::new(Reason::InterruptWindow, 0))
}

/// When the VMX-preemption timer ends the guest's rest, if ever.
pub fn timer(cpu: &Cpu) -> Option<Ticks> {
    guest(cpu).filter(|_| cpu.activity != Activity::WaitForSipi)?.timer
}

/// The tick at which something of non-root operation is next due, or has to be looked at.
pub fn next_look(cpu: &Cpu) -> Option<Ticks> {
    let vmx = guest(cpu)?;
    let windows = Primary::NMI_WINDOW | Primary::INTERRUPT_WINDOW;
    if vmx.controls.primary.intersects(windows) {
        return Some(cpu.now + 1);
    }
    vmx.timer
}

//! VM entries (SDM vol. 3, 26).

use super::checks::{self, Checked, Failure, Stage};
use super::{leave, msr_areas, state};
use crate::cpu::vmx::field::PDPTES;
use crate::cpu::vmx::refusal::Refusal;
use crate::cpu::vmx::{Controls, Exit, Field, Interruption, Operation, Pin, Reason, Secondary};
use crate::cpu::{Cpu, Cr0, Cr4};
use crate::exec::{Env, pointers};

/// What became of a VM entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The guest runs.
    Guest,
    /// The controls or the host's state are wrong, and the entry is a VMfail; or the guest's state is wrong, and
    /// the host goes on at its RIP, as after an exit.
    Refused(Refusal),
}

/// The first check that the current control structure fails, if any.
pub fn first_failure<E: Env>(cpu: &Cpu, env: &mut E) -> Option<Failure> {
    let vmx = cpu.vmx.as_deref()?;
    let mut read = |at| env.read_physical(cpu, at);
    let mut on = Checked::new(vmx, &mut read);
    checks::before_guest(&mut on).and_then(|()| checks::guest_state(&mut on)).err()
}

/// Enters the guest of the current control structure.
///
/// # Errors
/// A VMX abort.
pub fn enter<E: Env>(cpu: &mut Cpu, env: &mut E) -> Result<Entered, leave::Aborted> {
    if let Some(failure) = first_failure(cpu, env) {
        let value = cpu.vmx.as_ref().map_or(0, |vmx| vmx.vmcs.get(failure.field));
        if failure.stage == Stage::Guest {
            leave::fail(cpu, env, Exit::new(Reason::EntryGuestState, failure.qualification))?;
        }
        return Ok(Entered::Refused(Refusal::Check { failure, value }));
    }
    load(cpu, env);
    let area = (Field::EntryMsrLoadCount, Field::EntryMsrLoad);
    if let Err(number) = msr_areas::load(cpu, env, area) {
        leave::fail(cpu, env, Exit::new(Reason::EntryMsrLoading, number))?;
        return Ok(Entered::Refused(Refusal::Msr(number)));
    }
    begin(cpu);
    Ok(Entered::Guest)
}

/// Loads the guest's state.
fn load<E: Env>(cpu: &mut Cpu, env: &mut E) {
    let Some(mut vmx) = cpu.vmx.take() else { return };
    vmx.controls = Controls::of(&vmx.vmcs);
    state::load_guest(cpu, &vmx.vmcs, vmx.controls.entry);
    let extended = vmx.controls.secondary.contains(Secondary::EPT);
    let fields = PDPTES.map(|field| vmx.vmcs.get(field));
    cpu.vmx = Some(vmx);
    env.vmx_transition(cpu);
    if extended && cpu.cr0.contains(Cr0::PG) && cpu.cr4.contains(Cr4::PAE) {
        cpu.pdptes = fields;
    } else {
        // The checks have read them, and found no reserved bit.
        let loaded = pointers::load(cpu, env, cpu.cr0, cpu.cr3, cpu.cr4);
        debug_assert!(loaded.is_ok(), "the entry's checks passed");
    }
}

/// The guest's operation begins: what is no register, the timer, the event to inject.
fn begin(cpu: &mut Cpu) {
    let Some(vmx) = &mut cpu.vmx else { return };
    vmx.operation = Operation::NonRoot;
    vmx.entries += 1;
    vmx.vmcs.launched = true;
    vmx.exit = None;
    vmx.vectoring = None;
    let (information, code) =
        (vmx.vmcs.get32(Field::EntryInterruption), vmx.vmcs.get32(Field::EntryErrorCode));
    let length = vmx.vmcs.get32(Field::EntryLength) as u8;
    vmx.injected = Interruption::of(information, code).map(|event| (event, length));
    let timer = u64::from(vmx.vmcs.get32(Field::TimerValue)) << vmx.caps.timer_rate();
    // VMLAUNCH itself takes the tick that is not over yet.
    let start = cpu.now + 1;
    vmx.timer = vmx.controls.pin.contains(Pin::TIMER).then(|| start.saturating_add(timer));
    let injects = vmx.injected.is_some();
    state::load_non_register(cpu, injects);
    // The run loop looks up, for what is due before the guest's first instruction.
    cpu.deadline = 0;
    cpu.leave.set(true);
}

//! VM exits (SDM vol. 3, 27), and entries that fail after the host's checks, which end like them (26.7).

use super::{msr_areas, state};
use crate::cpu::vmx::exit::ENTRY_FAILURE;
use crate::cpu::vmx::{Abort, EventType, Exit, Field, Operation, Reason, Vmcs, region};
use crate::cpu::{Activity, Cpu, Cr0, Cr4, Eflags, Shadow};
use crate::exec::{Env, pointers};

/// A VMX abort took place: the processor is in shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted(pub Abort);

/// Completes the VM exit that is due: saves the guest, loads the host.
///
/// # Errors
/// A VMX abort.
pub fn complete<E: Env>(cpu: &mut Cpu, env: &mut E) -> Result<Exit, Aborted> {
    let exit = take(cpu, env);
    save(cpu, env, exit)?;
    load_host(cpu, env)?;
    if exit.interruption.is_some_and(|event| event.kind == EventType::Nmi) {
        cpu.nmi_blocked = true;
    }
    Ok(exit)
}

/// The exit that is due: what an instruction or an event asked for, or what extended page tables refused.
pub fn take<E: Env>(cpu: &mut Cpu, env: &mut E) -> Exit {
    let asked = cpu.vmx.as_mut().and_then(|vmx| vmx.exit.take());
    let refused = env.take_refused();
    let due = asked.or_else(|| refused.as_ref().map(super::ept_exit));
    debug_assert!(due.is_some(), "an exit was asked for");
    due.unwrap_or(Exit::new(Reason::TripleFault, 0))
}

/// Saves the guest's state and the exit information.
///
/// # Errors
/// A VMX abort.
pub fn save<E: Env>(cpu: &mut Cpu, env: &mut E, exit: Exit) -> Result<(), Aborted> {
    let Some(vmx) = &mut cpu.vmx else { return Ok(()) };
    let delivering = vmx.vectoring.take();
    vmx.exits += 1;
    vmx.injected = None;
    let vmcs = &mut vmx.vmcs;
    note(vmcs, &exit);
    let valid = vmcs.get32(Field::EntryInterruption) & !(1 << 31);
    vmcs.set(Field::EntryInterruption, valid);
    let (vectoring, code) = match delivering {
        Some((event, _)) => (event.bits(), event.code.unwrap_or(0)),
        None => (0, 0),
    };
    vmcs.set(Field::IdtVectoring, vectoring);
    if delivering.is_some_and(|(event, _)| event.code.is_some()) {
        vmcs.set(Field::IdtVectoringErrorCode, code);
    }
    if let Some((event, length)) = delivering
        && event.kind.has_length()
        && exit.length == 0
    {
        vmcs.set(Field::ExitLength, length);
    }
    let mut flags = cpu.eflags();
    if exit.resume_flag {
        flags |= Eflags::RF;
    }
    state::save_guest(cpu, flags, cpu.shadow.contains(Shadow::SS));
    msr_areas::store(cpu, env, (Field::ExitMsrStoreCount, Field::ExitMsrStore))
        .map_err(|_| abort(cpu, env, Abort::SavingGuestMsrs))
}

/// The exit-information fields.
fn note(vmcs: &mut Vmcs, exit: &Exit) {
    vmcs.set(Field::ExitReason, exit.reason as u16);
    vmcs.set(Field::ExitQualification, exit.qualification);
    vmcs.set(Field::ExitInterruption, exit.interruption.map_or(0, |event| event.bits()));
    if let Some(code) = exit.interruption.and_then(|event| event.code) {
        vmcs.set(Field::ExitErrorCode, code);
    }
    vmcs.set(Field::ExitLength, exit.length);
    vmcs.set(Field::ExitInstruction, exit.instruction);
    if let Some(linear) = exit.linear {
        vmcs.set(Field::GuestLinear, linear);
    }
    if let Some(physical) = exit.physical {
        vmcs.set(Field::GuestPhysical, physical);
    }
}

/// An entry failed on the guest's state or on loading MSRs: the host goes on as after an exit, but of the
/// information only reason and qualification are written, and no guest state is saved.
///
/// # Errors
/// A VMX abort.
pub fn fail<E: Env>(cpu: &mut Cpu, env: &mut E, exit: Exit) -> Result<(), Aborted> {
    if let Some(vmx) = &mut cpu.vmx {
        vmx.controls = crate::cpu::vmx::Controls::of(&vmx.vmcs);
        vmx.vmcs.set(Field::ExitReason, exit.reason as u32 | ENTRY_FAILURE);
        vmx.vmcs.set(Field::ExitQualification, exit.qualification);
    }
    load_host(cpu, env)
}

/// Loads the host's state.
///
/// # Errors
/// A VMX abort.
pub fn load_host<E: Env>(cpu: &mut Cpu, env: &mut E) -> Result<(), Aborted> {
    let Some(mut vmx) = cpu.vmx.take() else { return Ok(()) };
    vmx.operation = Operation::Root;
    vmx.timer = None;
    vmx.virtual_nmi_blocked = false;
    state::load_host(cpu, &vmx.vmcs, vmx.controls.exit);
    cpu.vmx = Some(vmx);
    env.vmx_transition(cpu);
    if cpu.cr0.contains(Cr0::PG) && cpu.cr4.contains(Cr4::PAE) {
        let loaded = pointers::load(cpu, env, cpu.cr0, cpu.cr3, cpu.cr4);
        loaded.map_err(|_| abort(cpu, env, Abort::HostPdptes))?;
    }
    msr_areas::load(cpu, env, (Field::ExitMsrLoadCount, Field::ExitMsrLoad))
        .map_err(|_| abort(cpu, env, Abort::LoadingHostMsrs))
}

/// A VMX abort: the indicator goes to the control structure's region, and the processor shuts down.
fn abort<E: Env>(cpu: &mut Cpu, env: &mut E, why: Abort) -> Aborted {
    if let Some(at) = cpu.vmx.as_ref().and_then(|vmx| vmx.current) {
        env.write_physical(cpu, at + region::ABORT, why as u32);
    }
    if let Some(vmx) = &mut cpu.vmx {
        vmx.operation = Operation::Root;
        vmx.aborted = Some(why);
    }
    cpu.activity = Activity::Shutdown;
    Aborted(why)
}

//! The instructions of VMX (SDM vol. 3, 30). Without the extensions, or outside VMX operation, they are
//! undefined; in non-root operation they cause VM exits.

use crate::addr::Linear;
use crate::cpu::vmx::field::Area;
use crate::cpu::vmx::refusal::{EntrySite, Refusal};
use crate::cpu::vmx::{Field, Operation, Reason, Vmcs, Vmx, region};
use crate::cpu::{Cpu, Cr4, Eflags, Fault, Special};
use crate::decode::{Insn, Place, SegReg};
use crate::exec::bind::binders;
use crate::exec::operand::{DstReg, Mem, Source, SrcReg, Target, ea, load, store, writable};
use crate::exec::vmx::entry::{Entered, enter};
use crate::exec::vmx::intercept;
use crate::exec::{Env, Handler};

binders! { i, E;
    Vmxon    => vmxon,
    Vmxoff   => vmxoff,
    Vmclear  => vmclear,
    Vmptrld  => vmptrld,
    Vmptrst  => vmptrst,
    Vmread   => vmread,
    Vmwrite  => vmwrite,
    Vmlaunch => vmlaunch,
    Vmresume => vmresume,
    Vmcall   => vmcall,
    Invept   => invept,
    Invvpid  => invvpid,
}

/// VM-instruction errors (SDM vol. 3, 30.4).
mod error {
    pub(super) const VMCALL_IN_ROOT: u32 = 1;
    pub(super) const VMCLEAR_ADDRESS: u32 = 2;
    pub(super) const VMCLEAR_VMXON: u32 = 3;
    pub(super) const VMLAUNCH_NOT_CLEAR: u32 = 4;
    pub(super) const VMRESUME_NOT_LAUNCHED: u32 = 5;
    pub(super) const VMPTRLD_ADDRESS: u32 = 9;
    pub(super) const VMPTRLD_VMXON: u32 = 10;
    pub(super) const VMPTRLD_REVISION: u32 = 11;
    pub(super) const NO_FIELD: u32 = 12;
    pub(super) const READ_ONLY_FIELD: u32 = 13;
    pub(super) const VMXON_IN_ROOT: u32 = 15;
    pub(super) const MOV_SS: u32 = 26;
    pub(super) const INVALIDATION_OPERAND: u32 = 28;
}

/// IA32_FEATURE_CONTROL: the lock, and VMX outside of SMX operation.
const FEATURE_CONTROL: u32 = 5;
/// IA32_VMX_MISC: VMWRITE may write every field.
const MISC_WRITE_ALL: u64 = 1 << 29;

/// How an instruction ends (SDM vol. 3, 30.2).
enum Outcome {
    Succeeds,
    /// With the number of the error if there is a current control structure.
    Fails(u32),
    /// As with no current control structure.
    FailsInvalid,
}

use Outcome::{Fails, FailsInvalid, Succeeds};

fn finish(cpu: &mut Cpu, outcome: Outcome) {
    let flag = match outcome {
        Succeeds => Eflags::empty(),
        FailsInvalid => Eflags::CF,
        Fails(number) => match cpu.vmx.as_mut().filter(|vmx| vmx.current.is_some()) {
            Some(vmx) => {
                vmx.vmcs.set(Field::InstructionError, number);
                Eflags::ZF
            }
            None => Eflags::CF,
        },
    };
    cpu.set_eflags((cpu.eflags() - Eflags::ARITHMETIC) | flag);
}

/// What all instructions but VMXON begin with: #UD outside VMX operation and in modes that are not protected
/// mode, an exit in non-root operation, #GP(0) unless CPL is 0.
fn begin(cpu: &mut Cpu, i: &Insn, reason: Reason) -> Result<(), Fault> {
    let operation = cpu.vmx.as_ref().map_or(Operation::Off, |vmx| vmx.operation);
    // In virtual-8086 and real mode a guest's are undefined, too; VMCALL alone exits from there.
    let exits = reason == Reason::Vmcall && operation == Operation::NonRoot;
    if operation == Operation::Off || !cpu.selectors() && !exits {
        return Err(Fault::UD);
    }
    intercept::vmx(cpu, i, reason)?;
    if cpu.cpl == 0 { Ok(()) } else { Err(Fault::GP0) }
}

/// The VMX state: [`begin`] has found it.
fn state(cpu: &mut Cpu) -> Result<&mut Vmx, Fault> {
    cpu.vmx.as_deref_mut().ok_or(Fault::UD)
}

/// A 64-bit memory operand; the register form is no instruction.
fn pointer<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<u64, Fault> {
    let at = ea(cpu, i);
    let low: u32 = load(cpu, env, i.seg, at)?;
    let high: u32 = load(cpu, env, i.seg, at.wrapping_add(4) & i.addr_mask)?;
    Ok(u64::from(low) | u64::from(high) << 32)
}

/// The address of a page in physical memory.
fn page(pointer: u64) -> Option<u32> {
    (pointer >> 32 == 0 && pointer & 0xfff == 0).then_some(pointer as u32)
}

fn memory(i: &Insn) -> bool {
    i.dst == Place::Mem || i.src == Place::Mem
}

// VMXON m64
fn vmxon<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let Some(vmx) = &cpu.vmx else { return Err(Fault::UD) };
    if !memory(i) || !cpu.selectors() || !cpu.cr4.contains(Cr4::VMXE) {
        return Err(Fault::UD);
    }
    match vmx.operation {
        Operation::NonRoot => return intercept::vmx(cpu, i, Reason::Vmxon),
        Operation::Root if cpu.cpl != 0 => return Err(Fault::GP0),
        Operation::Root => {
            finish(cpu, Fails(error::VMXON_IN_ROOT));
            return Ok(());
        }
        Operation::Off => {}
    }
    let fixed = vmx.caps.cr0.allow(cpu.cr0.bits()) && vmx.caps.cr4.allow(cpu.cr4.bits());
    let enabled = cpu.msrs.feature_control & FEATURE_CONTROL == FEATURE_CONTROL;
    if cpu.cpl != 0 || env.a20m() || !enabled || !fixed {
        return Err(Fault::GP0);
    }
    let revision = vmx.caps.revision();
    let at = page(pointer(cpu, env, i)?);
    let Some(at) = at.filter(|at| env.read_physical(cpu, *at) == revision) else {
        finish(cpu, FailsInvalid);
        return Ok(());
    };
    let vmx = state(cpu)?;
    vmx.operation = Operation::Root;
    vmx.region = at;
    vmx.current = None;
    env.block_a20m(cpu, true);
    finish(cpu, Succeeds);
    Ok(())
}

// VMXOFF
fn vmxoff<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmxoff)?;
    write_back(cpu, env);
    let vmx = state(cpu)?;
    vmx.operation = Operation::Off;
    vmx.current = None;
    env.block_a20m(cpu, false);
    finish(cpu, Succeeds);
    Ok(())
}

/// Writes the current control structure's data to its region.
fn write_back<E: Env>(cpu: &mut Cpu, env: &mut E) {
    let Some(vmx) = cpu.vmx.take() else { return };
    if let Some(at) = vmx.current {
        for (offset, value) in vmx.vmcs.image() {
            env.write_physical(cpu, at + offset, value);
        }
    }
    cpu.vmx = Some(vmx);
}

// VMCLEAR m64
fn vmclear<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !memory(i) {
        return Err(Fault::UD);
    }
    begin(cpu, i, Reason::Vmclear)?;
    let operand = pointer(cpu, env, i)?;
    let vmx = state(cpu)?;
    let outcome = match page(operand) {
        None => Fails(error::VMCLEAR_ADDRESS),
        Some(at) if at == vmx.region => Fails(error::VMCLEAR_VMXON),
        Some(at) => {
            if vmx.current == Some(at) {
                vmx.vmcs.launched = false;
                write_back(cpu, env);
                state(cpu)?.current = None;
            } else {
                env.write_physical(cpu, at + region::LAUNCH_STATE, 0);
            }
            Succeeds
        }
    };
    finish(cpu, outcome);
    Ok(())
}

// VMPTRLD m64
fn vmptrld<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmptrld)?;
    let operand = pointer(cpu, env, i)?;
    let vmx = state(cpu)?;
    let (current, revision) = (vmx.current, vmx.caps.revision());
    let outcome = match page(operand) {
        None => Fails(error::VMPTRLD_ADDRESS),
        Some(at) if at == vmx.region => Fails(error::VMPTRLD_VMXON),
        Some(at) if env.read_physical(cpu, at) != revision => Fails(error::VMPTRLD_REVISION),
        Some(at) if current == Some(at) => Succeeds,
        Some(at) => {
            write_back(cpu, env);
            let vmcs = Vmcs::from_image(|offset| env.read_physical(cpu, at + offset));
            let vmx = state(cpu)?;
            vmx.vmcs = vmcs;
            vmx.current = Some(at);
            Succeeds
        }
    };
    finish(cpu, outcome);
    Ok(())
}

// VMPTRST m64
fn vmptrst<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !memory(i) {
        return Err(Fault::UD);
    }
    begin(cpu, i, Reason::Vmptrst)?;
    let pointer = state(cpu)?.current.map_or(u64::MAX, u64::from);
    let at = ea(cpu, i);
    let next = at.wrapping_add(4) & i.addr_mask;
    for offset in [at, next] {
        let linear: Linear = writable(cpu, i.seg, offset, 4)?;
        env.probe(cpu, linear, 4, cpu.user, true)?;
    }
    store(cpu, env, i.seg, at, pointer as u32)?;
    store(cpu, env, i.seg, next, (pointer >> 32) as u32)?;
    finish(cpu, Succeeds);
    Ok(())
}

/// The field that an encoding names, if this processor has it.
fn field(vmx: &Vmx, encoding: u32) -> Option<(Field, bool)> {
    Field::of(encoding).filter(|(field, _)| vmx.has(*field))
}

// VMREAD r/m32, r32
fn vmread<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmread)?;
    let encoding: u32 = SrcReg::read(cpu, env, i)?;
    let vmx = state(cpu)?;
    if vmx.current.is_none() {
        finish(cpu, FailsInvalid);
        return Ok(());
    }
    let Some((field, high)) = field(vmx, encoding) else {
        finish(cpu, Fails(error::NO_FIELD));
        return Ok(());
    };
    let value = (vmx.vmcs.get(field) >> if high { 32 } else { 0 }) as u32;
    if i.dst == Place::Mem {
        Mem::write(cpu, env, i, value)?;
    } else {
        DstReg::write(cpu, env, i, value)?;
    }
    finish(cpu, Succeeds);
    Ok(())
}

// VMWRITE r32, r/m32
fn vmwrite<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmwrite)?;
    let encoding: u32 = DstReg::read(cpu, env, i)?;
    if state(cpu)?.current.is_none() {
        finish(cpu, FailsInvalid);
        return Ok(());
    }
    let value: u32 = if i.src == Place::Mem { Mem::read(cpu, env, i)? } else { SrcReg::read(cpu, env, i)? };
    let vmx = state(cpu)?;
    let outcome = match field(vmx, encoding) {
        None => Fails(error::NO_FIELD),
        Some((field, _)) if field.area() == Area::ExitInformation && vmx.caps.misc & MISC_WRITE_ALL == 0 => {
            Fails(error::READ_ONLY_FIELD)
        }
        Some((field, high)) => {
            vmx.vmcs.set_half(field, high, value);
            Succeeds
        }
    };
    finish(cpu, outcome);
    Ok(())
}

// VMLAUNCH
fn vmlaunch<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmlaunch)?;
    launch(cpu, env, i, (false, error::VMLAUNCH_NOT_CLEAR))
}

// VMRESUME
fn vmresume<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmresume)?;
    launch(cpu, env, i, (true, error::VMRESUME_NOT_LAUNCHED))
}

/// Enters the guest if its control structure was `launched` before, or not, as is wanted.
fn launch<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
    (launched, otherwise): (bool, u32),
) -> Result<(), Fault> {
    let from = EntrySite {
        when: cpu.when(),
        cs: cpu.seg(SegReg::Cs).selector.0,
        eip: cpu.eip.wrapping_sub(u32::from(i.len)),
        resumes: launched,
    };
    let blocked = cpu.special.contains(Special::SS_SHADOW);
    let vmx = state(cpu)?;
    let refused = if vmx.current.is_none() {
        Some(Refusal::NoCurrent)
    } else if blocked {
        Some(Refusal::Error(error::MOV_SS))
    } else if vmx.vmcs.launched != launched {
        Some(Refusal::Error(otherwise))
    } else {
        match enter(cpu, env) {
            Ok(Entered::Refused(refusal)) => Some(refusal),
            Ok(Entered::Guest) | Err(_) => None,
        }
    };
    let Some(refusal) = refused else { return Ok(()) };
    env.refused_entry(cpu, from, refusal);
    match refusal.error() {
        Some(number) => finish(cpu, Fails(number)),
        None if refusal == Refusal::NoCurrent => finish(cpu, FailsInvalid),
        None => {}
    }
    Ok(())
}

// VMCALL: in root operation it is for the dual-monitor treatment of SMIs, which does not exist
fn vmcall<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    begin(cpu, i, Reason::Vmcall)?;
    finish(cpu, Fails(error::VMCALL_IN_ROOT));
    Ok(())
}

/// The type and the descriptor of INVEPT and INVVPID.
struct Invalidation {
    kind: u32,
    low: u64,
    high: u64,
}

/// INVEPT and INVVPID: #UD where the processor has neither; else their operands.
fn invalidation<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, reason: Reason) -> Result<Invalidation, Fault> {
    let bit = if reason == Reason::Invept { Field::EptPointer } else { Field::Vpid };
    if !memory(i) || !cpu.vmx.as_ref().is_some_and(|vmx| vmx.has(bit)) {
        return Err(Fault::UD);
    }
    begin(cpu, i, reason)?;
    let kind: u32 = DstReg::read(cpu, env, i)?;
    let low = pointer(cpu, env, i)?;
    let upper = Insn { disp: i.disp.wrapping_add(8), ..*i };
    let high = pointer(cpu, env, &upper)?;
    Ok(Invalidation { kind, low, high })
}

/// Bits of IA32_VMX_EPT_VPID_CAP for the types of INVEPT, from 1, and of INVVPID, from 0.
const INVEPT_TYPES: u32 = 24;
const INVVPID_TYPES: u32 = 40;

// INVEPT r32, m128
fn invept<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let Invalidation { kind, .. } = invalidation(cpu, env, i, Reason::Invept)?;
    let caps = state(cpu)?.caps.ept_vpid;
    let known = matches!(kind, 1 | 2) && caps >> (INVEPT_TYPES + kind) & 1 != 0;
    if !known {
        finish(cpu, Fails(error::INVALIDATION_OPERAND));
        return Ok(());
    }
    // More may always be dropped (SDM vol. 3, 28.3.3.4).
    env.flush_tlb(true);
    finish(cpu, Succeeds);
    Ok(())
}

// INVVPID r32, m128
fn invvpid<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let Invalidation { kind, low, high } = invalidation(cpu, env, i, Reason::Invvpid)?;
    let caps = state(cpu)?.caps.ept_vpid;
    let known = kind <= 3 && caps >> (INVVPID_TYPES + kind) & 1 != 0;
    let reserved = low >> 16 != 0 || kind == 0 && high >> 32 != 0;
    let host = kind != 2 && low & 0xffff == 0;
    if !known || reserved || host {
        finish(cpu, Fails(error::INVALIDATION_OPERAND));
        return Ok(());
    }
    env.flush_tlb(true);
    finish(cpu, Succeeds);
    Ok(())
}

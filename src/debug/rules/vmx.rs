//! Mistakes of a guest's own hypervisor: VMX operation that never began, VM entries that were refused, VM
//! exits that could not be completed (SDM vol. 3, 23 to 27).

use crate::cpu::vmx::Operation;
use crate::cpu::vmx::refusal::RefusedEntry;
use crate::cpu::vmx::words::LastExit;
use crate::cpu::{Cr4, Vector};
use crate::debug::Ending;
use crate::debug::facts::Facts;
use crate::decode::op::Family;
use crate::decode::{Op, lower};

/// IA32_FEATURE_CONTROL: locked, with VMX outside of SMX operation.
const FEATURE_CONTROL: u32 = 5;

pub(super) fn refused(f: &Facts<'_>) -> Option<String> {
    let RefusedEntry { from, refusal, .. } = f.refused_entry()?;
    let vmx = f.now().vmx.as_deref()?;
    let sentence = refusal.sentence(vmx);
    Some(format!(
        "{} at {} did not begin the guest: {}. {}",
        from.instruction(),
        f.place(from.eip),
        refusal.outcome(),
        sentence.trim_end_matches('.')
    ))
}

pub(super) fn aborted(f: &Facts<'_>) -> Option<String> {
    let Ending::VmxAbort(why) = f.ending else { return None };
    let vmx = f.now().vmx.as_deref()?;
    let exit = LastExit::of(&vmx.vmcs)
        .map_or(String::new(), |exit| format!(" (the exit's reason was {}, {})", exit.number, exit.name()));
    let at = vmx.current.map_or(String::new(), |at| {
        format!(
            "; the VMCS region at {at:#010x} has the abort's number, {}, in its second doubleword",
            why as u32
        )
    });
    Some(format!("a VM exit could not be completed, and the processor shut down: {why}{exit}{at}"))
}

/// VMXON that faults: what it needs and has not.
pub(super) fn not_ready(f: &Facts<'_>) -> Option<String> {
    let (first, cpu) = (f.first()?, f.cpu);
    if f.insn?.op != Op::Vmxon {
        return None;
    }
    let at = f.place(cpu.eip);
    let Some(vmx) = &cpu.vmx else {
        return first.is(Vector::Ud).then(|| {
            format!("VMXON at {at} is no instruction of this processor, which has no VMX: run with --cpu yonah or yonah-ept")
        });
    };
    if first.is(Vector::Ud) && !cpu.cr4.contains(Cr4::VMXE) {
        return Some(format!("VMXON at {at} is undefined while CR4.VMXE (bit 13) is clear; set it before"));
    }
    let control = cpu.msrs.feature_control;
    if first.is(Vector::Gp) && control & FEATURE_CONTROL != FEATURE_CONTROL {
        return Some(format!(
            "VMXON at {at} needs IA32_FEATURE_CONTROL (MSR 3Ah) with bits 0 (lock) and 2 (VMX outside SMX) set, and it is {control:#x}; if it is not locked, WRMSR of 5 sets both"
        ));
    }
    if first.is(Vector::Gp) && f.machine.world.map.a20_closed() {
        return Some(format!(
            "VMXON at {at} is refused while the A20 gate is closed (A20M mode); open it, with bit 1 of port 92h or by the keyboard controller"
        ));
    }
    let missing = vmx.caps.cr0.must & !cpu.cr0.bits();
    (first.is(Vector::Gp) && missing != 0).then(|| {
        format!(
            "VMXON at {at} needs CR0.PE, NE and PG set, and CR0 is {:#010x}; IA32_VMX_CR0_FIXED0 and _FIXED1 tell what VMX operation fixes",
            cpu.cr0.bits()
        )
    })
}

/// Another instruction of VMX without VMX operation.
pub(super) fn outside(f: &Facts<'_>) -> Option<String> {
    let insn = f.insn?;
    let off = f.cpu.vmx.as_ref().is_some_and(|vmx| vmx.operation == Operation::Off);
    let vmx = insn.op.facts().family == Family::Vmx && insn.op != Op::Vmxon;
    (f.first()?.is(Vector::Ud) && vmx && off).then(|| {
        format!(
            "{} at {} is undefined outside VMX operation: VMXON has not succeeded, or VMXOFF has ended it",
            lower::mnemonic(&f.bytes, f.cpu.code32()).to_uppercase(),
            f.place(f.cpu.eip)
        )
    })
}

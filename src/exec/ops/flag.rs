//! Carry and direction flag control (SDM vol. 1, 7.3.13). CLI and STI are with the system instructions.

use crate::cpu::{Cpu, Eflags, Fault};
use crate::decode::Insn;
use crate::exec::bind::binders;
use crate::exec::{Env, Handler};

binders! { i, E;
    Clc => clc,
    Stc => stc,
    Cmc => cmc,
    Cld => cld,
    Std => std,
}

// CLC
fn clc<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.lazy = cpu.lazy.with_cf(false);
    Ok(())
}

// STC
fn stc<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.lazy = cpu.lazy.with_cf(true);
    Ok(())
}

// CMC
fn cmc<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.lazy = cpu.lazy.with_cf(!cpu.lazy.cf());
    Ok(())
}

// CLD
fn cld<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.system_flags.remove(Eflags::DF);
    Ok(())
}

// STD
fn std<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.system_flags.insert(Eflags::DF);
    Ok(())
}

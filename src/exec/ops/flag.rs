//! Carry and direction flag control (SDM vol. 1, 7.3.13). CLI and STI are with the system instructions.

use crate::cpu::{Cpu, Eflags, Fault};
use crate::decode::{Insn, Op};
use crate::exec::{Env, Handler};

/// The function that executes `i`.
pub fn bind<E: Env>(i: &Insn) -> Handler<E> {
    match i.op {
        Op::Clc => clc,
        Op::Stc => stc,
        Op::Cmc => cmc,
        Op::Cld => cld,
        _ => std,
    }
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

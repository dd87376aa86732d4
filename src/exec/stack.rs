//! The stack: pushing and popping by SS and a stack pointer as wide as SS.B says (SDM vol. 1, 6.2). Used by
//! the stack and branch instructions, far transfers and event delivery.

use super::Env;
use super::operand::{load, store};
use crate::cpu::{Cpu, Fault, Word};
use crate::decode::SegReg;

/// Stores `v` below `sp` and moves `sp` there; the register is not touched, so that an instruction which
/// pushes several values commits once.
///
/// # Errors
/// #SS(0), or a page's fault.
#[inline(always)]
pub fn push_below<W: Word, E: Env>(cpu: &Cpu, env: &mut E, sp: &mut u32, v: W) -> Result<(), Fault> {
    let at = sp.wrapping_sub(W::BYTES) & cpu.stack_mask;
    store(cpu, env, SegReg::Ss, at, v)?;
    *sp = at;
    Ok(())
}

/// Loads the value at `sp` and moves `sp` above it; the register is not touched.
///
/// # Errors
/// #SS(0), or a page's fault.
#[inline(always)]
pub fn pop_above<W: Word, E: Env>(cpu: &Cpu, env: &mut E, sp: &mut u32) -> Result<W, Fault> {
    let v = load(cpu, env, SegReg::Ss, *sp)?;
    *sp = sp.wrapping_add(W::BYTES) & cpu.stack_mask;
    Ok(v)
}

/// Pushes `v`.
///
/// # Errors
/// #SS(0), or a page's fault; (E)SP is then unchanged.
#[inline(always)]
pub fn push<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, v: W) -> Result<(), Fault> {
    let mut sp = cpu.sp();
    push_below(cpu, env, &mut sp, v)?;
    cpu.set_sp(sp);
    Ok(())
}

/// Pops a value.
///
/// # Errors
/// #SS(0), or a page's fault; (E)SP is then unchanged.
#[inline(always)]
pub fn pop<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E) -> Result<W, Fault> {
    let mut sp = cpu.sp();
    let v = pop_above(cpu, env, &mut sp)?;
    cpu.set_sp(sp);
    Ok(v)
}

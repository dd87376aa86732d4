//! x87 instructions (SDM vol. 1, 8; vol. 2). The arithmetic is in `exec/fpu`; here are operands, stack,
//! exceptions and the two ways of reporting them.
//!
//! The order within an instruction: #NM; a pending exception of an earlier one (`begin`); the memory operand,
//! whose fault leaves the x87 as it was; the last-instruction pointers; stack faults; the operation.
//! Exceptions met before a result exists (invalid, denormal, divide by zero), if not masked, leave operands
//! and stack alone; those met after it (overflow, underflow, precision) store a result in a register, but not
//! in memory.

mod arith;
mod compare;
mod control;
pub(super) mod memory;
#[cfg(test)]
mod tests;
mod transcendental;
mod transfer;

use crate::cpu::fpu::status::{C1, DE, IE, SF, ZE};
use crate::cpu::{Cpu, Cr0, F80, Fault, Fpu};
use crate::decode::x87::for_each_fpu_op;
use crate::decode::{FpuOp, Insn, Place, SegReg};
use crate::exec::bind::binders;
use crate::exec::fpu::{Control, Operand, Outcome};
use crate::exec::operand::ea;
use crate::exec::{Env, Handler};

binders! { i, E;
    Fpu => of_operation(i),
}

/// Declares `of_operation`, from the table of x87 operations: the module that has an operation's handler,
/// under its name.
macro_rules! choose {
    ($($module:ident { $($Op:ident)* })*) => {
        /// The function that executes the x87 instruction `i`.
        fn of_operation<E: Env>(i: &Insn) -> Handler<E> {
            match i.fpu { $($(FpuOp::$Op => $module::bind::$Op(i),)*)* }
        }
    };
}

for_each_fpu_op!(choose);

/// What no x87 instruction has for a family.
mod undefined {
    use super::{Env, Handler, Insn, unknown};
    use crate::exec::bind::binders;

    binders! { i, E;
        Undefined => unknown,
    }
}

/// D9 D1 and the like: #NM goes before #UD.
fn unknown<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    Err(Fault::UD)
}

/// #NM, if CR0 says that there is no x87, or that its registers are another task's.
fn available(cpu: &Cpu) -> Result<(), Fault> {
    if cpu.cr0.intersects(Cr0::EM | Cr0::TS) { Err(Fault::NM) } else { Ok(()) }
}

/// The checks before a waiting instruction. False: the instruction waits, and is to end; EIP names it again.
fn begin<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<bool, Fault> {
    available(cpu)?;
    if cpu.fpu.pending() { report(cpu, env, i) } else { Ok(true) }
}

/// A pending exception: #MF with CR0.NE, else FERR# (SDM vol. 1, 8.7): unless IGNNE# lets it go on, the
/// processor stops before the instruction until an interrupt comes, which the board makes of FERR#.
#[cold]
pub(super) fn report<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<bool, Fault> {
    if cpu.cr0.contains(Cr0::NE) {
        return Err(Fault::MF);
    }
    if env.numeric_error(cpu, true) {
        return Ok(true);
    }
    cpu.eip = cpu.eip.wrapping_sub(u32::from(i.len));
    cpu.leave.set(true);
    Ok(false)
}

/// Notes where this instruction and its memory operand are.
fn note(cpu: &mut Cpu, i: &Insn) {
    let last = &mut cpu.fpu.last;
    last.fip = cpu.eip.wrapping_sub(u32::from(i.len));
    last.fcs = cpu.segs[SegReg::Cs as usize].selector.0;
    last.fop = i.selector;
    if i.dst == Place::Mem {
        let offset = ea(cpu, i);
        cpu.fpu.last.fdp = offset;
        cpu.fpu.last.fds = cpu.seg(i.seg).selector.0;
    }
}

fn rules(fpu: &Fpu) -> Control {
    Control::new(fpu.control())
}

fn operand(fpu: &Fpu, i: u8) -> Operand {
    Operand::new(fpu.st(i))
}

/// Whether any of ST(i) in `used` is empty. If so, that is a stack underflow: noted, and answered by `masked`
/// if invalid operations are masked.
fn underflows(fpu: &mut Fpu, used: &[u8], masked: impl FnOnce(&mut Fpu)) -> bool {
    let empty = used.iter().any(|&i| fpu.is_empty(i));
    if empty {
        stack_fault(fpu, 0, masked);
    }
    empty
}

/// Whether a push would meet a full register: a stack overflow, noted and answered.
fn overflows(fpu: &mut Fpu, masked: impl FnOnce(&mut Fpu)) -> bool {
    let full = !fpu.is_empty(7);
    if full {
        stack_fault(fpu, C1, masked);
    }
    full
}

fn stack_fault(fpu: &mut Fpu, c1: u16, masked: impl FnOnce(&mut Fpu)) {
    fpu.raise(IE | SF);
    fpu.set_codes(C1, c1);
    if rules(fpu).masks(IE) {
        masked(fpu);
    }
}

/// Notes what came of an operation. Whether its result counts: unless an exception met before it is not
/// masked.
fn accept<T>(fpu: &mut Fpu, outcome: &Outcome<T>) -> bool {
    const BEFORE: u16 = IE | DE | ZE;
    let stopped = !rules(fpu).masks(outcome.flags & BEFORE);
    fpu.raise(if stopped { outcome.flags & BEFORE } else { outcome.flags });
    fpu.set_codes(C1, if outcome.up && !stopped { C1 } else { 0 });
    !stopped
}

/// Puts the result into ST(dst) and pops.
fn commit(fpu: &mut Fpu, dst: u8, outcome: &Outcome, pops: u8) {
    if accept(fpu, outcome) {
        fpu.set_st(dst, outcome.value);
        pop(fpu, pops);
    }
}

fn pop(fpu: &mut Fpu, times: u8) {
    (0..times).for_each(|_| fpu.pop());
}

/// The answer to a masked stack underflow: real indefinite in ST(dst), and the pops.
fn indefinite(dst: u8, pops: u8) -> impl FnOnce(&mut Fpu) {
    move |fpu| {
        fpu.set_st(dst, F80::INDEFINITE);
        pop(fpu, pops);
    }
}

//! Arithmetic on the stack (SDM vol. 1, 8.3.5).

use super::memory::number;
use super::{accept, begin, commit, indefinite, note, operand, overflows, rules, underflows};
use crate::cpu::fpu::status::{C0, C1, C2, C3, CODES};
use crate::cpu::{Cpu, F80, Fault, Fpu};
use crate::decode::{FpuOp, Insn, Place};
use crate::exec::bind::binders;
use crate::exec::fpu::{Control, Operand, Outcome, arith, exponent};
use crate::exec::{Env, Handler};

/// What an instruction does to its destination (first) and source.
type Binary = fn(&Operand, &Operand, &Control) -> Outcome;

/// The compiled form of an operation of two operands.
macro_rules! two {
    ($i:ident, $f:expr) => {
        if $i.dst == Place::Mem {
            |cpu, env, i| memory(cpu, env, i, $f)
        } else {
            |cpu, env, i| registers(cpu, env, i, $f)
        }
    };
}

binders! { i, E;
    Fadd    => two!(i, arith::add),
    Fmul    => two!(i, arith::mul),
    Fsub    => two!(i, arith::sub),
    Fsubr   => two!(i, arith::subr),
    Fdiv    => two!(i, arith::div),
    Fdivr   => two!(i, arith::divr),
    Fchs    => set_sign,
    Fabs    => set_sign,
    Fsqrt   => unary,
    Frndint => unary,
    Fscale  => fscale,
    Fxtract => fxtract,
    Fprem   => fprem,
    Fprem1  => fprem,
}

// FADD m32, m64; FIADD m16, m32; likewise FMUL, FSUB, FSUBR, FDIV, FDIVR
fn memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, f: Binary) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let source = number(cpu, env, i)?;
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0], indefinite(0, 0)) {
        let outcome = f(&operand(fpu, 0), &source, &rules(fpu));
        commit(fpu, 0, &outcome, 0);
    }
    Ok(())
}

// FADD ST(0), ST(i); FADD ST(i), ST(0); FADDP ST(i), ST(0); likewise the others
fn registers<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, f: Binary) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[i.dst_reg, i.src_reg], indefinite(i.dst_reg, i.extra)) {
        let (a, b) = (operand(fpu, i.dst_reg), operand(fpu, i.src_reg));
        let outcome = f(&a, &b, &rules(fpu));
        commit(fpu, i.dst_reg, &outcome, i.extra);
    }
    Ok(())
}

// FCHS, FABS: of anything
fn set_sign<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0], indefinite(0, 0)) {
        let x = fpu.st(0);
        let negative = i.fpu == FpuOp::Fchs && !x.negative();
        commit(fpu, 0, &Outcome::exact(x.with_sign(negative)), 0);
    }
    Ok(())
}

// FSQRT, FRNDINT
fn unary<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0], indefinite(0, 0)) {
        let (x, c) = (operand(fpu, 0), rules(fpu));
        let outcome =
            if i.fpu == FpuOp::Fsqrt { arith::sqrt(&x, &c) } else { exponent::round_to_integer(&x, &c) };
        commit(fpu, 0, &outcome, 0);
    }
    Ok(())
}

// FSCALE
fn fscale<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0, 1], indefinite(0, 0)) {
        let outcome = exponent::scale(&operand(fpu, 0), &operand(fpu, 1), &rules(fpu));
        commit(fpu, 0, &outcome, 0);
    }
    Ok(())
}

/// Two results: one over ST(0), the other pushed.
pub(super) fn commit_two(fpu: &mut Fpu, under: &Outcome, pushed: F80) {
    if accept(fpu, under) {
        fpu.set_st(0, under.value);
        fpu.push(pushed);
    }
}

/// The stack faults of what leaves two results.
pub(super) fn cannot_leave_two(fpu: &mut Fpu) -> bool {
    let both = |fpu: &mut Fpu| {
        fpu.set_st(0, F80::INDEFINITE);
        fpu.push(F80::INDEFINITE);
    };
    underflows(fpu, &[0], both) || overflows(fpu, both)
}

// FXTRACT: the exponent, and the significand on top of it
fn fxtract<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !cannot_leave_two(fpu) {
        let (exponent, significand) = exponent::extract(&operand(fpu, 0));
        commit_two(fpu, &exponent, significand);
    }
    Ok(())
}

// FPREM, FPREM1: C2 says that the remainder is partial; else C0, C3, C1 are bits 2, 1, 0 of the quotient
fn fprem<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    fpu.set_codes(C2, 0);
    if underflows(fpu, &[0, 1], indefinite(0, 0)) {
        return Ok(());
    }
    let r = exponent::remainder(&operand(fpu, 0), &operand(fpu, 1), i.fpu == FpuOp::Fprem1, &rules(fpu));
    if accept(fpu, &r.result) {
        fpu.set_st(0, r.result.value);
        let Some(quotient) = r.quotient else {
            fpu.set_codes(if r.complete { C2 } else { CODES }, if r.complete { 0 } else { C2 });
            return Ok(());
        };
        let bits = [(4, C0), (2, C3), (1, C1)];
        let codes = bits.iter().filter(|(bit, _)| quotient & bit != 0).fold(0, |codes, b| codes | b.1);
        fpu.set_codes(CODES, codes);
    }
    Ok(())
}

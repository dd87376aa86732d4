//! Comparison and classification (SDM vol. 1, 8.3.6).

use super::memory::number;
use super::{accept, begin, note, operand, pop, stack_fault};
use crate::cpu::fpu::status::{C0, C1, C2, C3, CODES, IE};
use crate::cpu::{Cpu, Eflags, F80, Fault, Fpu};
use crate::decode::{FpuOp, Insn, Place};
use crate::exec::bind::binders;
use crate::exec::fpu::{Class, Operand, Outcome, arith};
use crate::exec::{Env, Handler};
use std::cmp::Ordering;

binders! { i, E;
    Fcom   => if i.dst == Place::Mem { fcom_memory } else { fcom },
    Fucom  => fcom,
    Fcomi  => fcomi,
    Fucomi => fcomi,
    Ftst   => fcom,
    Fxam   => fxam,
}

/// C3, C2 and C0, which SAHF puts where ZF, PF and CF are.
fn codes(order: Option<Ordering>) -> u16 {
    match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => C0,
        Some(Ordering::Equal) => C3,
        None => C0 | C2 | C3,
    }
}

/// The result of a comparison into the condition codes, and the pops.
fn conclude(fpu: &mut Fpu, order: &Outcome<Option<Ordering>>, pops: u8) {
    if accept(fpu, order) {
        fpu.set_codes(CODES, codes(order.value));
        pop(fpu, pops);
    }
}

/// An empty register: unordered.
fn underflow(fpu: &mut Fpu, pops: u8) {
    stack_fault(fpu, 0, |fpu| {
        fpu.set_codes(CODES, codes(None));
        pop(fpu, pops);
    });
}

// FCOM m32, m64; FCOMP m32, m64; FICOM m16, m32; FICOMP m16, m32
fn fcom_memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let source = number(cpu, env, i)?;
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if fpu.is_empty(0) {
        underflow(fpu, i.extra);
    } else {
        let order = arith::compare(&operand(fpu, 0), &source, false);
        conclude(fpu, &order, i.extra);
    }
    Ok(())
}

// FCOM ST(i), FCOMP ST(i), FCOMPP; FUCOM ST(i), FUCOMP ST(i), FUCOMPP; FTST
fn fcom<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    let test = i.fpu == FpuOp::Ftst;
    if fpu.is_empty(0) || !test && fpu.is_empty(i.src_reg) {
        underflow(fpu, i.extra);
    } else {
        let source = if test { Operand::new(F80::ZERO) } else { operand(fpu, i.src_reg) };
        let order = arith::compare(&operand(fpu, 0), &source, i.fpu == FpuOp::Fucom);
        conclude(fpu, &order, i.extra);
    }
    Ok(())
}

/// The result of a comparison into EFLAGS: ZF, PF and CF, the others cleared.
fn set_flags(cpu: &mut Cpu, order: Option<Ordering>) {
    let result = match order {
        Some(Ordering::Greater) => Eflags::empty(),
        Some(Ordering::Less) => Eflags::CF,
        Some(Ordering::Equal) => Eflags::ZF,
        None => Eflags::ZF | Eflags::PF | Eflags::CF,
    };
    let others = cpu.eflags() - Eflags::ARITHMETIC;
    cpu.set_eflags(others | result);
}

// FCOMI ST(i), FCOMIP ST(i), FUCOMI ST(i), FUCOMIP ST(i)
fn fcomi<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    let empty = fpu.is_empty(0) || fpu.is_empty(i.src_reg);
    let order = if empty {
        stack_fault(fpu, 0, |_| {});
        Outcome::exact(None).with(IE)
    } else {
        arith::compare(&operand(fpu, 0), &operand(fpu, i.src_reg), i.fpu == FpuOp::Fucomi)
    };
    if accept(fpu, &order) {
        pop(fpu, i.extra);
        set_flags(cpu, order.value);
    }
    Ok(())
}

// FXAM: C3, C2, C0 name the class, C1 the sign, of an empty register too
fn fxam<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    let x = operand(fpu, 0);
    let class = match x.class {
        _ if fpu.is_empty(0) => C3 | C0,
        Class::Unsupported => 0,
        Class::Quiet | Class::Signalling => C0,
        Class::Infinity => C2 | C0,
        Class::Zero => C3,
        Class::Finite if x.denormal => C3 | C2,
        Class::Finite => C2,
    };
    fpu.set_codes(CODES, class | if x.negative() { C1 } else { 0 });
    Ok(())
}

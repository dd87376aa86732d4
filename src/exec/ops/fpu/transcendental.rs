//! The transcendental instructions (SDM vol. 1, 8.3.7, 8.3.9).

use super::arith::{cannot_leave_two, commit_two};
use super::{accept, begin, commit, indefinite, note, operand, rules, underflows};
use crate::cpu::fpu::status::C2;
use crate::cpu::{Cpu, F80, Fault};
use crate::decode::Insn;
use crate::exec::bind::binders;
use crate::exec::fpu::{Control, Operand, Outcome, transcendental as f};
use crate::exec::{Env, Handler};

/// A function of ST(1) and ST(0).
type Binary = fn(&Operand, &Operand, &Control) -> Outcome;
/// A function of an angle; `None` out of its range.
type Circular = fn(&Operand, &Control) -> Option<Outcome>;

binders! { i, E;
    F2xm1   => f2xm1,
    Fyl2x   => |cpu, env, i| of_two(cpu, env, i, f::y_log2_x),
    Fyl2xp1 => |cpu, env, i| of_two(cpu, env, i, f::y_log2_x_plus_1),
    Fptan   => fptan,
    Fpatan  => |cpu, env, i| of_two(cpu, env, i, f::atan),
    Fsin    => |cpu, env, i| circular(cpu, env, i, f::sin),
    Fcos    => |cpu, env, i| circular(cpu, env, i, f::cos),
    Fsincos => fsincos,
}

// F2XM1
fn f2xm1<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0], indefinite(0, 0)) {
        let outcome = f::exp2_minus_1(&operand(fpu, 0), &rules(fpu));
        commit(fpu, 0, &outcome, 0);
    }
    Ok(())
}

// FYL2X, FYL2XP1, FPATAN: the result replaces ST(1), and ST(0) is popped
fn of_two<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, function: Binary) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0, 1], indefinite(1, 1)) {
        let outcome = function(&operand(fpu, 1), &operand(fpu, 0), &rules(fpu));
        commit(fpu, 1, &outcome, 1);
    }
    Ok(())
}

// FSIN, FCOS: C2 says that the operand is out of range, and stays
fn circular<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, function: Circular) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    fpu.set_codes(C2, 0);
    if !underflows(fpu, &[0], indefinite(0, 0)) {
        match function(&operand(fpu, 0), &rules(fpu)) {
            Some(outcome) => commit(fpu, 0, &outcome, 0),
            None => out_of_range(cpu),
        }
    }
    Ok(())
}

fn out_of_range(cpu: &mut Cpu) {
    accept(&mut cpu.fpu, &Outcome::exact(()));
    cpu.fpu.set_codes(C2, C2);
}

// FSINCOS: the sine, and the cosine on top of it
fn fsincos<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    fpu.set_codes(C2, 0);
    if cannot_leave_two(fpu) {
        return Ok(());
    }
    let (x, c) = (operand(fpu, 0), rules(fpu));
    match (f::sin(&x, &c), f::cos(&x, &c)) {
        (Some(sine), Some(cosine)) => commit_two(fpu, &sine.with(cosine.flags), cosine.value),
        _ => out_of_range(cpu),
    }
    Ok(())
}

// FPTAN: the tangent, and a 1 on top of it, so that a division gives the cotangent; a NaN is pushed twice
fn fptan<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    fpu.set_codes(C2, 0);
    if cannot_leave_two(fpu) {
        return Ok(());
    }
    let x = operand(fpu, 0);
    match f::tan(&x, &rules(fpu)) {
        Some(o) if x.is_nan() || x.is_infinite() => commit_two(fpu, &o, o.value),
        Some(o) => commit_two(fpu, &o, F80::ONE),
        None => out_of_range(cpu),
    }
    Ok(())
}

//! Loads, stores, exchanges, conditional moves and constants (SDM vol. 1, 8.3.3, 8.3.4).

use super::memory::{check, number, read, write};
use super::{accept, begin, commit, indefinite, note, operand, overflows, pop, rules, underflows};
use crate::cpu::fpu::status::{C1, DE, IE, OE, PE, UE};
use crate::cpu::{Cpu, F80, Fault, Fpu};
use crate::decode::{FpuMem, Insn, Place};
use crate::exec::bind::binders;
use crate::exec::fpu::operand::nan;
use crate::exec::fpu::{Control, Operand, Outcome, Rounding, convert};
use crate::exec::{Env, Handler};

binders! { i, E;
    Fld    => match i.fpu_mem {
        FpuMem::None   => fld_register,
        FpuMem::Real80 => fld_extended,
        _              => fld_memory,
    },
    Fst    => match i.fpu_mem {
        FpuMem::None => fst_register,
        _            => fst_memory,
    },
    Fxch   => fxch,
    Fcmov  => fcmov,
    Fld1   => |cpu, env, i| fld_constant(cpu, env, i, Constant::Exact(F80::ONE)),
    Fldl2t => |cpu, env, i| fld_constant(cpu, env, i, LOG2_10),
    Fldl2e => |cpu, env, i| fld_constant(cpu, env, i, LOG2_E),
    Fldpi  => |cpu, env, i| fld_constant(cpu, env, i, PI),
    Fldlg2 => |cpu, env, i| fld_constant(cpu, env, i, LOG10_2),
    Fldln2 => |cpu, env, i| fld_constant(cpu, env, i, LN_2),
    Fldz   => |cpu, env, i| fld_constant(cpu, env, i, Constant::Exact(F80::ZERO)),
}

/// Pushes what was loaded. A denormal is, even if its exception is not masked: in the register it is none.
fn push(fpu: &mut Fpu, loaded: &Outcome) {
    if !overflows(fpu, |fpu| fpu.push(F80::INDEFINITE)) && (accept(fpu, loaded) || loaded.flags == DE) {
        fpu.push(loaded.value);
    }
}

// FLD ST(i)
fn fld_register<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[i.dst_reg], |fpu| fpu.push(F80::INDEFINITE)) {
        let value = fpu.st(i.dst_reg);
        push(fpu, &Outcome::exact(value));
    }
    Ok(())
}

// FLD m80: whatever it is
fn fld_extended<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let mut bytes = [0; 10];
    read(cpu, env, i, &mut bytes)?;
    note(cpu, i);
    push(&mut cpu.fpu, &Outcome::exact(F80::from_bytes(&bytes)));
    Ok(())
}

// FLD m32, m64; FILD m16, m32, m64; FBLD m80
fn fld_memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let x = number(cpu, env, i)?;
    note(cpu, i);
    let loaded = nan(&x).unwrap_or_else(|| Outcome::exact(x.raw).with(x.de()));
    push(&mut cpu.fpu, &loaded);
    Ok(())
}

// FST ST(i), FSTP ST(i)
fn fst_register<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0], indefinite(i.dst_reg, i.extra)) {
        let value = fpu.st(0);
        commit(fpu, i.dst_reg, &Outcome::exact(value), i.extra);
    }
    Ok(())
}

/// A number in a memory format: up to ten bytes.
fn encode(x: &Operand, format: FpuMem, c: &Control) -> Outcome<[u8; 10]> {
    fn widen<const N: usize>(o: &Outcome<impl Copy>, bytes: [u8; N]) -> Outcome<[u8; 10]> {
        let mut ten = [0; 10];
        ten[..N].copy_from_slice(&bytes);
        Outcome { value: ten, flags: o.flags, up: o.up }
    }
    let int = |bits| {
        let o = convert::to_int(x, bits, c);
        widen(&o, o.value.to_le_bytes())
    };
    match format {
        FpuMem::Int16 => int(16),
        FpuMem::Int32 => int(32),
        FpuMem::Int64 => int(64),
        FpuMem::Bcd => convert::to_decimal(x, c),
        FpuMem::Real32 => {
            let o = convert::to_single(x, c);
            widen(&o, o.value.to_le_bytes())
        }
        FpuMem::Real64 => {
            let o = convert::to_double(x, c);
            widen(&o, o.value.to_le_bytes())
        }
        FpuMem::Real80 | FpuMem::None => Outcome::exact(x.raw.to_bytes()),
    }
}

// FST m32, m64; FSTP m32, m64, m80; FIST m16, m32; FISTP m16, m32, m64; FBSTP m80
fn fst_memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let c = rules(&cpu.fpu);
    let empty = cpu.fpu.is_empty(0);
    let x = if empty { Operand::new(F80::INDEFINITE) } else { operand(&cpu.fpu, 0) };
    let mut stored = encode(&x, i.fpu_mem, &c);
    if !c.masks(stored.flags & (OE | UE)) {
        // There is no result that could be inexact.
        stored = Outcome { flags: stored.flags & !PE, up: false, ..stored };
    }
    let invalid = empty || stored.flags & IE != 0;
    if c.masks(stored.flags & (IE | OE | UE)) && (c.masks(IE) || !invalid) {
        write(cpu, env, i, &stored.value[..i.fpu_mem.bytes() as usize])?;
    } else {
        // Nothing is stored, but the place has to be there.
        check(cpu, env, i, i.fpu_mem.bytes() as usize)?;
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    let goes = |fpu: &mut Fpu| pop(fpu, i.extra);
    if !underflows(fpu, &[0], goes) && accept(fpu, &stored) && c.masks(stored.flags & (OE | UE)) {
        pop(fpu, i.extra);
    }
    Ok(())
}

// FXCH ST(i): an empty register is exchanged as real indefinite
fn fxch<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let other = if i.src == Place::Reg { i.src_reg } else { i.dst_reg };
    let swap = |fpu: &mut Fpu| {
        let get = |n| if fpu.is_empty(n) { F80::INDEFINITE } else { fpu.st(n) };
        let (a, b) = (get(0), get(other));
        fpu.set_st(0, b);
        fpu.set_st(other, a);
    };
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0, other], swap) {
        fpu.set_codes(C1, 0);
        swap(fpu);
    }
    Ok(())
}

// FCMOVcc ST(0), ST(i)
fn fcmov<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let moves = cpu.lazy.holds(i.cond);
    let fpu = &mut cpu.fpu;
    if !underflows(fpu, &[0, i.src_reg], indefinite(0, 0)) && moves {
        let value = fpu.st(i.src_reg);
        fpu.set_st(0, value);
    }
    Ok(())
}

/// A constant of the x87.
#[derive(Clone, Copy)]
enum Constant {
    /// The number itself, however it is rounded.
    Exact(F80),
    /// The number cut to 64 bits; the bits beyond are less than half a unit.
    Below(F80),
    /// The number cut to 64 bits; the bits beyond are more than half a unit.
    Above(F80),
}

const LOG2_10: Constant = Constant::Below(F80::new(0x4000, 0xd49a_784b_cd1b_8afe));
const LOG2_E: Constant = Constant::Above(F80::new(0x3fff, 0xb8aa_3b29_5c17_f0bb));
const PI: Constant = Constant::Above(F80::new(0x4000, 0xc90f_daa2_2168_c234));
const LOG10_2: Constant = Constant::Above(F80::new(0x3ffd, 0x9a20_9a84_fbcf_f798));
const LN_2: Constant = Constant::Above(F80::new(0x3ffe, 0xb172_17f7_d1cf_79ab));

impl Constant {
    fn rounded(self, c: &Control) -> F80 {
        let (value, more_than_half) = match self {
            Constant::Exact(value) => return value,
            Constant::Below(value) => (value, false),
            Constant::Above(value) => (value, true),
        };
        let up = match c.rounding {
            Rounding::Nearest => more_than_half,
            Rounding::Up => true,
            Rounding::Down | Rounding::Zero => false,
        };
        F80::new(value.sign_exp, value.significand + u64::from(up))
    }
}

// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ
fn fld_constant<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, constant: Constant) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    note(cpu, i);
    let fpu = &mut cpu.fpu;
    let value = constant.rounded(&rules(fpu));
    push(fpu, &Outcome::exact(value));
    Ok(())
}

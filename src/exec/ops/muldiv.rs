//! Multiplication, division, and decimal adjustment (SDM vol. 1, 7.3.2 and 7.3.3; vol. 2).
//!
//! Flags that the manual leaves undefined are those of current AMD processors, as measured.

use crate::cpu::gpr::{EAX, EDX};
use crate::cpu::{Cpu, Fault, LazyFlags, Word};
use crate::decode::{Insn, Op, Place};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{Mem, Source, SrcReg, by_rm, by_wide, by_width};
use crate::exec::{Binder, Env, Handler};

const AL: u8 = EAX as u8;
const AX: u8 = EAX as u8;
const DX: u8 = EDX as u8;

binders! { i, E;
    Mul   => by_rm!(i, mul, E),
    Imul  => by_rm!(i, imul, E),
    Imul2 => match i.src {
        Place::Mem => by_wide!(i, imul2, E, Mem),
        _          => by_wide!(i, imul2, E, SrcReg),
    },
    Imul3 => match i.src {
        Place::Mem => by_wide!(i, imul3, E, Mem),
        _          => by_wide!(i, imul3, E, SrcReg),
    },
    Div   => by_rm!(i, div, E),
    Idiv  => by_rm!(i, idiv, E),
    Aaa   => aaa,
    Aas   => aas,
    Daa   => daa,
    Das   => das,
    Aam   => aam,
    Aad => aad,
}

semantics!(Imul2, multiplied, imul2, W: Word, S: Source);
semantics!(Imul3, multiplied_by, imul3, W: Word, S: Source);

/// What `B` makes of the IMUL `i` of two or three operands; `None` where there is no type.
pub fn bind_closely<B: Binder>(i: &Insn) -> Option<B::Bound> {
    Some(match (i.op, i.src) {
        (Op::Imul2, Place::Mem) => by_wide!(i, multiplied, B, Mem)(),
        (Op::Imul2, _) => by_wide!(i, multiplied, B, SrcReg)(),
        (Op::Imul3, Place::Mem) => by_wide!(i, multiplied_by, B, Mem)(),
        (Op::Imul3, _) => by_wide!(i, multiplied_by, B, SrcReg)(),
        _ => return None,
    })
}

/// The double-width accumulator: AX, DX:AX or EDX:EAX.
#[inline(always)]
fn accumulator<W: Word>(cpu: &Cpu) -> u64 {
    if W::BITS == 8 {
        u64::from(cpu.get::<u16>(AX))
    } else {
        (u64::from(cpu.get::<W>(DX).u()) << W::BITS) | u64::from(cpu.get::<W>(AX).u())
    }
}

/// Sets the double-width accumulator from its halves.
#[inline(always)]
fn set_accumulator<W: Word>(cpu: &mut Cpu, high: u32, low: u32) {
    if W::BITS == 8 {
        cpu.set(AX, ((high << 8) | (low & 0xff)) as u16);
    } else {
        cpu.set(AX, W::from_u32(low));
        cpu.set(DX, W::from_u32(high));
    }
}

// MUL src
fn mul<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let b: W = S::read(cpu, env, i)?;
    let product = u64::from(cpu.get::<W>(AX).u()) * u64::from(b.u());
    let high = (product >> W::BITS) as u32;
    set_accumulator::<W>(cpu, high, product as u32);
    cpu.lazy = cpu.lazy.with_cf_of(high != 0, high != 0);
    Ok(())
}

/// The signed product, and whether it does not fit `W`.
#[inline(always)]
fn signed_product<W: Word>(a: W, b: W) -> (i64, bool) {
    let product = i64::from(a.s() as i32) * i64::from(b.s() as i32);
    let kept = W::from_u32(product as u32).s() as i32;
    (product, i64::from(kept) != product)
}

// IMUL src
fn imul<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let b: W = S::read(cpu, env, i)?;
    let (product, over) = signed_product(cpu.get::<W>(AX), b);
    set_accumulator::<W>(cpu, (product >> W::BITS) as u32, product as u32);
    cpu.lazy = cpu.lazy.with_cf_of(over, over);
    Ok(())
}

// IMUL reg, src
#[inline(always)]
fn imul2<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let b: W = S::read(cpu, env, i)?;
    let (product, over) = signed_product(cpu.get::<W>(i.dst_reg), b);
    cpu.set(i.dst_reg, W::from_u32(product as u32));
    cpu.lazy = cpu.lazy.with_cf_of(over, over);
    Ok(())
}

// IMUL reg, src, imm
#[inline(always)]
fn imul3<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let a: W = S::read(cpu, env, i)?;
    let (product, over) = signed_product(a, W::from_u32(i.imm));
    cpu.set(i.dst_reg, W::from_u32(product as u32));
    cpu.lazy = cpu.lazy.with_cf_of(over, over);
    Ok(())
}

/// The flags after a division: CF and OF stay, AF is set, SF, ZF and PF are clear.
fn divided(flags: LazyFlags) -> LazyFlags {
    LazyFlags::logic(1u8).with_af(true).with_cf_of(flags.cf(), flags.of())
}

// DIV src
fn div<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let divisor = u64::from(S::read::<W, E>(cpu, env, i)?.u());
    let dividend = accumulator::<W>(cpu);
    let quotient = dividend.checked_div(divisor).ok_or(Fault::DE)?;
    if quotient > u64::from(W::MASK) {
        return Err(Fault::DE);
    }
    set_accumulator::<W>(cpu, (dividend % divisor) as u32, quotient as u32);
    cpu.lazy = divided(cpu.lazy);
    Ok(())
}

// IDIV src
fn idiv<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let divisor = i64::from(S::read::<W, E>(cpu, env, i)?.s() as i32);
    let unused = 64 - 2 * W::BITS;
    let dividend = ((accumulator::<W>(cpu) << unused) as i64) >> unused;
    let quotient = dividend.checked_div(divisor).ok_or(Fault::DE)?;
    let low = W::from_u32(quotient as u32);
    if i64::from(low.s() as i32) != quotient {
        return Err(Fault::DE);
    }
    let remainder = (dividend % divisor) as u32;
    set_accumulator::<W>(cpu, W::from_u32(remainder).u(), low.u());
    cpu.lazy = divided(cpu.lazy);
    Ok(())
}

/// Whether AAA and AAS adjust.
fn unpacked_adjusts(cpu: &Cpu) -> bool {
    cpu.get::<u8>(AL) & 15 > 9 || cpu.lazy.af()
}

/// What AAA and AAS leave, `t` being AX after the 16-bit addition or subtraction whose flags are `flags`.
fn set_unpacked(cpu: &mut Cpu, t: u16, flags: LazyFlags, adjusted: bool) {
    cpu.set(AX, t & 0xff0f);
    cpu.lazy = flags.with_af(adjusted).with_cf_of(adjusted, adjusted && flags.of());
}

// AAA
fn aaa<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let adjusts = unpacked_adjusts(cpu);
    let (a, b) = (cpu.get::<u16>(AX), if adjusts { 0x106 } else { 0u16 });
    let t = a.wrapping_add(b);
    set_unpacked(cpu, t, LazyFlags::add(a, b, t), adjusts);
    Ok(())
}

// AAS
fn aas<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let adjusts = unpacked_adjusts(cpu);
    let (a, b) = (cpu.get::<u16>(AX), if adjusts { 0x106 } else { 0u16 });
    let t = a.wrapping_sub(b);
    set_unpacked(cpu, t, LazyFlags::sub(a, b, t), adjusts);
    Ok(())
}

/// What DAA and DAS add or subtract, and the AF and CF that follow from AL, AF and CF alone.
fn packed_adjustment(cpu: &Cpu) -> (u8, bool, bool) {
    let al = cpu.get::<u8>(AL);
    let af = al & 15 > 9 || cpu.lazy.af();
    let cf = al > 0x99 || cpu.lazy.cf();
    (if af { 6 } else { 0 } + if cf { 0x60 } else { 0 }, af, cf)
}

// DAA
fn daa<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let (adjustment, af, cf) = packed_adjustment(cpu);
    let al = cpu.get::<u8>(AL);
    let r = al.wrapping_add(adjustment);
    let flags = LazyFlags::add(al, adjustment, r);
    cpu.set(AL, r);
    cpu.lazy = flags.with_af(af).with_cf_of(cf, flags.of());
    Ok(())
}

// DAS: the borrow of the low adjustment alone also sets CF
fn das<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let (adjustment, af, cf) = packed_adjustment(cpu);
    let al = cpu.get::<u8>(AL);
    let r = al.wrapping_sub(adjustment);
    let flags = LazyFlags::sub(al, adjustment, r);
    cpu.set(AL, r);
    cpu.lazy = flags.with_af(af).with_cf_of(cf || (af && al < 6), flags.of());
    Ok(())
}

// AAM imm8
fn aam<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    let (al, base) = (cpu.get::<u8>(AL), i.imm as u8);
    let tens = al.checked_div(base).ok_or(Fault::DE)?;
    let ones = al % base;
    cpu.set(AX, u16::from_le_bytes([ones, tens]));
    cpu.lazy = LazyFlags::logic(ones);
    Ok(())
}

// AAD imm8
fn aad<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    let [al, ah] = cpu.get::<u16>(AX).to_le_bytes();
    let tens = ah.wrapping_mul(i.imm as u8);
    let r = al.wrapping_add(tens);
    cpu.set(AX, u16::from(r));
    cpu.lazy = LazyFlags::add(al, tens, r);
    Ok(())
}

//! Bit test and bit scan (SDM vol. 1, 7.3.7; vol. 2).

use crate::cpu::{Cpu, Fault, LazyFlags, Word};
use crate::decode::{Insn, Place};
use crate::exec::bind::binders;
use crate::exec::operand::{DstReg, Imm, Mem, Source, SrcReg, Target, by_wide, ea, load, writable};
use crate::exec::{Env, Handler};

/// What becomes of the word whose bit was tested.
trait Change {
    fn apply(word: u32, bit: u32) -> u32;
}

struct Set;
struct Reset;
struct Complement;

impl Change for Set {
    fn apply(word: u32, bit: u32) -> u32 {
        word | bit
    }
}

impl Change for Reset {
    fn apply(word: u32, bit: u32) -> u32 {
        word & !bit
    }
}

impl Change for Complement {
    fn apply(word: u32, bit: u32) -> u32 {
        word ^ bit
    }
}

binders! { i, E;
    Bt  => match (i.dst, i.src) {
        (Place::Mem, Place::Imm) => by_wide!(i, test, E, Mem, Imm),
        (Place::Mem, _)          => by_wide!(i, test_string, E),
        (_, Place::Imm)          => by_wide!(i, test, E, DstReg, Imm),
        _                        => by_wide!(i, test, E, DstReg, SrcReg),
    },
    Bts => bind_change::<E, Set>(i),
    Btr => bind_change::<E, Reset>(i),
    Btc => bind_change::<E, Complement>(i),
    Bsf => match i.src {
        Place::Mem => by_wide!(i, bsf, E, Mem),
        _          => by_wide!(i, bsf, E, SrcReg),
    },
    Bsr => match i.src {
        Place::Mem => by_wide!(i, bsr, E, Mem),
        _          => by_wide!(i, bsr, E, SrcReg),
    },
}

fn bind_change<E: Env, C: Change>(i: &Insn) -> Handler<E> {
    match (i.dst, i.src) {
        (Place::Mem, Place::Imm) => by_wide!(i, change, E, Mem, Imm, C),
        (Place::Mem, _) => by_wide!(i, change_string, E, C),
        (_, Place::Imm) => by_wide!(i, change, E, DstReg, Imm, C),
        _ => by_wide!(i, change, E, DstReg, SrcReg, C),
    }
}

/// The mask of the bit that `offset` names within its word.
#[inline(always)]
fn mask<W: Word>(offset: W) -> u32 {
    1 << (offset.u() & (W::BITS - 1))
}

/// Where in memory the word is that holds bit `offset` of a bit string: the offset is signed, and reaches as
/// far as its width allows.
#[inline(always)]
fn word_of_string<W: Word>(cpu: &Cpu, i: &Insn, offset: W) -> u32 {
    let words = (offset.s() as i32) >> W::BITS.trailing_zeros();
    ea(cpu, i).wrapping_add((words as u32).wrapping_mul(W::BYTES)) & i.addr_mask
}

// BT dst, offset
fn test<E: Env, W: Word, D: Source, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let bit = mask::<W>(S::read(cpu, env, i)?);
    let word: W = D::read(cpu, env, i)?;
    cpu.lazy = cpu.lazy.with_cf(word.u() & bit != 0);
    Ok(())
}

// BT mem, reg
fn test_string<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let offset: W = cpu.get(i.src_reg);
    let word: W = load(cpu, env, i.seg, word_of_string(cpu, i, offset))?;
    cpu.lazy = cpu.lazy.with_cf(word.u() & mask(offset) != 0);
    Ok(())
}

// BTS, BTR, BTC  dst, offset
fn change<E: Env, W: Word, D: Target, S: Source, C: Change>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let bit = mask::<W>(S::read(cpu, env, i)?);
    D::update(cpu, env, i, |cpu, word: W| {
        cpu.lazy = cpu.lazy.with_cf(word.u() & bit != 0);
        W::from_u32(C::apply(word.u(), bit))
    })
}

// BTS, BTR, BTC  mem, reg
fn change_string<E: Env, W: Word, C: Change>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let offset: W = cpu.get(i.src_reg);
    let at = writable(cpu, i.seg, word_of_string(cpu, i, offset), W::BYTES)?;
    let user = cpu.user;
    let word: W = env.load_for_update(cpu, at, user)?;
    let bit = mask(offset);
    env.store(cpu, at, W::from_u32(C::apply(word.u(), bit)), user)?;
    cpu.lazy = cpu.lazy.with_cf(word.u() & bit != 0);
    Ok(())
}

/// The flags of a scan that found bit `index`: ZF, SF and the carries clear, PF by the index.
fn found(index: u32) -> LazyFlags {
    LazyFlags::logic(0x100 | index as u16)
}

// BSF reg, src: a zero source leaves the register
fn bsf<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v = S::read::<W, E>(cpu, env, i)?.u();
    if v == 0 {
        cpu.lazy = LazyFlags::logic(0u32);
    } else {
        cpu.set(i.dst_reg, W::from_u32(v.trailing_zeros()));
        cpu.lazy = found(v.trailing_zeros());
    }
    Ok(())
}

// BSR reg, src: a zero source leaves the register
fn bsr<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v = S::read::<W, E>(cpu, env, i)?.u();
    if v == 0 {
        cpu.lazy = LazyFlags::logic(0u32);
    } else {
        cpu.set(i.dst_reg, W::from_u32(v.ilog2()));
        cpu.lazy = found(v.ilog2());
    }
    Ok(())
}

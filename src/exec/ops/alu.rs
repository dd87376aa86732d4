//! Integer addition, subtraction, comparison and logic (SDM vol. 2; flags after vol. 1, appendix A).

use crate::cpu::gpr::{EAX, EBX, ECX, EDX};
use crate::cpu::{Cpu, Fault, LazyFlags, Word};
use crate::decode::{Insn, Op, Place, SegReg};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{
    Based, DstReg, Form, Imm, Indexed, Source, SrcReg, Target, by_cond, by_forms, by_places, by_rm, by_width,
    ea, writable,
};
use crate::exec::{Binder, ConditionBinder, Env, Handler};
use crate::width::Width;

/// A two-operand operation: the result, and the flags it leaves.
trait Binary {
    fn apply<W: Word>(flags: LazyFlags, a: W, b: W) -> (W, LazyFlags);
}

struct AddOp;
struct AdcOp;
struct SubOp;
struct SbbOp;
struct AndOp;
struct OrOp;
struct XorOp;

#[inline(always)]
fn wrapping_add<W: Word>(a: W, b: W, carry: bool) -> W {
    W::from_u32(a.u().wrapping_add(b.u()).wrapping_add(u32::from(carry)))
}

#[inline(always)]
fn wrapping_sub<W: Word>(a: W, b: W, borrow: bool) -> W {
    W::from_u32(a.u().wrapping_sub(b.u()).wrapping_sub(u32::from(borrow)))
}

impl Binary for AddOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = wrapping_add(a, b, false);
        (r, LazyFlags::add(a, b, r))
    }
}

impl Binary for AdcOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = wrapping_add(a, b, flags.cf());
        (r, LazyFlags::add(a, b, r))
    }
}

impl Binary for SubOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = wrapping_sub(a, b, false);
        (r, LazyFlags::sub(a, b, r))
    }
}

impl Binary for SbbOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = wrapping_sub(a, b, flags.cf());
        (r, LazyFlags::sub(a, b, r))
    }
}

impl Binary for AndOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = W::from_u32(a.u() & b.u());
        (r, LazyFlags::logic(r))
    }
}

impl Binary for OrOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = W::from_u32(a.u() | b.u());
        (r, LazyFlags::logic(r))
    }
}

impl Binary for XorOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        let r = W::from_u32(a.u() ^ b.u());
        (r, LazyFlags::logic(r))
    }
}

binders! { i, E;
    Add  => by_places!(i, binary, E, AddOp),
    Adc  => by_places!(i, binary, E, AdcOp),
    Sub  => by_places!(i, binary, E, SubOp),
    Sbb  => by_places!(i, binary, E, SbbOp),
    And  => by_places!(i, binary, E, AndOp),
    Or   => by_places!(i, binary, E, OrOp),
    Xor  => by_places!(i, binary, E, XorOp),
    Cmp  => by_places!(i, compare, E, SubOp),
    Test => by_places!(i, compare, E, AndOp),
    Inc  => by_rm!(i, inc, E),
    Dec  => by_rm!(i, dec, E),
    Neg  => by_rm!(i, neg, E),
    Not  => by_rm!(i, not, E),
    Xadd => by_rm!(i, xadd, E),
    Cmpxchg => by_rm!(i, cmpxchg, E),
    Cmpxchg8b => cmpxchg8b,
}

semantics!(Bin, bin, binary, W: Word, D: Target, S: Source, O: Binary);
semantics!(Compare, comparison, compare, W: Word, D: Target, S: Source, O: Binary);
semantics!(Inc, increment, inc, W: Word, D: Target);
semantics!(Dec, decrement, dec, W: Word, D: Target);
semantics!(QuietInc, quiet_increment, inc_quietly, W: Word, D: Target);
semantics!(QuietDec, quiet_decrement, dec_quietly, W: Word, D: Target);
semantics!(Neg, negation, neg, W: Word, D: Target);
semantics!(Not, complement, not, W: Word, D: Target);

/// What `B` makes of `i`, of a type for its form of memory operand; without its flags if nothing sees them.
/// `None` where there is no type.
#[rustfmt::skip]
pub fn bind_closely<B: Binder>(i: &Insn, flags_dead: bool) -> Option<B::Bound> {
    Some(match (i.op, flags_dead) {
        (Op::Add, true)  => by_forms!(i, bin, B, Quiet<AddOp>)(),
        (Op::Sub, true)  => by_forms!(i, bin, B, Quiet<SubOp>)(),
        (Op::And, true)  => by_forms!(i, bin, B, Quiet<AndOp>)(),
        (Op::Or, true)   => by_forms!(i, bin, B, Quiet<OrOp>)(),
        (Op::Xor, true)  => by_forms!(i, bin, B, Quiet<XorOp>)(),
        (Op::Inc, true)  => by_rm!(i, quiet_increment, B)(),
        (Op::Dec, true)  => by_rm!(i, quiet_decrement, B)(),
        (Op::Add, _)     => by_forms!(i, bin, B, AddOp)(),
        (Op::Sub, _)     => by_forms!(i, bin, B, SubOp)(),
        (Op::And, _)     => by_forms!(i, bin, B, AndOp)(),
        (Op::Or, _)      => by_forms!(i, bin, B, OrOp)(),
        (Op::Xor, _)     => by_forms!(i, bin, B, XorOp)(),
        (Op::Adc, _)     => by_places!(i, bin, B, AdcOp)(),
        (Op::Sbb, _)     => by_places!(i, bin, B, SbbOp)(),
        (Op::Cmp, _)     => by_forms!(i, comparison, B, SubOp)(),
        (Op::Test, _)    => by_forms!(i, comparison, B, AndOp)(),
        (Op::Inc, _)     => by_rm!(i, increment, B)(),
        (Op::Dec, _)     => by_rm!(i, decrement, B)(),
        (Op::Neg, _)     => by_rm!(i, negation, B)(),
        (Op::Not, _)     => by_rm!(i, complement, B)(),
        _                => return None,
    })
}

/// What `B` makes of the CMP or TEST `i` and the condition of the Jcc after it; `None` where there is no
/// type.
pub fn bind_with_condition<B: ConditionBinder>(i: &Insn, jcc: &Insn) -> Option<B::Bound> {
    match (i.op, i.width) {
        (Op::Cmp, Width::Dword) => compare_by_places::<B, u32, SubOp>(i, jcc),
        (Op::Cmp, Width::Byte) => compare_by_places::<B, u8, SubOp>(i, jcc),
        (Op::Test, Width::Dword) => compare_by_places::<B, u32, AndOp>(i, jcc),
        (Op::Test, Width::Byte) => compare_by_places::<B, u8, AndOp>(i, jcc),
        _ => None,
    }
}

fn compare_by_places<B: ConditionBinder, W: Word, O: Binary>(i: &Insn, jcc: &Insn) -> Option<B::Bound> {
    const DS: usize = SegReg::Ds as usize;
    Some(match (i.dst, i.src, Form::of(i)) {
        (Place::Reg, Place::Reg, _) => by_cond!(jcc, compared, B, W, DstReg, SrcReg, O)(),
        (Place::Reg, Place::Imm, _) => by_cond!(jcc, compared, B, W, DstReg, Imm, O)(),
        (Place::Mem, Place::Imm, Form::BasedDs) => by_cond!(jcc, compared, B, W, Based<DS>, Imm, O)(),
        (Place::Mem, Place::Imm, Form::IndexedDs) => by_cond!(jcc, compared, B, W, Indexed<DS>, Imm, O)(),
        (Place::Reg, Place::Mem, Form::BasedDs) => by_cond!(jcc, compared, B, W, DstReg, Based<DS>, O)(),
        _ => return None,
    })
}

fn compared<B: ConditionBinder, W: Word, D: Target, S: Source, O: Binary, const C: usize>() -> B::Bound {
    B::bind::<Compare<W, D, S, O>, C>()
}

/// `O` without its flags.
struct Quiet<O>(std::marker::PhantomData<O>);

impl<O: Binary> Binary for Quiet<O> {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, b: W) -> (W, LazyFlags) {
        (O::apply(flags, a, b).0, flags)
    }
}

// INC dst
#[inline(always)]
fn inc_quietly<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |_, a: W| wrapping_add(a, W::from_u32(1), false))
}

// DEC dst
#[inline(always)]
fn dec_quietly<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |_, a: W| wrapping_sub(a, W::from_u32(1), false))
}

// ADD, OR, ADC, SBB, AND, SUB, XOR  dst, src
#[inline(always)]
fn binary<E: Env, W: Word, D: Target, S: Source, O: Binary>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let b: W = S::read(cpu, env, i)?;
    D::update(cpu, env, i, |cpu, a| {
        let (r, flags) = O::apply(cpu.lazy, a, b);
        cpu.lazy = flags;
        r
    })
}

// CMP, TEST  dst, src
#[inline(always)]
fn compare<E: Env, W: Word, D: Target, S: Source, O: Binary>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let a: W = D::read(cpu, env, i)?;
    let b: W = S::read(cpu, env, i)?;
    cpu.lazy = O::apply(cpu.lazy, a, b).1;
    Ok(())
}

// INC dst: CF stays
#[inline(always)]
fn inc<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, a: W| {
        let r = wrapping_add(a, W::from_u32(1), false);
        cpu.lazy = LazyFlags::add(a, W::from_u32(1), r).with_cf(cpu.lazy.cf());
        r
    })
}

// DEC dst: CF stays
#[inline(always)]
fn dec<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, a: W| {
        let r = wrapping_sub(a, W::from_u32(1), false);
        cpu.lazy = LazyFlags::sub(a, W::from_u32(1), r).with_cf(cpu.lazy.cf());
        r
    })
}

// NEG dst
#[inline(always)]
fn neg<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, a: W| {
        let zero = W::from_u32(0);
        let r = wrapping_sub(zero, a, false);
        cpu.lazy = LazyFlags::sub(zero, a, r);
        r
    })
}

// NOT dst: no flags
#[inline(always)]
fn not<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |_, a: W| W::from_u32(!a.u()))
}

// XADD dst, reg: if both are one register, the sum stays
fn xadd<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, a: W| {
        let b = cpu.get(i.src_reg);
        let r = wrapping_add(a, b, false);
        cpu.set(i.src_reg, a);
        cpu.lazy = LazyFlags::add(a, b, r);
        r
    })
}

// CMPXCHG dst, reg: the destination is written either way
fn cmpxchg<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, old: W| {
        let expected = cpu.get::<W>(EAX as u8);
        let new = cpu.get(i.src_reg);
        cpu.lazy = LazyFlags::sub(expected, old, wrapping_sub(expected, old, false));
        if expected == old {
            new
        } else {
            cpu.set(EAX as u8, old);
            old
        }
    })
}

// CMPXCHG8B mem: the destination is written either way; of the flags only ZF changes
fn cmpxchg8b<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let low_at = writable(cpu, i.seg, ea(cpu, i), 8)?;
    // A quadword; its halves are checked as doublewords below.
    cpu.check_alignment(low_at, 8)?;
    let high_at = low_at.offset(4);
    let user = cpu.user;
    let low: u32 = env.load_for_update(cpu, low_at, user)?;
    let high: u32 = env.load_for_update(cpu, high_at, user)?;
    let equal = (low, high) == (cpu.regs[EAX], cpu.regs[EDX]);
    let (new_low, new_high) = if equal { (cpu.regs[EBX], cpu.regs[ECX]) } else { (low, high) };
    env.store(cpu, low_at, new_low, user)?;
    env.store(cpu, high_at, new_high, user)?;
    cpu.regs[EAX] = low;
    cpu.regs[EDX] = high;
    cpu.lazy = cpu.lazy.with_zf(equal);
    Ok(())
}

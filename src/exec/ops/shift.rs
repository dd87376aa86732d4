//! Shifts and rotates (SDM vol. 1, 7.3.6; vol. 2).
//!
//! The count is taken modulo 32; with a count of zero nothing changes, though the operand is accessed. The
//! flags that the manual leaves undefined (OF for counts above one, AF, counts beyond the operand's width)
//! are those of current AMD processors, as measured.

use crate::cpu::gpr::ECX;
use crate::cpu::{Cpu, Fault, LazyFlags, Word};
use crate::decode::{Insn, Op, Place};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{DstReg, Imm, Mem, Source, SrcReg, Target, by_wide, by_width};
use crate::exec::{Binder, Env, Handler};

/// A shift or rotate by `n` from 1 to 31: the result and the flags.
trait Shift {
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags);
}

struct RolOp;
struct RorOp;
struct RclOp;
struct RcrOp;
struct ShlOp;
struct ShrOp;
struct SarOp;

/// Picks the compiled form for destination and count.
macro_rules! by_count {
    ($i:expr, $E:ty, $op:ty) => {
        match ($i.dst, $i.src) {
            (Place::Mem, Place::Imm) => by_width!($i, shift, $E, Mem, Imm, $op),
            (Place::Mem, _) => by_width!($i, shift, $E, Mem, SrcReg, $op),
            (_, Place::Imm) => by_width!($i, shift, $E, DstReg, Imm, $op),
            _ => by_width!($i, shift, $E, DstReg, SrcReg, $op),
        }
    };
}

binders! { i, E;
    Rol  => by_count!(i, E, RolOp),
    Ror  => by_count!(i, E, RorOp),
    Rcl  => by_count!(i, E, RclOp),
    Rcr  => by_count!(i, E, RcrOp),
    Shl  => by_count!(i, E, ShlOp),
    Shr  => by_count!(i, E, ShrOp),
    Sar  => by_count!(i, E, SarOp),
    Shld => match i.dst {
        Place::Mem => by_wide!(i, double, E, Mem, ShldOp),
        _          => by_wide!(i, double, E, DstReg, ShldOp),
    },
    Shrd => match i.dst {
        Place::Mem => by_wide!(i, double, E, Mem, ShrdOp),
        _          => by_wide!(i, double, E, DstReg, ShrdOp),
    },
}

semantics!(Shifted, shifting, shift, W: Word, D: Target, S: Source, O: Shift);

/// What `B` makes of the SHL, SHR or SAR `i` of a register by an immediate; without its flags if nothing sees
/// them. `None` where there is no type.
#[rustfmt::skip]
pub fn bind_closely<B: Binder>(i: &Insn, flags_dead: bool) -> Option<B::Bound> {
    if (i.dst, i.src) != (Place::Reg, Place::Imm) {
        return None;
    }
    Some(match (i.op, flags_dead) {
        (Op::Shl, true)  => by_width!(i, shifting, B, DstReg, Imm, Quiet<ShlOp>)(),
        (Op::Shr, true)  => by_width!(i, shifting, B, DstReg, Imm, Quiet<ShrOp>)(),
        (Op::Sar, true)  => by_width!(i, shifting, B, DstReg, Imm, Quiet<SarOp>)(),
        (Op::Shl, false) => by_width!(i, shifting, B, DstReg, Imm, ShlOp)(),
        (Op::Shr, false) => by_width!(i, shifting, B, DstReg, Imm, ShrOp)(),
        (Op::Sar, false) => by_width!(i, shifting, B, DstReg, Imm, SarOp)(),
        _ => return None,
    })
}

/// `O` without its flags.
struct Quiet<O>(std::marker::PhantomData<O>);

impl<O: Shift> Shift for Quiet<O> {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        (O::apply(flags, a, n).0, flags)
    }
}

/// The top bit.
#[inline(always)]
fn top<W: Word>(r: W) -> bool {
    r.s() >> 31 != 0
}

/// Whether the two top bits differ: OF after a shift or rotate to the right.
#[inline(always)]
fn tops_differ<W: Word>(r: W) -> bool {
    ((r.u() >> (W::BITS - 1)) ^ (r.u() >> (W::BITS - 2))) & 1 != 0
}

/// The flags of a shift, as opposed to a rotate: SF, ZF and PF by the result, AF set.
#[inline(always)]
fn shifted<W: Word>(r: W, cf: bool, of: bool) -> (W, LazyFlags) {
    (r, LazyFlags::logic(r).with_af(true).with_cf_of(cf, of))
}

impl Shift for RolOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let k = n % W::BITS;
        let r = W::from_u32((a.u() << k) | (a.u() >> ((W::BITS - k) % W::BITS)));
        let cf = r.u() & 1 != 0;
        (r, flags.with_cf_of(cf, top(r) != cf))
    }
}

impl Shift for RorOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let k = n % W::BITS;
        let r = W::from_u32((a.u() >> k) | (a.u() << ((W::BITS - k) % W::BITS)));
        (r, flags.with_cf_of(top(r), tops_differ(r)))
    }
}

/// The operand with CF above it, rotated left by `k` in its width plus one: the result, and the new CF.
#[inline(always)]
fn rotate_through_carry<W: Word>(cf: bool, a: W, k: u32) -> (W, bool) {
    let v = (u64::from(cf) << W::BITS) | u64::from(a.u());
    let r = (v << k) | (v >> (W::BITS + 1 - k));
    (W::from_u32(r as u32), (r >> W::BITS) & 1 != 0)
}

impl Shift for RclOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let (r, cf) = rotate_through_carry(flags.cf(), a, n % (W::BITS + 1));
        (r, flags.with_cf_of(cf, top(r) != cf))
    }
}

impl Shift for RcrOp {
    #[inline(always)]
    fn apply<W: Word>(flags: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let left = (W::BITS + 1 - n % (W::BITS + 1)) % (W::BITS + 1);
        let (r, cf) = rotate_through_carry(flags.cf(), a, left);
        (r, flags.with_cf_of(cf, tops_differ(r)))
    }
}

impl Shift for ShlOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let wide = u64::from(a.u()) << n;
        let r = W::from_u32(wide as u32);
        let cf = (wide >> W::BITS) & 1 != 0;
        shifted(r, cf, top(r) != cf)
    }
}

impl Shift for ShrOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let r = W::from_u32(a.u() >> n);
        let cf = (a.u() >> (n - 1)) & 1 != 0;
        shifted(r, cf, tops_differ(r))
    }
}

impl Shift for SarOp {
    #[inline(always)]
    fn apply<W: Word>(_: LazyFlags, a: W, n: u32) -> (W, LazyFlags) {
        let signed = a.s() as i32;
        let r = W::from_u32((signed >> n) as u32);
        let cf = (signed >> (n - 1)) & 1 != 0;
        shifted(r, cf, false)
    }
}

// ROL, ROR, RCL, RCR, SHL, SHR, SAR  dst, count
#[inline(always)]
fn shift<E: Env, W: Word, D: Target, S: Source, O: Shift>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let n = S::read::<u8, E>(cpu, env, i)?.u() & 31;
    D::update(cpu, env, i, |cpu, a: W| {
        if n == 0 {
            return a;
        }
        let (r, flags) = O::apply(cpu.lazy, a, n);
        cpu.lazy = flags;
        r
    })
}

/// A double shift by `n` from 1 to 31: the result and the flags.
trait Double {
    fn apply<W: Word>(a: W, b: W, n: u32) -> (W, LazyFlags);
}

struct ShldOp;
struct ShrdOp;

impl Double for ShldOp {
    /// With 16 bits and a count above 16, what follows the source is the source again.
    #[inline(always)]
    fn apply<W: Word>(a: W, b: W, n: u32) -> (W, LazyFlags) {
        let (a64, b64) = (u64::from(a.u()), u64::from(b.u()));
        let r = if W::BITS == 32 {
            ((((a64 << 32) | b64) << n) >> 32) as u32
        } else {
            ((((a64 << 32) | (b64 << 16) | b64) << n) >> 32) as u32
        };
        let r = W::from_u32(r);
        let cf = ((a64 << n) >> W::BITS) & 1 != 0;
        let of = if n < W::BITS { top(r) != cf } else { cf };
        shifted(r, cf, of)
    }
}

impl Double for ShrdOp {
    /// With 16 bits and a count above 16, what precedes the source is the source again.
    #[inline(always)]
    fn apply<W: Word>(a: W, b: W, n: u32) -> (W, LazyFlags) {
        let (a64, b64) = (u64::from(a.u()), u64::from(b.u()));
        let wide = if W::BITS == 32 { (b64 << 32) | a64 } else { (b64 << 32) | (b64 << 16) | a64 };
        let r = W::from_u32((wide >> n) as u32);
        let cf = (a64 >> (n - 1)) & 1 != 0;
        shifted(r, cf, tops_differ(r))
    }
}

// SHLD, SHRD  dst, reg, count
fn double<E: Env, W: Word, D: Target, O: Double>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let count = if i.extra == 1 { cpu.regs[ECX] } else { i.imm };
    let n = count & 31;
    let b: W = cpu.get(i.src_reg);
    D::update(cpu, env, i, |cpu, a| {
        if n == 0 {
            return a;
        }
        let (r, flags) = O::apply(a, b, n);
        cpu.lazy = flags;
        r
    })
}

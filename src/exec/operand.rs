//! Operands: effective addresses, segment checks, and reading and writing by place.
//!
//! A semantic function names its operands' places by the marker types [`DstReg`], [`SrcReg`], [`Mem`] and
//! [`Imm`], so that it is written once and compiled for each form; `bind` in each family picks the compiled
//! form when an instruction is decoded.

use super::Env;
use crate::addr::Linear;
use crate::cpu::{Cpu, Fault, Packed, Word};
use crate::decode::insn::NO_REG;
use crate::decode::{Insn, SegReg};

/// The offset that the memory operand of `i` names (SDM vol. 1, 3.7.5).
#[inline(always)]
pub fn ea(cpu: &Cpu, i: &Insn) -> u32 {
    let index = cpu.reg(i.index) << (i.scale & 3);
    cpu.reg(i.base).wrapping_add(index).wrapping_add(i.disp) & i.addr_mask
}

/// The linear address of `len` bytes to be read at `offset` in `seg`, after the segment's checks.
///
/// # Errors
/// #GP(0), or #SS(0) for the stack segment (SDM vol. 3, 5.3).
#[inline(always)]
pub fn readable(cpu: &Cpu, seg: SegReg, offset: u32, len: u32) -> Result<Linear, Fault> {
    let s = cpu.seg(seg);
    if u64::from(offset) + u64::from(len) > s.read_end {
        check_slow(cpu, seg, offset, len, false)?;
    }
    Ok(Linear(s.base.wrapping_add(offset)))
}

/// The linear address of `len` bytes to be written at `offset` in `seg`, after the segment's checks.
///
/// # Errors
/// #GP(0), or #SS(0) for the stack segment (SDM vol. 3, 5.3).
#[inline(always)]
pub fn writable(cpu: &Cpu, seg: SegReg, offset: u32, len: u32) -> Result<Linear, Fault> {
    let s = cpu.seg(seg);
    if u64::from(offset) + u64::from(len) > s.write_end {
        check_slow(cpu, seg, offset, len, true)?;
    }
    Ok(Linear(s.base.wrapping_add(offset)))
}

/// The exact check: null and expand-down segments, and the fault.
#[cold]
#[inline(never)]
fn check_slow(cpu: &Cpu, seg: SegReg, offset: u32, len: u32, write: bool) -> Result<(), Fault> {
    let s = cpu.seg(seg);
    let fault = if seg == SegReg::Ss { Fault::SS0 } else { Fault::GP0 };
    if !s.usable() {
        return Err(Fault::GP0);
    }
    // In real and virtual-8086 mode only the limit counts: type bits are not looked at.
    if cpu.selectors() && !(if write { s.writable() } else { s.readable() }) {
        return Err(Fault::GP0);
    }
    if s.in_limit(offset, len) { Ok(()) } else { Err(fault) }
}

/// Reads `W` at `seg:offset`.
///
/// # Errors
/// The segment's or the page's fault.
#[inline(always)]
pub fn load<W: Word, E: Env>(cpu: &Cpu, env: &mut E, seg: SegReg, offset: u32) -> Result<W, Fault> {
    let s = cpu.seg(seg);
    if u64::from(offset) + u64::from(W::BYTES) > s.read_end {
        if E::TRIES {
            return Err(Fault::GP0);
        }
        return load_checked::<W, E>(cpu, env, seg, offset).unpack().map(W::from_u32);
    }
    env.load(cpu, Linear(s.base.wrapping_add(offset)), cpu.user)
}

// The whole access is out of line where the check is not trivial, so that the caller keeps nothing across a
// call.
#[cold]
#[inline(never)]
fn load_checked<W: Word, E: Env>(cpu: &Cpu, env: &mut E, seg: SegReg, offset: u32) -> Packed {
    let at = readable(cpu, seg, offset, W::BYTES);
    at.and_then(|at| env.load::<W>(cpu, at, cpu.user)).map(W::u).into()
}

/// Writes `W` at `seg:offset`.
///
/// # Errors
/// The segment's or the page's fault.
#[inline(always)]
pub fn store<W: Word, E: Env>(cpu: &Cpu, env: &mut E, seg: SegReg, offset: u32, v: W) -> Result<(), Fault> {
    let s = cpu.seg(seg);
    if u64::from(offset) + u64::from(W::BYTES) > s.write_end {
        if E::TRIES {
            return Err(Fault::GP0);
        }
        return store_checked(cpu, env, seg, offset, v);
    }
    env.store(cpu, Linear(s.base.wrapping_add(offset)), v, cpu.user)
}

#[cold]
#[inline(never)]
fn store_checked<W: Word, E: Env>(
    cpu: &Cpu,
    env: &mut E,
    seg: SegReg,
    offset: u32,
    v: W,
) -> Result<(), Fault> {
    let at = writable(cpu, seg, offset, W::BYTES)?;
    env.store(cpu, at, v, cpu.user)
}

/// An operand that can be read.
pub trait Source {
    /// Its value.
    ///
    /// # Errors
    /// A memory operand's fault.
    fn read<W: Word, E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<W, Fault>;
}

/// An operand that can be written.
pub trait Target: Source {
    /// Writes it.
    ///
    /// # Errors
    /// A memory operand's fault.
    fn write<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, v: W) -> Result<(), Fault>;

    /// Reads it, computes, writes it back. `f` gives the new value and may change `cpu`: it runs only when
    /// the write cannot fault any more.
    ///
    /// # Errors
    /// A memory operand's fault.
    fn update<W: Word, E: Env>(
        cpu: &mut Cpu,
        env: &mut E,
        i: &Insn,
        f: impl FnOnce(&mut Cpu, W) -> W,
    ) -> Result<(), Fault>;
}

/// The register of the first operand.
pub struct DstReg;
/// The register of the second operand.
pub struct SrcReg;
/// The memory operand.
pub struct Mem;
/// The immediate.
pub struct Imm;

impl Source for DstReg {
    #[inline(always)]
    fn read<W: Word, E: Env>(cpu: &Cpu, _: &mut E, i: &Insn) -> Result<W, Fault> {
        Ok(cpu.get(i.dst_reg))
    }
}

impl Target for DstReg {
    #[inline(always)]
    fn write<W: Word, E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn, v: W) -> Result<(), Fault> {
        cpu.set(i.dst_reg, v);
        Ok(())
    }
    #[inline(always)]
    fn update<W: Word, E: Env>(
        cpu: &mut Cpu,
        _: &mut E,
        i: &Insn,
        f: impl FnOnce(&mut Cpu, W) -> W,
    ) -> Result<(), Fault> {
        let old = cpu.get(i.dst_reg);
        let new = f(cpu, old);
        cpu.set(i.dst_reg, new);
        Ok(())
    }
}

impl Source for SrcReg {
    #[inline(always)]
    fn read<W: Word, E: Env>(cpu: &Cpu, _: &mut E, i: &Insn) -> Result<W, Fault> {
        Ok(cpu.get(i.src_reg))
    }
}

impl Source for Imm {
    #[inline(always)]
    fn read<W: Word, E: Env>(_: &Cpu, _: &mut E, i: &Insn) -> Result<W, Fault> {
        Ok(W::from_u32(i.imm))
    }
}

/// A memory operand: where it is. All are read and written alike.
pub trait Address {
    /// Its segment.
    fn segment(i: &Insn) -> SegReg;
    /// Its offset.
    fn offset(cpu: &Cpu, i: &Insn) -> u32;
}

impl Address for Mem {
    #[inline(always)]
    fn segment(i: &Insn) -> SegReg {
        i.seg
    }
    #[inline(always)]
    fn offset(cpu: &Cpu, i: &Insn) -> u32 {
        ea(cpu, i)
    }
}

/// The memory operand of a 32-bit address without an index, in the segment with this number: [`Mem`] with
/// less to look up.
pub struct Based<const SEG: usize>;

impl<const SEG: usize> Address for Based<SEG> {
    #[inline(always)]
    fn segment(_: &Insn) -> SegReg {
        SegReg::ALL[SEG]
    }
    #[inline(always)]
    fn offset(cpu: &Cpu, i: &Insn) -> u32 {
        cpu.reg(i.base).wrapping_add(i.disp)
    }
}

/// A memory operand with a base and an index, in the segment `SEG`.
pub struct Indexed<const SEG: usize>;

impl<const SEG: usize> Address for Indexed<SEG> {
    #[inline(always)]
    fn segment(_: &Insn) -> SegReg {
        SegReg::ALL[SEG]
    }
    #[inline(always)]
    fn offset(cpu: &Cpu, i: &Insn) -> u32 {
        cpu.reg(i.base).wrapping_add(cpu.reg(i.index) << (i.scale & 3)).wrapping_add(i.disp)
    }
}

impl<A: Address> Source for A {
    #[inline(always)]
    fn read<W: Word, E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<W, Fault> {
        load(cpu, env, A::segment(i), A::offset(cpu, i))
    }
}

impl<A: Address> Target for A {
    #[inline(always)]
    fn write<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, v: W) -> Result<(), Fault> {
        store(cpu, env, A::segment(i), A::offset(cpu, i), v)
    }
    #[inline(always)]
    fn update<W: Word, E: Env>(
        cpu: &mut Cpu,
        env: &mut E,
        i: &Insn,
        f: impl FnOnce(&mut Cpu, W) -> W,
    ) -> Result<(), Fault> {
        let (seg, offset) = (A::segment(i), A::offset(cpu, i));
        if E::TRIES && u64::from(offset) + u64::from(W::BYTES) > cpu.seg(seg).write_end {
            return Err(Fault::GP0);
        }
        let at = writable(cpu, seg, offset, W::BYTES)?;
        let user = cpu.user;
        let old = env.load_for_update(cpu, at, user)?;
        let new = f(cpu, old);
        env.store(cpu, at, new, user)
    }
}

/// A memory operand's form, as far as there are types for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// [`Based`] in DS.
    BasedDs,
    /// [`Based`] in SS.
    BasedSs,
    /// [`Indexed`] in DS.
    IndexedDs,
    /// Any.
    Other,
}

impl Form {
    /// The form of the memory operand of `i`.
    pub fn of(i: &Insn) -> Self {
        match (i.addr_mask, i.seg, i.index == NO_REG) {
            (0xffff_ffff, SegReg::Ds, true) => Self::BasedDs,
            (0xffff_ffff, SegReg::Ss, true) => Self::BasedSs,
            (0xffff_ffff, SegReg::Ds, false) => Self::IndexedDs,
            _ => Self::Other,
        }
    }
}

/// Picks the compiled form of `$f` for the width of `$i`: `by_width!(i, f, E)` names `f::<E, u8>` and so on;
/// extra type arguments follow.
macro_rules! by_width {
    ($i:expr, $f:ident, $E:ty $(, $arg:ty)*) => {
        match $i.width {
            $crate::bus::Width::Byte => $f::<$E, u8 $(, $arg)*>,
            $crate::bus::Width::Word => $f::<$E, u16 $(, $arg)*>,
            $crate::bus::Width::Dword => $f::<$E, u32 $(, $arg)*>,
        }
    };
}

/// As [`by_width`], for what has no byte form.
macro_rules! by_wide {
    ($i:expr, $f:ident, $E:ty $(, $arg:ty)*) => {
        match $i.width {
            $crate::bus::Width::Word => $f::<$E, u16 $(, $arg)*>,
            _ => $f::<$E, u32 $(, $arg)*>,
        }
    };
}

/// Picks the compiled form of `$f` for the condition of `$i`, its last, constant, argument.
macro_rules! by_cond {
    ($i:expr, $f:ident $(, $arg:ty)*) => {
        match $i.cond {
            $crate::decode::Cond::O => $f::<$($arg,)* 0>,
            $crate::decode::Cond::No => $f::<$($arg,)* 1>,
            $crate::decode::Cond::B => $f::<$($arg,)* 2>,
            $crate::decode::Cond::Ae => $f::<$($arg,)* 3>,
            $crate::decode::Cond::E => $f::<$($arg,)* 4>,
            $crate::decode::Cond::Ne => $f::<$($arg,)* 5>,
            $crate::decode::Cond::Be => $f::<$($arg,)* 6>,
            $crate::decode::Cond::A => $f::<$($arg,)* 7>,
            $crate::decode::Cond::S => $f::<$($arg,)* 8>,
            $crate::decode::Cond::Ns => $f::<$($arg,)* 9>,
            $crate::decode::Cond::P => $f::<$($arg,)* 10>,
            $crate::decode::Cond::Np => $f::<$($arg,)* 11>,
            $crate::decode::Cond::L => $f::<$($arg,)* 12>,
            $crate::decode::Cond::Ge => $f::<$($arg,)* 13>,
            $crate::decode::Cond::Le => $f::<$($arg,)* 14>,
            $crate::decode::Cond::G => $f::<$($arg,)* 15>,
        }
    };
}

/// As [`by_width`], for a single operand that is a register or memory.
macro_rules! by_rm {
    ($i:expr, $f:ident, $E:ty $(, $arg:ty)*) => {
        match $i.dst {
            $crate::decode::Place::Mem => by_width!($i, $f, $E, $crate::exec::operand::Mem $(, $arg)*),
            _ => by_width!($i, $f, $E, $crate::exec::operand::DstReg $(, $arg)*),
        }
    };
}

/// As [`by_width`], for a first operand that is a register or memory and a second one that is any.
macro_rules! by_places {
    ($i:expr, $f:ident, $E:ty $(, $arg:ty)*) => {{
        use $crate::decode::Place;
        use $crate::exec::operand::{DstReg, Imm, Mem, SrcReg};
        match ($i.dst, $i.src) {
            (Place::Mem, Place::Imm) => by_width!($i, $f, $E, Mem, Imm $(, $arg)*),
            (Place::Mem, _) => by_width!($i, $f, $E, Mem, SrcReg $(, $arg)*),
            (_, Place::Mem) => by_width!($i, $f, $E, DstReg, Mem $(, $arg)*),
            (_, Place::Imm) => by_width!($i, $f, $E, DstReg, Imm $(, $arg)*),
            _ => by_width!($i, $f, $E, DstReg, SrcReg $(, $arg)*),
        }
    }};
}

/// As [`by_places`], with the forms of memory operands that have types of their own.
macro_rules! by_forms {
    ($i:expr, $f:ident, $E:ty $(, $arg:ty)*) => {{
        use $crate::decode::Place;
        use $crate::exec::operand::{Based, DstReg, Form, Imm, Indexed, SrcReg};
        const DS: usize = $crate::decode::SegReg::Ds as usize;
        const SS: usize = $crate::decode::SegReg::Ss as usize;
        match ($i.dst, $i.src, Form::of($i)) {
            (Place::Mem, Place::Imm, Form::BasedDs) => by_width!($i, $f, $E, Based<DS>, Imm $(, $arg)*),
            (Place::Mem, Place::Imm, Form::BasedSs) => by_width!($i, $f, $E, Based<SS>, Imm $(, $arg)*),
            (Place::Mem, Place::Imm, Form::IndexedDs) => by_width!($i, $f, $E, Indexed<DS>, Imm $(, $arg)*),
            (Place::Mem, Place::Reg, Form::BasedDs) => by_width!($i, $f, $E, Based<DS>, SrcReg $(, $arg)*),
            (Place::Mem, Place::Reg, Form::BasedSs) => by_width!($i, $f, $E, Based<SS>, SrcReg $(, $arg)*),
            (Place::Mem, Place::Reg, Form::IndexedDs) => by_width!($i, $f, $E, Indexed<DS>, SrcReg $(, $arg)*),
            (Place::Reg, Place::Mem, Form::BasedDs) => by_width!($i, $f, $E, DstReg, Based<DS> $(, $arg)*),
            (Place::Reg, Place::Mem, Form::BasedSs) => by_width!($i, $f, $E, DstReg, Based<SS> $(, $arg)*),
            (Place::Reg, Place::Mem, Form::IndexedDs) => by_width!($i, $f, $E, DstReg, Indexed<DS> $(, $arg)*),
            _ => by_places!($i, $f, $E $(, $arg)*),
        }
    }};
}

pub(crate) use {by_cond, by_forms, by_places, by_rm, by_wide, by_width};

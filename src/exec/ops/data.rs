//! Data movement: MOV and its kin, exchanges, conversions (SDM vol. 1, 7.3.1; vol. 2).

use crate::bus::Width;
use crate::cpu::gpr::{EAX, EBX, EDX};
use crate::cpu::vmx::{Primary, Reason};
use crate::cpu::{Cpu, Eflags, Fault, LazyFlags, Word};
use crate::decode::{Cond, Insn, Op, Place, SegReg};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{
    Based, DstReg, Form, Indexed, Mem, Source, SrcReg, Target, by_cond, by_forms, by_places, by_rm, by_wide,
    by_width, ea, load,
};
use crate::exec::vmx::intercept;
use crate::exec::{Binder, Env, Handler, Semantics};

const AL: u8 = EAX as u8;
const AH: u8 = 4;

binders! { i, E;
    Mov   => by_places!(i, mov, E),
    Movzx => bind_extension::<E, Zero>(i),
    Movsx => bind_extension::<E, Sign>(i),
    Lea   => by_wide!(i, lea, E),
    Xchg  => by_rm!(i, xchg, E),
    Bswap => by_wide!(i, bswap, E),
    Cmov  => bind_cmov(i),
    Setcc => match i.dst {
        Place::Mem => by_cond!(i, setcc, E, Mem),
        _          => by_cond!(i, setcc, E, DstReg),
    },
    Xlat  => xlat,
    Lahf  => lahf,
    Sahf  => sahf,
    Cbw   => if i.width == Width::Word { cbw } else { cwde },
    Cwd   => by_wide!(i, cwd, E),
    Salc  => salc,
    Nop   => nop,
    Pause => pause,
}

semantics!(Mov, movement, mov, W: Word, D: Target, S: Source);
semantics!(Extend, extended, extend, W: Word, V: Word, S: Source, X: Extension);
semantics!(Lea, address, lea, W: Word);
semantics!(Nop, nothing, nop);

semantics!(Swap, swapping, xchg, W: Word, D: Target);
semantics!(Cwd, doubling, cwd, W: Word);

struct Cmov<S, const C: usize>(std::marker::PhantomData<S>);

impl<S: Source, const C: usize> Semantics for Cmov<S, C> {
    #[inline(always)]
    fn run<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        cmov::<E, u32, S, C>(cpu, env, i)
    }
}

fn moving_if<B: Binder, S: Source, const C: usize>() -> B::Bound {
    B::bind::<Cmov<S, C>>()
}

struct Setcc<D, const C: usize>(std::marker::PhantomData<D>);

impl<D: Target, const C: usize> Semantics for Setcc<D, C> {
    #[inline(always)]
    fn run<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        setcc::<E, D, C>(cpu, env, i)
    }
}

fn setting_if<B: Binder, D: Target, const C: usize>() -> B::Bound {
    B::bind::<Setcc<D, C>>()
}

/// What `B` makes of `i`, of a type for its form of memory operand; `None` where there is none.
pub fn bind_closely<B: Binder>(i: &Insn) -> Option<B::Bound> {
    Some(match i.op {
        Op::Mov => by_forms!(i, movement, B)(),
        Op::Movzx => return extension_closely::<B, Zero>(i),
        Op::Movsx => return extension_closely::<B, Sign>(i),
        Op::Lea => by_wide!(i, address, B)(),
        Op::Cwd => by_wide!(i, doubling, B)(),
        Op::Xchg if i.dst == Place::Reg => by_width!(i, swapping, B, DstReg)(),
        Op::Cmov if i.width == Width::Dword => match i.src {
            Place::Mem => by_cond!(i, moving_if, B, Mem)(),
            _ => by_cond!(i, moving_if, B, SrcReg)(),
        },
        Op::Setcc if i.dst == Place::Reg => by_cond!(i, setting_if, B, DstReg)(),
        Op::Nop => nothing::<B>(),
        _ => return None,
    })
}

fn extension_closely<B: Binder, X: Extension>(i: &Insn) -> Option<B::Bound> {
    match (i.width, i.src_width) {
        (Width::Dword, Width::Byte) => widening::<B, u8, X>(i),
        (Width::Dword, Width::Word) => widening::<B, u16, X>(i),
        _ => None,
    }
}

fn widening<B: Binder, V: Word, X: Extension>(i: &Insn) -> Option<B::Bound> {
    const DS: usize = SegReg::Ds as usize;
    const SS: usize = SegReg::Ss as usize;
    Some(match (i.src, Form::of(i)) {
        (Place::Mem, Form::BasedDs) => extended::<B, u32, V, Based<DS>, X>(),
        (Place::Mem, Form::BasedSs) => extended::<B, u32, V, Based<SS>, X>(),
        (Place::Mem, Form::IndexedDs) => extended::<B, u32, V, Indexed<DS>, X>(),
        (Place::Mem, _) => return None,
        _ => extended::<B, u32, V, SrcReg, X>(),
    })
}

fn bind_extension<E: Env, X: Extension>(i: &Insn) -> Handler<E> {
    match (i.width, i.src_width, i.src) {
        (Width::Word, Width::Byte, Place::Mem) => extend::<E, u16, u8, Mem, X>,
        (Width::Word, Width::Byte, _) => extend::<E, u16, u8, SrcReg, X>,
        (Width::Word, _, Place::Mem) => extend::<E, u16, u16, Mem, X>,
        (Width::Word, _, _) => extend::<E, u16, u16, SrcReg, X>,
        (_, Width::Byte, Place::Mem) => extend::<E, u32, u8, Mem, X>,
        (_, Width::Byte, _) => extend::<E, u32, u8, SrcReg, X>,
        (_, _, Place::Mem) => extend::<E, u32, u16, Mem, X>,
        _ => extend::<E, u32, u16, SrcReg, X>,
    }
}

fn bind_cmov<E: Env>(i: &Insn) -> Handler<E> {
    match (i.width, i.src) {
        (Width::Word, Place::Mem) => by_cond!(i, cmov, E, u16, Mem),
        (Width::Word, _) => by_cond!(i, cmov, E, u16, SrcReg),
        (_, Place::Mem) => by_cond!(i, cmov, E, u32, Mem),
        _ => by_cond!(i, cmov, E, u32, SrcReg),
    }
}

// MOV dst, src
#[inline(always)]
fn mov<E: Env, W: Word, D: Target, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v: W = S::read(cpu, env, i)?;
    D::write(cpu, env, i, v)
}

/// How a narrow value fills a wider register.
trait Extension {
    fn widen<V: Word>(v: V) -> u32;
}

struct Zero;
struct Sign;

impl Extension for Zero {
    #[inline(always)]
    fn widen<V: Word>(v: V) -> u32 {
        v.u()
    }
}

impl Extension for Sign {
    #[inline(always)]
    fn widen<V: Word>(v: V) -> u32 {
        v.s()
    }
}

// MOVZX, MOVSX  reg, src
#[inline(always)]
fn extend<E: Env, W: Word, V: Word, S: Source, X: Extension>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let v: V = S::read(cpu, env, i)?;
    cpu.set(i.dst_reg, W::from_u32(X::widen(v)));
    Ok(())
}

// LEA reg, mem
#[inline(always)]
fn lea<E: Env, W: Word>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    cpu.set(i.dst_reg, W::from_u32(ea(cpu, i)));
    Ok(())
}

// XCHG dst, reg
#[inline(always)]
fn xchg<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    D::update(cpu, env, i, |cpu, old: W| {
        let new = cpu.get(i.src_reg);
        cpu.set(i.src_reg, old);
        new
    })
}

// BSWAP reg: the 16-bit form is undefined; processors leave zero there
fn bswap<E: Env, W: Word>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    let swapped = if W::BITS == 16 { 0 } else { cpu.reg(i.dst_reg).swap_bytes() };
    cpu.set(i.dst_reg, W::from_u32(swapped));
    Ok(())
}

// CMOVcc reg, src: the source is read either way
#[inline(always)]
fn cmov<E: Env, W: Word, S: Source, const C: usize>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let v: W = S::read(cpu, env, i)?;
    if cpu.lazy.holds(Cond::ALL[C]) {
        cpu.set(i.dst_reg, v);
    }
    Ok(())
}

// SETcc dst
#[inline(always)]
fn setcc<E: Env, D: Target, const C: usize>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v = u8::from(cpu.lazy.holds(Cond::ALL[C]));
    D::write(cpu, env, i, v)
}

// XLATB: AL := [EBX + AL]
fn xlat<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let index = cpu.get::<u8>(AL).u();
    let offset = cpu.regs[EBX].wrapping_add(index) & i.addr_mask;
    let v: u8 = load(cpu, env, i.seg, offset)?;
    cpu.set(AL, v);
    Ok(())
}

// LAHF
fn lahf<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let flags = cpu.lazy.to_flags() | Eflags::FIXED;
    cpu.set(AH, flags.bits() as u8);
    Ok(())
}

// SAHF: OF stays
fn sahf<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let mut flags = Eflags::from_bits_truncate(cpu.get::<u8>(AH).u()) & Eflags::ARITHMETIC;
    flags.set(Eflags::OF, cpu.lazy.of());
    cpu.lazy = LazyFlags::from_flags(flags);
    Ok(())
}

// CBW: AX := sign-extended AL
fn cbw<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let wide = cpu.get::<u8>(AL).s();
    cpu.set(EAX as u8, wide as u16);
    Ok(())
}

// CWDE: EAX := sign-extended AX
fn cwde<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    cpu.regs[EAX] = cpu.get::<u16>(EAX as u8).s();
    Ok(())
}

// CWD, CDQ: (E)DX := the sign of (E)AX
#[inline(always)]
fn cwd<E: Env, W: Word>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let sign = ((cpu.get::<W>(EAX as u8).s() as i32) >> 31) as u32;
    cpu.set(EDX as u8, W::from_u32(sign));
    Ok(())
}

// SALC (undocumented): AL := CF ? FF : 0
fn salc<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let v = if cpu.lazy.cf() { 0xff } else { 0u8 };
    cpu.set(AL, v);
    Ok(())
}

// NOP, and the hinting NOPs, whose memory operand is not accessed
#[inline(always)]
fn nop<E: Env>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    Ok(())
}

// PAUSE
fn pause<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    intercept::by(cpu, i, Primary::PAUSE, Reason::Pause)
}

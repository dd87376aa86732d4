//! Near control transfer, loops and BOUND (SDM vol. 1, 7.3.8; vol. 2).
//!
//! With a 16-bit operand size EIP is cut to 16 bits. A target outside CS is #GP(0) at the branch, before
//! anything is committed.

use crate::cpu::gpr::ECX;
use crate::cpu::{Cpu, Fault, Word};
use crate::decode::{Cond, Insn, Op, Place, SegReg};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{DstReg, Mem, Source, by_cond, by_wide, ea, load};
use crate::exec::stack::{pop_above, push};
use crate::exec::{Binder, Env, Handler};

binders! { i, E;
    Jcc     => match i.width {
        crate::bus::Width::Word => by_cond!(i, jcc, E, u16),
        _                       => by_cond!(i, jcc, E, u32),
    },
    Jmp     => by_wide!(i, jmp, E),
    Call    => by_wide!(i, call, E),
    JmpInd  => match i.dst {
        Place::Mem => by_wide!(i, jmp_indirect, E, Mem),
        _          => by_wide!(i, jmp_indirect, E, DstReg),
    },
    CallInd => match i.dst {
        Place::Mem => by_wide!(i, call_indirect, E, Mem),
        _          => by_wide!(i, call_indirect, E, DstReg),
    },
    Ret     => by_wide!(i, ret, E),
    Loop    => by_wide!(i, repeat, E, Always),
    Loope   => by_wide!(i, repeat, E, WhileZero),
    Loopne  => by_wide!(i, repeat, E, WhileNotZero),
    Jcxz    => by_wide!(i, jcxz, E),
    Bound => by_wide!(i, bound, E),
}

semantics!(Jmp, jumping, jmp, W: Word);
semantics!(JmpIndirect, jumping_to, jmp_indirect, W: Word, S: Source);
semantics!(Call, calling, call, W: Word);
semantics!(CallIndirect, calling_at, call_indirect, W: Word, S: Source);
semantics!(Ret, returning, ret, W: Word);
semantics!(Repeat, repeating, repeat, W: Word, U: Until);

/// What `B` makes of the near branch `i`; `None` where there is no type.
pub fn bind_closely<B: Binder>(i: &Insn) -> Option<B::Bound> {
    Some(match (i.op, i.dst) {
        (Op::Jmp, _) => by_wide!(i, jumping, B)(),
        (Op::JmpInd, Place::Mem) => by_wide!(i, jumping_to, B, Mem)(),
        (Op::JmpInd, _) => by_wide!(i, jumping_to, B, DstReg)(),
        (Op::Call, _) => by_wide!(i, calling, B)(),
        (Op::CallInd, Place::Mem) => by_wide!(i, calling_at, B, Mem)(),
        (Op::CallInd, _) => by_wide!(i, calling_at, B, DstReg)(),
        (Op::Ret, _) => by_wide!(i, returning, B)(),
        (Op::Loop, _) => by_wide!(i, repeating, B, Always)(),
        _ => return None,
    })
}

/// `target` cut to the operand size, if CS reaches there.
#[inline(always)]
fn within_cs<W: Word>(cpu: &Cpu, target: u32) -> Result<u32, Fault> {
    let target = target & W::MASK;
    if target > cpu.seg(SegReg::Cs).limit { Err(Fault::GP0) } else { Ok(target) }
}

/// Where a relative branch goes.
#[inline(always)]
fn relative<W: Word>(cpu: &Cpu, i: &Insn) -> Result<u32, Fault> {
    within_cs::<W>(cpu, cpu.eip.wrapping_add(i.imm))
}

// Jcc rel
fn jcc<E: Env, W: Word, const C: usize>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.lazy.holds(Cond::ALL[C]) {
        cpu.eip = relative::<W>(cpu, i)?;
        // What follows in the trace is the other way.
        cpu.leave.set(true);
    }
    Ok(())
}

// JMP rel
#[inline(always)]
fn jmp<E: Env, W: Word>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    cpu.eip = relative::<W>(cpu, i)?;
    Ok(())
}

// JMP r/m
#[inline(always)]
fn jmp_indirect<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let target: W = S::read(cpu, env, i)?;
    cpu.eip = within_cs::<W>(cpu, target.u())?;
    Ok(())
}

// CALL rel
#[inline(always)]
fn call<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let target = relative::<W>(cpu, i)?;
    push(cpu, env, W::from_u32(cpu.eip))?;
    cpu.eip = target;
    Ok(())
}

// CALL r/m
#[inline(always)]
fn call_indirect<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let target: W = S::read(cpu, env, i)?;
    let target = within_cs::<W>(cpu, target.u())?;
    push(cpu, env, W::from_u32(cpu.eip))?;
    cpu.eip = target;
    Ok(())
}

// RET imm16
#[inline(always)]
fn ret<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let mut sp = cpu.sp();
    let target: W = pop_above(cpu, env, &mut sp)?;
    cpu.eip = within_cs::<W>(cpu, target.u())?;
    cpu.set_sp(sp.wrapping_add(i.imm & 0xffff));
    Ok(())
}

/// What LOOP looks at beside the count.
trait Until {
    fn goes_on(cpu: &Cpu) -> bool;
}

struct Always;
struct WhileZero;
struct WhileNotZero;

impl Until for Always {
    fn goes_on(_: &Cpu) -> bool {
        true
    }
}

impl Until for WhileZero {
    fn goes_on(cpu: &Cpu) -> bool {
        cpu.lazy.zf()
    }
}

impl Until for WhileNotZero {
    fn goes_on(cpu: &Cpu) -> bool {
        !cpu.lazy.zf()
    }
}

// LOOP, LOOPE, LOOPNE  rel: the address size says whether CX or ECX counts
#[inline(always)]
fn repeat<E: Env, W: Word, U: Until>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    let count = cpu.regs[ECX].wrapping_sub(1) & i.addr_mask;
    if count != 0 && U::goes_on(cpu) {
        cpu.eip = relative::<W>(cpu, i)?;
    }
    cpu.regs[ECX] = (cpu.regs[ECX] & !i.addr_mask) | count;
    Ok(())
}

// JCXZ, JECXZ  rel
fn jcxz<E: Env, W: Word>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.regs[ECX] & i.addr_mask == 0 {
        cpu.eip = relative::<W>(cpu, i)?;
    }
    Ok(())
}

// BOUND reg, mem
fn bound<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let offset = ea(cpu, i);
    let lower = load::<W, E>(cpu, env, i.seg, offset)?.s() as i32;
    let upper = load::<W, E>(cpu, env, i.seg, offset.wrapping_add(W::BYTES) & i.addr_mask)?.s() as i32;
    let index = cpu.get::<W>(i.dst_reg).s() as i32;
    if (lower..=upper).contains(&index) { Ok(()) } else { Err(Fault::BR) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::gpr::ESP;
    use crate::exec::testing::{World, flat, real, step};

    #[test]
    fn a_16_bit_branch_wraps_within_64_kib() {
        let (mut cpu, mut world) = (real(), World::new());
        assert_eq!(step(&mut cpu, &mut world, &[0xe9, 0x00, 0xff]), Ok(()));
        assert_eq!(cpu.eip, 0x0003);
        cpu.eip = 0xfff0;
        assert_eq!(step(&mut cpu, &mut world, &[0xeb, 0x7e]), Ok(()));
        assert_eq!(cpu.eip, 0x0070);
    }

    #[test]
    fn a_target_outside_cs_commits_nothing() {
        let (mut cpu, mut world) = (flat(0), World::new());
        cpu.segs[SegReg::Cs as usize].limit = 0xffff;
        world.put(0x8000, &[0, 0, 1, 0]);
        for code in [&[0xe8, 0, 0, 1, 0][..], &[0xc3], &[0xc2, 4, 0], &[0xe9, 0, 0, 1, 0]] {
            assert_eq!(step(&mut cpu, &mut world, code), Err(Fault::GP0));
            assert_eq!((cpu.eip, cpu.regs[ESP]), (0x100, 0x8000));
        }
        cpu.regs[ECX] = 2;
        cpu.eip = 0xfff0;
        assert_eq!(step(&mut cpu, &mut world, &[0xe2, 0x7f]), Err(Fault::GP0));
        assert_eq!(cpu.regs[ECX], 2);
    }
}

//! Segment registers and the instructions that ask about selectors (SDM vol. 2).

use crate::bus::Width;
use crate::cpu::segment::Descriptor;
use crate::cpu::{Cpu, Fault, Selector, Shadow};
use crate::decode::{Insn, Place, SegReg};
use crate::exec::bind::binders;
use crate::exec::frame::{Frame, peek};
use crate::exec::operand::{DstReg, Mem, Source, SrcReg, Target, by_rm, by_width, ea, load};
use crate::exec::segload::{descriptor_at, find, load_segment};
use crate::exec::{Env, Handler};

binders! { i, E;
    MovFromSeg => by_rm!(i, mov_from, E),
    MovToSeg   => mov_to,
    PushSeg    => push,
    PopSeg     => pop,
    LoadFar    => load_far,
    Arpl       => if i.dst == Place::Mem { arpl::<E, Mem> } else { arpl::<E, DstReg> },
    Lar        => lar,
    Lsl        => lsl,
    Verr       => verr,
    Verw => verw,
}

/// The segment register with this number; the decoder lets no other through.
fn seg_reg(n: u8) -> SegReg {
    SegReg::ALL[usize::from(n).min(5)]
}

/// A 16-bit operand that is a register or memory: the first, or for two-operand forms the second.
fn selector_operand<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<Selector, Fault> {
    let value = match (i.dst, i.src) {
        (Place::Mem, _) | (_, Place::Mem) => Mem::read::<u16, E>(cpu, env, i)?,
        (_, Place::Reg) => SrcReg::read(cpu, env, i)?,
        _ => DstReg::read(cpu, env, i)?,
    };
    Ok(Selector(value))
}

// MOV r/m, Sreg: a 32-bit register gets zeros above
fn mov_from<E: Env, W: crate::cpu::Word, D: Target>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
) -> Result<(), Fault> {
    let value = u32::from(cpu.seg(seg_reg(i.src_reg)).selector.0);
    D::write(cpu, env, i, W::from_u32(value))
}

/// Loads a segment register; SS shadows the next instruction.
fn set<E: Env>(cpu: &mut Cpu, env: &mut E, s: SegReg, selector: u16) -> Result<(), Fault> {
    load_segment(cpu, env, s, selector)?;
    if s == SegReg::Ss {
        cpu.cast_shadow(Shadow::SS);
    }
    Ok(())
}

// MOV Sreg, r/m16
fn mov_to<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let selector =
        if i.src == Place::Mem { Mem::read(cpu, env, i)? } else { SrcReg::read::<u16, E>(cpu, env, i)? };
    set(cpu, env, seg_reg(i.dst_reg), selector)
}

// PUSH Sreg: with a 32-bit operand size the slot's upper half is zero
fn push<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let mut frame = Frame::current(cpu, i.width);
    frame.push(u32::from(cpu.seg(seg_reg(i.dst_reg)).selector.0));
    let sp = frame.commit(cpu, env, 0)?;
    cpu.set_sp(sp);
    Ok(())
}

// POP Sreg
fn pop<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let selector = peek(cpu, env, 0, i.width, 0)? as u16;
    let (sp, mask) = (cpu.sp().wrapping_add(i.width.bytes()), cpu.stack_mask);
    set(cpu, env, seg_reg(i.dst_reg), selector)?;
    // The old stack's width counts, also for POP SS.
    let esp = &mut cpu.regs[crate::cpu::gpr::ESP];
    *esp = (*esp & !mask) | (sp & mask);
    Ok(())
}

// LDS, LES, LSS, LFS, LGS  r, m16:16 or m16:32. LSS loads the whole stack pointer, so it casts no shadow (SDM
// vol. 3, 6.8.3).
fn load_far<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let at = ea(cpu, i);
    let next = at.wrapping_add(i.width.bytes()) & i.addr_mask;
    let (offset, selector) = if i.width == Width::Dword {
        (load::<u32, E>(cpu, env, i.seg, at)?, load::<u16, E>(cpu, env, i.seg, next)?)
    } else {
        (u32::from(load::<u16, E>(cpu, env, i.seg, at)?), load::<u16, E>(cpu, env, i.seg, next)?)
    };
    load_segment(cpu, env, seg_reg(i.extra), selector)?;
    match i.width {
        Width::Dword => cpu.set(i.dst_reg, offset),
        _ => cpu.set(i.dst_reg, offset as u16),
    }
    Ok(())
}

// ARPL r/m16, r16
fn arpl<E: Env, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    let rpl: u16 = cpu.get::<u16>(i.src_reg) & 3;
    let old: u16 = D::read(cpu, env, i)?;
    let raise = old & 3 < rpl;
    if raise {
        D::write(cpu, env, i, (old & !3) | rpl)?;
    }
    cpu.lazy = cpu.lazy.with_zf(raise);
    Ok(())
}

/// What LAR, LSL, VERR and VERW see: the descriptor, if it is within its table and visible at this level.
fn visible<E: Env>(cpu: &Cpu, env: &mut E, sel: Selector) -> Result<Option<Descriptor>, Fault> {
    if sel.is_null() || descriptor_at(cpu, sel).is_none() {
        return Ok(None);
    }
    let d = find(cpu, env, sel, Fault::GP0)?.descriptor;
    let hidden = !d.is_conforming() && (cpu.cpl > d.dpl() || sel.rpl() > d.dpl());
    Ok(if hidden { None } else { Some(d) })
}

/// System descriptor types that LAR and LSL accept.
const LAR_TYPES: [u8; 8] = [1, 2, 3, 4, 5, 9, 11, 12];
const LSL_TYPES: [u8; 5] = [1, 2, 3, 9, 11];

/// LAR and LSL: `value` of the descriptor into the register, if it is one of `types`; ZF says so.
fn query<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
    types: &[u8],
    value: impl FnOnce(Descriptor) -> u32,
) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    let sel = selector_operand(cpu, env, i)?;
    let found = visible(cpu, env, sel)?.filter(|d| d.is_segment() || types.contains(&d.kind()));
    if let Some(d) = found {
        match i.width {
            Width::Dword => cpu.set(i.dst_reg, value(d)),
            _ => cpu.set(i.dst_reg, value(d) as u16),
        }
    }
    cpu.lazy = cpu.lazy.with_zf(found.is_some());
    Ok(())
}

// LAR r, r/m16
fn lar<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    query(cpu, env, i, &LAR_TYPES, |d| (d.0 >> 32) as u32 & 0x00f0_ff00)
}

// LSL r, r/m16
fn lsl<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    query(cpu, env, i, &LSL_TYPES, Descriptor::limit)
}

fn verify<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
    usable: impl FnOnce(Descriptor) -> bool,
) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    let sel = selector_operand(cpu, env, i)?;
    let ok = visible(cpu, env, sel)?.is_some_and(|d| d.is_segment() && usable(d));
    cpu.lazy = cpu.lazy.with_zf(ok);
    Ok(())
}

// VERR r/m16
fn verr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    verify(cpu, env, i, |d| d.load(0).readable())
}

// VERW r/m16
fn verw<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    verify(cpu, env, i, Descriptor::is_writable_data)
}

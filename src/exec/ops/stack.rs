//! Stack instructions (SDM vol. 1, 6.2, 6.6 and 7.3.1.2; vol. 2).

use crate::addr::Linear;
use crate::cpu::gpr::{EBP, EDI, ESP};
use crate::cpu::{Cpu, Eflags, Fault, Word};
use crate::decode::{Insn, Op, Place, SegReg};
use crate::exec::bind::{binders, semantics};
use crate::exec::operand::{DstReg, Imm, Mem, Source, Target, by_wide, load, readable, writable};
use crate::exec::stack::{self, pop_above, push_below};
use crate::exec::{Binder, Env, Handler, vme};

binders! { i, E;
    Push  => match i.dst {
        Place::Mem => by_wide!(i, push, E, Mem),
        Place::Imm => by_wide!(i, push, E, Imm),
        _          => by_wide!(i, push, E, DstReg),
    },
    Pop   => match i.dst {
        Place::Mem => by_wide!(i, pop_mem, E),
        _          => by_wide!(i, pop_reg, E),
    },
    Pusha => by_wide!(i, pusha, E),
    Popa  => by_wide!(i, popa, E),
    Pushf => by_wide!(i, pushf, E),
    Popf  => by_wide!(i, popf, E),
    Enter => by_wide!(i, enter, E),
    Leave => by_wide!(i, leave, E),
}

semantics!(Push, pushing, push, W: Word, S: Source);
semantics!(Pop, popping, pop_reg, W: Word);
semantics!(Leave, leaving, leave, W: Word);

/// What `B` makes of `i`; `None` where there is no type.
pub fn bind_closely<B: Binder>(i: &Insn) -> Option<B::Bound> {
    Some(match (i.op, i.dst) {
        (Op::Push, Place::Imm) => by_wide!(i, pushing, B, Imm)(),
        (Op::Push, Place::Reg) => by_wide!(i, pushing, B, DstReg)(),
        (Op::Push, Place::Mem) => by_wide!(i, pushing, B, Mem)(),
        (Op::Pop, Place::Reg) => by_wide!(i, popping, B)(),
        (Op::Leave, _) => by_wide!(i, leaving, B)(),
        _ => return None,
    })
}

// PUSH src: PUSH ESP pushes the value before
#[inline(always)]
fn push<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v: W = S::read(cpu, env, i)?;
    stack::push(cpu, env, v)
}

// POP reg: POP ESP leaves what was popped
#[inline(always)]
fn pop_reg<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v: W = stack::pop(cpu, env)?;
    cpu.set(i.dst_reg, v);
    Ok(())
}

// POP mem: the address is computed with (E)SP already incremented
fn pop_mem<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let before = cpu.regs[ESP];
    let v: W = stack::pop(cpu, env)?;
    let stored = Mem::write(cpu, env, i, v);
    if stored.is_err() {
        cpu.regs[ESP] = before;
    }
    stored
}

// PUSHA: EAX, ECX, EDX, EBX, the ESP of before, EBP, ESI, EDI
fn pusha<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    let mut sp = cpu.sp();
    if env.restarts() {
        let mut each = (1..=8).map(|n| reaches_push::<E, W>(cpu, env, sp.wrapping_sub(n * W::BYTES)));
        up_to_alignment(each.try_for_each(|found| found))?;
    }
    for reg in 0..=EDI as u8 {
        push_below(cpu, env, &mut sp, cpu.get::<W>(reg))?;
    }
    cpu.set_sp(sp);
    Ok(())
}

// POPA: the popped ESP is dropped
fn popa<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    let mut sp = cpu.sp();
    let mut values = [W::from_u32(0); 8];
    for v in values.iter_mut().rev() {
        *v = pop_above(cpu, env, &mut sp)?;
    }
    for (reg, v) in values.into_iter().enumerate() {
        if reg != ESP {
            cpu.set(reg as u8, v);
        }
    }
    cpu.set_sp(sp);
    Ok(())
}

/// In virtual-8086 mode PUSHF and POPF are privileged unless IOPL is 3, or VME is on.
fn is_virtual(cpu: &Cpu) -> bool {
    cpu.v86() && cpu.iopl() < 3
}

// PUSHF: VM and RF are clear in the image
fn pushf<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    let flags = if is_virtual(cpu) { vme::pushed_flags(cpu, W::WIDTH)? } else { cpu.eflags() };
    let image = flags - (Eflags::VM | Eflags::RF);
    stack::push(cpu, env, W::from_u32(image.bits()))
}

// POPF
fn popf<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    if is_virtual(cpu) {
        return popf_virtual::<E, W>(cpu, env);
    }
    let image: W = stack::pop(cpu, env)?;
    let changed = Eflags::from_bits_truncate(W::MASK) & popf_may_change(cpu);
    let kept = cpu.eflags() - changed - Eflags::RF;
    cpu.set_eflags(kept | (Eflags::from_bits_truncate(image.u()) & changed));
    Ok(())
}

fn popf_virtual<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E) -> Result<(), Fault> {
    vme::may_pop_flags(cpu, W::WIDTH)?;
    let mut sp = cpu.sp();
    let image: W = pop_above(cpu, env, &mut sp)?;
    let flags = vme::popped_flags(cpu, image.u())?;
    cpu.set_sp(sp);
    cpu.set_eflags(flags - Eflags::RF);
    Ok(())
}

/// The flags that POPF changes: IF by IOPL, IOPL at CPL 0 alone, VM never; RF is cleared.
fn popf_may_change(cpu: &Cpu) -> Eflags {
    let mut changed = Eflags::ALL - (Eflags::VM | Eflags::RF);
    if cpu.protected() && cpu.cpl > cpu.iopl() {
        changed -= Eflags::IF;
    }
    if cpu.protected() && cpu.cpl > 0 {
        changed -= Eflags::IOPL;
    }
    changed
}

// ENTER size, level: a final write at the new top must be possible
fn enter<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if env.restarts() {
        up_to_alignment(enter_reaches::<E, W>(cpu, env, i))?;
    }
    let level = i.extra & 31;
    let mut sp = cpu.sp();
    push_below(cpu, env, &mut sp, cpu.get::<W>(EBP as u8))?;
    let frame = W::from_u32((cpu.regs[ESP] & !cpu.stack_mask) | sp);
    let mut link = cpu.regs[EBP];
    for _ in 1..level {
        link = link.wrapping_sub(W::BYTES);
        let outer: W = load(cpu, env, SegReg::Ss, link & cpu.stack_mask)?;
        push_below(cpu, env, &mut sp, outer)?;
    }
    if level > 0 {
        push_below(cpu, env, &mut sp, frame)?;
    }
    sp = sp.wrapping_sub(i.imm & 0xffff) & cpu.stack_mask;
    room_for::<E, W>(cpu, env, sp)?;
    cpu.set_sp(sp);
    cpu.set(EBP as u8, frame);
    Ok(())
}

/// The accesses of ENTER in their order, with nothing written.
fn enter_reaches<E: Env, W: Word>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let level = u32::from(i.extra & 31);
    let (sp, link) = (cpu.sp(), cpu.regs[EBP]);
    reaches_push::<E, W>(cpu, env, sp.wrapping_sub(W::BYTES))?;
    for n in 1..level {
        let at = readable(cpu, SegReg::Ss, link.wrapping_sub(n * W::BYTES) & cpu.stack_mask, W::BYTES)?;
        reaches::<E, W>(cpu, env, at, false)?;
        reaches_push::<E, W>(cpu, env, sp.wrapping_sub((n + 1) * W::BYTES))?;
    }
    let pushed = (level + 1) * W::BYTES;
    if level > 0 {
        reaches_push::<E, W>(cpu, env, sp.wrapping_sub(pushed))?;
    }
    room_for::<E, W>(cpu, env, sp.wrapping_sub(pushed).wrapping_sub(i.imm & 0xffff))
}

/// A push to `sp`, within the stack's width.
fn reaches_push<E: Env, W: Word>(cpu: &Cpu, env: &mut E, sp: u32) -> Result<(), Fault> {
    let at = writable(cpu, SegReg::Ss, sp & cpu.stack_mask, W::BYTES)?;
    reaches::<E, W>(cpu, env, at, true)
}

/// What was found before an access that is not aligned. That one comes to its fault by itself: nothing mends
/// it.
fn up_to_alignment(found: Result<(), Fault>) -> Result<(), Fault> {
    found.or_else(|fault| if fault == Fault::AC { Ok(()) } else { Err(fault) })
}

/// An access to the word at `at`: its fault, found in the order in which the access itself finds it.
fn reaches<E: Env, W: Word>(cpu: &Cpu, env: &mut E, at: Linear, write: bool) -> Result<(), Fault> {
    cpu.check_alignment(at, W::BYTES)?;
    env.probe(cpu, at, W::BYTES, cpu.user, write)
}

/// Whether a `W` at `sp`, within the stack's width, could be written. That is no access, so its alignment
/// does not count.
fn room_for<E: Env, W: Word>(cpu: &Cpu, env: &mut E, sp: u32) -> Result<(), Fault> {
    let at = writable(cpu, SegReg::Ss, sp & cpu.stack_mask, W::BYTES)?;
    env.probe(cpu, at, W::BYTES, cpu.user, true)
}

// LEAVE: (E)SP := (E)BP, by the stack's size; then POP (E)BP, by the operand's
#[inline(always)]
fn leave<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    let mut sp = cpu.regs[EBP] & cpu.stack_mask;
    let outer: W = pop_above(cpu, env, &mut sp)?;
    cpu.set_sp(sp);
    cpu.set(EBP as u8, outer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Segment;
    use crate::exec::testing::{World, flat, real, step, v86};

    const PUSHF: &[u8] = &[0x9c];
    const POPF: &[u8] = &[0x9d];

    fn popf(mut cpu: Cpu, code: &[u8], image: u32) -> Cpu {
        let mut world = World::new();
        world.put(cpu.sp(), &image.to_le_bytes());
        assert_eq!(step(&mut cpu, &mut world, code), Ok(()));
        cpu
    }

    #[test]
    fn in_v86_mode_pushf_and_popf_need_iopl_3() {
        for iopl in 0..3 {
            let (mut cpu, mut world) = (v86(iopl), World::new());
            assert_eq!(step(&mut cpu, &mut world, PUSHF), Err(Fault::GP0));
            assert_eq!(step(&mut cpu, &mut world, POPF), Err(Fault::GP0));
            assert_eq!((cpu.eip, cpu.sp()), (0x100, 0x8000));
        }
        let (mut cpu, mut world) = (v86(3), World::new());
        assert_eq!(step(&mut cpu, &mut world, &[0x66, 0x9c]), Ok(()));
        assert_eq!((world.word(0x7ffc), world.word(0x7ffe)), (0x3202, 0));
        let cpu = popf(v86(3), POPF, 0);
        assert_eq!(cpu.eflags(), Eflags::VM | Eflags::IOPL | Eflags::FIXED);
    }

    #[test]
    fn popf_changes_if_by_iopl_and_iopl_at_ring_0_alone() {
        let everything = 0x0027_7fd7;
        let cpu = popf(flat(0), POPF, everything);
        assert_eq!(cpu.eflags(), Eflags::ALL - (Eflags::VM | Eflags::RF));
        let cpu = popf(flat(3), POPF, everything);
        assert_eq!(cpu.eflags(), Eflags::ALL - (Eflags::VM | Eflags::RF | Eflags::IF | Eflags::IOPL));
        let mut ring1 = flat(1);
        ring1.set_eflags(Eflags::from_bits_truncate(1 << 12));
        let cpu = popf(ring1, POPF, 0x200);
        assert_eq!((cpu.eflags().contains(Eflags::IF), cpu.iopl()), (true, 1));
        let cpu = popf(real(), POPF, 0xffff);
        assert_eq!(cpu.eflags().bits(), 0x7fd7);
    }

    #[test]
    fn a_16_bit_popf_keeps_the_upper_flags() {
        let mut cpu = flat(0);
        cpu.set_eflags(Eflags::ID | Eflags::AC | Eflags::RF);
        let cpu = popf(cpu, &[0x66, 0x9d], 0);
        assert_eq!(cpu.eflags(), Eflags::ID | Eflags::AC | Eflags::FIXED);
    }

    #[test]
    fn a_16_bit_stack_wraps_and_keeps_the_upper_half() {
        let (mut cpu, mut world) = (real(), World::new());
        cpu.regs[ESP] = 0xaaaa_0000;
        assert_eq!(step(&mut cpu, &mut world, &[0x50]), Ok(()));
        assert_eq!(cpu.regs[ESP], 0xaaaa_fffe);
        cpu.regs[ESP] = 0xaaaa_0001;
        assert_eq!(step(&mut cpu, &mut world, &[0x50]), Err(Fault::SS0));
        assert_eq!(cpu.regs[ESP], 0xaaaa_0001);
    }

    #[test]
    fn enter_nests_with_a_32_bit_operand_on_a_16_bit_stack() {
        let (mut cpu, mut world) = (real(), World::new());
        cpu.regs[EBP] = 0x1111_9000;
        world.put(0x8ffc, &0x1234_5678u32.to_le_bytes());
        assert_eq!(step(&mut cpu, &mut world, &[0x66, 0xc8, 0x10, 0x00, 0x02]), Ok(()));
        assert_eq!((cpu.regs[EBP], cpu.regs[ESP]), (0x7ffc, 0x7fe4));
        assert_eq!(
            world.memory[0x7ff4..0x8000],
            [0xfc, 0x7f, 0, 0, 0x78, 0x56, 0x34, 0x12, 0, 0x90, 0x11, 0x11]
        );
        assert_eq!(step(&mut cpu, &mut world, &[0x66, 0xc9]), Ok(()));
        assert_eq!((cpu.regs[EBP], cpu.regs[ESP]), (0x1111_9000, 0x8000));
    }

    #[test]
    fn an_expand_down_stack_ends_at_its_limit() {
        let (mut cpu, mut world) = (flat(0), World::new());
        cpu.set_seg(SegReg::Ss, Segment::with(8, 0, 0x7fff, 0xc97));
        assert_eq!(step(&mut cpu, &mut world, &[0x50]), Err(Fault::SS0));
        cpu.regs[ESP] = 0x8004;
        assert_eq!(step(&mut cpu, &mut world, &[0x50]), Ok(()));
    }
}

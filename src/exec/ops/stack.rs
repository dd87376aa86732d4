//! Stack instructions (SDM vol. 1, 6.2, 6.6 and 7.3.1.2; vol. 2).

use crate::cpu::gpr::{EBP, EDI, ESP};
use crate::cpu::{Cpu, Eflags, Fault, Word};
use crate::decode::{Insn, Op, Place, SegReg};
use crate::exec::operand::{DstReg, Imm, Mem, Source, Target, by_wide, load, writable};
use crate::exec::stack::{self, pop_above, push_below};
use crate::exec::{Env, Handler};

/// The function that executes `i`.
#[rustfmt::skip]
pub fn bind<E: Env>(i: &Insn) -> Handler<E> {
    match i.op {
        Op::Push  => match i.dst {
            Place::Mem => by_wide!(i, push, E, Mem),
            Place::Imm => by_wide!(i, push, E, Imm),
            _          => by_wide!(i, push, E, DstReg),
        },
        Op::Pop   => match i.dst {
            Place::Mem => by_wide!(i, pop_mem, E),
            _          => by_wide!(i, pop_reg, E),
        },
        Op::Pusha => by_wide!(i, pusha, E),
        Op::Popa  => by_wide!(i, popa, E),
        Op::Pushf => by_wide!(i, pushf, E),
        Op::Popf  => by_wide!(i, popf, E),
        Op::Enter => by_wide!(i, enter, E),
        _         => by_wide!(i, leave, E),
    }
}

// PUSH src: PUSH ESP pushes the value before
fn push<E: Env, W: Word, S: Source>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let v: W = S::read(cpu, env, i)?;
    stack::push(cpu, env, v)
}

// POP reg: POP ESP leaves what was popped
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

/// In virtual-8086 mode PUSHF and POPF are privileged unless IOPL is 3.
fn check_v86(cpu: &Cpu) -> Result<(), Fault> {
    if cpu.v86() && cpu.iopl() < 3 { Err(Fault::GP0) } else { Ok(()) }
}

// PUSHF: VM and RF are clear in the image
fn pushf<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    check_v86(cpu)?;
    let image = cpu.eflags() - (Eflags::VM | Eflags::RF);
    stack::push(cpu, env, W::from_u32(image.bits()))
}

// POPF
fn popf<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    check_v86(cpu)?;
    let image: W = stack::pop(cpu, env)?;
    let changed = Eflags::from_bits_truncate(W::MASK) & popf_may_change(cpu);
    let kept = cpu.eflags() - changed - Eflags::RF;
    cpu.set_eflags(kept | (Eflags::from_bits_truncate(image.u()) & changed));
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
    let top = writable(cpu, SegReg::Ss, sp, W::BYTES)?;
    env.probe(cpu, top, W::BYTES, cpu.user, true)?;
    cpu.set_sp(sp);
    cpu.set(EBP as u8, frame);
    Ok(())
}

// LEAVE: (E)SP := (E)BP, by the stack's size; then POP (E)BP, by the operand's
fn leave<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    let mut sp = cpu.regs[EBP] & cpu.stack_mask;
    let outer: W = pop_above(cpu, env, &mut sp)?;
    cpu.set_sp(sp);
    cpu.set(EBP as u8, outer);
    Ok(())
}

//! String instructions and their repeat prefixes (SDM vol. 1, 7.3.9; vol. 2, REP).
//!
//! A repeated string instruction can be interrupted between iterations: each iteration commits registers and
//! memory, and until the count is used up EIP names the instruction itself. One call does as many iterations as
//! there are ticks before the deadline (each is one tick), but at least one; with anything pending in
//! [`Cpu::special`], single-stepping above all, exactly one.

use super::io::check_port;
use crate::cpu::gpr::{EAX, ECX, EDI, EDX, ESI};
use crate::cpu::{Cpu, Eflags, Fault, LazyFlags, Word};
use crate::decode::{Insn, Op, Rep, SegReg};
use crate::exec::operand::{by_width, load, store, writable};
use crate::exec::{Env, Handler};

/// One iteration: memory, then registers other than the count, then flags.
trait Step {
    /// Whether REPE and REPNE look at ZF.
    const COMPARES: bool = false;
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault>;
}

struct MovsOp;
struct CmpsOp;
struct ScasOp;
struct LodsOp;
struct StosOp;
struct InsOp;
struct OutsOp;

/// The function that executes `i`.
#[rustfmt::skip]
pub fn bind<E: Env>(i: &Insn) -> Handler<E> {
    match i.op {
        Op::Movs => by_repeat::<E, MovsOp>(i),
        Op::Cmps => by_repeat::<E, CmpsOp>(i),
        Op::Scas => by_repeat::<E, ScasOp>(i),
        Op::Lods => by_repeat::<E, LodsOp>(i),
        Op::Stos => by_repeat::<E, StosOp>(i),
        Op::Ins  => by_repeat::<E, InsOp>(i),
        _        => by_repeat::<E, OutsOp>(i),
    }
}

fn by_repeat<E: Env, O: Step>(i: &Insn) -> Handler<E> {
    if i.rep == Rep::Once { by_width!(i, once, E, O) } else { by_width!(i, repeated, E, O) }
}

// op
fn once<E: Env, W: Word, O: Step>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    O::step::<W, E>(cpu, env, i)
}

// REP op, REPE op, REPNE op
fn repeated<E: Env, W: Word, O: Step>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.regs[ECX] & i.addr_mask == 0 {
        return Ok(());
    }
    let budget = if cpu.special.is_empty() { cpu.deadline.saturating_sub(cpu.now).max(1) } else { 1 };
    let mut done = 0;
    cpu.mid_string = false;
    loop {
        if let Err(fault) = O::step::<W, E>(cpu, env, i) {
            // The caller counts nothing for a call that faults.
            cpu.now += done;
            return Err(fault);
        }
        done += 1;
        advance(cpu, ECX, !0, i.addr_mask);
        if cpu.regs[ECX] & i.addr_mask == 0 || (O::COMPARES && cpu.lazy.zf() != (i.rep == Rep::While)) {
            break;
        }
        if done >= budget {
            cpu.eip = cpu.eip.wrapping_sub(u32::from(i.len));
            cpu.mid_string = true;
            break;
        }
    }
    // The caller counts one for the call.
    cpu.now += done - 1;
    Ok(())
}

/// Adds `by` to a register within the address size.
#[inline(always)]
fn advance(cpu: &mut Cpu, reg: usize, by: u32, mask: u32) {
    let old = cpu.regs[reg];
    cpu.regs[reg] = (old & !mask) | (old.wrapping_add(by) & mask);
}

/// What an index register moves by.
#[inline(always)]
fn stride<W: Word>(cpu: &Cpu) -> u32 {
    if cpu.system_flags.contains(Eflags::DF) { W::BYTES.wrapping_neg() } else { W::BYTES }
}

impl Step for MovsOp {
    // MOVS: ES:[EDI] := seg:[ESI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let v: W = load(cpu, env, i.seg, cpu.regs[ESI] & i.addr_mask)?;
        store(cpu, env, SegReg::Es, cpu.regs[EDI] & i.addr_mask, v)?;
        let by = stride::<W>(cpu);
        advance(cpu, ESI, by, i.addr_mask);
        advance(cpu, EDI, by, i.addr_mask);
        Ok(())
    }
}

impl Step for CmpsOp {
    const COMPARES: bool = true;
    // CMPS: seg:[ESI] - ES:[EDI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let a: W = load(cpu, env, i.seg, cpu.regs[ESI] & i.addr_mask)?;
        let b: W = load(cpu, env, SegReg::Es, cpu.regs[EDI] & i.addr_mask)?;
        cpu.lazy = compare(a, b);
        let by = stride::<W>(cpu);
        advance(cpu, ESI, by, i.addr_mask);
        advance(cpu, EDI, by, i.addr_mask);
        Ok(())
    }
}

impl Step for ScasOp {
    const COMPARES: bool = true;
    // SCAS: accumulator - ES:[EDI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let b: W = load(cpu, env, SegReg::Es, cpu.regs[EDI] & i.addr_mask)?;
        cpu.lazy = compare(cpu.get::<W>(EAX as u8), b);
        let by = stride::<W>(cpu);
        advance(cpu, EDI, by, i.addr_mask);
        Ok(())
    }
}

#[inline(always)]
fn compare<W: Word>(a: W, b: W) -> LazyFlags {
    LazyFlags::sub(a, b, W::from_u32(a.u().wrapping_sub(b.u())))
}

impl Step for LodsOp {
    // LODS: accumulator := seg:[ESI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let v: W = load(cpu, env, i.seg, cpu.regs[ESI] & i.addr_mask)?;
        cpu.set(EAX as u8, v);
        let by = stride::<W>(cpu);
        advance(cpu, ESI, by, i.addr_mask);
        Ok(())
    }
}

impl Step for StosOp {
    // STOS: ES:[EDI] := accumulator
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        store(cpu, env, SegReg::Es, cpu.regs[EDI] & i.addr_mask, cpu.get::<W>(EAX as u8))?;
        let by = stride::<W>(cpu);
        advance(cpu, EDI, by, i.addr_mask);
        Ok(())
    }
}

impl Step for InsOp {
    // INS: ES:[EDI] := port DX. The destination is checked first: reading a port can have effects.
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let port = cpu.regs[EDX] as u16;
        check_port(cpu, env, port, W::WIDTH)?;
        let at = writable(cpu, SegReg::Es, cpu.regs[EDI] & i.addr_mask, W::BYTES)?;
        env.probe(cpu, at, W::BYTES, cpu.user, true)?;
        let v = env.port_in(cpu, port, W::WIDTH);
        env.store(cpu, at, W::from_u32(v), cpu.user)?;
        let by = stride::<W>(cpu);
        advance(cpu, EDI, by, i.addr_mask);
        Ok(())
    }
}

impl Step for OutsOp {
    // OUTS: port DX := seg:[ESI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let port = cpu.regs[EDX] as u16;
        check_port(cpu, env, port, W::WIDTH)?;
        let v: W = load(cpu, env, i.seg, cpu.regs[ESI] & i.addr_mask)?;
        env.port_out(cpu, port, W::WIDTH, v.u());
        let by = stride::<W>(cpu);
        advance(cpu, ESI, by, i.addr_mask);
        Ok(())
    }
}

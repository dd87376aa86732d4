//! String instructions and their repeat prefixes (SDM vol. 1, 7.3.9; vol. 2, REP).
//!
//! A repeated string instruction can be interrupted between iterations: each iteration commits registers and
//! memory, and until the count is used up EIP names the instruction itself. One call does as many iterations
//! as there are ticks before the deadline (each is one tick), but at least one; with anything pending in
//! [`Cpu::special`] but RF, single-stepping above all, exactly one. An iteration that asks to leave
//! ([`Cpu::leave`]) is the last of its call too: it spoke to a chip, which may want an interrupt now, or it
//! overwrote code, perhaps its own.

use super::io::check_port;
use crate::addr::{Linear, PAGE_SIZE};
use crate::cpu::gpr::{EAX, ECX, EDI, EDX, ESI};
use crate::cpu::{Cpu, Eflags, Fault, LazyFlags, Word};
use crate::decode::{Insn, Rep, SegReg};
use crate::exec::bind::binders;
use crate::exec::operand::{by_width, load, store, writable};
use crate::exec::vmx::intercept::{PortAccess, io};
use crate::exec::{Env, Handler};

/// One iteration: memory, then registers other than the count, then flags.
trait Step {
    /// Whether REPE and REPNE look at ZF.
    const COMPARES: bool = false;
    /// Whether the operation speaks to a chip, which may want attention after each iteration.
    const PORTS: bool = false;
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault>;
    /// Does up to `most` iterations at once where nothing can go wrong with any; returns how many it did.
    #[inline(always)]
    fn run<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, most: u64) -> u64 {
        let _ = (cpu, env, i, most);
        0
    }
}

struct MovsOp;
struct CmpsOp;
struct ScasOp;
struct LodsOp;
struct StosOp;
struct InsOp;
struct OutsOp;

binders! { i, E;
    Movs => by_repeat::<E, MovsOp>(i),
    Cmps => by_repeat::<E, CmpsOp>(i),
    Scas => by_repeat::<E, ScasOp>(i),
    Lods => by_repeat::<E, LodsOp>(i),
    Stos => by_repeat::<E, StosOp>(i),
    Ins  => by_repeat::<E, InsOp>(i),
    Outs => by_repeat::<E, OutsOp>(i),
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
    let one = O::PORTS || cpu.steps_iterations();
    let budget = if one { 1 } else { cpu.deadline.saturating_sub(cpu.now).max(1) };
    let mut done = 0;
    if !cpu.mid_string {
        cpu.string_flags = cpu.lazy;
    }
    cpu.mid_string = false;
    cpu.leave.set(false);
    loop {
        if !O::COMPARES && budget - done > 1 {
            // The last iteration is left to the careful way below.
            let most = (budget - done).min(u64::from(cpu.regs[ECX] & i.addr_mask)) - 1;
            let run = O::run::<W, E>(cpu, env, i, most);
            done += run;
            advance(cpu, ECX, (run as u32).wrapping_neg(), i.addr_mask);
        }
        if let Err(fault) = O::step::<W, E>(cpu, env, i) {
            if O::COMPARES {
                // A fault gives the flags back as they were before the instruction (SDM vol. 2, REP).
                cpu.lazy = cpu.string_flags;
            }
            // The caller counts nothing for a call that faults.
            cpu.now += done;
            return Err(fault);
        }
        done += 1;
        advance(cpu, ECX, !0, i.addr_mask);
        if cpu.regs[ECX] & i.addr_mask == 0 || (O::COMPARES && cpu.lazy.zf() != (i.rep == Rep::While)) {
            break;
        }
        if done >= budget || cpu.leave.get() {
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
    if backwards(cpu) { W::BYTES.wrapping_neg() } else { W::BYTES }
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

    #[inline(always)]
    fn run<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, most: u64) -> u64 {
        let (source, target) = (cpu.seg(i.seg), cpu.seg(SegReg::Es));
        let from = Stretch::new(source.base, source.read_end, cpu.regs[ESI] & i.addr_mask, i.addr_mask);
        let to = Stretch::new(target.base, target.write_end, cpu.regs[EDI] & i.addr_mask, i.addr_mask);
        let n = from.items::<W>().min(to.items::<W>()).min(most) as u32;
        let bytes = n * W::BYTES;
        if n < 2 || backwards(cpu) || !env.move_run(cpu, from.at, to.at, bytes, W::BYTES) {
            return 0;
        }
        advance(cpu, ESI, bytes, i.addr_mask);
        advance(cpu, EDI, bytes, i.addr_mask);
        u64::from(n)
    }
}

fn backwards(cpu: &Cpu) -> bool {
    cpu.system_flags.contains(Eflags::DF)
}

/// What can be walked upwards from an offset without leaving the page, the segment or the address size.
struct Stretch {
    at: Linear,
    bytes: u64,
}

impl Stretch {
    #[inline(always)]
    fn new(base: u32, end: u64, offset: u32, mask: u32) -> Self {
        let at = Linear(base.wrapping_add(offset));
        let in_page = u64::from(PAGE_SIZE - at.page_offset());
        let in_segment = end.min(u64::from(mask) + 1).saturating_sub(u64::from(offset));
        Self { at, bytes: in_page.min(in_segment) }
    }

    #[inline(always)]
    fn items<W: Word>(&self) -> u64 {
        self.bytes / u64::from(W::BYTES)
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

    #[inline(always)]
    fn run<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, most: u64) -> u64 {
        let target = cpu.seg(SegReg::Es);
        let to = Stretch::new(target.base, target.write_end, cpu.regs[EDI] & i.addr_mask, i.addr_mask);
        let n = to.items::<W>().min(most) as u32;
        let bytes = n * W::BYTES;
        if n < 2 || backwards(cpu) || !env.fill_run(cpu, to.at, bytes, cpu.get::<W>(EAX as u8)) {
            return 0;
        }
        advance(cpu, EDI, bytes, i.addr_mask);
        u64::from(n)
    }
}

impl Step for InsOp {
    const PORTS: bool = true;
    // INS: ES:[EDI] := port DX. The destination is checked first: reading a port can have effects.
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let port = cpu.regs[EDX] as u16;
        check_port(cpu, env, port, W::WIDTH)?;
        let linear = cpu.seg(SegReg::Es).base.wrapping_add(cpu.regs[EDI] & i.addr_mask);
        io(cpu, env, i, PortAccess { port, width: W::WIDTH, input: true, string: Some(linear) })?;
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
    const PORTS: bool = true;
    // OUTS: port DX := seg:[ESI]
    #[inline(always)]
    fn step<W: Word, E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
        let port = cpu.regs[EDX] as u16;
        check_port(cpu, env, port, W::WIDTH)?;
        let linear = cpu.seg(i.seg).base.wrapping_add(cpu.regs[ESI] & i.addr_mask);
        io(cpu, env, i, PortAccess { port, width: W::WIDTH, input: false, string: Some(linear) })?;
        let v: W = load(cpu, env, i.seg, cpu.regs[ESI] & i.addr_mask)?;
        env.port_out(cpu, port, W::WIDTH, v.u());
        let by = stride::<W>(cpu);
        advance(cpu, ESI, by, i.addr_mask);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::{World, flat, step};

    const REP_MOVSB: &[u8] = &[0xf3, 0xa4];
    const REP_STOSB: &[u8] = &[0xf3, 0xaa];

    fn copying(count: u32) -> (Cpu, World) {
        let (mut cpu, mut world) = (flat(0), World::new());
        (cpu.regs[ECX], cpu.regs[ESI], cpu.regs[EDI]) = (count, 0x1000, 0x2ff0);
        world.put(0x1000, &[7; 0x100]);
        (cpu, world)
    }

    #[test]
    fn each_iteration_is_one_tick() {
        let (mut cpu, mut world) = copying(16);
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.now, cpu.eip, cpu.regs[ECX]), (16, 0x102, 0));
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.now, cpu.eip), (17, 0x104));
    }

    #[test]
    fn the_deadline_interrupts_between_iterations() {
        let (mut cpu, mut world) = copying(16);
        cpu.deadline = 10;
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.now, cpu.eip, cpu.regs[ECX], cpu.regs[EDI]), (10, 0x100, 6, 0x2ffa));
        // Past the deadline it still gets on.
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.now, cpu.eip, cpu.regs[ECX]), (11, 0x100, 5));
    }

    #[test]
    fn rf_alone_does_not_cut_a_rep() {
        for (flags, left) in [(Eflags::RF, 0), (Eflags::RF | Eflags::TF, 15)] {
            let (mut cpu, mut world) = copying(16);
            cpu.set_eflags(flags);
            assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
            assert_eq!((cpu.regs[ECX], cpu.now), (left, 16 - u64::from(left)), "{flags:?}");
        }
    }

    #[test]
    fn a_single_stepped_rep_traps_after_each_iteration() {
        let (mut cpu, mut world) = copying(2);
        cpu.set_eflags(Eflags::TF);
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.eip, cpu.regs[ECX]), (0x100, 1));
        assert_eq!(step(&mut cpu, &mut world, REP_MOVSB), Ok(()));
        assert_eq!((cpu.eip, cpu.regs[ECX], cpu.now), (0x102, 0, 2));
    }

    #[test]
    fn a_fault_keeps_the_iterations_before_it() {
        let (mut cpu, mut world) = copying(32);
        world.absent = Some(0x3000);
        assert_eq!(step(&mut cpu, &mut world, REP_STOSB).err().and_then(Fault::address), Some(0x3000));
        assert_eq!((cpu.eip, cpu.regs[ECX], cpu.regs[EDI], cpu.now), (0x100, 16, 0x3000, 16));
    }

    #[test]
    fn a_compare_ends_on_the_flag_within_its_budget() {
        let (mut cpu, mut world) = copying(16);
        cpu.regs[EDI] = 0x1000;
        world.put(0x1005, &[8]);
        cpu.regs[EAX] = 7;
        cpu.deadline = 6;
        assert_eq!(step(&mut cpu, &mut world, &[0xf3, 0xae]), Ok(()));
        assert_eq!((cpu.eip, cpu.regs[ECX], cpu.regs[EDI], cpu.now), (0x102, 10, 0x1006, 6));
    }

    #[test]
    fn ins_reads_no_port_that_it_cannot_store() {
        let (mut cpu, mut world) = copying(1);
        world.absent = Some(0x3000);
        cpu.regs[EDI] = 0x2ffe;
        assert!(step(&mut cpu, &mut world, &[0x6d]).is_err());
        assert_eq!(world.port_reads, 0);
        cpu.regs[EDI] = 0x2ffc;
        assert_eq!(step(&mut cpu, &mut world, &[0x6d]), Ok(()));
        assert_eq!((world.port_reads, world.word(0x2ffe)), (1, 0x5a5a));
    }
}

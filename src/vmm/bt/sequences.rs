//! The inline sequences: each lends the real processor the part of the virtual state that the instruction is about, runs the
//! one semantics of the instruction, and takes that part back. Nothing is lent that address translation depends on.

use super::Rewriting;
use crate::cpu::{Cpu, Cr0, Eflags, Fault};
use crate::decode::{Insn, Op, SegReg};
use crate::exec::Handler;
use crate::machine::World;
use crate::translate::Flow;
use crate::vmm::bug::{self, Bug};

/// Runs a sequence. EIP names the next instruction; the handler is the semantics.
type Run = fn(&mut Rewriting<'_>, Handler<World>, &mut Cpu, &mut World, &Insn) -> Result<Flow, Fault>;

/// An inline sequence.
pub(super) struct Sequence {
    /// Runs it.
    pub(super) run: Run,
    /// What it lends, for people.
    pub(super) lends: &'static str,
}

const fn sequence(run: Run, lends: &'static str) -> Sequence {
    Sequence { run, lends }
}

pub(super) const NONE: Sequence = sequence(none, "nothing");
pub(super) const FLAGS: Sequence = sequence(flags, "IF, IOPL and the level");
pub(super) const TABLES: Sequence = sequence(tables, "GDTR and IDTR");
pub(super) const SELECTORS: Sequence = sequence(selectors, "the selectors of CS, SS, LDTR and TR");
pub(super) const CONTROL: Sequence = sequence(control, "the control registers and the level");
pub(super) const CLTS: Sequence = sequence(clts, "the level");
pub(super) const TIME: Sequence = sequence(level, "the level");

/// Flags that are virtual, and the mode in them.
const HELD: Eflags = Eflags::IF.union(Eflags::IOPL).union(Eflags::VM);
/// Of these, what an instruction without a far transfer may change.
const CHANGED: Eflags = Eflags::IF.union(Eflags::IOPL);

/// There is none: the rule calls out everywhere. Runs the instruction as it is.
fn none(
    _: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    run(cpu, world, insn).map(|()| Flow::Next)
}

/// CLI, STI, PUSHF, POPF: lends IF, IOPL and the level.
fn flags(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    let (own, ring) = (cpu.system_flags & HELD, cpu.cpl);
    cpu.system_flags = (cpu.system_flags - HELD) | (to.guest.system_flags & HELD);
    cpu.cpl = to.guest.cpl;
    let result = run(cpu, world, insn);
    let kept = insn.op == Op::Popf && bug::on(Bug::KeepIf);
    let taken = if kept { CHANGED - Eflags::IF } else { CHANGED };
    to.guest.system_flags = (to.guest.system_flags - taken) | (cpu.system_flags & taken);
    cpu.system_flags = (cpu.system_flags - HELD) | own;
    cpu.cpl = ring;
    result?;
    let open = to.guest.system_flags.contains(Eflags::IF) && !bug::on(Bug::MissWindow);
    // An interrupt may come through now; or user code may run by itself again.
    let look = open && (world.guest_interrupt_requested() || to.is_users());
    Ok(if look { Flow::Look } else { Flow::Next })
}

/// SGDT, SIDT: lends the table registers.
fn tables(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    let own = (cpu.gdtr, cpu.idtr);
    (cpu.gdtr, cpu.idtr) = (to.guest.gdtr, to.guest.idtr);
    let result = run(cpu, world, insn);
    (cpu.gdtr, cpu.idtr) = own;
    result.map(|()| Flow::Next)
}

/// SLDT, STR, MOV and PUSH from CS and SS: lends the visible selectors.
fn selectors(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    const SHOWN: [SegReg; 2] = [SegReg::Cs, SegReg::Ss];
    let own = (SHOWN.map(|s| cpu.seg(s).selector), cpu.ldtr.selector, cpu.tr.selector);
    for s in SHOWN {
        cpu.segs[s as usize].selector = to.guest.seg(s).selector;
    }
    (cpu.ldtr.selector, cpu.tr.selector) = (to.guest.ldtr.selector, to.guest.tr.selector);
    let result = run(cpu, world, insn);
    for (s, selector) in SHOWN.into_iter().zip(own.0) {
        cpu.segs[s as usize].selector = selector;
    }
    (cpu.ldtr.selector, cpu.tr.selector) = (own.1, own.2);
    result.map(|()| Flow::Next)
}

/// MOV from a control register, SMSW to a register: lends the level and the control registers. No memory is accessed.
fn control(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    let own = (cpu.cpl, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4);
    let guest = &to.guest;
    (cpu.cpl, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4) = (guest.cpl, guest.cr0, guest.cr2, guest.cr3, guest.cr4);
    let result = run(cpu, world, insn);
    (cpu.cpl, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4) = own;
    result.map(|()| Flow::Next)
}

/// RDTSC: lends the level. The time is the same in both processors.
fn level(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    let own = std::mem::replace(&mut cpu.cpl, to.guest.cpl);
    let result = run(cpu, world, insn);
    cpu.cpl = own;
    result.map(|()| Flow::Next)
}

/// CLTS: lends the level. TS is the same in both processors.
fn clts(
    to: &mut Rewriting<'_>,
    run: Handler<World>,
    cpu: &mut Cpu,
    world: &mut World,
    insn: &Insn,
) -> Result<Flow, Fault> {
    let result = level(to, run, cpu, world, insn);
    to.guest.cr0.set(Cr0::TS, cpu.cr0.contains(Cr0::TS));
    result
}

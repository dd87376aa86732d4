//! The inline sequences: each lends the real processor the part of the virtual state that the instruction is about, runs the
//! one semantics of the instruction, and takes that part back. Nothing is lent that address translation depends on while
//! memory is accessed.

use super::Rewriting;
use crate::cpu::{Cpu, Cr0, Eflags, Fault};
use crate::decode::{Insn, Op, SegReg};
use crate::exec::Handler;
use crate::machine::World;
use crate::translate::Flow;
use crate::vmm::bug::{self, Bug};
use crate::vmm::layout;
use std::mem::swap;

/// An inline sequence.
pub(super) struct Sequence {
    /// What it lends, for people.
    pub(super) lends: &'static str,
    /// Whether it can be run now; else the rule calls out.
    fits: fn(&Cpu) -> bool,
    /// Exchanges that part of the virtual and the real processor.
    exchange: fn(&mut Cpu, &mut Cpu),
    /// What else follows from the instruction.
    after: fn(&mut Rewriting<'_>, &mut Cpu, &World, &Insn) -> Flow,
}

/// There is none: the rule calls out everywhere.
pub(super) const NONE: Sequence =
    Sequence { lends: "nothing", fits: always, exchange: |_, _| {}, after: go_on };
/// For CLI, STI, PUSHF, POPF.
pub(super) const FLAGS: Sequence =
    Sequence { lends: "IF, IOPL and the level", fits: always, exchange: flags, after: look_for_interrupts };
/// For SGDT, SIDT.
pub(super) const TABLES: Sequence =
    Sequence { lends: "GDTR and IDTR", fits: always, exchange: tables, after: go_on };
/// For SLDT, STR, MOV and PUSH from CS and SS.
pub(super) const SELECTORS: Sequence = Sequence {
    lends: "the selectors of CS, SS, LDTR and TR",
    fits: always,
    exchange: selectors,
    after: go_on,
};
/// For MOV from a control register, SMSW to a register: no memory is accessed.
pub(super) const CONTROL: Sequence =
    Sequence { lends: "the control registers and the level", fits: always, exchange: control, after: go_on };
/// For CLTS: TS is the same in both processors.
pub(super) const CLTS: Sequence =
    Sequence { lends: "the level", fits: always, exchange: level, after: copy_ts };
/// For loads of segment registers from descriptors: the checks are those of the guest's level, on the guest's tables in its
/// memory, which reads as carried-over code's do. An accessed bit that is to be set meets the trace of the table.
pub(super) const SEGMENTS: Sequence = Sequence {
    lends: "GDTR, LDTR and the level",
    fits: tables_are_below,
    exchange: descriptor_tables,
    after: keep_loaded,
};
/// For RDTSC: the time is the same in both processors.
pub(super) const TIME: Sequence =
    Sequence { lends: "the level", fits: always, exchange: level, after: go_on };

impl Sequence {
    /// Runs it for `insn`, whose semantics are `run`. EIP names the next instruction.
    pub(super) fn run(
        &self,
        to: &mut Rewriting<'_>,
        run: Handler<World>,
        cpu: &mut Cpu,
        world: &mut World,
        insn: &Insn,
    ) -> Result<Flow, Fault> {
        if !(self.fits)(to.guest) {
            return Ok(Flow::CallOut);
        }
        let before = to.guest.system_flags;
        (self.exchange)(to.guest, cpu);
        let result = run(cpu, world, insn);
        (self.exchange)(to.guest, cpu);
        if insn.op == Op::Popf && bug::on(Bug::KeepIf) {
            to.guest.system_flags.set(Eflags::IF, before.contains(Eflags::IF));
        }
        result.map(|()| (self.after)(to, cpu, world, insn))
    }
}

fn always(_: &Cpu) -> bool {
    true
}

/// Whether the guest's descriptor tables stay clear of the monitor's region: no segment keeps what the processor reads by
/// itself below that.
fn tables_are_below(guest: &Cpu) -> bool {
    let below = |base: u32, limit: u32| u64::from(base) + u64::from(limit) < u64::from(layout::BASE);
    let ldt = &guest.ldtr;
    below(guest.gdtr.base, u32::from(guest.gdtr.limit)) && (!ldt.usable() || below(ldt.base, ldt.limit))
}

fn descriptor_tables(guest: &mut Cpu, cpu: &mut Cpu) {
    swap(&mut guest.gdtr, &mut cpu.gdtr);
    swap(&mut guest.ldtr, &mut cpu.ldtr);
    level(guest, cpu);
}

/// The real processor has the guest's segment; it gets the image instead. Without one the monitor interprets.
fn keep_loaded(to: &mut Rewriting<'_>, cpu: &mut Cpu, _: &World, insn: &Insn) -> Flow {
    let number = if insn.op == Op::LoadFar { insn.extra } else { insn.dst_reg };
    let s = SegReg::ALL[usize::from(number).min(5)];
    if to.v.load(s, to.tables, cpu, to.guest) { Flow::Next } else { Flow::Look }
}

fn level(guest: &mut Cpu, cpu: &mut Cpu) {
    swap(&mut guest.cpl, &mut cpu.cpl);
}

/// Also the mode: in the guest's real mode the real processor is in virtual-8086 mode.
fn flags(guest: &mut Cpu, cpu: &mut Cpu) {
    const HELD: Eflags = Eflags::IF.union(Eflags::IOPL).union(Eflags::VM);
    let (virtual_ones, real_ones) = (guest.system_flags & HELD, cpu.system_flags & HELD);
    guest.system_flags = (guest.system_flags - HELD) | real_ones;
    cpu.system_flags = (cpu.system_flags - HELD) | virtual_ones;
    level(guest, cpu);
}

fn tables(guest: &mut Cpu, cpu: &mut Cpu) {
    swap(&mut guest.gdtr, &mut cpu.gdtr);
    swap(&mut guest.idtr, &mut cpu.idtr);
}

fn selectors(guest: &mut Cpu, cpu: &mut Cpu) {
    for s in [SegReg::Cs, SegReg::Ss] {
        swap(&mut guest.segs[s as usize].selector, &mut cpu.segs[s as usize].selector);
    }
    swap(&mut guest.ldtr.selector, &mut cpu.ldtr.selector);
    swap(&mut guest.tr.selector, &mut cpu.tr.selector);
}

fn control(guest: &mut Cpu, cpu: &mut Cpu) {
    swap(&mut guest.cr0, &mut cpu.cr0);
    swap(&mut guest.cr2, &mut cpu.cr2);
    swap(&mut guest.cr3, &mut cpu.cr3);
    swap(&mut guest.cr4, &mut cpu.cr4);
    level(guest, cpu);
}

fn go_on(_: &mut Rewriting<'_>, _: &mut Cpu, _: &World, _: &Insn) -> Flow {
    Flow::Next
}

/// An interrupt may come through now; or user code may run by itself again.
fn look_for_interrupts(to: &mut Rewriting<'_>, _: &mut Cpu, world: &World, _: &Insn) -> Flow {
    let open = to.guest.system_flags.contains(Eflags::IF) && !bug::on(Bug::MissWindow);
    if open && (world.guest_interrupt_requested() || to.is_users()) { Flow::Look } else { Flow::Next }
}

fn copy_ts(to: &mut Rewriting<'_>, cpu: &mut Cpu, _: &World, _: &Insn) -> Flow {
    to.guest.cr0.set(Cr0::TS, cpu.cr0.contains(Cr0::TS));
    Flow::Next
}

//! The inline sequences: each lends the real processor the part of the virtual state that the instruction is
//! about, runs the one semantics of the instruction, and takes that part back. Nothing is lent that address
//! translation depends on while memory is accessed.

use super::{Rewriting, widen};
use crate::cpu::{Cpu, Cr0, Eflags, Fault, Selector};
use crate::decode::{Insn, Op, Place, SegReg};
use crate::exec::frame::peek;
use crate::exec::{Handler, ops};
use crate::machine::World;
use crate::translate::Flow;
use crate::vmm::invariants;
use crate::vmm::layout;
use crate::width::Width;
use std::mem::swap;

/// An inline sequence.
pub(super) struct Sequence {
    /// When the sequence cannot run and the rule calls out, in words.
    unless: Option<&'static str>,
    /// The state that the sequence lends, in words.
    lends: &'static str,
    /// What runs in the place of the instruction, in words.
    runs: Option<&'static str>,
    /// What follows from the instruction, in words.
    then: Option<&'static str>,
    /// Tells from the virtual and the real processor whether the sequence can run now; else the rule calls
    /// out.
    fits: fn(&Cpu, &Cpu, &mut World, &Insn) -> Result<bool, Fault>,
    /// Exchanges that part of the virtual and the real processor.
    exchange: fn(&mut Cpu, &mut Cpu),
    /// What is run in the place of the instruction's semantics, where these may not run with all that is
    /// lent.
    instead: Option<Instead>,
    /// What else follows from the instruction.
    after: fn(&mut Rewriting<'_>, &mut Cpu, &World, &Insn) -> Flow,
}

type Instead = fn(&mut Cpu, &mut Cpu, &mut World, &Insn) -> Result<(), Fault>;

/// No sequence: the rule calls out in every mode.
pub(super) const NONE: Sequence = Sequence {
    unless: None,
    lends: "nothing",
    runs: None,
    then: None,
    fits: always,
    exchange: |_, _| {},
    instead: None,
    after: go_on,
};
/// For CLI, STI, PUSHF, POPF.
pub(super) const FLAGS: Sequence = Sequence {
    lends: "IF, IOPL and the level",
    then: Some("leave for the monitor if an interrupt may come through now"),
    exchange: flags,
    after: look_for_interrupts,
    ..NONE
};
/// For SGDT, SIDT.
pub(super) const TABLES: Sequence = Sequence { lends: "GDTR and IDTR", exchange: tables, ..NONE };
/// For SLDT, STR, MOV and PUSH from CS and SS.
pub(super) const SELECTORS: Sequence =
    Sequence { lends: "the selectors of CS, SS, LDTR and TR", exchange: selectors, ..NONE };
/// For MOV from a control register, SMSW to a register: no memory is accessed.
pub(super) const CONTROL: Sequence =
    Sequence { lends: "the control registers and the level", exchange: control, ..NONE };
/// For SMSW to memory: by the sequence above to a register that its address does not need, and from there to
/// memory.
pub(super) const CONTROL_TO_MEMORY: Sequence = Sequence {
    lends: "the control registers and the level",
    runs: Some(
        "run it on a register that its address does not need, store that when the loan is over, restore it",
    ),
    instead: Some(store_control),
    ..NONE
};
/// For CLTS: TS is the same in both processors.
pub(super) const CLTS: Sequence = Sequence {
    lends: "the level",
    then: Some("copy TS to the virtual CR0"),
    exchange: level,
    after: copy_ts,
    ..NONE
};
/// For loads of segment registers from descriptors: the checks are those of the guest's level, on the guest's
/// tables in its memory, which reads as carried-over code's do. An accessed bit that is to be set meets the
/// trace of the table.
pub(super) const SEGMENTS: Sequence = Sequence {
    unless: Some("a descriptor table reaches the monitor's region"),
    lends: "GDTR, LDTR and the level",
    then: Some("put the image of the loaded segment in its place, or leave for the monitor if it has none"),
    fits: |guest, _, _, _| Ok(tables_are_below(guest)),
    exchange: descriptor_tables,
    after: keep_loaded,
    ..NONE
};
/// For IRET to the same ring, on the guest's tables as above. Another ring, another task, and virtual-8086
/// mode from protected mode are the monitor's: what would lead there is looked at before.
pub(super) const RETURN: Sequence = Sequence {
    unless: Some("the frame leads to another ring, task or mode"),
    lends: "IF, IOPL, the mode and the level, GDTR and LDTR",
    then: Some(
        "put the image of CS in its place; leave for the monitor if an interrupt may come through now",
    ),
    fits: stays_in_ring,
    exchange: returning,
    after: returned,
    ..NONE
};
/// For RDTSC: the time is the same in both processors.
pub(super) const TIME: Sequence = Sequence { lends: "the level", exchange: level, ..NONE };

impl Sequence {
    /// The steps of the sequence, in words.
    pub(super) fn steps(&self) -> impl Iterator<Item = String> {
        let unless = self.unless.map(|when| format!("call out if {when}"));
        let run = self.runs.unwrap_or("run it").to_owned();
        let always = [format!("lend {}", self.lends), run, "take back what was lent".into()];
        unless.into_iter().chain(always).chain(self.then.map(str::to_owned))
    }

    /// Runs it for `insn`, whose semantics are `run`. EIP names the next instruction.
    pub(super) fn run(
        &self,
        to: &mut Rewriting<'_>,
        run: Handler<World>,
        cpu: &mut Cpu,
        world: &mut World,
        insn: &Insn,
    ) -> Result<Flow, Fault> {
        if !(self.fits)(to.guest, cpu, world, insn)? {
            return Ok(Flow::CallOut);
        }
        let before = to.guest.system_flags;
        (self.exchange)(to.guest, cpu);
        let result = match self.instead {
            None => run(cpu, world, insn),
            Some(instead) => instead(to.guest, cpu, world, insn),
        };
        (self.exchange)(to.guest, cpu);
        invariants::popf_writes_if(insn, before, to.guest);
        result.map(|()| (self.after)(to, cpu, world, insn))
    }
}

fn always(_: &Cpu, _: &Cpu, _: &mut World, _: &Insn) -> Result<bool, Fault> {
    Ok(true)
}

/// Whether the guest's descriptor tables stay clear of the monitor's region: no segment keeps what the
/// processor reads by itself below that.
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

/// Whether IRET goes on in the ring that it is in: by the mode, by NT, and by the frame, read in the order of
/// the semantics, so that a fault is the one that they would raise.
fn stays_in_ring(guest: &Cpu, cpu: &Cpu, world: &mut World, insn: &Insn) -> Result<bool, Fault> {
    if !guest.selectors() {
        return Ok(true);
    }
    if cpu.system_flags.contains(Eflags::NT) || !tables_are_below(guest) {
        return Ok(false);
    }
    peek(cpu, world, 0, insn.width, 0)?;
    let cs = Selector(peek(cpu, world, 1, insn.width, 0)? as u16);
    let flags = Eflags::from_bits_truncate(peek(cpu, world, 2, insn.width, 0)?);
    let into_v86 = insn.width == Width::Dword && flags.contains(Eflags::VM);
    Ok(invariants::is_same_ring(cs.rpl(), guest.cpl) && !into_v86)
}

/// Lends what IRET needs; in real mode also CR0.PE, by which the semantics know the mode. Paging and
/// protection stay.
fn returning(guest: &mut Cpu, cpu: &mut Cpu) {
    let (virtual_one, real_one) = (guest.cr0 & Cr0::PE, cpu.cr0 & Cr0::PE);
    guest.cr0 = (guest.cr0 - Cr0::PE) | real_one;
    cpu.cr0 = (cpu.cr0 - Cr0::PE) | virtual_one;
    swap(&mut guest.gdtr, &mut cpu.gdtr);
    swap(&mut guest.ldtr, &mut cpu.ldtr);
    flags(guest, cpu);
}

/// CS is the guest's, as after a load, and as wide as in all translated code; NMIs come through again, also
/// where they would have without IRET. An interrupt may, too.
fn returned(to: &mut Rewriting<'_>, cpu: &mut Cpu, world: &World, insn: &Insn) -> Flow {
    if invariants::iret_unblocks_nmis() {
        to.guest.nmi_blocked = cpu.nmi_blocked;
    }
    if to.mode.selectors() {
        if !to.v.load(SegReg::Cs, to.tables, cpu, to.guest) {
            return Flow::Look;
        }
        widen(to.guest, to.mode, cpu);
    }
    match look_for_interrupts(to, cpu, world, insn) {
        Flow::Next => Flow::Anew,
        flow => flow,
    }
}

/// CR0 by way of a register that the address does not need.
fn store_control(guest: &mut Cpu, cpu: &mut Cpu, world: &mut World, insn: &Insn) -> Result<(), Fault> {
    let spare = (0..3).find(|n| ![insn.base, insn.index].contains(n)).unwrap_or(0);
    let read = Insn { dst: Place::Reg, dst_reg: spare, ..*insn };
    let write = Insn { op: Op::Mov, src: Place::Reg, src_reg: spare, ..*insn };
    let kept = cpu.reg(spare);
    control(guest, cpu);
    let result = ops::bind::<World>(&read)(cpu, world, &read);
    control(guest, cpu);
    let result = result.and_then(|()| ops::bind::<World>(&write)(cpu, world, &write));
    cpu.set::<u32>(spare, kept);
    result
}

fn level(guest: &mut Cpu, cpu: &mut Cpu) {
    swap(&mut guest.cpl, &mut cpu.cpl);
}

/// Lends IF, IOPL, the level, and the mode: in the guest's real mode the real processor is in virtual-8086
/// mode.
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
    let open = to.guest.system_flags.contains(Eflags::IF) && invariants::windows_are_seen();
    if open && (world.guest_interrupt_requested() || to.is_users()) { Flow::Look } else { Flow::Next }
}

fn copy_ts(to: &mut Rewriting<'_>, cpu: &mut Cpu, _: &World, _: &Insn) -> Flow {
    to.guest.cr0.set(Cr0::TS, cpu.cr0.contains(Cr0::TS));
    Flow::Next
}

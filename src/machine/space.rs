//! Two address spaces in one world. Without a monitor the processor is the guest's, and there is one. Under a monitor the
//! real processor walks the monitor's page tables, in machine memory, and reaches nothing but memory; when the monitor
//! emulates an instruction, the virtual processor walks the guest's, in guest-physical memory, and reaches the chips.
//!
//! A TLB belongs to one of the spaces: the other one is parked meanwhile.

use super::tables::{LiveTables, Tables};
use super::world::World;
use crate::addr::{GuestPhys, Linear, MachineAddr};
use crate::bus::phys::Target;
use crate::cpu::{Cpu, Cr4, Fault, Word};
use crate::mem::{P2m, Ram};
use crate::mmu::paging::{Access, Mapping, TableMemory, walk};
use crate::mmu::tlb::Tlb;
use std::cell::RefCell;

/// Whose memory the processor at hand sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The guest's: guest page tables, guest-physical addresses, chips.
    Guest,
    /// The real machine's, under a monitor: the monitor's page tables, machine addresses, no chips.
    Machine,
}

/// What belongs to the other space while one is in use.
#[derive(Default)]
pub(super) struct Parked {
    pub(super) tlb: Tlb,
    pub(super) careful: bool,
    /// The interrupt request line: the real processor does not see the virtual one.
    pub(super) intr: bool,
    /// Accesses of the real processor that got past the monitor to a chip. None, ever: the tests look.
    pub(super) escapes: u64,
}

/// What the guest has flushed since a monitor last asked.
#[derive(Debug, Default)]
pub struct Flushes {
    /// All that is not global.
    pub all: bool,
    /// Global pages too.
    pub globals: bool,
    /// Single pages.
    pub pages: Vec<Linear>,
}

impl Flushes {
    pub(super) fn note_all(&mut self, globals: bool) {
        self.all = true;
        self.globals |= globals;
    }
    pub(super) fn note_page(&mut self, at: Linear) {
        self.pages.push(at);
    }
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        !self.all && self.pages.is_empty()
    }
}

/// Page tables in machine memory, as the real processor's walker sees them. Entries are made with accessed and dirty
/// bits set, so it never writes.
pub(super) struct MachineTables<'a>(pub(super) &'a mut Ram);

impl TableMemory for MachineTables<'_> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        u32::read(self.0.bytes(), at.0 as usize).unwrap_or(0)
    }
    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        self.0.write(MachineAddr(at.0), &value.to_le_bytes());
    }
}

/// The guest's page tables, which stay as they are: notes which entries a walk reads, and which it would write, and what.
struct Noting<'a> {
    tables: Tables<'a>,
    read: RefCell<Vec<GuestPhys>>,
    written: Vec<(GuestPhys, u32)>,
}

impl TableMemory for Noting<'_> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        self.read.borrow_mut().push(at);
        self.tables.read_entry(at)
    }
    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        self.written.push((at, value));
    }
}

/// What a walk of the guest's page tables found, which has set no bit yet.
pub struct Walked {
    /// The mapping, with the A20 gate applied.
    pub mapping: Mapping,
    /// Addresses of the entries that were read, from the top (those of PAE, which are read in two halves, once).
    pub entries: Vec<GuestPhys>,
    /// Entries that the access would mark, and what they would be: accessed and dirty bits.
    marks: Vec<(GuestPhys, u32)>,
}

impl Walked {
    /// Whether the access would set an accessed or dirty bit.
    pub fn marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Whether the access would change the byte at `at`: the bits are in the lowest one of an entry.
    pub fn marks_byte(&self, at: GuestPhys) -> bool {
        self.marks.iter().any(|(entry, _)| *entry == at)
    }
}

impl World {
    /// Makes this the world of a machine under a monitor: `machine` is its memory, `p2m` says where the guest is in it.
    pub fn virtualize(&mut self, machine: Ram, p2m: P2m) {
        self.map.relocate(machine, p2m);
        self.scattered = self.map.p2m().is_scattered();
        self.flushes = Some(Flushes::default());
        self.tlb.flush(true);
        self.settle();
    }

    /// The real processor takes over: from now on the world is the machine's.
    pub fn enter_machine(&mut self) {
        self.change(Space::Machine);
        self.scattered = false;
    }

    /// The monitor takes over: the world is the guest's again.
    pub fn leave_machine(&mut self) {
        self.change(Space::Guest);
        self.scattered = self.map.p2m().is_scattered();
    }

    fn change(&mut self, to: Space) {
        debug_assert!(self.space != to, "the world is in this space already");
        self.space = to;
        std::mem::swap(&mut self.tlb, &mut self.parked.tlb);
        std::mem::swap(&mut self.careful, &mut self.parked.careful);
        std::mem::swap(&mut self.intr, &mut self.parked.intr);
    }

    /// Whether an interrupt is requested from the guest's processor, whichever runs.
    pub fn guest_interrupt_requested(&self) -> bool {
        match self.space {
            Space::Guest => self.intr,
            Space::Machine => self.parked.intr,
        }
    }

    /// What the guest flushed since this was last asked.
    pub fn take_flushes(&mut self) -> Flushes {
        self.flushes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the guest flushed anything since then.
    pub fn has_flushes(&self) -> bool {
        self.flushes.as_ref().is_some_and(|f| !f.is_empty())
    }

    /// The real machine's TLB, while the world is the guest's.
    pub fn machine_tlb(&mut self) -> &mut Tlb {
        &mut self.parked.tlb
    }

    /// The TLB of the processor that runs the guest, for an observer: the real machine's under a monitor.
    pub fn running_tlb(&self) -> &Tlb {
        if self.flushes.is_some() { &self.parked.tlb } else { &self.tlb }
    }

    /// Accesses of the real processor that got past the monitor to a chip.
    pub fn escapes(&self) -> u64 {
        self.parked.escapes
    }

    /// Where the guest's supervisor finds `at`, for an observer, and whether the accessed bits on the way are all set. No
    /// bit is set, no TLB is looked at.
    pub fn peek_used(&self, cpu: &Cpu, at: Linear) -> Option<(GuestPhys, bool)> {
        let walked = self.walk_guest(cpu, at, Access { user: false, write: false }).ok()?;
        Some((self.map.gated(walked.mapping.frame.offset(at.page_offset())), !walked.marks()))
    }

    /// Walks the guest's page tables for `access`, as the guest's processor would, but for the accessed and dirty bits:
    /// [`World::mark_used`] sets them.
    ///
    /// # Errors
    /// The guest's #PF.
    pub fn walk_guest(&self, cpu: &Cpu, at: Linear, access: Access) -> Result<Walked, Fault> {
        let mut tables =
            Noting { tables: self.tables(cpu.now), read: RefCell::default(), written: Vec::new() };
        let mapping = walk(cpu, &mut tables, at, access)?;
        let Noting { read, written, .. } = tables;
        let wide = cpu.cr4.contains(Cr4::PAE);
        let first_half = |at: &GuestPhys| !wide || at.0 & 4 == 0;
        let gated = |at: GuestPhys| self.map.gated(at);
        Ok(Walked {
            mapping: Mapping { frame: gated(mapping.frame), ..mapping },
            entries: read.into_inner().into_iter().filter(first_half).map(gated).collect(),
            // In a ROM no bit is ever set.
            marks: written
                .into_iter()
                .map(|(at, value)| (gated(at), value))
                .filter(|(at, _)| matches!(self.map.backing(*at).write, Target::Ram | Target::Chip))
                .collect(),
        })
    }

    /// Sets the accessed and dirty bits of the access that `walked` is of.
    pub fn mark_used(&mut self, cpu: &Cpu, walked: &Walked) {
        let mut tables = LiveTables::new(&mut self.map, &mut self.board, cpu.now);
        walked.marks.iter().for_each(|(at, entry)| tables.write_entry(*at, *entry));
        if tables.attention {
            self.heed_chip(cpu);
        }
    }
}

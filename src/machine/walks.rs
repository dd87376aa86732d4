//! Walks of the guest's page tables on somebody's behalf: a monitor's, which sets accessed and dirty bits
//! later or not at all, and an observer's, which sets none; and guest memory as an observer sees it.

use super::tables::{LiveTables, Tables};
use super::world::World;
use crate::addr::{GuestPhys, Linear, PAGE_SIZE};
use crate::bus::phys::Target;
use crate::bus::{Ticks, Width};
use crate::cpu::{Cpu, Cr4, Fault};
use crate::mmu::paging::{Access, Mapping, TableMemory, walk};
use crate::mmu::tlb::Class;
use std::cell::RefCell;

/// The guest's page tables, which stay as they are: notes which entries a walk reads, and which it would
/// write, and what.
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
    /// Addresses of the entries that were read, from the top (those of PAE, which are read in two halves,
    /// once).
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
    /// The guest's page tables, for an observer at the time `now`.
    pub fn tables(&self, now: Ticks) -> Tables<'_> {
        Tables::new(&self.map, &self.board, now)
    }

    /// The guest-physical address that `at` translates to for an observer: no fault, no accessed bits, no
    /// TLB.
    pub fn peek_address(&self, cpu: &Cpu, at: Linear) -> Option<GuestPhys> {
        let access = Access::read(false);
        let mapping = walk(cpu, &mut self.tables(cpu.now), at, access).ok()?;
        Some(self.map.gated(mapping.frame.offset(at.page_offset())))
    }

    /// Memory at the linear address `at` for an observer; as much as is mapped.
    pub fn peek(&self, cpu: &Cpu, at: Linear, len: usize) -> Vec<u8> {
        self.peek_by(cpu, at, len, |at| self.peek_address(cpu, at))
    }

    /// Code at the linear address `at`, whose page may be known, for an observer, as the processor would
    /// fetch it: also where the bare machine's TLB has a translation that the tables have no longer.
    pub(super) fn peek_code(&self, cpu: &Cpu, at: Linear, len: usize, known: Option<GuestPhys>) -> Vec<u8> {
        let bare = self.flushes.is_none();
        let known = |page: Linear| known.filter(|_| page.page() == at.page());
        let fetch = Class::fetch(cpu.user);
        let cached =
            |at: Linear| known(at).or_else(|| Some(self.tlb.lookup(at, fetch)?.page())).filter(|_| bare);
        self.peek_by(cpu, at, len, |at| match cached(at) {
            Some(frame) => Some(frame.offset(at.page_offset())),
            None => self.peek_address(cpu, at),
        })
    }

    /// `len` bytes at `at`, as much as `find` finds.
    fn peek_by(
        &self,
        cpu: &Cpu,
        at: Linear,
        len: usize,
        find: impl Fn(Linear) -> Option<GuestPhys>,
    ) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let at = at.offset(done as u32);
            let Some(phys) = find(at) else { break };
            let in_page = (PAGE_SIZE - at.page_offset()) as usize;
            let to = len.min(done + in_page);
            self.peek_physical(cpu, phys, &mut bytes[done..to]);
            done = to;
        }
        bytes.truncate(done);
        bytes
    }

    /// Guest-physical memory within one page at `at`, for an observer: a chip's memory too, with no effect of
    /// reading it.
    fn peek_physical(&self, cpu: &Cpu, at: GuestPhys, buf: &mut [u8]) {
        if self.map.backing(at).read != Target::Chip {
            return self.map.read(at, buf);
        }
        for (n, b) in buf.iter_mut().enumerate() {
            *b = self.board.mmio_peek(at.offset(n as u32), Width::Byte, cpu.now) as u8;
        }
    }

    /// Where the guest's supervisor finds `at`, for an observer, and whether the accessed bits on the way are
    /// all set. No bit is set, no TLB is looked at.
    pub fn peek_used(&self, cpu: &Cpu, at: Linear) -> Option<(GuestPhys, bool)> {
        let walked = self.walk_guest(cpu, at, Access::read(false)).ok()?;
        Some((self.map.gated(walked.mapping.frame.offset(at.page_offset())), !walked.marks()))
    }

    /// Walks the guest's page tables for `access`, as the guest's processor would, but for the accessed and
    /// dirty bits: [`World::mark_used`] sets them.
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

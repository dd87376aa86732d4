//! Two address spaces in one world. Without a monitor the processor is the guest's, and there is one. Under a
//! monitor the real processor walks the monitor's page tables, in machine memory, and reaches nothing but
//! memory; when the monitor emulates an instruction, the virtual processor walks the guest's, in
//! guest-physical memory, and reaches the chips.
//!
//! A TLB belongs to one of the spaces: the other one is parked meanwhile.

use crate::addr::{GuestPhys, Linear, MachineAddr};
use crate::cpu::Word;
use crate::mem::Ram;
use crate::mmu::paging::TableMemory;
use crate::mmu::tlb::Tlb;

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

/// Page tables in machine memory, as the real processor's walker sees them. Entries are made with accessed
/// and dirty bits set, so it never writes.
pub(super) struct MachineTables<'a>(pub(super) &'a mut Ram);

impl TableMemory for MachineTables<'_> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        u32::read(self.0.bytes(), at.0 as usize).unwrap_or(0)
    }
    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        self.0.write(MachineAddr(at.0), &value.to_le_bytes());
    }
}

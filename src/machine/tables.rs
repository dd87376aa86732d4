//! The guest's page tables, as walks find them: in RAM, in a ROM, or in the memory of a chip.
//!
//! A walk reads and marks entries by ordinary physical accesses, with one exception: what reading a chip's
//! memory does besides (the VGA's latches) is left out. How often tables are walked depends on what the TLB
//! holds, and a guest's state must not tell that, since it differs between the bare machine and a monitor's.

use super::board::Board;
use crate::addr::GuestPhys;
use crate::bus::phys::{PhysMap, Target};
use crate::bus::{Ticks, Width};
use crate::cpu::Word;
use crate::mmu::paging::TableMemory;

/// The tables for an observer: nothing is marked.
pub struct Tables<'a> {
    map: &'a PhysMap,
    board: &'a Board,
    now: Ticks,
}

impl<'a> Tables<'a> {
    pub(super) fn new(map: &'a PhysMap, board: &'a Board, now: Ticks) -> Self {
        Self { map, board, now }
    }
}

impl TableMemory for Tables<'_> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        read(self.map, self.board, self.now, at)
    }
    fn write_entry(&mut self, _: GuestPhys, _: u32) {}
}

/// The tables for the processor's own walk.
pub(super) struct LiveTables<'a> {
    map: &'a mut PhysMap,
    board: &'a mut Board,
    now: Ticks,
    /// Whether an entry in a chip was marked, which wants attention.
    pub(super) attention: bool,
}

impl<'a> LiveTables<'a> {
    pub(super) fn new(map: &'a mut PhysMap, board: &'a mut Board, now: Ticks) -> Self {
        Self { map, board, now, attention: false }
    }
}

impl TableMemory for LiveTables<'_> {
    #[inline]
    fn read_entry(&self, at: GuestPhys) -> u32 {
        read(self.map, self.board, self.now, at)
    }

    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        let at = self.map.gated(at);
        match self.map.backing(at).write {
            Target::Ram => self.map.write_used(at, value),
            Target::Chip => self.attention |= self.board.mmio_write(at, Width::Dword, value, self.now),
            Target::Rom | Target::Open => {}
        }
    }
}

#[inline]
fn read(map: &PhysMap, board: &Board, now: Ticks, at: GuestPhys) -> u32 {
    let at = map.gated(at);
    match map.backing(at).read {
        Target::Ram => u32::read(map.ram.bytes(), map.machine(at).0 as usize).unwrap_or(!0),
        Target::Chip => board.mmio_peek(at, Width::Dword, now),
        Target::Rom | Target::Open => {
            let mut bytes = [0; 4];
            map.read(at, &mut bytes);
            u32::from_le_bytes(bytes)
        }
    }
}

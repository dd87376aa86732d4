//! Nested paging: extended page tables from guest-physical to machine addresses, filled as the guest reaches
//! frames. The guest's own page tables translate before them, in hardware, and nothing is shadowed.
//!
//! RAM is mapped with all rights, copies of ROM pages without the right to write. Chips and open bus are left
//! out: an access there is an EPT violation each time, and is emulated.

use super::super::invariants;
use super::extended::ExtendedTables;
use super::rom::Roms;
use super::tables::Exhausted;
use crate::addr::{GuestPhys, Linear, MachineAddr};
use crate::bus::phys::{PhysMap, Target};
use crate::report::{NestedCounts, NestedLeaf};

/// What became of an EPT violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violated {
    /// The frame is mapped now: the access goes through when it is tried again.
    Filled,
    /// No frame answers, or none that may be written: the access is to be emulated.
    Emulate,
}

/// The nested MMU.
pub struct NestedMmu {
    tables: ExtendedTables,
    roms: Roms,
    counts: NestedCounts,
    /// The processor may hold translations of entries that are gone.
    stale: bool,
}

impl NestedMmu {
    /// Nothing mapped, in `tables`, with `rom_frames` for copies of the guest's ROM.
    pub fn new(tables: ExtendedTables, rom_frames: Vec<MachineAddr>) -> Self {
        Self { tables, roms: Roms::new(rom_frames), counts: NestedCounts::default(), stale: true }
    }

    /// The tables.
    pub fn extended(&self) -> &ExtendedTables {
        &self.tables
    }

    /// What was counted.
    pub fn counted(&self) -> &NestedCounts {
        &self.counts
    }

    /// Answers an EPT violation at `at`, of a write or not.
    pub fn violated(&mut self, map: &mut PhysMap, at: GuestPhys, write: bool) -> Violated {
        let frame = map.gated(at.page());
        let backing = map.backing(frame);
        let writable = invariants::is_ram(backing);
        let frame = match backing.read {
            _ if write && !writable => None,
            Target::Ram => Some(map.machine(frame)),
            Target::Rom => self.roms.copy(map, frame),
            Target::Chip | Target::Open => None,
        };
        let Some(frame) = frame else { return Violated::Emulate };
        let frame = invariants::own_frame(map, Linear(at.0), frame);
        let leaf = NestedLeaf { frame, write: writable };
        while let Err(Exhausted) = self.tables.map(&mut map.ram, at, leaf) {
            self.tables.clear(&mut map.ram);
            self.counts.evictions += 1;
            self.stale = true;
        }
        self.counts.fills += 1;
        Violated::Filled
    }

    /// Drops all translations: what answers where has changed.
    pub fn forget(&mut self, map: &mut PhysMap) {
        self.tables.clear(&mut map.ram);
        self.roms.forget(map);
        self.stale = true;
    }

    /// Whether the processor has to drop its translations (INVEPT) before the guest runs again.
    pub fn take_stale(&mut self) -> bool {
        let stale = std::mem::take(&mut self.stale);
        self.counts.invalidations += u64::from(stale);
        stale
    }
}

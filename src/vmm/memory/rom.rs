//! ROM under a monitor. The real machine has no ROM where the guest's is, so the monitor keeps copies of its
//! pages in frames of its own, and maps these for reads and fetches: firmware runs as it would from RAM. A
//! write finds no right to, and is emulated.
//!
//! Used by the shadow MMU as translations are made.

use crate::addr::{GuestPhys, MachineAddr, PAGE_SIZE};
use crate::bus::phys::PhysMap;
use std::collections::BTreeMap;

/// Copies of ROM pages.
#[derive(Default)]
pub(super) struct Roms {
    free: Vec<MachineAddr>,
    /// By page number.
    copies: BTreeMap<u32, MachineAddr>,
}

impl Roms {
    /// Copies will be in `frames`.
    pub(super) fn new(frames: Vec<MachineAddr>) -> Self {
        Self { free: frames, copies: BTreeMap::new() }
    }

    /// Where a copy of the ROM page of `at` is, made if need be; `None` if no frame is left for it.
    pub(super) fn copy(&mut self, map: &mut PhysMap, at: GuestPhys) -> Option<MachineAddr> {
        if let Some(frame) = self.copies.get(&at.page_number()) {
            return Some(*frame);
        }
        let frame = self.free.pop()?;
        let mut page = [0; PAGE_SIZE as usize];
        map.read(at.page(), &mut page);
        map.ram.write(frame, &page);
        map.note_rom_copy(frame, at.page());
        self.copies.insert(at.page_number(), frame);
        Some(frame)
    }

    /// Drops all copies: the ROM may be another one, or gone from where it was.
    pub(super) fn forget(&mut self, map: &mut PhysMap) {
        map.forget_rom_copies();
        self.free.extend(std::mem::take(&mut self.copies).into_values());
    }
}

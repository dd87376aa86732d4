//! Memory for page tables in unit tests.

use super::mapping::TableMemory;
use crate::addr::GuestPhys;
use std::collections::BTreeMap;

/// Entries by address, as doublewords; zero where there is none.
#[derive(Default)]
pub(super) struct Tables(BTreeMap<u32, u32>);

impl Tables {
    pub(super) fn put(&mut self, at: u32, e: u64) {
        self.put32(at, e as u32);
        self.put32(at + 4, (e >> 32) as u32);
    }

    pub(super) fn put32(&mut self, at: u32, e: u32) {
        self.0.insert(at, e);
    }

    pub(super) fn get(&self, at: u32) -> u64 {
        super::mapping::read_wide(self, GuestPhys(at))
    }
}

impl TableMemory for Tables {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        self.0.get(&at.0).copied().unwrap_or(0)
    }
    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        self.put32(at.0, value);
    }
}

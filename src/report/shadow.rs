//! The vocabulary of shadow page tables: address spaces, entries, traced frames, and what happened to them.

use crate::addr::{GuestPhys, Linear, MachineAddr};
use bitflags::bitflags;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where the translations of a guest address space start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Top {
    /// Paging is off.
    Off,
    /// 32-bit paging, with the directory in this frame.
    Directory(GuestPhys),
    /// PAE paging, with the directory of each GiB in these frames: what the registers hold, not the table in
    /// memory that they were loaded from.
    Pointers([Option<GuestPhys>; 4]),
}

/// What tells one guest address space from another, as far as translations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
// ANCHOR: key
pub struct Key {
    /// Where its translations start.
    pub top: Top,
    /// CR4.PSE; false without 32-bit paging.
    pub pse: bool,
    /// CR0.WP; false without paging.
    pub wp: bool,
}
// ANCHOR_END: key

impl Key {
    /// Whether a TLB may keep global pages from one space to the other: nothing but a load of CR3 lies
    /// between.
    pub fn differs_in_cr3_alone(&self, other: &Self) -> bool {
        let kind = |top: Top| std::mem::discriminant(&top);
        kind(self.top) == kind(other.top) && (self.pse, self.wp) == (other.pse, other.wp)
    }
}

/// An address space of the shadow MMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub u32);

/// The translation of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The machine frame.
    pub frame: MachineAddr,
    /// User-mode accesses are allowed.
    pub user: bool,
    /// Writes are allowed.
    pub write: bool,
}

/// What a traced frame is to the guest's page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The address space.
    pub root: Root,
    /// A page directory; else a page table.
    pub directory: bool,
    /// The first linear address that its entries stand for.
    pub first: Linear,
    /// The last one.
    pub last: Linear,
}

bitflags! {
    /// Why a guest frame is traced.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Reason: u8 {
        /// A page directory or page table of the guest's lies there.
        const PAGE_TABLE = 1;
        /// The guest's GDT or LDT lies there.
        const DESCRIPTORS = 2;
    }
}

/// What happened to a shadow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Made from the guest's tables, on a hidden fault.
    Filled,
    /// Made again with other rights, on a hidden fault.
    Refilled,
    /// Writes taken away: its frame is traced from now on.
    Downgraded,
    /// Taken away: the guest wrote the entry that it was made from.
    Synced,
    /// Taken away: the guest flushed its TLB.
    Flushed,
    /// Taken away: the guest invalidated the page.
    Invalidated,
    /// Taken away: its place was needed.
    Evicted,
    /// Taken away: its address space is no more, or the memory map changed.
    Dropped,
}

/// What the shadow MMU counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MmuCounts {
    /// Changes of entries, by kind.
    pub changes: BTreeMap<Change, u64>,
    /// Frames that became traced.
    pub traces_set: u64,
    /// Frames that ceased to be.
    pub traces_released: u64,
    /// Address spaces made.
    pub spaces_made: u64,
    /// Address spaces dropped.
    pub spaces_dropped: u64,
    /// Switches of address space.
    pub switches: u64,
}

/// The figures of a shadow MMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShadowFigures {
    /// What was counted.
    pub counts: MmuCounts,
    /// Frames that held tables, the most at a time.
    pub most_tables: usize,
}

/// The translation of one frame of the guest's by extended page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedLeaf {
    /// The machine frame.
    pub frame: MachineAddr,
    /// Writes are allowed, too; reads and fetches always are.
    pub write: bool,
}

/// What a nested MMU counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NestedCounts {
    /// Frames mapped, on EPT violations.
    pub fills: u64,
    /// How often all tables were dropped, because frames for them were used up.
    pub evictions: u64,
    /// How often the processor was told to drop its translations (INVEPT).
    pub invalidations: u64,
}

/// Two-dimensional walks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Walks {
    /// Walks.
    pub walks: u64,
    /// Entries that they read, of both kinds of tables.
    pub references: u64,
    /// Entries of the guest's tables among them.
    pub native: u64,
}

/// The figures of a nested MMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NestedFigures {
    /// What was counted.
    pub counts: NestedCounts,
    /// Walks of the real processor.
    pub walks: Walks,
    /// Frames that held tables, the most at a time.
    pub most_tables: usize,
}

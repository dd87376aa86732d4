//! The shadow page tables themselves: two levels of IA-32 tables in the monitor's machine frames, walked by
//! the real processor. Under ring compression each address space has the monitor's own region mapped, at the
//! top, for supervisors; user code does not reach the region for want of the U bit, the guest's kernel in ring 1
//! for want of segments that long. Under VMX the monitor has an address space of its own, and the guest all of
//! this one.

use super::pool::FramePool;
use crate::addr::{Linear, MachineAddr, PAGE_SHIFT, PAGE_SIZE};
use crate::mem::Ram;
use crate::mmu::paging::entry;
use crate::report::{Leaf, Root};
use std::collections::BTreeSet;

/// Entries in a table.
const ENTRIES: usize = 1024;
/// log2 of the bytes that a page-directory entry covers.
const REGION_SHIFT: u32 = 22;
/// Accessed and dirty are set from the start: the real processor's walker writes nothing.
const USED: u32 = entry::PRESENT | entry::ACCESSED | entry::DIRTY;

/// No frame is left for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// Translations that the real TLB must not use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Every translation.
    pub all: bool,
    /// Pages of the current address space.
    pub pages: Vec<Linear>,
}

/// The tables of an address space.
struct Space {
    directory: MachineAddr,
    /// By directory index.
    tables: Box<[Option<MachineAddr>; ENTRIES]>,
}

/// All address spaces.
pub struct PageTables {
    pool: FramePool,
    spaces: Vec<Option<Space>>,
    /// Numbers below `spaces.len()` that no space has.
    free: BTreeSet<u32>,
    current: Option<Root>,
    /// The table that maps the monitor's region, in the last directory entry of each space; `None` where the
    /// monitor has no such region.
    monitor: Option<MachineAddr>,
    stale: Stale,
}

fn get(ram: &Ram, table: MachineAddr, index: usize) -> u32 {
    let at = table.0 as usize + index * 4;
    let bytes = ram.bytes().get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn put(ram: &mut Ram, table: MachineAddr, index: usize, value: u32) {
    ram.write(table.offset(index as u32 * 4), &value.to_le_bytes());
}

fn directory_index(at: Linear) -> usize {
    (at.0 >> REGION_SHIFT) as usize
}

fn table_index(at: Linear) -> usize {
    (at.0 >> PAGE_SHIFT) as usize & (ENTRIES - 1)
}

fn encode(leaf: Leaf) -> u32 {
    leaf.frame.0 | USED | if leaf.user { entry::USER } else { 0 } | if leaf.write { entry::WRITE } else { 0 }
}

fn decode(pte: u32) -> Option<Leaf> {
    (pte & entry::PRESENT != 0).then_some(Leaf {
        frame: MachineAddr(pte & entry::FRAME),
        user: pte & entry::USER != 0,
        write: pte & entry::WRITE != 0,
    })
}

impl PageTables {
    /// No address space yet; frames come from `pool`, and each space will map `monitor`'s pages, if there are
    /// any, from the start of its last 4 MiB on.
    ///
    /// # Errors
    /// [`Exhausted`] when the pool has no frame for the monitor's own table.
    pub fn new(ram: &mut Ram, mut pool: FramePool, monitor: &[MachineAddr]) -> Result<Self, Exhausted> {
        let table = match monitor {
            [] => None,
            _ => Some(pool.take(ram).ok_or(Exhausted)?),
        };
        for (table, (n, &frame)) in
            table.iter().flat_map(|table| monitor.iter().enumerate().map(|m| (*table, m)))
        {
            put(ram, table, n, encode(Leaf { frame, user: false, write: true }));
        }
        Ok(Self {
            pool,
            spaces: Vec::new(),
            free: BTreeSet::new(),
            current: None,
            monitor: table,
            stale: Stale::default(),
        })
    }

    /// The page directory of the current address space, for CR3.
    pub fn directory(&self) -> Option<MachineAddr> {
        Some(self.space(self.current?)?.directory)
    }

    /// Frames in use for tables, and the most that were.
    pub fn frames(&self) -> (usize, usize) {
        (self.pool.used(), self.pool.peak())
    }

    /// The frames that hold tables, the monitor's own among them.
    pub fn table_frames(&self) -> impl Iterator<Item = MachineAddr> + '_ {
        let of = |space: &Space| -> Vec<MachineAddr> {
            std::iter::once(space.directory).chain(space.tables.iter().copied().flatten()).collect()
        };
        self.monitor.into_iter().chain(self.spaces.iter().flatten().flat_map(of))
    }

    /// The address spaces that there are.
    pub fn roots(&self) -> impl Iterator<Item = Root> + '_ {
        (0u32..).zip(&self.spaces).filter(|(_, s)| s.is_some()).map(|(n, _)| Root(n))
    }

    /// Every translated page of `root` with its translation, upwards; without the monitor's.
    pub fn leaves(&self, ram: &Ram, root: Root) -> Vec<(Linear, Leaf)> {
        let mut leaves = Vec::new();
        let Some(space) = self.space(root) else { return leaves };
        for (n, table) in (0u32..).zip(space.tables.iter()) {
            let Some(table) = *table else { continue };
            for index in 0..ENTRIES {
                if let Some(leaf) = decode(get(ram, table, index)) {
                    leaves.push((Linear(n << REGION_SHIFT | (index as u32) << PAGE_SHIFT), leaf));
                }
            }
        }
        leaves
    }

    fn space(&self, root: Root) -> Option<&Space> {
        self.spaces.get(root.0 as usize)?.as_ref()
    }

    fn table(&self, root: Root, at: Linear) -> Option<MachineAddr> {
        self.space(root)?.tables[directory_index(at)]
    }

    fn note_stale(&mut self, root: Root, at: Linear) {
        if self.current == Some(root) && !self.stale.all {
            self.stale.pages.push(at.page());
        }
    }
}

/// Changes of entries. What the real TLB may still hold of entries that were taken away or lessened is noted
/// until
/// [`PageTables::take_stale`].
impl PageTables {
    /// A new, empty address space.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn add_root(&mut self, ram: &mut Ram) -> Result<Root, Exhausted> {
        let directory = self.pool.take(ram).ok_or(Exhausted)?;
        if let Some(table) = self.monitor {
            put(ram, directory, ENTRIES - 1, table.0 | USED | entry::WRITE);
        }
        let space = Space { directory, tables: Box::new([None; ENTRIES]) };
        let n = self.free.pop_first().unwrap_or(self.spaces.len() as u32);
        if n as usize == self.spaces.len() {
            self.spaces.push(None);
        }
        self.spaces[n as usize] = Some(space);
        Ok(Root(n))
    }

    /// Drops an address space with all its translations. Dropping the current one leaves none.
    pub fn drop_root(&mut self, ram: &mut Ram, root: Root) {
        if self.current == Some(root) {
            self.current = None;
            self.stale.all = true;
        }
        if let Some(space) = self.spaces[root.0 as usize].take() {
            for table in space.tables.iter().flatten() {
                self.pool.give(ram, *table);
            }
            self.pool.give(ram, space.directory);
            self.free.insert(root.0);
        }
    }

    /// Makes `root` the current address space.
    pub fn switch_root(&mut self, root: Root) {
        if self.current != Some(root) {
            self.current = Some(root);
            self.stale = Stale { all: true, pages: Vec::new() };
        }
    }

    /// Translates the page of `at` as `leaf` says, instead of what was there.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing has changed then.
    pub fn map(&mut self, ram: &mut Ram, root: Root, at: Linear, leaf: Leaf) -> Result<(), Exhausted> {
        let table = match self.table(root, at) {
            Some(table) => table,
            None => {
                let table = self.pool.take(ram).ok_or(Exhausted)?;
                let Some(space) = &mut self.spaces[root.0 as usize] else { return Err(Exhausted) };
                space.tables[directory_index(at)] = Some(table);
                // Rights stand in the last level alone.
                let pde = table.0 | USED | entry::USER | entry::WRITE;
                put(ram, space.directory, directory_index(at), pde);
                table
            }
        };
        let old = decode(get(ram, table, table_index(at)));
        put(ram, table, table_index(at), encode(leaf));
        if old.is_some() {
            self.note_stale(root, at);
        }
        Ok(())
    }

    /// Takes the translation of the page of `at` away, and returns it.
    pub fn unmap(&mut self, ram: &mut Ram, root: Root, at: Linear) -> Option<Leaf> {
        let table = self.table(root, at)?;
        let leaf = decode(get(ram, table, table_index(at)))?;
        put(ram, table, table_index(at), 0);
        self.note_stale(root, at);
        Some(leaf)
    }

    /// Takes writes of the page of `at` away.
    pub fn protect(&mut self, ram: &mut Ram, root: Root, at: Linear) {
        let Some(table) = self.table(root, at) else { return };
        if let Some(leaf) = decode(get(ram, table, table_index(at))) {
            put(ram, table, table_index(at), encode(Leaf { write: false, ..leaf }));
            self.note_stale(root, at);
        }
    }

    /// The translation of the page of `at`.
    pub fn entry(&self, ram: &Ram, root: Root, at: Linear) -> Option<Leaf> {
        decode(get(ram, self.table(root, at)?, table_index(at)))
    }

    /// The pages of `root` that are translated within the 4 MiB of `at`.
    pub fn region(&self, ram: &Ram, root: Root, at: Linear) -> Vec<Linear> {
        let Some(table) = self.table(root, at) else { return Vec::new() };
        let base = at.0 >> REGION_SHIFT << REGION_SHIFT;
        let present = |n: &usize| get(ram, table, *n) & entry::PRESENT != 0;
        (0..ENTRIES).filter(present).map(|n| Linear(base + n as u32 * PAGE_SIZE)).collect()
    }

    /// Gives back the table of the 4 MiB of `at`, which translates nothing any more.
    pub fn release_region(&mut self, ram: &mut Ram, root: Root, at: Linear) {
        let Some(Some(space)) = self.spaces.get_mut(root.0 as usize) else { return };
        if let Some(table) = space.tables[directory_index(at)].take() {
            put(ram, space.directory, directory_index(at), 0);
            self.pool.give(ram, table);
        }
    }

    /// What the real TLB must drop before the guest runs again.
    pub fn take_stale(&mut self) -> Stale {
        std::mem::take(&mut self.stale)
    }
}

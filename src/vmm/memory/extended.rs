//! Extended page tables in the monitor's machine frames (SDM vol. 3, 28.2), walked by the real processor: four
//! levels, of which 32 bits of guest-physical address use one entry at the first and four at the second.

use super::pool::FramePool;
use super::tables::Exhausted;
use crate::addr::{GuestPhys, MachineAddr};
use crate::mem::Ram;
use crate::mmu::ept::entry;
use crate::report::NestedLeaf;
use std::collections::BTreeMap;

/// log2 of the bytes that an entry of a page directory and of a page-directory-pointer table stands for.
const DIRECTORY_SHIFT: u32 = 21;
const POINTER_SHIFT: u32 = 30;
/// Index bits of a level.
const INDEX: u32 = 0x1ff;
/// EPT pointer: a walk of four levels through write-back memory.
const POINTER: u64 = 3 << 3 | 6;

/// The tables.
pub struct ExtendedTables {
    pool: FramePool,
    /// The first level, and the second.
    root: MachineAddr,
    pointers: MachineAddr,
    /// Page directories by bits 31-30 of the address, page tables by bits 31-21.
    directories: BTreeMap<u32, MachineAddr>,
    tables: BTreeMap<u32, MachineAddr>,
}

fn get(ram: &Ram, table: MachineAddr, index: u32) -> u64 {
    let at = (table.0 + index * 8) as usize;
    let bytes = ram.bytes().get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn put(ram: &mut Ram, table: MachineAddr, index: u32, value: u64) {
    ram.write(table.offset(index * 8), &value.to_le_bytes());
}

/// An entry that points to the next table. Rights stand in the last level alone.
fn link(table: MachineAddr) -> u64 {
    u64::from(table.0) | entry::RIGHTS
}

fn encode(leaf: NestedLeaf) -> u64 {
    let write = if leaf.write { entry::WRITE } else { 0 };
    u64::from(leaf.frame.0) | entry::TYPE_WB | entry::READ | entry::EXECUTE | write
}

fn decode(e: u64) -> Option<NestedLeaf> {
    (e & entry::RIGHTS != 0)
        .then_some(NestedLeaf { frame: MachineAddr((e & entry::FRAME) as u32), write: e & entry::WRITE != 0 })
}

fn table_index(at: GuestPhys) -> u32 {
    at.page_number() & INDEX
}

impl ExtendedTables {
    /// Empty tables in frames of `pool`.
    ///
    /// # Errors
    /// [`Exhausted`] when the pool has no frames for the first two levels.
    pub fn new(ram: &mut Ram, mut pool: FramePool) -> Result<Self, Exhausted> {
        let root = pool.take(ram).ok_or(Exhausted)?;
        let pointers = pool.take(ram).ok_or(Exhausted)?;
        put(ram, root, 0, link(pointers));
        Ok(Self { pool, root, pointers, directories: BTreeMap::new(), tables: BTreeMap::new() })
    }

    /// The EPT pointer that names these tables.
    pub fn pointer(&self) -> u64 {
        u64::from(self.root.0) | POINTER
    }

    /// Frames in use for tables, and the most that were.
    pub fn frames(&self) -> (usize, usize) {
        (self.pool.used(), self.pool.peak())
    }

    /// The frames that hold tables.
    pub fn table_frames(&self) -> impl Iterator<Item = MachineAddr> + '_ {
        let upper = [self.root, self.pointers].into_iter();
        upper.chain(self.directories.values().copied()).chain(self.tables.values().copied())
    }

    /// Translates the frame of `at` as `leaf` says, instead of what was there.
    ///
    /// # Errors
    /// [`Exhausted`]; no translation has changed then.
    pub fn map(&mut self, ram: &mut Ram, at: GuestPhys, leaf: NestedLeaf) -> Result<(), Exhausted> {
        let table = self.table(ram, at)?;
        put(ram, table, table_index(at), encode(leaf));
        Ok(())
    }

    /// The page table of `at`, made if need be.
    fn table(&mut self, ram: &mut Ram, at: GuestPhys) -> Result<MachineAddr, Exhausted> {
        let Self { pool, pointers, directories, tables, .. } = self;
        if let Some(table) = tables.get(&(at.0 >> DIRECTORY_SHIFT)) {
            return Ok(*table);
        }
        let number = at.0 >> POINTER_SHIFT;
        let directory = match directories.get(&number) {
            Some(directory) => *directory,
            None => {
                let directory = pool.take(ram).ok_or(Exhausted)?;
                put(ram, *pointers, number, link(directory));
                directories.insert(number, directory);
                directory
            }
        };
        let table = pool.take(ram).ok_or(Exhausted)?;
        put(ram, directory, at.0 >> DIRECTORY_SHIFT & INDEX, link(table));
        tables.insert(at.0 >> DIRECTORY_SHIFT, table);
        Ok(table)
    }

    /// Drops all translations.
    pub fn clear(&mut self, ram: &mut Ram) {
        for number in 0..1 << (32 - POINTER_SHIFT) {
            put(ram, self.pointers, number, 0);
        }
        let frames = [std::mem::take(&mut self.tables), std::mem::take(&mut self.directories)];
        for frame in frames.into_iter().flat_map(BTreeMap::into_values) {
            self.pool.give(ram, frame);
        }
    }

    /// The translation of the frame of `at`.
    pub fn entry(&self, ram: &Ram, at: GuestPhys) -> Option<NestedLeaf> {
        let table = self.tables.get(&(at.0 >> DIRECTORY_SHIFT))?;
        decode(get(ram, *table, table_index(at)))
    }

    /// Every translated frame with its translation, upwards.
    pub fn leaves(&self, ram: &Ram) -> Vec<(GuestPhys, NestedLeaf)> {
        let of_table = |(&number, &table): (&u32, &MachineAddr)| {
            let leaf = move |index| {
                let at = GuestPhys(number << DIRECTORY_SHIFT | index << 12);
                Some((at, decode(get(ram, table, index))?))
            };
            (0..=INDEX).filter_map(leaf).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(of_table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmu::ept::{Access, Failure, walk};
    use crate::mmu::paging::TableMemory;

    struct Memory(Ram);

    impl TableMemory for Memory {
        fn read_entry(&self, at: GuestPhys) -> u32 {
            let at = at.0 as usize;
            u32::from_le_bytes(self.0.bytes()[at..at + 4].try_into().unwrap())
        }
        fn write_entry(&mut self, at: GuestPhys, value: u32) {
            self.0.write(MachineAddr(at.0), &value.to_le_bytes());
        }
    }

    fn tables(frames: u32) -> (Ram, ExtendedTables) {
        let mut ram = Ram::of_pages(frames).unwrap();
        let pool = FramePool::new((0..frames).map(|n| MachineAddr(n << 12)).collect());
        let tables = ExtendedTables::new(&mut ram, pool).unwrap();
        (ram, tables)
    }

    /// The processor's walker reads what was written.
    #[test]
    fn the_processor_finds_what_is_mapped() {
        let (mut ram, mut tables) = tables(16);
        let rom = NestedLeaf { frame: MachineAddr(0x1_2000), write: false };
        let last = NestedLeaf { frame: MachineAddr(0xfff_f000), write: true };
        tables.map(&mut ram, GuestPhys(0xf_0000), rom).unwrap();
        tables.map(&mut ram, GuestPhys(0xffff_f000), last).unwrap();
        assert_eq!(tables.leaves(&ram), [(GuestPhys(0xf_0000), rom), (GuestPhys(0xffff_f000), last)]);
        let pointer = tables.pointer();
        let mut memory = Memory(ram);
        let read = Access { read: true, write: false, fetch: false };
        let mut find = |at, access| walk(&mut memory, pointer, GuestPhys(at), access).map(|n| n.frame);
        assert_eq!(find(0xf_0123, read), Ok(GuestPhys(0x1_2000)));
        assert_eq!(find(0xf_0123, Access::MARK), Err(Failure::Violation(0x2a)));
        assert_eq!(find(0xffff_ffff, Access::MARK), Ok(GuestPhys(0xfff_f000)));
        assert_eq!(find(0x10_0000, read), Err(Failure::Violation(1)));
    }

    #[test]
    fn tables_that_are_used_up_are_given_back_by_clearing() {
        let (mut ram, mut tables) = tables(5);
        let leaf = NestedLeaf { frame: MachineAddr(0), write: true };
        assert_eq!(tables.map(&mut ram, GuestPhys(0), leaf), Ok(()));
        assert_eq!(tables.map(&mut ram, GuestPhys(0x20_0000), leaf), Ok(()));
        assert_eq!(tables.map(&mut ram, GuestPhys(0x40_0000), leaf), Err(Exhausted));
        tables.clear(&mut ram);
        assert_eq!((tables.frames(), tables.entry(&ram, GuestPhys(0))), ((2, 5), None));
        assert_eq!(tables.map(&mut ram, GuestPhys(0x40_0000), leaf), Ok(()));
    }
}

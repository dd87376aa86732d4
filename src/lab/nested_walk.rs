//! A two-dimensional walk, reference by reference, for an observer: each entry of the guest's page tables lies at
//! a guest-physical address, which extended page tables translate first (SDM vol. 3, 28.2.1). No bit is set.

use crate::addr::{GuestPhys, Linear, MachineAddr};
use crate::cpu::{Cpu, Cr0, Cr4};
use crate::mem::Ram;
use crate::mmu::ept;
use crate::mmu::pae;
use crate::mmu::paging::entry;
use serde::Serialize;

/// Which table an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Extended page tables, of this level: 4 is the first, 1 the last.
    Extended(u8),
    /// The guest's page directory.
    Directory,
    /// A page table of the guest's.
    PageTable,
}

/// A reference to memory: an entry that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The table.
    pub table: Table,
    /// Where the entry is, in the machine's memory.
    pub at: MachineAddr,
    /// What it holds.
    pub value: u64,
    /// The guest-physical address that is translated, of extended entries, or where the entry is for the guest.
    pub guest: GuestPhys,
}

/// How a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// At a page: its guest-physical frame, and the machine's.
    Page(GuestPhys, MachineAddr),
    /// The guest's entry is not present: the guest's own page fault.
    NotPresent,
    /// Extended page tables have no entry for this address: an EPT violation.
    Violation(GuestPhys),
}

/// A walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The references, in their order.
    pub references: Vec<Reference>,
    /// How it ends.
    pub end: End,
}

/// The walk that the real processor would make for `at`, with the guest's state in `cpu` and the extended page
/// tables of `pointer`.
pub fn walk(cpu: &Cpu, ram: &Ram, pointer: u64, at: Linear) -> Walk {
    let mut walker = Walker { ram, pointer, references: Vec::new() };
    let end = walker.page(cpu, at).unwrap_or_else(|end| end);
    Walk { references: walker.references, end }
}

struct Walker<'a> {
    ram: &'a Ram,
    pointer: u64,
    references: Vec<Reference>,
}

impl Walker<'_> {
    /// Finds the page of `at`.
    fn page(&mut self, cpu: &Cpu, at: Linear) -> Result<End, End> {
        let frame = match (cpu.cr0.contains(Cr0::PG), cpu.cr4.contains(Cr4::PAE)) {
            (false, _) => GuestPhys(at.0).page(),
            (true, false) => self.two_levels(cpu, at)?,
            (true, true) => self.three_levels(cpu, at)?,
        };
        Ok(End::Page(frame, self.extended(frame)?))
    }

    fn two_levels(&mut self, cpu: &Cpu, at: Linear) -> Result<GuestPhys, End> {
        let pde =
            self.guest(Table::Directory, GuestPhys(cpu.cr3).page().offset((at.0 >> 22) << 2), 4)? as u32;
        if pde & entry::LARGE != 0 && cpu.cr4.contains(Cr4::PSE) {
            return Ok(GuestPhys(pde & entry::LARGE_FRAME | at.0 & !entry::LARGE_FRAME & entry::FRAME));
        }
        let pte_at = GuestPhys(pde & entry::FRAME).offset((at.0 >> 12 & 0x3ff) << 2);
        Ok(GuestPhys(self.guest(Table::PageTable, pte_at, 4)? as u32 & entry::FRAME))
    }

    /// The pointers are in registers: they take no reference.
    fn three_levels(&mut self, cpu: &Cpu, at: Linear) -> Result<GuestPhys, End> {
        let pointer = cpu.pdptes[(at.0 >> 30) as usize];
        if !pae::present(pointer) {
            return Err(End::NotPresent);
        }
        let pde = self.guest(Table::Directory, pae::pde_address(pointer, at), 8)?;
        if pae::large(pde) {
            return Ok(GuestPhys((pde & pae::LARGE_FRAME) as u32 | at.0 & 0x001f_f000));
        }
        Ok(GuestPhys((self.guest(Table::PageTable, pae::pte_address(pde, at), 8)? & pae::FRAME) as u32))
    }

    /// Reads an entry of the guest's, of so many bytes.
    fn guest(&mut self, table: Table, guest: GuestPhys, bytes: usize) -> Result<u64, End> {
        let at = self.extended(guest.page())?.offset(guest.page_offset());
        let value = self.read(at, bytes);
        self.references.push(Reference { table, at, value, guest });
        if value & u64::from(entry::PRESENT) == 0 { Err(End::NotPresent) } else { Ok(value) }
    }

    /// Translates a guest-physical frame.
    fn extended(&mut self, guest: GuestPhys) -> Result<MachineAddr, End> {
        let mut table = self.pointer & ept::entry::FRAME;
        for level in (1..=4u8).rev() {
            let index = u64::from(guest.0) >> (12 + 9 * (level - 1)) & 0x1ff;
            let at = MachineAddr((table | index << 3) as u32);
            let value = self.read(at, 8);
            self.references.push(Reference { table: Table::Extended(level), at, value, guest });
            if value & ept::entry::RIGHTS == 0 {
                return Err(End::Violation(guest));
            }
            table = value & ept::entry::FRAME;
            if level == 2 && value & ept::entry::LARGE != 0 {
                let frame = value & ept::entry::LARGE_FRAME | u64::from(guest.0) & 0x1f_f000;
                return Ok(MachineAddr(frame as u32));
            }
        }
        Ok(MachineAddr(table as u32))
    }

    fn read(&self, at: MachineAddr, bytes: usize) -> u64 {
        let mut value = [0; 8];
        self.ram.read(at, &mut value[..bytes]);
        u64::from_le_bytes(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmu::paging::{Access, TableMemory};
    use crate::mmu::two_dimensional::walk_nested;

    /// The extended tables are in the first MiB of the machine, the guest in the second.
    const GUEST: u32 = 0x10_0000;
    const POINTER: u64 = 0x1000 | 3 << 3 | 6;

    struct Memory(Ram);

    impl TableMemory for Memory {
        fn read_entry(&self, at: GuestPhys) -> u32 {
            let mut value = [0; 4];
            self.0.read(MachineAddr(at.0), &mut value);
            u32::from_le_bytes(value)
        }
        fn write_entry(&mut self, at: GuestPhys, value: u32) {
            self.0.write(MachineAddr(at.0), &value.to_le_bytes());
        }
    }

    fn memory() -> Memory {
        let mut mem = Memory(Ram::of_pages(512).unwrap());
        for (at, value) in [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007)] {
            mem.write_entry(GuestPhys(at), value);
        }
        for n in 0..256 {
            mem.write_entry(GuestPhys(0x4000 + 8 * n), (GUEST + 0x1000 * n) | 0x37);
        }
        for (at, value) in [(0x5000, 0x6003), (0x600c, 0x7003), (0x5004, 0x83), (0x6010, 0xffff_e003)] {
            mem.write_entry(GuestPhys(GUEST + at), value);
        }
        mem
    }

    /// The observer's walk makes the references that the processor makes, and ends where the processor's does.
    #[test]
    fn a_walk_is_the_processors() {
        let mut paged = Cpu::new();
        (paged.cr0, paged.cr4, paged.cr3) = (Cr0::PE | Cr0::PG, Cr4::PSE, 0x5000);
        let mut pae = paged.clone();
        (pae.cr4, pae.pdptes[0]) = (Cr4::PAE, 0x6001);
        for (cpu, at) in [(&Cpu::new(), 0x3000), (&paged, 0x3000), (&paged, 0x40_2000), (&pae, 0x3000)] {
            let mut mem = memory();
            mem.write_entry(GuestPhys(GUEST + 0x6000), 0x7003);
            mem.write_entry(GuestPhys(GUEST + 0x7018), 0x8003);
            let seen = walk(cpu, &mem.0, POINTER, Linear(at));
            let made = walk_nested(cpu, &mut mem, POINTER, Linear(at), Access::read(false)).unwrap();
            assert_eq!(seen.references.len(), made.1.all as usize, "{at:x}");
            assert!(matches!(seen.end, End::Page(_, machine) if machine.0 == made.0.frame.0), "{seen:?}");
        }
        let seen = walk(&paged, &memory().0, POINTER, Linear(0x4000));
        assert_eq!((seen.end, seen.references.len()), (End::Violation(GuestPhys(0xffff_e000)), 12));
        let seen = walk(&paged, &memory().0, POINTER, Linear(0x5000));
        assert_eq!((seen.end, seen.references.len()), (End::NotPresent, 10));
    }
}

//! Two-dimensional walks (SDM vol. 3, 28.2.1): the guest's page tables, each entry of which lies at a
//! guest-physical address that extended page tables translate, and then the page itself.
//!
//! With g levels of the guest's and h of the extended tables a walk makes (g + 1)(h + 1) - 1 references.
//!
//! A walk that the extended tables refuse sets no accessed or dirty bit of the guest's: the bits wait until the
//! page itself was found. The manual leaves that open; so the instruction, when it is run again, meets the
//! guest's tables as it met them before.

use super::ept::{self, Failure, qualification};
use super::mapping::{Access, Mapping, TableMemory};
use super::paging::walk;
use crate::addr::{GuestPhys, Linear};
use crate::cpu::{Cpu, Cr4, Fault};
use std::cell::{Cell, RefCell};

/// An access that extended page tables do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The exit qualification; `None` for a misconfiguration.
    pub qualification: Option<u32>,
    /// The guest-physical address.
    pub at: GuestPhys,
    /// The guest-linear address, if there is one.
    pub linear: Option<Linear>,
}

/// The guest's page tables, through extended ones.
struct Through<'a, M> {
    inner: RefCell<&'a mut M>,
    pointer: u64,
    /// The guest's entries have 64 bits, and are read in two halves.
    wide: bool,
    refused: Cell<Option<(GuestPhys, Failure)>>,
    references: Cell<u32>,
    /// References that the guest's tables alone would take.
    native: Cell<u32>,
    marks: Marks,
}

/// Entries that a walk marks, where they are in memory, and what they become: at most one of each level of the
/// guest's.
#[derive(Default)]
struct Marks([Option<(GuestPhys, u32)>; 3]);

impl Marks {
    fn add(&mut self, at: GuestPhys, value: u32) {
        if let Some(free) = self.0.iter_mut().find(|mark| mark.is_none()) {
            *free = Some((at, value));
        }
    }

    fn set(&self, mem: &mut impl TableMemory) {
        self.0.iter().flatten().for_each(|&(at, value)| mem.write_entry(at, value));
    }
}

impl<'a, M: TableMemory> Through<'a, M> {
    fn new(mem: &'a mut M, pointer: u64, wide: bool) -> Self {
        let (refused, references, native) = (Cell::new(None), Cell::new(0), Cell::new(0));
        let inner = RefCell::new(mem);
        Self { inner, pointer, wide, refused, references, native, marks: Marks::default() }
    }

    /// Counts a reference to the guest's entry at `at`, and those that translating its address took.
    fn count(&self, at: GuestPhys, nested: u32) {
        if !self.wide || at.0 & 4 == 0 {
            self.references.set(self.references.get() + nested + 1);
            self.native.set(self.native.get() + 1);
        }
    }

    /// Where the entry at `at` is, to be accessed so; `None`, with the failure noted, if the extended tables
    /// refuse that.
    fn find(&self, at: GuestPhys, access: ept::Access) -> Option<(GuestPhys, u32)> {
        if self.refused.get().is_some() {
            return None;
        }
        match ept::walk(*self.inner.borrow_mut(), self.pointer, at, access) {
            Ok(found) => Some((found.frame.offset(at.page_offset()), found.references)),
            Err(failure) => {
                self.refused.set(Some((at, failure)));
                None
            }
        }
    }
}

impl<M: TableMemory> TableMemory for Through<'_, M> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        let access = ept::Access::of_entry(self.pointer);
        let Some((found, nested)) = self.find(at, access) else { return 0 };
        self.count(at, nested);
        self.inner.borrow().read_entry(found)
    }
    fn write_entry(&mut self, at: GuestPhys, value: u32) {
        if let Some((found, _)) = self.find(at, ept::Access::MARK) {
            self.marks.add(found, value);
        }
    }
}

/// Why a two-dimensional walk has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The guest's own #PF.
    Fault(Fault),
    /// A VM exit.
    Refused(Refused),
}

/// What a walk took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct References {
    /// Entries that were read, of both kinds of tables.
    pub all: u32,
    /// Entries of the guest's tables among them: what a walk without the second dimension takes.
    pub native: u32,
}

/// Translates the page of `at` for `access`, as [`walk`] does, through the extended page tables of `pointer`.
/// Returns the references made, too.
///
/// # Errors
/// [`Stopped`].
pub fn walk_nested<M: TableMemory>(
    cpu: &Cpu,
    mem: &mut M,
    pointer: u64,
    at: Linear,
    access: Access,
) -> Result<(Mapping, References), Stopped> {
    let refused = |(physical, failure), bits| {
        let qualification = match failure {
            Failure::Violation(of_entries) => Some(of_entries | bits),
            Failure::Misconfiguration => None,
        };
        Stopped::Refused(Refused { qualification, at: physical, linear: Some(at) })
    };
    let mut tables = Through::new(mem, pointer, cpu.cr4.contains(Cr4::PAE));
    let walked = walk(cpu, &mut tables, at, access);
    let Through { inner, refused: failed, references, native, marks, .. } = tables;
    if let Some(failed) = failed.get() {
        return Err(refused(failed, qualification::LINEAR));
    }
    let mapping = walked.map_err(Stopped::Fault)?;
    let physical = mapping.frame.offset(at.page_offset());
    let Access { write, fetch, .. } = access;
    let wanted = ept::Access { read: !write && !fetch, write, fetch };
    let mem = inner.into_inner();
    let found = ept::walk(mem, pointer, physical, wanted)
        .map_err(|failure| refused((physical, failure), qualification::LINEAR | qualification::FINAL))?;
    marks.set(mem);
    let writable = found.rights & ept::entry::WRITE != 0 && found.dirty;
    let dirty = mapping.dirty && writable;
    let execute = mapping.execute && found.rights & ept::entry::EXECUTE != 0;
    let references = References { all: references.get() + found.references, native: native.get() };
    Ok((Mapping { frame: found.frame, dirty, execute, ..mapping }, references))
}

/// The guest's page-directory-pointer table at `cr3`, through the extended page tables of `pointer`: there is
/// no linear address to it (SDM vol. 3, 27.2.1).
///
/// # Errors
/// What they refuse.
pub fn load_pointers<M: TableMemory>(
    mem: &mut M,
    pointer: u64,
    cr3: u32,
) -> Result<Option<[u64; 4]>, Refused> {
    let tables = Through::new(mem, pointer, true);
    let loaded = super::pae::load_pointers(&tables, cr3);
    match tables.refused.get() {
        Some((at, Failure::Violation(bits))) => Err(Refused { qualification: Some(bits), at, linear: None }),
        Some((at, Failure::Misconfiguration)) => Err(Refused { qualification: None, at, linear: None }),
        None => Ok(loaded),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tables;
    use super::*;
    use crate::cpu::Cr0;

    /// Where guest-physical memory is.
    const GUEST: u32 = 0x10_0000;
    const POINTER: u64 = 0x1000 | 3 << 3 | 6;
    const READ: Access = Access::read(false);
    const WRITE: Access = Access::write(false);

    /// The first 2 MiB of guest-physical memory, in pages of 4 KiB or in one of 2 MiB (at 40_0000h then).
    fn memory(large: bool) -> Tables {
        let mut mem = Tables::default();
        for (at, entry) in [(0x1000, 0x2007), (0x2000, 0x3007)] {
            mem.put32(at, entry);
        }
        mem.put32(0x3000, if large { 0x40_00b7 } else { 0x4007 });
        for n in 0..512 {
            mem.put32(0x4000 + 8 * n, (GUEST + 0x1000 * n) | 0x37);
        }
        mem
    }

    fn paged(bits: Cr4) -> Cpu {
        let mut cpu = Cpu::new();
        (cpu.cr0, cpu.cr4, cpu.cr3) = (Cr0::PE | Cr0::PG, bits, 0x5000);
        cpu
    }

    /// (g + 1)(h + 1) - 1, with g levels of the guest's and h of the extended tables.
    #[test]
    fn references_are_counted_by_both_dimensions() {
        let references =
            |cpu: &Cpu, mem: &mut Tables| walk_nested(cpu, mem, POINTER, Linear(0x3000), READ).unwrap().1.all;
        let mut unpaged = paged(Cr4::empty());
        unpaged.cr0 -= Cr0::PG;
        assert_eq!(references(&unpaged, &mut memory(false)), 4);
        assert_eq!(references(&unpaged, &mut memory(true)), 3);
        for (large, base, expected) in [(false, GUEST, 14), (true, 0x40_0000, 11)] {
            let mut mem = memory(large);
            mem.put32(base + 0x5000, 0x6003);
            mem.put32(base + 0x600c, 0x7003);
            assert_eq!(references(&paged(Cr4::empty()), &mut mem), expected);
        }
        let mut mem = memory(false);
        mem.put32(GUEST + 0x5000, 0x83);
        assert_eq!(references(&paged(Cr4::PSE), &mut mem), 9);
        let mut mem = memory(false);
        let mut cpu = paged(Cr4::PAE);
        cpu.pdptes[0] = 0x6001;
        mem.put32(GUEST + 0x6000, 0x7003);
        mem.put32(GUEST + 0x7018, 0x8003);
        assert_eq!(references(&cpu, &mut mem), 14);
    }

    #[test]
    fn what_the_extended_tables_refuse_is_told_with_its_dimension() {
        let cpu = paged(Cr4::empty());
        let refused = |mem: &mut Tables, access| match walk_nested(&cpu, mem, POINTER, Linear(0x3456), access)
        {
            Err(Stopped::Refused(refused)) => (refused.qualification, refused.at),
            other => panic!("{other:?}"),
        };
        // The page directory is not mapped.
        let mut mem = memory(false);
        mem.put32(0x4028, 0);
        assert_eq!(refused(&mut mem, WRITE), (Some(0x81), GuestPhys(0x5000)));
        // The page can be read only.
        let mut mem = memory(false);
        mem.put32(GUEST + 0x5000, 0x6003);
        mem.put32(GUEST + 0x600c, 0x7003);
        mem.put32(0x4038, (GUEST + 0x7000) | 0x31);
        assert_eq!(refused(&mut mem, WRITE), (Some(0x18a), GuestPhys(0x7456)));
        let (mapping, _) = walk_nested(&cpu, &mut mem, POINTER, Linear(0x3456), READ).unwrap();
        assert_eq!((mapping.frame, mapping.dirty), (GuestPhys(GUEST + 0x7000), false));
        // The guest's own tables come first.
        let mut mem = memory(false);
        mem.put32(GUEST + 0x5000, 0);
        let stopped = walk_nested(&cpu, &mut mem, POINTER, Linear(0x3456), READ);
        assert_eq!(stopped, Err(Stopped::Fault(Fault::page(0x3456, 0))));
    }
}

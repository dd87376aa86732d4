//! What walks of both kinds of page tables share: the entries' bits, where tables live, what is asked and what is found.

use crate::addr::{GuestPhys, Linear};
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Cr0, Fault};

/// Bits of page-directory and page-table entries (SDM vol. 3, tables 4-4 to 4-6).
#[allow(missing_docs, reason = "the manual's names")]
pub mod entry {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 1 << 1;
    pub const USER: u32 = 1 << 2;
    pub const ACCESSED: u32 = 1 << 5;
    pub const DIRTY: u32 = 1 << 6;
    /// Page size, in a PDE.
    pub const LARGE: u32 = 1 << 7;
    pub const GLOBAL: u32 = 1 << 8;
    pub const FRAME: u32 = 0xffff_f000;
    pub const LARGE_FRAME: u32 = 0xffc0_0000;
}

/// Where page tables live.
pub trait TableMemory {
    /// Reads an entry.
    fn read_entry(&self, at: GuestPhys) -> u32;
    /// Writes an entry back with accessed or dirty bits set.
    fn write_entry(&mut self, at: GuestPhys, value: u32);
}

/// Reads a 64-bit entry, the lower half first.
pub fn read_wide(mem: &impl TableMemory, at: GuestPhys) -> u64 {
    let low = u64::from(mem.read_entry(at));
    low | u64::from(mem.read_entry(at.offset(4))) << 32
}

/// What kind of access is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A user-mode access.
    pub user: bool,
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

impl Access {
    /// A read of data.
    pub const fn read(user: bool) -> Self {
        Self { user, write: false, fetch: false }
    }
    /// A write of data.
    pub const fn write(user: bool) -> Self {
        Self { user, write: true, fetch: false }
    }
    /// An access to data.
    pub const fn data(user: bool, write: bool) -> Self {
        Self { user, write, fetch: false }
    }
    /// An instruction fetch.
    pub const fn fetch(user: bool) -> Self {
        Self { user, write: false, fetch: true }
    }
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The 4 KiB frame.
    pub frame: GuestPhys,
    /// User-mode accesses are allowed.
    pub user: bool,
    /// R/W of all levels.
    pub write: bool,
    /// Instructions may be fetched.
    pub execute: bool,
    /// The dirty bit is set (now).
    pub dirty: bool,
    /// The translation survives a load of CR3.
    pub global: bool,
    /// Whether the page is part of a 4 MiB page, or of a 2 MiB page of PAE.
    pub large: bool,
}

impl Mapping {
    /// Whether `access` is allowed, with CR0.WP as `wp` (SDM vol. 3, 4.6.1).
    pub fn allows(&self, access: Access, wp: bool) -> bool {
        if access.fetch && !self.execute {
            return false;
        }
        if access.user {
            self.user && (!access.write || self.write)
        } else {
            !access.write || self.write || !wp
        }
    }
}

pub(super) fn permit(cpu: &Cpu, at: Linear, access: Access, mapping: &Mapping) -> Result<(), Fault> {
    if mapping.allows(access, cpu.cr0.contains(Cr0::WP)) {
        Ok(())
    } else {
        Err(page_fault(cpu, at, access, pf::PRESENT))
    }
}

/// The bits that an access sets in the entry that maps the page.
pub(super) fn used(access: Access) -> u32 {
    entry::ACCESSED | if access.write { entry::DIRTY } else { 0 }
}

pub(super) fn set_bits(mem: &mut impl TableMemory, at: GuestPhys, old: u32, bits: u32) {
    if old & bits != bits {
        mem.write_entry(at, old | bits);
    }
}

pub(super) fn page_fault(cpu: &Cpu, at: Linear, access: Access, mut code: u16) -> Fault {
    if access.fetch && cpu.execute_disable() {
        code |= pf::FETCH;
    }
    if access.write {
        code |= pf::WRITE;
    }
    if access.user {
        code |= pf::USER;
    }
    Fault::page(at.0, code)
}

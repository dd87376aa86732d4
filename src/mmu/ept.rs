//! Extended page tables (SDM vol. 3, 28.2): four levels from guest-physical to physical addresses, with pages
//! of 4 KiB and 2 MiB.
//!
//! Guest-physical addresses have 32 bits here, so the first level has one entry in use and the second four.
//! Physical addresses have 32 bits, too, and bits 32-51 of every entry are reserved.

use super::mapping::{TableMemory, read_wide};
use crate::addr::GuestPhys;

/// Bits of an entry.
#[allow(missing_docs, reason = "the manual's names")]
pub mod entry {
    pub const READ: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const EXECUTE: u64 = 1 << 2;
    pub const RIGHTS: u64 = 7;
    /// The memory type, in an entry that maps a page.
    pub const TYPE: u64 = 7 << 3;
    pub const TYPE_WB: u64 = 6 << 3;
    /// A page, in the entry of a page directory.
    pub const LARGE: u64 = 1 << 7;
    pub const ACCESSED: u64 = 1 << 8;
    pub const DIRTY: u64 = 1 << 9;
    pub const FRAME: u64 = 0xffff_f000;
    pub const LARGE_FRAME: u64 = 0xffe0_0000;
    /// Beyond the physical address.
    pub const BEYOND: u64 = 0x000f_ffff_0000_0000;
}

/// EPT pointer: accessed and dirty flags are set (SDM vol. 3, table 24-8).
pub const POINTER_USED: u64 = 1 << 6;

/// Bits of the exit qualification of an EPT violation (SDM vol. 3, table 27-7).
#[allow(missing_docs, reason = "the manual's names")]
pub mod qualification {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 1 << 1;
    pub const FETCH: u32 = 1 << 2;
    /// What the entries allow, all of them together: read, write, execute.
    pub const ALLOWED_SHIFT: u32 = 3;
    /// There is a guest-linear address.
    pub const LINEAR: u32 = 1 << 7;
    /// The access is to the page that the linear address translates to, and not to a paging structure.
    pub const FINAL: u32 = 1 << 8;
}

/// What is done to a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A data read.
    pub read: bool,
    /// A data write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

impl Access {
    /// The setting of an accessed or dirty bit in the guest's page tables.
    pub const MARK: Self = Self { read: false, write: true, fetch: false };

    /// A read of an entry of the guest's page tables: a write as well where accessed and dirty flags are in
    /// use (SDM vol. 3, 28.2.3.2).
    pub fn of_entry(pointer: u64) -> Self {
        Self { read: true, write: pointer & POINTER_USED != 0, fetch: false }
    }

    fn bits(self) -> u64 {
        u64::from(self.read) | u64::from(self.write) << 1 | u64::from(self.fetch) << 2
    }
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nested {
    /// The 4 KiB frame.
    pub frame: GuestPhys,
    /// What all entries allow, by [`entry::RIGHTS`].
    pub rights: u64,
    /// The entry that maps the page has its dirty flag set, or there are no such flags.
    pub dirty: bool,
    /// Entries that were read.
    pub references: u32,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The entries do not allow the access: bits 0-5 of the exit qualification.
    Violation(u32),
    /// An entry has bits that mean nothing (SDM vol. 3, 28.2.3.1).
    Misconfiguration,
}

/// Translates the page of `at`.
///
/// # Errors
/// [`Failure`]; no flag has been set then.
pub fn walk(
    mem: &mut impl TableMemory,
    pointer: u64,
    at: GuestPhys,
    access: Access,
) -> Result<Nested, Failure> {
    let mut table = pointer & entry::FRAME;
    let mut rights = entry::RIGHTS;
    let mut path = [(GuestPhys(0), 0u64); 4];
    for (n, level) in (0..4u32).rev().enumerate() {
        let index = (u64::from(at.0) >> (12 + 9 * level)) & 0x1ff;
        let entry_at = GuestPhys((table | index << 3) as u32);
        let e = read_wide(mem, entry_at);
        path[n] = (entry_at, e);
        rights &= e;
        if e & entry::RIGHTS == 0 {
            return Err(violation(access, 0));
        }
        let page = level == 0 || level == 1 && e & entry::LARGE != 0;
        if is_misconfigured(e, level, page) {
            return Err(Failure::Misconfiguration);
        }
        if page {
            if rights & access.bits() != access.bits() {
                return Err(violation(access, rights & entry::RIGHTS));
            }
            let dirty = mark(mem, pointer, &path[..=n], access);
            let frame = match level {
                0 => e & entry::FRAME,
                _ => e & entry::LARGE_FRAME | u64::from(at.0) & !entry::LARGE_FRAME & entry::FRAME,
            };
            let rights = rights & entry::RIGHTS;
            return Ok(Nested { frame: GuestPhys(frame as u32), rights, dirty, references: n as u32 + 1 });
        }
        table = e & entry::FRAME;
    }
    Err(Failure::Misconfiguration)
}

fn violation(access: Access, rights: u64) -> Failure {
    Failure::Violation(access.bits() as u32 | (rights as u32) << qualification::ALLOWED_SHIFT)
}

fn is_misconfigured(e: u64, level: u32, page: bool) -> bool {
    // Writes and execution go with reads; pages that can only be executed are not offered.
    let rights = e & entry::READ == 0;
    let reserved = match (level, page) {
        (0, _) => 0,
        (_, true) => !entry::LARGE_FRAME & entry::FRAME,
        (1, false) => 0x78,
        (_, false) => 0xf8,
    };
    let kind = (e & entry::TYPE) >> 3;
    let memory_type = page && matches!(kind, 2 | 3 | 7);
    rights || e & (reserved | entry::BEYOND) != 0 || memory_type
}

/// Sets accessed and dirty flags, if they are in use. Returns whether the page is dirty.
fn mark(mem: &mut impl TableMemory, pointer: u64, path: &[(GuestPhys, u64)], access: Access) -> bool {
    if pointer & POINTER_USED == 0 {
        return true;
    }
    let (last, upper) = match path.split_last() {
        Some(parts) => parts,
        None => return true,
    };
    let mut set = |&(at, e): &(GuestPhys, u64), bits: u64| {
        if e & bits != bits {
            mem.write_entry(at, (e | bits) as u32);
        }
    };
    upper.iter().for_each(|part| set(part, entry::ACCESSED));
    set(last, entry::ACCESSED | if access.write { entry::DIRTY } else { 0 });
    access.write || last.1 & entry::DIRTY != 0
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tables;
    use super::*;

    const POINTER: u64 = 0x1000 | 3 << 3 | 6;
    const READ: Access = Access { read: true, write: false, fetch: false };
    const WRITE: Access = Access { read: false, write: true, fetch: false };
    const FETCH: Access = Access { read: false, write: false, fetch: true };

    /// Guest-physical 0x4020_3000 by four levels; the leaf is as given.
    fn four_levels(leaf: u64) -> Tables {
        let mut mem = Tables::default();
        mem.put(0x1000, 0x2007);
        mem.put(0x2008, 0x3007);
        mem.put(0x3008, 0x4007);
        mem.put(0x4018, leaf);
        mem
    }

    #[test]
    fn four_levels_lead_to_a_page() {
        let mut mem = four_levels(0xabcd_e037);
        let found = walk(&mut mem, POINTER, GuestPhys(0x4020_3123), READ).unwrap();
        assert_eq!((found.frame, found.rights, found.references), (GuestPhys(0xabcd_e000), 7, 4));
    }

    #[test]
    fn a_large_page_is_of_two_megabytes() {
        let mut mem = four_levels(0);
        mem.put(0x3008, 0x0060_00b3);
        let found = walk(&mut mem, POINTER, GuestPhys(0x4023_4567), WRITE).unwrap();
        assert_eq!((found.frame, found.rights, found.references), (GuestPhys(0x0063_4000), 3, 3));
    }

    #[test]
    fn rights_are_those_of_all_levels() {
        for (access, leaf, expected) in [
            (WRITE, 0x5035, Failure::Violation(0x2a)),
            (FETCH, 0x5033, Failure::Violation(0x1c)),
            (READ, 0, Failure::Violation(0x01)),
        ] {
            let found = walk(&mut four_levels(leaf), POINTER, GuestPhys(0x4020_3000), access);
            assert_eq!(found, Err(expected), "{access:?} {leaf:x}");
        }
    }

    #[test]
    fn entries_that_mean_nothing_are_misconfigured() {
        for leaf in [0x5032, 0x5034, 0x5036, 0x5017, 0x501f, 0x503f, 1 << 40 | 0x5037] {
            let found = walk(&mut four_levels(leaf), POINTER, GuestPhys(0x4020_3000), READ);
            assert_eq!(found, Err(Failure::Misconfiguration), "{leaf:x}");
        }
        let mut mem = four_levels(0x5037);
        mem.put(0x2008, 0x3087);
        assert_eq!(walk(&mut mem, POINTER, GuestPhys(0x4020_3000), READ), Err(Failure::Misconfiguration));
    }

    #[test]
    fn accessed_and_dirty_flags_are_set_where_the_pointer_says() {
        let mut mem = four_levels(0x5037);
        assert!(walk(&mut mem, POINTER, GuestPhys(0x4020_3000), WRITE).unwrap().dirty);
        assert_eq!(mem.get(0x4018), 0x5037);
        let pointer = POINTER | POINTER_USED;
        assert!(!walk(&mut mem, pointer, GuestPhys(0x4020_3000), READ).unwrap().dirty);
        assert_eq!((mem.get(0x4018), mem.get(0x1000)), (0x5137, 0x2107));
        assert!(walk(&mut mem, pointer, GuestPhys(0x4020_3000), WRITE).unwrap().dirty);
        assert_eq!(mem.get(0x4018), 0x5337);
    }
}

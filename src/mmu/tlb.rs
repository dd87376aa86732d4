//! The TLB: direct-mapped, explicit. An entry stays until it is flushed, invalidated or displaced, whatever
//! happens to the page tables meanwhile, as on a real processor (SDM vol. 3, 4.10).
//!
//! Two layers in one entry. `rights` is the architectural part: which accesses the walk allowed. `fast` is
//! ours: the page's address stands in it once per access class, if that access may go straight to RAM with no
//! further look; a page with decoded code in it has no fast writes, a page of a chip has none at all.
//!
//! An access that a cached entry denies is walked again before it faults; so an entry may be staler than
//! memory only in what it allows.
//!
//! No operation that a guest causes often looks at all entries. INVLPG looks at the one entry that its page
//! can be in, and at those of a large page around it (`large`); a load of CR3 at what was filled
//! since the last one, and not at entries of global pages. A test compares every operation with a model that
//! does look at all.

use super::large::LargePages;
use super::mapping::{Access, Mapping};
use crate::addr::{GuestPhys, Linear, PAGE_OFFSET};
use serde::{Deserialize, Serialize};

/// Entries; a power of two.
const ENTRIES: usize = 1024;
/// A tag that no page has.
const INVALID: u32 = 1;

/// An access class: supervisor or user; read, write or fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(usize);

impl Class {
    /// The class of an access.
    #[inline(always)]
    pub const fn new(user: bool, write: bool) -> Self {
        Self((user as usize) << 1 | write as usize)
    }

    /// The class of an instruction fetch, which is never [`Tlb::fast`].
    pub const fn fetch(user: bool) -> Self {
        Self(4 | user as usize)
    }
}

impl From<Access> for Class {
    #[inline(always)]
    fn from(a: Access) -> Self {
        if a.fetch { Self::fetch(a.user) } else { Self::new(a.user, a.write) }
    }
}

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Entry {
    fast: [u32; 4],
    page: u32,
    frame: u32,
    /// One bit per class.
    rights: u8,
    global: bool,
    large: bool,
}

const EMPTY: Entry =
    Entry { fast: [INVALID; 4], page: INVALID, frame: 0, rights: 0, global: false, large: false };

/// How a page's frame may be accessed directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Reads go to RAM.
    pub read: bool,
    /// Writes go to RAM, and it holds no decoded code.
    pub write: bool,
}

/// A cached translation in a saved state: what of it the guest can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    page: u32,
    frame: u32,
    rights: u8,
    global: bool,
    large: bool,
}

/// A cached translation, for an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The frame: a machine address where the processor is the real one under a monitor.
    pub frame: GuestPhys,
    /// User-mode reads are allowed.
    pub user: bool,
    /// Writes are allowed, to user mode if reads are.
    pub write: bool,
    /// Whether the translation survives a load of CR3.
    pub global: bool,
}

/// Slots that were filled, each once. What a slot holds may have been dropped or displaced since.
struct Filled {
    slots: Vec<u16>,
    listed: Box<[bool; ENTRIES]>,
}

impl Default for Filled {
    fn default() -> Self {
        Self { slots: Vec::new(), listed: Box::new([false; ENTRIES]) }
    }
}

impl Filled {
    fn add(&mut self, n: usize) {
        if !self.listed[n] {
            self.listed[n] = true;
            self.slots.push(n as u16);
        }
    }

    fn take(&mut self) -> Option<usize> {
        let n = usize::from(self.slots.pop()?);
        self.listed[n] = false;
        Some(n)
    }
}

/// The translation look-aside buffer.
pub struct Tlb {
    entries: Box<[Entry; ENTRIES]>,
    /// Slots filled with pages that are not global since the last flush, so that a flush costs what was
    /// filled.
    local: Filled,
    /// Slots filled with global pages since the last flush of all.
    global: Filled,
    /// Slots of large pages.
    large: LargePages<ENTRIES>,
    /// Nothing is cached.
    empty: bool,
    /// Moves on with each flush or invalidation.
    epoch: u32,
    /// Fills so far.
    pub fills: u64,
    /// Flushes so far (full ones and those that keep global pages).
    pub flushes: u64,
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            entries: Box::new([EMPTY; ENTRIES]),
            local: Filled::default(),
            global: Filled::default(),
            large: LargePages::default(),
            empty: false,
            epoch: 0,
            fills: 0,
            flushes: 0,
        }
    }
}

#[inline(always)]
fn slot(at: u32) -> usize {
    (at >> 12) as usize & (ENTRIES - 1)
}

impl Tlb {
    /// The RAM offset of `bytes`, at least one, at `at`, if the access may go straight there.
    #[inline(always)]
    pub fn fast(&self, at: Linear, bytes: u32, class: Class) -> Option<usize> {
        let e = &self.entries[slot(at.0)];
        // The page of the last byte has the first one's tag only if it is the same page.
        let last = at.0.wrapping_add(bytes - 1);
        (e.fast[class.0 & 3] == last & !PAGE_OFFSET).then_some((e.frame | (at.0 & PAGE_OFFSET)) as usize)
    }

    /// The guest-physical address of `at`, if a cached entry allows the access.
    #[inline]
    pub fn lookup(&self, at: Linear, class: Class) -> Option<GuestPhys> {
        let e = &self.entries[slot(at.0)];
        (e.page == at.0 & !PAGE_OFFSET && e.rights & (1 << class.0) != 0)
            .then_some(GuestPhys(e.frame | (at.0 & PAGE_OFFSET)))
    }

    /// Caches the mapping of the page of `at`; `wp` is CR0.WP.
    pub fn fill(&mut self, at: Linear, mapping: &Mapping, wp: bool, direct: Direct) {
        if self.empty {
            // Nor is code to be fetched by what this walk found.
            self.epoch = self.epoch.wrapping_add(1);
            return;
        }
        let page = at.0 & !PAGE_OFFSET;
        let mut e =
            Entry { page, frame: mapping.frame.0, global: mapping.global, large: mapping.large, ..EMPTY };
        for user in [false, true] {
            for write in [false, true] {
                let class = Class::new(user, write);
                // A write through a clean entry has to walk, to set the dirty bit.
                if mapping.allows(Access::data(user, write), wp) && (!write || mapping.dirty) {
                    e.rights |= 1 << class.0;
                    if if write { direct.write } else { direct.read } {
                        e.fast[class.0] = page;
                    }
                }
            }
            if mapping.allows(Access::fetch(user), wp) {
                e.rights |= 1 << Class::fetch(user).0;
            }
        }
        self.put(e);
        self.fills += 1;
    }

    /// Puts `e` into its slot.
    fn put(&mut self, e: Entry) {
        let n = slot(e.page);
        self.unlink(n);
        if e.global { &mut self.global } else { &mut self.local }.add(n);
        if e.large {
            self.large.insert(e.page, n);
        }
        self.entries[n] = e;
    }

    /// Drops what slot `n` holds, if anything.
    fn vacate(&mut self, n: usize) {
        self.unlink(n);
        self.entries[n] = EMPTY;
    }

    /// Slot `n` is about to hold something else.
    fn unlink(&mut self, n: usize) {
        let e = &self.entries[n];
        if e.large {
            self.large.remove(e.page, n);
        }
    }

    /// From now on the TLB caches translations, as it does at first, or none: then every access walks. A
    /// processor is free to do either.
    pub fn set_holding(&mut self, holding: bool) {
        self.empty = !holding;
        self.flush(true);
    }

    /// Drops all entries; those of global pages only if `globals`.
    pub fn flush(&mut self, globals: bool) {
        while let Some(n) = self.local.take() {
            // A global page may have displaced what was filled; its slot is in the other list.
            if !self.entries[n].global {
                self.vacate(n);
            }
        }
        while globals && let Some(n) = self.global.take() {
            self.vacate(n);
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.flushes += 1;
    }

    /// Drops the entry of the page of `at`; all of it if it is a large one. For a 2 MiB page the other half
    /// of its 4 MiB goes too: more may always be dropped (SDM vol. 3, 4.10.4.1).
    pub fn invalidate(&mut self, at: Linear) {
        let page = at.0 & !PAGE_OFFSET;
        if self.entries[slot(page)].page == page {
            self.vacate(slot(page));
        }
        while let Some(n) = self.large.first(page) {
            self.vacate(n);
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The entries in use.
    fn held(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|e| e.page != INVALID)
    }

    /// Takes the fast writes away from every page mapped to the frame of `at`: code was decoded from it.
    pub fn protect_frame(&mut self, at: GuestPhys) {
        let frame = at.page().0;
        for e in self.held().filter(|e| e.frame == frame) {
            e.fast[1] = INVALID;
            e.fast[3] = INVALID;
        }
    }

    /// Lets writes to the page of `at` go straight to RAM, where its rights allow: its frame holds no decoded
    /// code any more.
    pub fn grant_write(&mut self, at: Linear) {
        self.grant(at, [Class::new(false, true), Class::new(true, true)]);
    }

    /// Lets reads of the page of `at` go straight to RAM, where its rights allow.
    pub fn grant_read(&mut self, at: Linear) {
        self.grant(at, [Class::new(false, false), Class::new(true, false)]);
    }

    fn grant(&mut self, at: Linear, classes: [Class; 2]) {
        let page = at.0 & !PAGE_OFFSET;
        let e = &mut self.entries[slot(page)];
        for class in classes {
            if e.page == page && e.rights & (1 << class.0) != 0 {
                e.fast[class.0] = page;
            }
        }
    }

    /// Takes all fast accesses away, leaving the translations: each access is to be looked at.
    pub fn drop_fast(&mut self) {
        self.held().for_each(|e| e.fast = [INVALID; 4]);
    }

    /// Moves on with each flush or invalidation: translations kept elsewhere are void.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The valid entries, by slot, as a saved state has them.
    pub fn save(&self) -> Vec<Saved> {
        let valid = self.entries.iter().filter(|e| e.page != INVALID);
        valid
            .map(|&Entry { page, frame, rights, global, large, .. }| Saved {
                page,
                frame,
                rights,
                global,
                large,
            })
            .collect()
    }

    /// Holds the entries of `saved` and no others. What may go straight to RAM is found out again, access by
    /// access.
    pub fn restore(&mut self, saved: &[Saved]) {
        self.flush(true);
        for &Saved { page, frame, rights, global, large } in saved {
            self.put(Entry {
                fast: [INVALID; 4],
                page: page & !PAGE_OFFSET,
                frame: frame & !PAGE_OFFSET,
                rights,
                global,
                large,
            });
        }
    }

    /// The translation of the page of `at`, if it is cached.
    pub fn cached(&self, at: Linear) -> Option<Cached> {
        let e = &self.entries[slot(at.0)];
        (e.page == at.0 & !PAGE_OFFSET).then(|| {
            let allows = |class: Class| e.rights & 1 << class.0 != 0;
            let user = allows(Class::new(true, false));
            let (frame, global) = (GuestPhys(e.frame), e.global);
            Cached { frame, user, write: allows(Class::new(user, true)), global }
        })
    }

    /// The valid entries, by slot: page, frame, whether global.
    pub fn entries(&self) -> impl Iterator<Item = (Linear, GuestPhys, bool)> + '_ {
        self.entries
            .iter()
            .filter(|e| e.page != INVALID)
            .map(|e| (Linear(e.page), GuestPhys(e.frame), e.global))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(frame: u32) -> Mapping {
        Mapping {
            frame: GuestPhys(frame),
            user: false,
            write: true,
            execute: true,
            dirty: true,
            global: false,
            large: false,
        }
    }
    const DIRECT: Direct = Direct { read: true, write: true };
    const READ: Class = Class::new(false, false);
    const WRITE: Class = Class::new(false, true);

    #[test]
    fn a_filled_page_hits_until_it_is_invalidated() {
        let mut tlb = Tlb::default();
        tlb.fill(Linear(0x5123), &mapping(0x9000), true, DIRECT);
        assert_eq!(tlb.fast(Linear(0x5ffc), 4, READ), Some(0x9ffc));
        assert_eq!(tlb.fast(Linear(0x5ffd), 4, READ), None, "it crosses the page");
        assert_eq!(tlb.fast(Linear(0x5000), 4, Class::new(true, false)), None);
        tlb.invalidate(Linear(0x5fff));
        assert_eq!(tlb.lookup(Linear(0x5000), READ), None);
    }

    #[test]
    fn global_pages_survive_a_cr3_load() {
        let mut tlb = Tlb::default();
        tlb.fill(Linear(0x5000), &Mapping { global: true, ..mapping(0x9000) }, true, DIRECT);
        tlb.fill(Linear(0x6000), &mapping(0xa000), true, DIRECT);
        tlb.flush(false);
        assert!(tlb.lookup(Linear(0x5000), READ).is_some() && tlb.lookup(Linear(0x6000), READ).is_none());
        tlb.flush(true);
        assert!(tlb.lookup(Linear(0x5000), READ).is_none());
    }

    #[test]
    fn a_clean_page_has_no_write_right() {
        let mut tlb = Tlb::default();
        tlb.fill(Linear(0x5000), &Mapping { dirty: false, ..mapping(0x9000) }, true, DIRECT);
        assert!(tlb.lookup(Linear(0x5000), READ).is_some() && tlb.lookup(Linear(0x5000), WRITE).is_none());
    }

    #[test]
    fn a_frame_with_code_has_no_fast_writes() {
        let mut tlb = Tlb::default();
        tlb.fill(Linear(0x5000), &mapping(0x9000), true, DIRECT);
        tlb.protect_frame(GuestPhys(0x9abc));
        assert_eq!(tlb.fast(Linear(0x5000), 4, WRITE), None);
        assert!(tlb.fast(Linear(0x5000), 4, READ).is_some() && tlb.lookup(Linear(0x5000), WRITE).is_some());
    }
}

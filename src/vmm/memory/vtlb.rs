//! Coherence by the architecture's own licence: the shadow is a virtual TLB, as stale as a TLB may be, and
//! dropped when the guest flushes. Guest page tables are not traced, and only global pages outlive a load of
//! CR3. The sibling is
//! [`super::trace`].
//!
//! A flush visits only what it drops: translations are kept apart by what drops them.

use super::super::invariants;
use super::shadow::Shadow;
use super::tables::Exhausted;
use super::{Fill, Policy};
use crate::addr::{GuestPhys, Linear, PAGE_SHIFT};
use crate::bus::phys::PhysMap;
use crate::machine::Flushes;
use crate::report::{Change, Key, Root};
use std::collections::BTreeSet;

/// The pages of translations that a flush treats alike.
#[derive(Default)]
struct Filled {
    /// Pages of the guest's small pages.
    small: BTreeSet<u32>,
    /// Pages of the guest's large pages: each goes with any other of its 4 MiB.
    large: BTreeSet<u32>,
}

impl Filled {
    fn remove(&mut self, page: u32) {
        self.small.remove(&page);
        self.large.remove(&page);
    }

    /// Takes what an INVLPG of `page` invalidates.
    fn take_page(&mut self, page: u32) -> Vec<u32> {
        let first = page >> 10 << 10;
        let mut gone: Vec<u32> = self.large.range(first..=first | 0x3ff).copied().collect();
        gone.extend(self.small.get(&page));
        gone.sort_unstable();
        gone.iter().for_each(|page| self.remove(*page));
        gone
    }

    /// Takes every page, upwards.
    fn take_all(&mut self) -> Vec<u32> {
        let mut gone: Vec<u32> = self.small.union(&self.large).copied().collect();
        gone.dedup();
        *self = Self::default();
        gone
    }
}

/// The policy.
#[derive(Default)]
pub(super) struct Vtlb {
    space: Option<(Key, Root)>,
    /// Translations that a load of CR3 drops.
    local: Filled,
    /// Translations of global pages.
    global: Filled,
}

impl Vtlb {
    fn drop_pages(&self, shadow: &mut Shadow, map: &mut PhysMap, why: Change, pages: &[u32]) {
        let Some((_, root)) = self.space else { return };
        for page in pages {
            shadow.unmap(map, root, Linear(page << PAGE_SHIFT), why);
        }
    }

    fn drop_all(&mut self, shadow: &mut Shadow, map: &mut PhysMap, why: Change) {
        self.local = Filled::default();
        self.global = Filled::default();
        if let Some((_, root)) = self.space {
            shadow.clear(map, root, why);
        }
    }
}

impl Policy for Vtlb {
    fn space(&mut self, shadow: &mut Shadow, map: &mut PhysMap, key: Key) -> Result<Root, Exhausted> {
        let Some((old, root)) = self.space else {
            let root = shadow.add(map)?;
            self.space = Some((key, root));
            return Ok(root);
        };
        // A load of CR3 alone leaves global pages, and has been reported as a flush.
        if !old.differs_in_cr3_alone(&key) {
            self.drop_all(shadow, map, Change::Flushed);
        }
        self.space = Some((key, root));
        Ok(root)
    }

    fn filling(&mut self, _: &mut Shadow, _: &mut PhysMap, fill: &Fill<'_>) {
        let page = fill.at.page_number();
        self.local.remove(page);
        self.global.remove(page);
        let filled = if fill.mapping.global { &mut self.global } else { &mut self.local };
        if fill.mapping.large { &mut filled.large } else { &mut filled.small }.insert(page);
    }

    // ANCHOR: flushed
    fn flushed(&mut self, shadow: &mut Shadow, map: &mut PhysMap, flushes: &Flushes) {
        if !invariants::cr3_loads_flush() {
            return;
        }
        if flushes.globals && invariants::global_flushes_are_whole() {
            self.drop_all(shadow, map, Change::Flushed);
        } else if flushes.all || flushes.globals {
            let gone = self.local.take_all();
            self.drop_pages(shadow, map, Change::Flushed, &gone);
        }
        if !invariants::invlpg_drops() {
            return;
        }
        for at in &flushes.pages {
            for filled in [self.local.take_page(at.page_number()), self.global.take_page(at.page_number())] {
                self.drop_pages(shadow, map, Change::Invalidated, &filled);
            }
        }
    }
    // ANCHOR_END: flushed

    fn written(&mut self, _: &mut Shadow, _: &mut PhysMap, _: GuestPhys, _: u32) {}

    fn evict(&mut self, shadow: &mut Shadow, map: &mut PhysMap, _: Option<Root>) {
        self.drop_all(shadow, map, Change::Evicted);
    }

    fn forget(&mut self, shadow: &mut Shadow, map: &mut PhysMap) {
        self.drop_all(shadow, map, Change::Dropped);
    }

    fn spaces(&self) -> Vec<(Key, Root)> {
        self.space.into_iter().collect()
    }
}

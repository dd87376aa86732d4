//! Coherence by the architecture's own licence: the shadow is a virtual TLB. It may be as stale as a TLB may be, and is
//! dropped when the guest flushes. Nothing of the guest's page tables is traced, and nothing outlives a load of CR3 but
//! global pages. Its sibling is [`super::trace`].

use super::super::invariants;
use super::shadow::Shadow;
use super::tables::Exhausted;
use super::{Fill, Policy};
use crate::addr::{GuestPhys, Linear, PAGE_SHIFT};
use crate::bus::phys::PhysMap;
use crate::machine::Flushes;
use crate::report::{Change, Key, Root};
use std::collections::BTreeMap;

/// What is to be known of a translation when the guest flushes.
#[derive(Clone, Copy)]
struct Kind {
    global: bool,
    large: bool,
}

/// The policy.
#[derive(Default)]
pub(super) struct Vtlb {
    space: Option<(Key, Root)>,
    filled: BTreeMap<u32, Kind>,
}

impl Vtlb {
    fn drop_pages(
        &mut self,
        shadow: &mut Shadow,
        map: &mut PhysMap,
        why: Change,
        gone: impl Fn(u32, Kind) -> bool,
    ) {
        let Some((_, root)) = self.space else { return };
        self.filled.retain(|&page, kind| {
            let gone = gone(page, *kind);
            if gone {
                shadow.unmap(map, root, Linear(page << PAGE_SHIFT), why);
            }
            !gone
        });
    }

    fn drop_all(&mut self, shadow: &mut Shadow, map: &mut PhysMap, why: Change) {
        self.filled.clear();
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
        let kind = Kind { global: fill.mapping.global, large: fill.mapping.large };
        self.filled.insert(fill.at.page_number(), kind);
    }

    // ANCHOR: flushed
    fn flushed(&mut self, shadow: &mut Shadow, map: &mut PhysMap, flushes: &Flushes) {
        if !invariants::cr3_loads_flush() {
            return;
        }
        if flushes.globals && invariants::global_flushes_are_whole() {
            self.drop_all(shadow, map, Change::Flushed);
        } else if flushes.all || flushes.globals {
            self.drop_pages(shadow, map, Change::Flushed, |_, kind| !kind.global);
        }
        if !invariants::invlpg_drops() {
            return;
        }
        for at in &flushes.pages {
            let page = at.page_number();
            self.drop_pages(shadow, map, Change::Invalidated, |p, kind| {
                p == page || (kind.large && p >> 10 == page >> 10)
            });
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

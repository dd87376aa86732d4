//! Coherence by tracing (Bugnion et al., TOCS 2012; Adams and Agesen, ASPLOS 2006): the pages that guest page tables are
//! made of are found as translations are made from them, write-protected, and each write to them takes the
//! translations away that were made from what was written. So no entry is ever staler than the guest's tables,
//! and the shadows of many address spaces are kept: a load of CR3 only picks another. Its sibling is [`super::vtlb`].

use super::shadow::{Change, Reason, Shadow};
use super::target::{Exhausted, Root};
use super::{Fill, Key, Policy};
use crate::addr::{GuestPhys, Linear, PAGE_SHIFT, PAGE_SIZE};
use crate::bus::phys::{PhysMap, Target};
use crate::machine::Flushes;
use std::collections::{BTreeMap, BTreeSet};

/// Writes to the directory of an address space that is not in use, after which it is taken for something else by now.
const FLOOD: u32 = 64;
/// Address spaces that are kept.
const MOST_SPACES: usize = 1024;

/// One use of a guest frame as a page table: the linear addresses that its entries stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    root: Root,
    /// The linear address that the first entry stands for.
    base: u32,
    /// log2 of the bytes that an entry stands for.
    shift: u32,
}

/// A kept address space.
struct Kept {
    root: Root,
    last_used: u64,
    /// Writes to its directory since it was last used.
    flood: u32,
}

/// The policy.
#[derive(Default)]
pub(super) struct Trace {
    spaces: BTreeMap<Key, Kept>,
    current: Option<Key>,
    clock: u64,
    /// The uses of guest frames as page tables, by frame number.
    uses: BTreeMap<u32, BTreeSet<Use>>,
    /// The frames that are page tables below the directory of an address space, by the linear address of their first
    /// entry.
    below: BTreeMap<(Root, u32), u32>,
    /// Pages whose tables lie where writes cannot be traced (a ROM): they go when the guest flushes.
    untraceable: BTreeSet<(Root, u32)>,
}

/// Bytes of an entry.
const ENTRY: u32 = 4;
/// log2 of what the entries of a directory, and of a table, stand for.
const DIRECTORY_SHIFT: u32 = 22;
const TABLE_SHIFT: u32 = 12;

impl Trace {
    fn add_use(&mut self, shadow: &mut Shadow, map: &mut PhysMap, frame: GuestPhys, new: Use) {
        if self.uses.entry(frame.page_number()).or_default().insert(new) {
            shadow.trace(map, frame, Reason::PAGE_TABLE);
        }
    }

    fn remove_use(&mut self, shadow: &mut Shadow, map: &mut PhysMap, frame: u32, old: Use) {
        let Some(uses) = self.uses.get_mut(&frame) else { return };
        uses.remove(&old);
        if uses.is_empty() {
            self.uses.remove(&frame);
            shadow.untrace(map, GuestPhys(frame << PAGE_SHIFT), Reason::PAGE_TABLE);
        }
    }

    /// The table below the directory entry for `base` is no longer, or another one.
    fn unlink(&mut self, shadow: &mut Shadow, map: &mut PhysMap, root: Root, base: u32) {
        if let Some(frame) = self.below.remove(&(root, base)) {
            self.remove_use(shadow, map, frame, Use { root, base, shift: TABLE_SHIFT });
        }
    }

    /// Forgets that `root` has tables.
    fn drop_uses(&mut self, shadow: &mut Shadow, map: &mut PhysMap, root: Root) {
        let bases = self.below.range((root, 0)..=(root, !0)).map(|((_, base), _)| *base);
        for base in bases.collect::<Vec<_>>() {
            self.unlink(shadow, map, root, base);
        }
        self.untraceable.retain(|(r, _)| *r != root);
    }

    fn drop_space(&mut self, shadow: &mut Shadow, map: &mut PhysMap, key: Key, why: Change) {
        let Some(kept) = self.spaces.remove(&key) else { return };
        self.drop_uses(shadow, map, kept.root);
        let directory = Use { root: kept.root, base: 0, shift: DIRECTORY_SHIFT };
        self.remove_use(shadow, map, key.cr3 >> PAGE_SHIFT, directory);
        shadow.drop_space(map, kept.root, why);
    }

    /// The address space that was not used for longest, other than the current one.
    fn oldest(&self) -> Option<Key> {
        let others = self.spaces.iter().filter(|(key, _)| Some(**key) != self.current);
        others.min_by_key(|(_, kept)| kept.last_used).map(|(key, _)| *key)
    }

    /// Entry `index` of a table in use changed.
    fn sync(&mut self, shadow: &mut Shadow, map: &mut PhysMap, of: Use, index: u32) {
        let at = Linear(of.base.wrapping_add(index << of.shift));
        if of.shift == DIRECTORY_SHIFT {
            shadow.clear_region(map, of.root, at, Change::Synced);
            self.unlink(shadow, map, of.root, at.0);
        } else {
            shadow.unmap(map, of.root, at, Change::Synced);
        }
    }

    /// The directories that lie in `frame` are written to: those not in use may be directories no longer.
    fn count_flood(&mut self, shadow: &mut Shadow, map: &mut PhysMap, frame: u32) {
        let current = self.current;
        let flooded = self
            .spaces
            .iter_mut()
            .filter(|(key, _)| key.paging && key.cr3 >> PAGE_SHIFT == frame && Some(**key) != current);
        let mut dead = Vec::new();
        for (key, kept) in flooded {
            kept.flood += 1;
            if kept.flood > FLOOD {
                dead.push(*key);
            }
        }
        for key in dead {
            self.drop_space(shadow, map, key, Change::Dropped);
        }
    }
}

impl Policy for Trace {
    fn space(&mut self, shadow: &mut Shadow, map: &mut PhysMap, key: Key) -> Result<Root, Exhausted> {
        self.clock += 1;
        if let Some(kept) = self.spaces.get_mut(&key) {
            (kept.last_used, kept.flood) = (self.clock, 0);
            self.current = Some(key);
            return Ok(kept.root);
        }
        if self.spaces.len() >= MOST_SPACES
            && let Some(key) = self.oldest()
        {
            self.drop_space(shadow, map, key, Change::Evicted);
        }
        let root = shadow.add(map)?;
        self.spaces.insert(key, Kept { root, last_used: self.clock, flood: 0 });
        self.current = Some(key);
        Ok(root)
    }

    fn filling(&mut self, shadow: &mut Shadow, map: &mut PhysMap, fill: &Fill<'_>) {
        let in_ram = |at: &GuestPhys| map.backing(*at).write == Target::Ram;
        if !fill.entries.iter().all(in_ram) {
            self.untraceable.insert((fill.root, fill.at.page_number()));
        }
        let traceable: Vec<GuestPhys> =
            fill.entries.iter().copied().map(|at| if in_ram(&at) { at } else { GuestPhys(!0) }).collect();
        let root = fill.root;
        if let Some(&pde) = traceable.first().filter(|at| at.0 != !0) {
            self.add_use(shadow, map, pde.page(), Use { root, base: 0, shift: DIRECTORY_SHIFT });
        }
        if let Some(&pte) = traceable.get(1).filter(|at| at.0 != !0) {
            let base = fill.at.0 >> DIRECTORY_SHIFT << DIRECTORY_SHIFT;
            let frame = pte.page_number();
            if self.below.get(&(root, base)) != Some(&frame) {
                self.unlink(shadow, map, root, base);
                self.below.insert((root, base), frame);
                self.add_use(shadow, map, pte.page(), Use { root, base, shift: TABLE_SHIFT });
            }
        }
    }

    fn flushed(&mut self, shadow: &mut Shadow, map: &mut PhysMap, flushes: &Flushes) {
        // Nothing is stale, but for what could not be traced.
        let all = flushes.all;
        let named = |page: u32| flushes.pages.iter().any(|at| at.page_number() >> 10 == page >> 10);
        let gone: Vec<_> = self.untraceable.iter().copied().filter(|(_, page)| all || named(*page)).collect();
        for (root, page) in gone {
            shadow.unmap(map, root, Linear(page << PAGE_SHIFT), Change::Flushed);
            self.untraceable.remove(&(root, page));
        }
    }

    fn written(&mut self, shadow: &mut Shadow, map: &mut PhysMap, at: GuestPhys, len: u32) {
        let uses = self.uses.get(&at.page_number()).cloned().unwrap_or_default();
        let last = (at.page_offset() + len - 1).min(PAGE_SIZE - 1);
        for of in &uses {
            for index in at.page_offset() / ENTRY..=last / ENTRY {
                self.sync(shadow, map, *of, index);
            }
        }
        if uses.iter().any(|of| of.shift == DIRECTORY_SHIFT) {
            self.count_flood(shadow, map, at.page_number());
        }
    }

    fn evict(&mut self, shadow: &mut Shadow, map: &mut PhysMap, current: Option<Root>) {
        if let Some(key) = self.oldest() {
            return self.drop_space(shadow, map, key, Change::Evicted);
        }
        if let Some(root) = current {
            shadow.clear(map, root, Change::Evicted);
            self.drop_uses(shadow, map, root);
        }
    }

    fn forget(&mut self, shadow: &mut Shadow, map: &mut PhysMap) {
        self.current = None;
        for key in self.spaces.keys().copied().collect::<Vec<_>>() {
            self.drop_space(shadow, map, key, Change::Dropped);
        }
    }
}

//! Coherence by tracing (Bugnion et al., TOCS 2012; Adams and Agesen, ASPLOS 2006): the pages that guest page
//! tables are made of are found as translations are made from them, write-protected, and each write to them
//! takes the translations away that were made from what was written. So no entry is ever staler than the
//! guest's tables, and the shadows of many address spaces are kept: a load of CR3 only picks another. Its
//! sibling is [`super::vtlb`].
//!
//! With PAE the top level is no page table to the processor but four registers, loaded with CR3 (SDM vol. 3,
//! 4.4.1). So the table that they come from is not traced: what is written there counts when the guest loads
//! it, and tells address spaces apart then.

use super::super::invariants;
use super::shadow::Shadow;
use super::tables::Exhausted;
use super::{Fill, Layout, Policy};
use crate::addr::{GuestPhys, Linear, PAGE_SHIFT, PAGE_SIZE};
use crate::bus::phys::{PhysMap, Target};
use crate::machine::Flushes;
use crate::report::{Change, Key, Reason, Role, Root};
use std::collections::{BTreeMap, BTreeSet};

/// Writes to the directory of an address space that is not in use, after which it is taken for something else
/// by now.
const FLOOD: u32 = 64;
/// Address spaces that are kept.
const MOST_SPACES: usize = 1024;

/// One use of a guest frame as a page table: the linear addresses that its entries stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    root: Root,
    /// log2 of the bytes that an entry stands for.
    shift: u32,
    /// The linear address that the first entry stands for.
    base: u32,
    layout: Layout,
}

impl Use {
    fn directory(root: Root, base: u32, layout: Layout) -> Self {
        Self { root, shift: layout.directory_shift(), base, layout }
    }

    /// The table that translates `at`.
    fn table(root: Root, at: Linear, layout: Layout) -> Self {
        let shift = layout.directory_shift();
        Self { root, shift: TABLE_SHIFT, base: at.0 >> shift << shift, layout }
    }

    fn is_directory(&self) -> bool {
        self.shift != TABLE_SHIFT
    }
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
    /// The keys of the kept address spaces.
    keys: BTreeMap<Root, Key>,
    current: Option<Key>,
    clock: u64,
    /// The uses of guest frames as page tables, by frame number.
    uses: BTreeMap<u32, BTreeSet<Use>>,
    /// The frame of each use, by number.
    frames: BTreeMap<Use, u32>,
    /// Pages whose tables lie where writes cannot be traced (a ROM): they go when the guest flushes.
    untraceable: BTreeSet<(Root, u32)>,
}

/// log2 of what an entry of a table stands for.
const TABLE_SHIFT: u32 = 12;

impl Trace {
    /// `frame` is used so, and no other one.
    fn link(&mut self, shadow: &mut Shadow, map: &mut PhysMap, of: Use, frame: GuestPhys) {
        let number = frame.page_number();
        if self.frames.get(&of) == Some(&number) {
            return;
        }
        self.unlink(shadow, map, of);
        self.frames.insert(of, number);
        self.uses.entry(number).or_default().insert(of);
        shadow.trace(map, frame, Reason::PAGE_TABLE);
    }

    /// No frame is used so any more.
    fn unlink(&mut self, shadow: &mut Shadow, map: &mut PhysMap, of: Use) {
        let Some(frame) = self.frames.remove(&of) else { return };
        let Some(uses) = self.uses.get_mut(&frame) else { return };
        uses.remove(&of);
        if uses.is_empty() {
            self.uses.remove(&frame);
            if invariants::old_tables_are_released() {
                shadow.untrace(map, GuestPhys(frame << PAGE_SHIFT), Reason::PAGE_TABLE);
            }
        }
    }

    /// Forgets that `root` has tables.
    fn drop_uses(&mut self, shadow: &mut Shadow, map: &mut PhysMap, root: Root) {
        let first = Use { root, shift: 0, base: 0, layout: Layout::Two };
        let of_root = self.frames.range(first..).map(|(of, _)| *of).take_while(|of| of.root == root);
        for of in of_root.collect::<Vec<_>>() {
            self.unlink(shadow, map, of);
        }
        self.untraceable.retain(|(r, _)| *r != root);
    }

    fn drop_space(&mut self, shadow: &mut Shadow, map: &mut PhysMap, key: Key, why: Change) {
        let Some(kept) = self.spaces.remove(&key) else { return };
        self.keys.remove(&kept.root);
        self.drop_uses(shadow, map, kept.root);
        shadow.drop_space(map, kept.root, why);
    }

    /// The address space that was not used for longest, other than the current one.
    fn oldest(&self) -> Option<Key> {
        let others = self.spaces.iter().filter(|(key, _)| Some(**key) != self.current);
        others.min_by_key(|(_, kept)| invariants::last_use(kept.last_used)).map(|(key, _)| *key)
    }

    // ANCHOR: sync
    /// Entry `index` of a table in use changed.
    fn sync(&mut self, shadow: &mut Shadow, map: &mut PhysMap, of: Use, index: u32) {
        let at = Linear(of.base.wrapping_add(index << of.shift));
        if of.is_directory() {
            shadow.clear_region(map, of.root, at, of.shift, Change::Synced);
            self.unlink(shadow, map, Use::table(of.root, at, of.layout));
        } else {
            shadow.unmap(map, of.root, at, Change::Synced);
        }
    }
    // ANCHOR_END: sync

    /// Directories of these address spaces are written to: those not in use may be directories no longer.
    fn count_flood(&mut self, shadow: &mut Shadow, map: &mut PhysMap, roots: &BTreeSet<Root>) {
        let mut dead = Vec::new();
        for key in
            roots.iter().filter_map(|root| self.keys.get(root)).filter(|key| Some(**key) != self.current)
        {
            let Some(kept) = self.spaces.get_mut(key) else { continue };
            kept.flood += 1;
            if kept.flood > FLOOD {
                dead.push(*key);
            }
        }
        // In the order of keys, whichever root was written to.
        dead.sort_unstable();
        for key in dead {
            self.drop_space(shadow, map, key, Change::Dropped);
        }
    }
}

/// The linear address that the first entry of the directory of `fill` stands for.
fn first_of_directory(fill: &Fill<'_>) -> u32 {
    match fill.layout {
        Layout::Two => 0,
        Layout::Pae => fill.at.0 >> 30 << 30,
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
        self.keys.insert(root, key);
        self.spaces.insert(key, Kept { root, last_used: self.clock, flood: 0 });
        self.current = Some(key);
        Ok(root)
    }

    fn filling(&mut self, shadow: &mut Shadow, map: &mut PhysMap, fill: &Fill<'_>) {
        let in_ram = |at: &GuestPhys| map.backing(*at).write == Target::Ram;
        if !fill.entries.iter().all(in_ram) {
            self.untraceable.insert((fill.root, fill.at.page_number()));
        }
        let uses = [
            Use::directory(fill.root, first_of_directory(fill), fill.layout),
            Use::table(fill.root, fill.at, fill.layout),
        ];
        let traceable: Vec<_> = uses
            .into_iter()
            .zip(fill.entries)
            .filter(|(_, at)| in_ram(at))
            .map(|(of, at)| (of, at.page()))
            .collect();
        for (of, frame) in traceable {
            self.link(shadow, map, of, frame);
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
            let entry = of.layout.entry();
            for index in at.page_offset() / entry..=last / entry {
                self.sync(shadow, map, *of, index);
            }
        }
        let roots: BTreeSet<Root> = uses.iter().filter(|of| of.is_directory()).map(|of| of.root).collect();
        if !roots.is_empty() {
            self.count_flood(shadow, map, &roots);
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

    fn spaces(&self) -> Vec<(Key, Root)> {
        self.spaces.iter().map(|(key, kept)| (*key, kept.root)).collect()
    }

    fn roles(&self, at: GuestPhys) -> Vec<Role> {
        let uses = self.uses.get(&at.page_number()).into_iter().flatten();
        uses.map(|of| {
            let bytes = u64::from(PAGE_SIZE / of.layout.entry()) << of.shift;
            let last = Linear((u64::from(of.base) + bytes - 1).min(u64::from(u32::MAX)) as u32);
            Role { root: of.root, directory: of.is_directory(), first: Linear(of.base), last }
        })
        .collect()
    }
}

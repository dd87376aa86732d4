//! The shadow's books, common to both coherence policies: the translations, which of them let a guest frame
//! be written, which guest frames are traced and why, and what happened to each entry.

use super::super::invariants;
use super::tables::{Exhausted, PageTables};
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_SHIFT};
use crate::bus::phys::PhysMap;
use crate::report::{About, Change, Journal, Leaf, MmuCounts, Reason, Root};
use std::collections::{BTreeMap, BTreeSet};

/// The books.
pub struct Shadow {
    /// The translations.
    pub target: PageTables,
    /// By guest frame number: the translations that let it be written.
    writable: BTreeMap<u32, BTreeSet<(Root, u32)>>,
    traced: BTreeMap<u32, Reason>,
    /// What was counted.
    pub counts: MmuCounts,
    /// The history of entries, if an observer keeps one.
    pub journal: Option<Journal>,
}

impl Shadow {
    /// Empty books over `target`.
    pub fn new(target: PageTables) -> Self {
        Self {
            target,
            writable: BTreeMap::new(),
            traced: BTreeMap::new(),
            counts: MmuCounts::default(),
            journal: None,
        }
    }

    /// Why the frame of `at` is traced; empty if it is not.
    pub fn traced(&self, at: GuestPhys) -> Reason {
        self.traced.get(&at.page_number()).copied().unwrap_or(Reason::empty())
    }

    /// The traced frames, upwards, with the reasons.
    pub fn all_traced(&self) -> impl Iterator<Item = (GuestPhys, Reason)> + '_ {
        self.traced.iter().map(|(&n, &why)| (GuestPhys(n << PAGE_SHIFT), why))
    }

    /// Tells the journal what comes next is about.
    pub(super) fn about(&mut self, about: About) {
        if let Some(journal) = &mut self.journal {
            journal.set_about(about);
        }
    }

    fn note(&mut self, root: Root, at: Linear, change: Change, leaf: Leaf) {
        *self.counts.changes.entry(change).or_default() += 1;
        if let Some(journal) = &mut self.journal {
            journal.note(root, at, change, leaf);
        }
    }

    /// Translates the page of `at` to the machine's `frame`: one of the guest's, or without the right to
    /// write the copy of a ROM's.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing has changed then.
    pub fn map(
        &mut self,
        map: &mut PhysMap,
        root: Root,
        at: Linear,
        frame: MachineAddr,
        (user, write): (bool, bool),
    ) -> Result<(), Exhausted> {
        let old = self.target.entry(&map.ram, root, at);
        let leaf = Leaf { frame: invariants::own_frame(map, at, frame), user, write };
        self.target.map(&mut map.ram, root, at, leaf)?;
        if let Some(old) = old {
            self.forget_writable(map, root, at, old);
        }
        if let Some(frame) = map.p2m().guest(frame).filter(|_| write) {
            self.writable.entry(frame.page_number()).or_default().insert((root, at.page_number()));
        }
        self.note(root, at, if old.is_some() { Change::Refilled } else { Change::Filled }, leaf);
        Ok(())
    }

    fn forget_writable(&mut self, map: &PhysMap, root: Root, at: Linear, old: Leaf) {
        if !old.write {
            return;
        }
        let Some(frame) = map.p2m().guest(old.frame) else { return };
        if let Some(set) = self.writable.get_mut(&frame.page_number()) {
            set.remove(&(root, at.page_number()));
            if set.is_empty() {
                self.writable.remove(&frame.page_number());
            }
        }
    }

    /// Takes the translation of the page of `at` away, if there is one.
    pub fn unmap(&mut self, map: &mut PhysMap, root: Root, at: Linear, why: Change) {
        if let Some(old) = self.target.unmap(&mut map.ram, root, at) {
            self.forget_writable(map, root, at, old);
            self.note(root, at, why, old);
        }
    }

    /// Takes the translations of the `1 << shift` bytes around `at`, 4 MiB at most, away.
    pub fn clear_region(&mut self, map: &mut PhysMap, root: Root, at: Linear, shift: u32, why: Change) {
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .target
            .region(&map.ram, root, at)
            .into_iter()
            .partition(|page| page.0 >> shift == at.0 >> shift);
        for page in gone {
            self.unmap(map, root, page, why);
        }
        if kept.is_empty() {
            self.target.release_region(&mut map.ram, root, at);
        }
    }

    /// Takes all translations of `root` away.
    pub fn clear(&mut self, map: &mut PhysMap, root: Root, why: Change) {
        for region in 0..1024u32 {
            self.clear_region(map, root, Linear(region << 22), 22, why);
        }
    }

    /// Makes an address space.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn add(&mut self, map: &mut PhysMap) -> Result<Root, Exhausted> {
        let root = self.target.add_root(&mut map.ram)?;
        self.counts.spaces_made += 1;
        if let Some(journal) = &mut self.journal {
            journal.begin(root);
        }
        Ok(root)
    }

    /// Drops an address space.
    pub fn drop_space(&mut self, map: &mut PhysMap, root: Root, why: Change) {
        self.clear(map, root, why);
        self.target.drop_root(&mut map.ram, root);
        self.counts.spaces_dropped += 1;
    }

    /// Traces the frame of `at`: from now on no translation lets it be written.
    pub fn trace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason) {
        let reasons = self.traced.entry(at.page_number()).or_insert(Reason::empty());
        let first = reasons.is_empty();
        *reasons |= why;
        if !first {
            return;
        }
        self.counts.traces_set += 1;
        map.traces.set(at, true);
        if !invariants::tracing_protects() {
            return;
        }
        self.about(About::Traced(why));
        for (root, page) in self.writable.remove(&at.page_number()).unwrap_or_default() {
            let page = Linear(page << PAGE_SHIFT);
            self.target.protect(&mut map.ram, root, page);
            let leaf = Leaf { frame: map.machine(at.page()), user: false, write: false };
            let leaf = self.target.entry(&map.ram, root, page).unwrap_or(leaf);
            self.note(root, page, Change::Downgraded, leaf);
        }
    }

    /// One reason less to trace the frame of `at`. With the last one gone, writes are let through again as
    /// they fault.
    pub fn untrace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason) {
        let Some(reasons) = self.traced.get_mut(&at.page_number()) else { return };
        *reasons -= why;
        if reasons.is_empty() {
            self.traced.remove(&at.page_number());
            map.traces.set(at, false);
            self.counts.traces_released += 1;
        }
    }
}

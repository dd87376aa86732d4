//! The snapshots of a run's history, each as what differs from the one before.
//!
//! A snapshot holds the chips' and the processor's state, and of RAM and of the media those pages and sectors
//! (*blocks*) that were written since the snapshot before it. What a block held at a snapshot is found in it
//! or in the nearest one before that has the block; a block that none has is as at the start: zeros in RAM,
//! the image on a disk. So dropping a snapshot hands its blocks to the next one, unless that has newer ones.

use super::super::history::History;
use super::super::save::State;
use super::super::{Machine, Moment};
use crate::addr::{MachineAddr, PAGE_SHIFT, PAGE_SIZE};
use crate::media::overlay::{Overlay, Sector};
use std::collections::{BTreeSet, HashMap};

/// The approximate memory of a snapshot besides its blocks and chips, and of a block besides its bytes.
const OVERHEAD: usize = 1024;
const BLOCK_OVERHEAD: usize = 64;
/// Snapshots are dropped as if the present had this distance from itself, in ticks.
const NEAR: f64 = 4096.0;

/// A page of RAM, or a sector of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Page(u32),
    Sector(usize, u64),
}

/// A block's bytes; none for zeros in RAM and for what the image has.
type Block = Option<Box<[u8]>>;

/// The machine at a moment.
pub(super) struct Snapshot {
    pub(super) at: Moment,
    pub(super) retired: u64,
    /// Entries of the journal that had been given.
    pub(super) given: usize,
    state: State,
    events: History,
    blocks: HashMap<Key, Block>,
    /// Bytes that all this takes.
    size: usize,
}

/// The snapshots, by time; there is always one.
pub(super) struct Store {
    snapshots: Vec<Snapshot>,
    /// The last one that the machine has passed or stands at: blocks written since are known.
    base: usize,
    media: Vec<Overlay>,
    bytes: usize,
    cap: usize,
    /// Whether the first snapshots were dropped.
    pub(super) shortened: bool,
}

fn weight(block: &Block) -> usize {
    BLOCK_OVERHEAD + block.as_ref().map_or(0, |b| b.len())
}

impl Store {
    /// A store that begins now, and keeps to `cap` bytes.
    pub(super) fn new(m: &mut Machine, media: Vec<Overlay>, cap: usize) -> Self {
        let mut store = Self { snapshots: Vec::new(), base: 0, media, bytes: 0, cap, shortened: false };
        store.capture(m, 0, false);
        store
    }

    pub(super) fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }
    pub(super) fn base(&self) -> &Snapshot {
        &self.snapshots[self.base]
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// The last snapshot at or before `at`; the first if there is none.
    pub(super) fn before(&self, at: Moment) -> usize {
        self.snapshots.partition_point(|s| s.at <= at).saturating_sub(1)
    }

    /// The machine has come to `now` by itself. More blocks than needed may count as written since the new
    /// base.
    pub(super) fn passed(&mut self, now: Moment) {
        self.base = self.base.max(self.before(now));
    }

    /// Takes a snapshot, if there is none of this moment. On the way back `keep_first` holds: no room is made
    /// for it by dropping the beginning that one goes back to.
    pub(super) fn capture(&mut self, m: &mut Machine, given: usize, keep_first: bool) {
        let at = m.moment();
        self.passed(at);
        if self.snapshots.get(self.base).is_some_and(|s| s.at == at) {
            return;
        }
        let pages = m.world.take_written_pages().into_iter().map(Key::Page);
        let mut blocks: HashMap<Key, Block> = pages.map(|key| (key, self.content(m, key))).collect();
        for n in 0..self.media.len() {
            let sectors = self.media[n].take_written().into_iter().map(|lba| Key::Sector(n, lba));
            blocks.extend(sectors.map(|key| (key, self.content(m, key))));
        }
        if self.snapshots.is_empty() {
            blocks.retain(|_, block| block.is_some());
        }
        let state = m.save_core();
        let chips = postcard::experimental::serialized_size(&state).unwrap_or(0);
        let size = OVERHEAD + chips + blocks.values().map(weight).sum::<usize>();
        let (retired, events) = (m.cpu.retired(), m.history.clone());
        let snapshot = Snapshot { at, retired, given, state, events, blocks, size };
        self.base = if self.snapshots.is_empty() { 0 } else { self.base + 1 };
        self.snapshots.insert(self.base, snapshot);
        self.bytes += size;
        self.thin(at, keep_first);
    }

    /// The block's content now.
    fn content(&self, m: &Machine, key: Key) -> Block {
        match key {
            Key::Page(n) => {
                let start = (n << PAGE_SHIFT) as usize;
                let page = &m.world.map.ram.bytes()[start..start + PAGE_SIZE as usize];
                page.iter().any(|b| *b != 0).then(|| page.into())
            }
            Key::Sector(n, lba) => self.media[n].sector(lba).map(|s| Box::from(&s[..])),
        }
    }

    /// The block's content at snapshot `n`.
    fn find(&self, n: usize, key: Key) -> Option<&[u8]> {
        let held = self.snapshots[..=n].iter().rev().find_map(|s| s.blocks.get(&key));
        held.and_then(|block| block.as_deref())
    }

    /// Puts the machine back, or on, to snapshot `n`.
    pub(super) fn restore(&mut self, m: &mut Machine, n: usize) {
        let mut differ: BTreeSet<Key> = m.world.take_written_pages().into_iter().map(Key::Page).collect();
        for (k, medium) in self.media.iter().enumerate() {
            differ.extend(medium.take_written().into_iter().map(|lba| Key::Sector(k, lba)));
        }
        for snapshot in &self.snapshots[self.base.min(n) + 1..=self.base.max(n)] {
            differ.extend(snapshot.blocks.keys());
        }
        for key in differ {
            let bytes = self.find(n, key);
            match key {
                Key::Page(page) => {
                    let zero = [0; PAGE_SIZE as usize];
                    m.world.map.ram.write(MachineAddr(page << PAGE_SHIFT), bytes.unwrap_or(&zero));
                }
                Key::Sector(k, lba) => {
                    let sector = bytes.and_then(|b| Sector::try_from(b).ok());
                    self.media[k].set_sector(lba, sector);
                }
            }
        }
        // What was put back is as at the snapshot: none of it counts as written.
        m.world.take_written_pages();
        m.restore_core(&self.snapshots[n].state);
        m.history = self.snapshots[n].events.clone();
        self.base = n;
    }

    /// Drops what lies after `now`.
    pub(super) fn truncate(&mut self, now: Moment) {
        self.passed(now);
        for dropped in self.snapshots.drain(self.base + 1..) {
            self.bytes -= dropped.size;
        }
    }

    /// Drops snapshots until the rest keeps to the cap: first those that lie densest for their distance from
    /// `now`, so that the gaps grow with the distance; then those of the future; in the end the oldest, and
    /// the history begins later.
    fn thin(&mut self, now: Moment, keep_first: bool) {
        while self.bytes > self.cap && self.snapshots.len() > 1 {
            let inner = (1..self.snapshots.len() - 1).filter(|&n| n != self.base);
            let density = |n: usize| {
                let tick = |n: usize| self.snapshots[n].at.ticks;
                (tick(n + 1) - tick(n - 1)) as f64 / (tick(n).abs_diff(now.ticks) as f64 + NEAR)
            };
            match inner.min_by(|&a, &b| density(a).total_cmp(&density(b))) {
                Some(n) => self.remove(n),
                None if self.base + 1 < self.snapshots.len() => self.remove(self.snapshots.len() - 1),
                None if keep_first => return,
                None => {
                    self.remove(0);
                    self.shortened = true;
                }
            }
        }
    }

    /// Drops snapshot `n`; the next one, if there is one, gets its blocks.
    fn remove(&mut self, n: usize) {
        let dropped = self.snapshots.remove(n);
        self.bytes -= dropped.size;
        if let Some(next) = self.snapshots.get_mut(n) {
            for (key, block) in dropped.blocks {
                // The first one has no use for what is as at the start; but nothing is older than it.
                let more = weight(&block);
                if let std::collections::hash_map::Entry::Vacant(place) = next.blocks.entry(key) {
                    place.insert(block);
                    next.size += more;
                    self.bytes += more;
                }
            }
        }
        if n < self.base {
            self.base -= 1;
        }
    }
}

//! The store of all units: by number, by key, and by the linear address that led to them last.

use super::dropped::{Dropped, DroppedUnit};
use super::unit::{Key, Link, Record, Unit, UnitInfo, Why};
use crate::addr::Linear;
use crate::decode::Insn;
use std::collections::HashMap;

/// Entries of the table of linear addresses; a power of two.
const JUMPS: usize = 4096;

#[derive(Clone, Copy, Default)]
pub(super) struct Jump {
    link: Link,
    mode: u8,
}

/// All units.
pub(super) struct Store<F, E> {
    pub(super) units: Vec<Unit<F, E>>,
    /// By the same numbers.
    pub(super) records: Vec<Record>,
    /// Whether runs that break off are counted.
    pub(super) tallies: bool,
    /// Units that were dropped.
    pub(super) dropped: Dropped,
    index: HashMap<Key, u32>,
    jumps: Jumps,
}

/// The units that linear addresses led to last.
pub(super) struct Jumps(Box<[Jump]>);

impl Jumps {
    /// The unit at `linear`, if that was looked up under this stamp.
    #[inline(always)]
    pub(super) fn find(&self, linear: u32, mode: u8, stamp: u32) -> Option<u32> {
        let Jump { link, mode: m } = self.0[slot(linear)];
        (link.linear == linear && m == mode && link.stamp == stamp).then_some(link.unit)
    }
}

impl<F, E> Default for Store<F, E> {
    fn default() -> Self {
        let jumps = Jumps(vec![Jump::default(); JUMPS].into());
        Self {
            units: Vec::new(),
            records: Vec::new(),
            tallies: false,
            dropped: Dropped::default(),
            index: HashMap::new(),
            jumps,
        }
    }
}

fn slot(linear: u32) -> usize {
    ((linear ^ (linear >> 12)) as usize) & (JUMPS - 1)
}

impl<F, E> Store<F, E> {
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// What running needs.
    #[inline(always)]
    pub(super) fn running(&mut self) -> (&mut [Unit<F, E>], &Jumps) {
        (&mut self.units, &self.jumps)
    }

    /// The unit at `linear`, if that was looked up under this stamp.
    pub(super) fn looked_up(&self, linear: u32, mode: u8, stamp: u32) -> Option<u32> {
        self.jumps.find(linear, mode, stamp)
    }

    pub(super) fn note(&mut self, linear: u32, mode: u8, stamp: u32, unit: u32) {
        self.jumps.0[slot(linear)] = Jump { link: Link { linear, stamp, unit }, mode };
    }

    /// Adds a unit; one with the same key is no longer found.
    pub(super) fn insert(&mut self, unit: Unit<F, E>, record: Record) -> u32 {
        let n = self.units.len() as u32;
        self.index.insert(record.key, n);
        self.units.push(unit);
        self.records.push(record);
        n
    }

    /// The unit is no longer found.
    pub(super) fn forget(&mut self, n: u32, why: Why) {
        self.records[n as usize].gone = Some(why);
        let key = self.records[n as usize].key;
        if self.index.get(&key) == Some(&n) {
            self.index.remove(&key);
        }
    }

    /// The units that are still found and whose code holds the byte at the linear address `at`, as it was
    /// when they were translated.
    pub(super) fn covering(&self, at: Linear) -> Vec<u32> {
        let covers = |u: &Record| {
            let last = u.plan.last.map_or(0, |insn: Insn| u32::from(insn.len));
            at.0.wrapping_sub(u.linear) < u32::from(u.plan.body_bytes) + last
        };
        let mut found: Vec<u32> =
            self.index.values().copied().filter(|n| covers(&self.records[*n as usize])).collect();
        found.sort_unstable();
        found
    }

    /// Units that are still found.
    pub(super) fn found(&self) -> usize {
        self.index.len()
    }

    /// Drops all units.
    pub(super) fn clear(&mut self, why: Why) {
        if self.dropped.is_kept() {
            // Ways out count from the first unit that is here now.
            let first = self.dropped.count;
            let units = std::mem::take(&mut self.units);
            for (unit, mut record) in units.into_iter().zip(self.records.drain(..)) {
                record.gone.get_or_insert(why);
                let links = unit.numbers(first);
                self.dropped.push(DroppedUnit {
                    record,
                    runs: unit.runs,
                    links,
                    fused: unit.fused,
                    tally: unit.tally,
                });
            }
        } else {
            self.dropped.skip(self.units.len());
        }
        self.units.clear();
        self.records.clear();
        self.index.clear();
        self.jumps.0.fill(Jump::default());
    }

    /// The unit in this place.
    pub(super) fn info(&self, n: u32) -> UnitInfo<'_> {
        let (unit, record) = (&self.units[n as usize], &self.records[n as usize]);
        let first = self.dropped.count;
        record.info(first + n, unit.runs, unit.numbers(first), unit.fused, unit.tally.as_deref())
    }
}

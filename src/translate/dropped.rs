//! Dropped units, for observers: `subring translate` shows what became of a guest's code also where all
//! translations were dropped meanwhile. Nothing is kept unless an observer asks; used by the store of units.

use super::plan::SIDE_EXITS;
use super::tally::Tally;
use super::unit::{Record, UnitInfo};
use std::collections::VecDeque;

/// What is left of a unit.
pub(super) struct DroppedUnit {
    pub(super) record: Record,
    pub(super) runs: u64,
    /// The numbers of the units that its ways out were chained to.
    pub(super) links: [Option<u32>; 2 + SIDE_EXITS],
    pub(super) fused: bool,
    pub(super) tally: Option<Box<Tally>>,
}

impl DroppedUnit {
    fn info(&self, number: u32) -> UnitInfo<'_> {
        self.record.info(number, self.runs, self.links, self.fused, self.tally.as_deref())
    }
}

/// The units that were dropped last, in the order of translation.
#[derive(Default)]
pub(super) struct Dropped {
    /// The most that are kept.
    most: usize,
    units: VecDeque<DroppedUnit>,
    /// Units dropped so far: the number of the first that is still there.
    pub(super) count: u32,
}

impl Dropped {
    /// From now on, so many are kept.
    pub(super) fn keep(&mut self, most: usize) {
        self.most = most;
        self.trim();
    }

    /// Whether dropped units are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.most > 0
    }

    /// Units that were dropped and are not kept.
    pub(super) fn lost(&self) -> u32 {
        self.count - self.units.len() as u32
    }

    /// The next of the units was dropped.
    pub(super) fn push(&mut self, unit: DroppedUnit) {
        self.units.push_back(unit);
        self.count += 1;
        self.trim();
    }

    /// Counts so many more dropped units, and keeps none of them or of those before.
    pub(super) fn skip(&mut self, units: usize) {
        self.units.clear();
        self.count = self.count.saturating_add(units as u32);
    }

    pub(super) fn get(&self, number: u32) -> Option<UnitInfo<'_>> {
        let place = number.checked_sub(self.lost())?;
        self.units.get(place as usize).map(|unit| unit.info(number))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = UnitInfo<'_>> {
        (self.lost()..).zip(&self.units).map(|(number, unit)| unit.info(number))
    }

    fn trim(&mut self) {
        while self.units.len() > self.most {
            self.units.pop_front();
        }
    }
}

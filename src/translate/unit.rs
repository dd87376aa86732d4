//! A unit, its ways out, and the store of all units.

use super::backend::Ended;
use super::invariants;
use super::past::{Gone, Past};
use super::plan::{Plan, SIDE_EXITS, Tail};
use super::tally::Tally;
use crate::addr::{GuestPhys, Linear};
use crate::decode::Insn;
use crate::decode::cache::Crossing;
use crate::exec::Handler;
use std::collections::HashMap;

/// What a unit is found by: where its code is, and in which mode it runs. All that a unit assumes of segments is in it: CS.D by itself,
/// the ring in the policy's mode. Bases, limits and the width of the stack are read as an instruction runs, so flat and other segments
/// share units; a backend that leaves such checks out has to put into the key what it takes for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Physical address, for the processor at hand.
    pub at: GuestPhys,
    /// The policy's mode, CS.D, and whether fetches are the user's.
    pub mode: u8,
}

/// Bits of a key's mode that are not the policy's: CS.D, and whether fetches are the user's.
pub(super) const CODE32: u8 = 0x80;
pub(super) const USER: u8 = 0x40;

impl Key {
    /// The policy's mode.
    pub fn policy(self) -> u8 {
        self.mode & !(CODE32 | USER)
    }

    /// Whether it is 32-bit code.
    pub fn code32(self) -> bool {
        self.mode & CODE32 != 0
    }
}

/// A way out: the unit that it led to last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// Its linear address.
    pub(super) linear: u32,
    /// When it was checked; 0 never.
    pub(super) stamp: u32,
    pub(super) unit: u32,
}

impl Link {
    /// The unit that it leads to, if that is the one at `linear`, checked under `stamp`.
    #[inline(always)]
    pub(super) fn to(&self, linear: u32, stamp: u32) -> Option<u32> {
        let same = invariants::is_own_target(self.linear, linear);
        (same && self.stamp == stamp).then_some(self.unit)
    }
}

/// Why a unit was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its code was overwritten.
    Overwritten,
    /// The memory map changed.
    MapChanged,
    /// Fragments took all the room they may.
    Full,
    /// The policy changed its mind about an instruction of it.
    Adapted,
}

impl Why {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [Self::Overwritten, Self::MapChanged, Self::Full, Self::Adapted];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overwritten => "overwritten",
            Self::MapChanged => "map-changed",
            Self::Full => "full",
            Self::Adapted => "adapted",
        }
    }
}

/// How often units ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// All of them.
    pub units: u64,
    /// Those that end in an indirect branch or a return.
    pub indirect: u64,
    /// Those that end in an inline sequence.
    pub inline: u64,
}

impl Runs {
    /// Adds the runs of a unit.
    pub(super) fn add(&mut self, tail: Tail, runs: u64) {
        self.units += runs;
        match tail {
            Tail::Indirect => self.indirect += runs,
            Tail::Inline(_) => self.inline += runs,
            _ => {}
        }
    }
}

/// What running a unit needs, close together.
pub(super) struct Unit<F, E> {
    /// What it was compiled to.
    pub(super) fragment: F,
    /// Ways out: at the tail, taken or falling through; then the side exits.
    pub(super) links: [Link; 2 + SIDE_EXITS],
    pub(super) runs: u64,
    /// Bytes of code, and instructions that a whole run retires.
    pub(super) bytes: u16,
    pub(super) count: u8,
    /// Ticks that must be left: at least one, or a callout would be late.
    pub(super) needs: u8,
    /// An instruction of the body looks at EIP or the time.
    pub(super) precise: bool,
    /// What follows the body, and the instruction at its end, bound.
    pub(super) tail: Tail,
    pub(super) last: Option<(Handler<E>, Insn)>,
    /// A comparison and the Jcc at the end are one operation.
    pub(super) fused: bool,
    /// Runs that broke off, if they are counted.
    pub(super) tally: Option<Box<Tally>>,
}

impl<F, E> Unit<F, E> {
    /// A run did not end through a way out.
    #[inline(always)]
    pub(super) fn note_end(&mut self, ran: Ended) {
        match ran {
            Ended::Broken(broken) => self.broke_off(usize::from(broken.count)),
            // The branch at its end is its last instruction.
            Ended::Fault(_) => self.break_off_last(),
            Ended::Way(_) | Ended::Tail | Ended::Left => {}
        }
    }

    /// A run ended without the instruction of the tail.
    pub(super) fn break_off_last(&mut self) {
        if let Some(tally) = &mut self.tally {
            tally.broke_off_last();
        }
    }

    #[cold]
    fn broke_off(&mut self, after: usize) {
        if let Some(tally) = &mut self.tally {
            tally.broke_off(after);
        }
    }

    /// The numbers of the units that its ways out are chained to; `first` is the number of the first unit in the store.
    fn numbers(&self, first: u32) -> [Option<u32>; 2 + SIDE_EXITS] {
        self.links.map(|l| (l.stamp != 0).then_some(first + l.unit))
    }
}

/// The rest of it.
pub(super) struct Record {
    pub(super) key: Key,
    /// The generation of its page when its code was last seen to be the same.
    pub(super) generation: u32,
    pub(super) plan: Plan,
    pub(super) code: Vec<u8>,
    /// The second page of its code, if its only instruction crosses into one.
    pub(super) crossing: Option<Crossing>,
    /// Where it was translated for the first time.
    pub(super) linear: u32,
    pub(super) eip: u32,
    /// Why it is no longer found.
    pub(super) gone: Option<Why>,
}

impl Record {
    pub(super) fn info(
        &self,
        number: u32,
        runs: u64,
        links: [Option<u32>; 2 + SIDE_EXITS],
        fused: bool,
        tally: Option<&Tally>,
    ) -> UnitInfo<'_> {
        UnitInfo {
            number,
            linear: self.linear,
            eip: self.eip,
            key: self.key,
            runs,
            plan: &self.plan,
            code: &self.code,
            links,
            fused,
            counts: tally.map(|tally| tally.counts(runs, &self.plan)),
            gone: self.gone,
        }
    }
}

/// A unit as observers see it.
#[derive(Clone, Debug)]
pub struct UnitInfo<'a> {
    /// Its place among all units that there ever were, in the order of translation.
    pub number: u32,
    /// Where it was translated for the first time.
    pub linear: u32,
    /// The same as EIP.
    pub eip: u32,
    /// What it is found by.
    pub key: Key,
    /// How often it ran.
    pub runs: u64,
    /// What it does.
    pub plan: &'a Plan,
    /// Its code.
    pub code: &'a [u8],
    /// The units that its ways out are chained to: taken, falling through, and side exits.
    pub links: [Option<u32>; 2 + SIDE_EXITS],
    /// The body's last instruction, a comparison, and the Jcc after it are one operation.
    pub fused: bool,
    /// How often each instruction ran to its end, if that is counted. One that the monitor runs counts when it is called.
    pub counts: Option<Vec<u64>>,
    /// Why it is no longer found, if it is not.
    pub gone: Option<Why>,
}

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
    /// Units that were here before these.
    pub(super) past: Past,
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
            past: Past::default(),
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

    /// The units that are still found and whose code holds the byte at the linear address `at`, as it was when they were
    /// translated.
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
        if self.past.is_kept() {
            // Ways out count from the first unit that is here now.
            let first = self.past.dropped;
            let units = std::mem::take(&mut self.units);
            for (unit, mut record) in units.into_iter().zip(self.records.drain(..)) {
                record.gone.get_or_insert(why);
                let links = unit.numbers(first);
                self.past.push(Gone { record, runs: unit.runs, links, fused: unit.fused, tally: unit.tally });
            }
        } else {
            self.past.skip(self.units.len());
        }
        self.units.clear();
        self.records.clear();
        self.index.clear();
        self.jumps.0.fill(Jump::default());
    }

    /// The unit in this place.
    pub(super) fn info(&self, n: u32) -> UnitInfo<'_> {
        let (unit, record) = (&self.units[n as usize], &self.records[n as usize]);
        let first = self.past.dropped;
        record.info(first + n, unit.runs, unit.numbers(first), unit.fused, unit.tally.as_deref())
    }
}

//! A unit: what it is found by, its ways out, what running it needs, and what observers see of it.

use super::backend::Ended;
use super::invariants;
use super::plan::{Plan, Policy, SIDE_EXITS, Tail};
use super::tally::Tally;
use crate::addr::GuestPhys;
use crate::cpu::Cpu;
use crate::decode::Insn;
use crate::decode::cache::Crossing;
use crate::exec::Handler;

/// What a unit is found by: where its code is, and in which mode it runs. All that a unit assumes of segments
/// is in it: CS.D by itself, the ring in the policy's mode. Bases, limits and the width of the stack are read
/// as an instruction runs, so flat and other segments share units; a backend that leaves such checks out has
/// to put into the key what it takes for granted.
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

/// The mode of a key for code that `cpu` runs under `policy`.
pub(super) fn mode_of<E>(cpu: &Cpu, policy: &dyn Policy<E>) -> u8 {
    let code32 = if cpu.code32() { CODE32 } else { 0 };
    let user = if cpu.user { USER } else { 0 };
    policy.mode(cpu) & !(CODE32 | USER) | code32 | user
}

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
            Ended::Way(_) | Ended::Tail | Ended::Left | Ended::Paused(_) => {}
        }
    }

    /// A run ended without the instruction of the tail.
    pub(super) fn break_off_last(&mut self) {
        if let Some(tally) = &mut self.tally {
            tally.broke_off_last();
        }
    }

    /// A run broke off after so many instructions.
    #[cold]
    pub(super) fn broke_off(&mut self, after: usize) {
        if let Some(tally) = &mut self.tally {
            tally.broke_off(after);
        }
    }

    /// The numbers of the units that its ways out are chained to; `first` is the number of the first unit in
    /// the store.
    pub(super) fn numbers(&self, first: u32) -> [Option<u32>; 2 + SIDE_EXITS] {
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
    /// How often each instruction ran to its end, if that is counted. One that the monitor runs counts when
    /// it is called.
    pub counts: Option<Vec<u64>>,
    /// Why it is no longer found, if it is not.
    pub gone: Option<Why>,
}

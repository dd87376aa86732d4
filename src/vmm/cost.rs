//! Modelled cycles: events of a run, each at the price that one published table gives it. The default is
//! `costs.toml`, with its sources; `table` reads a user's.

mod table;

use crate::cell::axis;
use crate::cpu::vmx::Reason;
use crate::report::{Cause, Report, Term};
use std::collections::BTreeMap;

/// The default table's text.
pub const DEFAULT: &str = include_str!("costs.toml");

/// What an event costs at most, in cycles: more than any of them takes, and so few that no sum of a run's
/// overflows.
const DEAREST: u64 = 1_000_000;

axis! {
    /// A generation of processors, by what a VM exit and the entry after it take.
    #[derive(Default)]
    Generation, "generation":
    #[default]
    Prescott = "prescott", "2005, Pentium 4: the first with VT-x";
    Merom = "merom", "2006, Core 2";
    Penryn = "penryn", "2008, Core 2 of 45 nm";
    Nehalem = "nehalem", "2008, Core i7: the first with extended page tables";
    Westmere = "westmere", "2010";
    SandyBridge = "sandy-bridge", "2011";
}

/// What each event costs, in cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// An instruction that runs without intervention.
    pub instruction: u64,
    /// An interpreted instruction.
    pub interpreted: u64,
    /// What of each exit under ring compression is its fault.
    fault: u64,
    exits: BTreeMap<Cause, u64>,
    translation: Translation,
    /// The generation whose VM exits are priced.
    generation: Generation,
    /// VM exits and entries, round trips, by generation.
    round_trips: BTreeMap<Generation, u64>,
    /// A reference of a two-dimensional walk, beyond those of the guest's tables alone.
    reference: u64,
}

/// What translation costs, in cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    instruction: u64,
    inline: u64,
    callout: u64,
    miss: u64,
    translated: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self::built_in()
    }
}

impl Costs {
    /// These costs, with VM exits as `generation` takes them.
    #[must_use]
    pub fn of_generation(self, generation: Generation) -> Self {
        Self { generation, ..self }
    }

    /// What an exit of `cause` costs under ring compression; a VM exit by its reason.
    pub fn of(&self, cause: Cause) -> u64 {
        match cause {
            Cause::Vmx(_) => self.of_vm_exit(cause),
            _ => self.exits.get(&cause).copied().unwrap_or(0),
        }
    }

    /// What a VM exit of `cause` costs: the round trip, and what the monitor does in between.
    pub fn of_vm_exit(&self, cause: Cause) -> u64 {
        let like = like_under_compression(cause);
        let work = self.exits.get(&like).copied().unwrap_or(0).saturating_sub(self.fault);
        self.round_trips.get(&self.generation).copied().unwrap_or(0) + work
    }

    /// How many times longer `cycles` are than `retired` instructions take that run without intervention.
    /// None of no instructions.
    pub fn slowdown(&self, cycles: u64, retired: u64) -> Option<f64> {
        (retired > 0).then(|| cycles as f64 / retired.saturating_mul(self.instruction) as f64)
    }

    /// What one event of `term` costs.
    pub fn price(&self, term: Term) -> u64 {
        match term {
            Term::Direct => self.instruction,
            Term::Interpreted => self.interpreted,
            Term::Exit(cause) => self.of(cause),
            Term::VmExit(cause) => self.of_vm_exit(cause),
            Term::Reference => self.reference,
            Term::Translated => self.translation.instruction,
            Term::Inline => self.translation.inline,
            Term::Callout => self.translation.callout,
            Term::Miss => self.translation.miss,
            Term::Translation => self.translation.translated,
        }
    }

    /// Each term of a run: how often it occurred, and the cycles that it cost.
    pub fn breakdown(&self, report: &Report) -> Vec<(Term, u64, u64)> {
        report.terms().into_iter().map(|(term, n)| (term, n, n.saturating_mul(self.price(term)))).collect()
    }

    /// A hash of all costs: tables with the same hash give the same cycles.
    pub fn hash(&self) -> u64 {
        // FNV-1a, the same on every host.
        Term::all()
            .map(|term| self.price(term))
            .flat_map(u64::to_le_bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The modelled cycles of a run.
    pub fn total(&self, report: &Report) -> u64 {
        self.breakdown(report).into_iter().fold(0, |sum, (_, _, cycles)| sum.saturating_add(cycles))
    }
}

/// The exit under ring compression after which the monitor does the same.
fn like_under_compression(cause: Cause) -> Cause {
    let Cause::Vmx(reason) = cause else { return cause };
    match reason {
        Reason::Io => Cause::PortIo,
        Reason::Hlt => Cause::Halt,
        Reason::EptViolation => Cause::HiddenPageFault,
        Reason::ExternalInterrupt => Cause::ExternalInterrupt,
        Reason::InterruptWindow => Cause::InterruptWindow,
        Reason::TaskSwitch => Cause::SegmentReload,
        Reason::Exception => Cause::Reflected,
        _ => Cause::Privileged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VM exit has a round trip in the place of the fault, and is cheaper on a later processor.
    #[test]
    fn a_vm_exit_costs_what_its_generation_takes() {
        let mut costs = Costs::default();
        let work = costs.of(Cause::PortIo) - costs.fault;
        let mut io = |generation| {
            costs.generation = generation;
            costs.of_vm_exit(Cause::Vmx(Reason::Io))
        };
        assert_eq!((io(Generation::Prescott), io(Generation::SandyBridge)), (3963 + work, 784 + work));
        assert!(Generation::ALL.windows(2).filter(|pair| io(pair[0]) < io(pair[1])).count() <= 1);
    }

    #[test]
    fn the_built_in_table_is_whole() {
        let costs = Costs::parse(DEFAULT).unwrap();
        assert!(Cause::RING.iter().all(|c| costs.of(*c) > 0));
    }

    #[test]
    fn all_costs_may_be_at_their_bounds() {
        let at = |n: u64| {
            let numbers = |line: &str| match line.split_once(" = ") {
                Some((key, _)) => format!("{key} = {}\n", if key == "instruction" { n.max(1) } else { n }),
                None => format!("{line}\n"),
            };
            Costs::parse(&DEFAULT.lines().map(numbers).collect::<String>()).unwrap()
        };
        assert_eq!((at(0).of(Cause::RING[0]), at(DEAREST).of(Cause::RING[0])), (0, DEAREST));
        assert_eq!(at(DEAREST).slowdown(3 * DEAREST, 2), Some(1.5));
        assert_eq!(at(0).slowdown(0, 0), None);
    }
}

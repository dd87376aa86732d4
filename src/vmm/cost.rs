//! Modelled cycles: events of a run, each at the price that one published table gives it. The default is
//! `costs.toml`, with its sources; `table` reads a user's.

mod table;

use crate::report::{Cause, Report, Term};
use std::collections::BTreeMap;

/// The default table's text.
pub const DEFAULT: &str = include_str!("costs.toml");

/// What an event costs at most, in cycles: more than any of them takes, and so few that no sum of a run's
/// overflows.
const DEAREST: u64 = 1_000_000;

/// What each event costs, in cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// An instruction that runs without intervention.
    pub instruction: u64,
    /// An interpreted instruction.
    pub interpreted: u64,
    exits: BTreeMap<Cause, u64>,
    translation: Translation,
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
    /// What an exit of `cause` costs.
    pub fn of(&self, cause: Cause) -> u64 {
        self.exits.get(&cause).copied().unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_whole() {
        let costs = Costs::parse(DEFAULT).unwrap();
        assert!(Cause::ALL.iter().all(|c| costs.of(*c) > 0));
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
        assert_eq!((at(0).of(Cause::ALL[0]), at(DEAREST).of(Cause::ALL[0])), (0, DEAREST));
        assert_eq!(at(DEAREST).slowdown(3 * DEAREST, 2), Some(1.5));
        assert_eq!(at(0).slowdown(0, 0), None);
    }
}

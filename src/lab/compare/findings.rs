//! What one row says of another: what a missing rewriting rule broke, by Popek and Goldberg's three
//! properties (CACM 1974, section 3), and what adaptation changes.

use super::row::{Outcome, Row};
use crate::addr::Linear;
use crate::cell::Coherence;
use crate::lab::digits::grouped;
use crate::load::{Symbol, symbol_at};
use crate::report::Cause;
use serde::Serialize;
use std::cmp::Reverse;

/// Causes that a sentence names.
const NAMED: usize = 3;

/// What a missing rule broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// The guest goes another way than on the bare machine.
    Equivalence,
    /// The guest goes the same way, with more exits.
    Efficiency,
    /// The guest got at what is the monitor's.
    ResourceControl,
    /// The guest goes the same way with no more exits, though the rule's instructions ran.
    Nothing,
    /// No instruction ran that the rule rewrites.
    NotMet,
    /// With all rules the guest goes another way, too.
    Unknown,
}

impl Broken {
    /// The verb phrase of the sentence.
    fn words(self) -> &'static str {
        match self {
            Self::Equivalence => "equivalence breaks",
            Self::Efficiency => "efficiency breaks",
            Self::ResourceControl => "resource control breaks",
            Self::Nothing | Self::NotMet => "nothing breaks",
            Self::Unknown => "nothing can be said",
        }
    }
}

/// What a missing rule broke, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the rule.
    pub rule: &'static str,
    /// Coherence of both rows.
    pub coherence: Option<Coherence>,
    /// Whether both rows adapt.
    pub adaptive: bool,
    /// The property that is broken.
    pub broken: Broken,
    /// One sentence about it.
    pub sentence: String,
    /// Name of the row with all rules.
    #[serde(skip)]
    pub machine: String,
}

impl Finding {
    /// The sentence, with the row's name if there are several findings or the row is no usual one.
    pub fn line(&self, several: bool) -> String {
        if several || !self.adaptive {
            format!("{}: {}", self.machine, self.sentence)
        } else {
            self.sentence.clone()
        }
    }

    /// Holds the row without the rule called `rule` against the one with all.
    fn of(rule: &'static str, with: &Row, without: &Row, symbols: &[Symbol]) -> Self {
        let (broken, what) = judge(rule, with, without, symbols);
        Self {
            rule,
            coherence: with.variant.cell.coherence(),
            adaptive: with.variant.adaptive,
            broken,
            sentence: format!("without {rule} {}: {what}", broken.words()),
            machine: with.name(),
        }
    }
}

/// What the missing rules broke, for each row without one: it comes after the row with all.
pub fn findings(rows: &[Row], symbols: &[Symbol]) -> Vec<Finding> {
    let pairs = rows.windows(2).filter_map(|pair| Some((pair[1].variant.without_name()?, pair)));
    pairs.map(|(rule, pair)| Finding::of(rule, &pair[0], &pair[1], symbols)).collect()
}

fn judge(rule: &str, with: &Row, without: &Row, symbols: &[Symbol]) -> (Broken, String) {
    if let Some((breach, at)) = without.breach() {
        let what =
            format!("the guest got at what is the monitor's: {}, near {}", breach.name(), place(at, symbols));
        return (Broken::ResourceControl, what);
    }
    if !matches!(with.outcome, Outcome::Same) {
        let what = "with all rules, too, the guest goes another way than on the bare machine";
        return (Broken::Unknown, what.into());
    }
    let uses = with.translation().map_or(0, |t| t.uses(rule));
    match &without.outcome {
        Outcome::Diverged(..) | Outcome::EndedOtherwise => (Broken::Equivalence, parted(&without.outcome)),
        _ if uses == 0 => {
            let retired = grouped(with.retired);
            (Broken::NotMet, format!("in {retired} instructions this guest runs none that it rewrites"))
        }
        _ if without.exits() > with.exits() => (Broken::Efficiency, efficiency(with, without, symbols)),
        _ => {
            let what = format!(
                "the guest does the same with no more exits, though it ran {} of its instructions: what they show of the \
                 monitor makes no difference here",
                grouped(uses)
            );
            (Broken::Nothing, what)
        }
    }
}

/// Where the guest goes another way.
fn parted(outcome: &Outcome) -> String {
    let Outcome::Diverged(d, symbol) = outcome else { return "the guest ends otherwise".into() };
    let symbol = symbol.as_ref().map_or(String::new(), |s| format!(" ({s})"));
    let what = d.differences.first().map_or("it ended otherwise".to_owned(), |first| {
        format!("{} is {} and not {}", first.piece, first.second, first.first)
    });
    format!(
        "the guest goes another way after {} instructions, at {:04x}:{:08x}{symbol}, {}: {what}",
        grouped(d.after),
        d.cs,
        d.eip,
        d.disassembly
    )
}

/// The exits that grew, and where most of the new ones are.
fn efficiency(with: &Row, without: &Row, symbols: &[Symbol]) -> String {
    let mut grown: Vec<_> = Cause::all()
        .map(|cause| (cause, with.of(cause), without.of(cause)))
        .filter(|(_, before, after)| after > before)
        .collect();
    grown.sort_by_key(|(cause, before, after)| (Reverse(after - before), *cause));
    let cause = |(cause, before, after): &(Cause, u64, u64)| {
        format!("{} from {} to {}", cause.name(), grouped(*before), grouped(*after))
    };
    let causes: Vec<_> = grown.iter().take(NAMED).map(cause).collect();
    let new = |(cause, at): (Cause, u32), n: u64| n.saturating_sub(with.at_site(cause, at));
    let site = without
        .sites()
        .map(|(site, n)| (new(site, n), site.1))
        .filter(|(n, _)| *n > 0)
        .max_by_key(|(n, at)| (*n, Reverse(*at)));
    let most = site.map_or(String::new(), |(n, at)| {
        format!("; {} of them at {}", grouped(n), place(Linear(at), symbols))
    });
    format!(
        "the guest does the same, but what needed no exit faults now and is emulated, and exits grow: {}{most}",
        causes.join(", ")
    )
}

/// An address, with the kernel's name for it.
fn place(at: Linear, symbols: &[Symbol]) -> String {
    symbol_at(symbols, at.0).map_or(at.to_string(), |name| format!("{at} ({name})"))
}

/// What adaptation changes, for each row without it: it comes after the row with it.
pub fn adaptation(rows: &[Row]) -> Vec<String> {
    let pairs = rows.windows(2).filter(|pair| pair[0].variant.adaptive && !pair[1].variant.adaptive);
    pairs.filter(|pair| pair[0].translates()).map(|pair| adapted(&pair[0], &pair[1])).collect()
}

fn adapted(with: &Row, without: &Row) -> String {
    let name = with.name();
    let (adapted, reverted) = with.translation().map_or((0, 0), |t| (t.adapted, t.reverted));
    if adapted == 0 {
        return format!("{name}: no access keeps leaving translated code, and adaptation changes nothing");
    }
    let causes: Vec<_> = Cause::all()
        .map(|cause| (cause.name(), with.of(cause), without.of(cause)))
        .filter(|(_, with, without)| with != without)
        .map(|(name, with, without)| format!("{name} {} and not {}", grouped(with), grouped(without)))
        .collect();
    format!(
        "{name}: {} accesses were translated again into callouts, and {} of them back; exits are {} and not {} ({}), \
         modelled cycles {} and not {}",
        grouped(adapted),
        grouped(reverted),
        grouped(with.exits()),
        grouped(without.exits()),
        if causes.is_empty() { "each cause as often".to_owned() } else { causes.join(", ") },
        grouped(with.cycles),
        grouped(without.cycles),
    )
}

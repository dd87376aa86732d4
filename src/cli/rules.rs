//! The rewriting rules on the command line: `--list-rules`, and `--without-rule`, which takes one away. What breaks then is
//! said by Popek and Goldberg's three properties (CACM 1974, section 3): equivalence, efficiency, resource control.

use super::compare_report::{Row, Verdict};
use super::digits::grouped;
use crate::addr::Linear;
use crate::cell::Coherence;
use crate::report::Cause;
use crate::translate::RuleId;
use crate::vmm::bt::rules::{self, COLUMNS, RULES};
use serde::Serialize;
use std::fmt::Write;

/// Causes and rules that a sentence names.
const NAMED: usize = 3;

/// The rule that is called `name`.
///
/// # Errors
/// A sentence with the names of all.
pub(super) fn named(name: &str) -> Result<RuleId, String> {
    let names = || RULES.iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
    rules::by_name(name).ok_or_else(|| format!("no rewriting rule is called {name}; there are {}", names()))
}

/// All rules: what becomes of their instructions in each mode, and why.
pub(super) fn list() -> String {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    let mut out = format!("{:width$}", "rule");
    COLUMNS.iter().for_each(|column| _ = write!(out, "  {column}"));
    out += "  why\n";
    for rule in RULES {
        let _ = write!(out, "{:width$}", rule.name);
        for (n, column) in COLUMNS.iter().enumerate() {
            let what = match rule.letter(n) {
                'i' => "inline",
                'c' => "callout",
                _ => "-",
            };
            let _ = write!(out, "  {what:0$}", column.len());
        }
        let _ = writeln!(out, "  {}", rule.why);
    }
    out + "\n-        carried over: the real processor does the same, or faults, and the monitor emulates it\n\
           inline   a sequence on the virtual state, without an exit\n\
           callout  the monitor runs it on the virtual processor, without a fault\n"
}

/// What a missing rule broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Broken {
    /// The guest goes another way than on the bare machine.
    Equivalence,
    /// It goes the same way, with more exits.
    Efficiency,
    /// It got at what is the monitor's.
    ResourceControl,
    /// It goes the same way with no more exits, though the rule's instructions ran.
    Nothing,
    /// No instruction ran that the rule is about.
    NotMet,
    /// With all rules the guest goes another way, too.
    Unknown,
}

/// What a missing rule broke, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    rule: &'static str,
    coherence: Option<Coherence>,
    adaptive: bool,
    broken: Broken,
    sentence: String,
    /// The run with all rules.
    #[serde(skip)]
    machine: String,
}

impl Finding {
    /// The sentence; with the machine that it is about, if it is one of several or that machine is no usual one.
    pub(super) fn line(&self, several: bool) -> String {
        if several || !self.adaptive {
            format!("{}: {}", self.machine, self.sentence)
        } else {
            self.sentence.clone()
        }
    }

    /// Holds the run without `rule` against the one with all. `place` names an address.
    pub(super) fn of(rule: RuleId, with: &Row, without: &Row, place: impl Fn(Linear) -> String) -> Self {
        let rule = rules::by_id(rule);
        let name = rule.name;
        let uses = with.translation().map_or(0, |t| t.uses(name));
        let (broken, what) = if let Some((breach, at)) = without.breach() {
            let what =
                format!("the guest got at what is the monitor's: {}, near {}", breach.name(), place(at));
            (Broken::ResourceControl, what)
        } else if !matches!(with.verdict, Verdict::Same) {
            (
                Broken::Unknown,
                "with all rules, too, the guest goes another way than on the bare machine".into(),
            )
        } else {
            match &without.verdict {
                Verdict::Diverged(d, symbol) => {
                    let symbol = symbol.as_ref().map_or(String::new(), |s| format!(" ({s})"));
                    let what = format!(
                        "the guest goes another way after {} instructions, at {:04x}:{:08x}{symbol}, {}: {}",
                        grouped(d.after),
                        d.cs,
                        d.eip,
                        d.disassembly,
                        d.differences.first().map_or("it ended otherwise".to_owned(), |first| format!(
                            "{} is {} and not {}",
                            first.piece, first.second, first.first
                        ))
                    );
                    (Broken::Equivalence, what)
                }
                Verdict::Lost => (Broken::Equivalence, "the guest ends otherwise".into()),
                _ if uses == 0 => (
                    Broken::NotMet,
                    format!(
                        "in {} instructions this guest runs none that it rewrites",
                        grouped(with.retired)
                    ),
                ),
                _ if without.exits() > with.exits() => (Broken::Efficiency, efficiency(with, without, place)),
                _ => (
                    Broken::Nothing,
                    format!(
                        "the guest does the same with no more exits, though it ran {} of its instructions: what \
                         they show of the monitor makes no difference here",
                        grouped(uses)
                    ),
                ),
            }
        };
        let verb = match broken {
            Broken::Equivalence => "equivalence breaks",
            Broken::Efficiency => "efficiency breaks",
            Broken::ResourceControl => "resource control breaks",
            Broken::Nothing | Broken::NotMet => "nothing breaks",
            Broken::Unknown => "nothing can be said",
        };
        Self {
            rule: name,
            coherence: with.cell.coherence(),
            adaptive: with.adaptive,
            broken,
            sentence: format!("without {name} {verb}: {what}"),
            machine: with.name(),
        }
    }
}

/// The exits that grew, and where most of the new ones are.
fn efficiency(with: &Row, without: &Row, place: impl Fn(Linear) -> String) -> String {
    let mut grown: Vec<_> = Cause::ALL
        .iter()
        .map(|cause| (*cause, with.of(*cause), without.of(*cause)))
        .filter(|(_, before, after)| after > before)
        .collect();
    grown.sort_by_key(|(cause, before, after)| (std::cmp::Reverse(after - before), *cause));
    let causes: Vec<_> = grown
        .iter()
        .take(NAMED)
        .map(|(cause, before, after)| {
            format!("{} from {} to {}", cause.name(), grouped(*before), grouped(*after))
        })
        .collect();
    let new = |(cause, at): (Cause, u32), n: u64| n.saturating_sub(with.at_site(cause, at));
    let site = without
        .sites()
        .map(|(site, n)| (new(site, n), site.1))
        .filter(|(n, _)| *n > 0)
        .max_by_key(|(n, at)| (*n, std::cmp::Reverse(*at)));
    let most =
        site.map_or(String::new(), |(n, at)| format!("; {} of them at {}", grouped(n), place(Linear(at))));
    format!(
        "the guest does the same, but what needed no exit faults now and is emulated, and exits grow: {}{most}",
        causes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rule_is_told_the_names_of_all() {
        assert_eq!(named("popf").map(|id| rules::by_id(id).name), Ok("POPF"));
        let text = named("POPE").expect_err("there is none");
        assert!(RULES.iter().all(|rule| text.contains(rule.name)), "{text}");
    }

    #[test]
    fn the_list_has_a_line_for_each_rule() {
        let text = list();
        for rule in RULES {
            let line = text.lines().find(|l| l.split(' ').next() == Some(rule.name)).expect(rule.name);
            assert!(line.ends_with(rule.why), "{line}");
        }
    }
}

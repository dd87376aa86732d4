//! A row of the comparison: one machine's run, and how it compares with the bare machine's.

use super::divergence::Divergence;
use super::figures;
use super::phases::Phases;
use super::variant::Variant;
use crate::addr::Linear;
use crate::cell::Strategy;
use crate::report::{Breach, Cause, Report, Term, TranslationFigures};
use std::time::Duration;

/// How a run compares with the bare machine's.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The bare machine's run, which ended so.
    Reference(String),
    /// Processor, memory, chips and instruction count are the bare machine's.
    Same,
    /// The guest goes another way from here on; with the kernel's name for the place.
    Diverged(Box<Divergence>, Option<String>),
    /// The guest ended otherwise, and no instruction was found to blame.
    EndedOtherwise,
}

impl Outcome {
    /// The name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reference(_) => "reference",
            Self::Same => "same",
            Self::Diverged(..) => "diverged",
            Self::EndedOtherwise => "ended otherwise",
        }
    }

    /// Whether the guest went another way than on the bare machine.
    pub fn is_other(&self) -> bool {
        matches!(self, Self::Diverged(..) | Self::EndedOtherwise)
    }
}

/// One machine's run.
#[derive(Clone, Debug)]
pub struct Row {
    /// What ran.
    pub variant: Variant,
    /// How it compares with the bare machine's run.
    pub outcome: Outcome,
    /// Instructions retired.
    pub retired: u64,
    /// Modelled cycles.
    pub cycles: u64,
    /// Modelled cycles by those of the same instructions without a monitor; `None` of a run without
    /// instructions.
    pub slowdown: Option<f64>,
    /// What the monitor counted; `None` on the bare machine.
    pub report: Option<Report>,
    /// Terms of the modelled cycles: events and their cycles.
    pub terms: Vec<(Term, u64, u64)>,
    /// Boundaries at which the machines were compared, if at each.
    pub boundaries: Option<u64>,
    /// Host time, of a run without comparisons.
    pub host: Duration,
    /// The phases that the guest marked, if they were asked for.
    pub phases: Option<Phases>,
}

impl Row {
    /// The name of the row.
    pub fn name(&self) -> String {
        self.variant.to_string()
    }

    /// Whether the guest's kernel was translated.
    pub fn translates(&self) -> bool {
        self.variant.cell.strategy() == Strategy::Bt
    }

    /// What of the monitor's the guest got at, and where it was.
    pub fn breach(&self) -> Option<(Breach, Linear)> {
        self.report.as_ref()?.audit.as_ref()?.first
    }

    /// Exits by cause and place.
    pub fn sites(&self) -> impl Iterator<Item = ((Cause, u32), u64)> + '_ {
        self.report.iter().flat_map(|m| m.exits.by_site.iter().map(|(site, n)| (*site, *n)))
    }

    /// Exits for one cause at one place.
    pub fn at_site(&self, cause: Cause, at: u32) -> u64 {
        let exits = self.report.as_ref().map(|m| &m.exits);
        exits.and_then(|exits| exits.by_site.get(&(cause, at)).copied()).unwrap_or(0)
    }

    /// Instructions that ran on the processor as they are.
    pub fn direct(&self) -> u64 {
        self.report.as_ref().map_or(self.retired, |m| m.counts.direct)
    }

    /// Instructions that ran in translated code.
    pub fn translated(&self) -> u64 {
        self.report.as_ref().map_or(0, |m| m.counts.translated)
    }

    /// `n` of the row's instructions in percent.
    pub fn percent(&self, n: u64) -> Option<f64> {
        (self.retired > 0).then(|| 100.0 * n as f64 / self.retired as f64)
    }

    /// What was translated.
    pub fn translation(&self) -> Option<&TranslationFigures> {
        self.report.as_ref()?.translation.as_ref()
    }

    /// Callouts of all rules.
    pub fn callouts(&self) -> u64 {
        self.translation().map_or(0, TranslationFigures::all_callouts)
    }

    /// Exits of all causes.
    pub fn exits(&self) -> u64 {
        self.report.as_ref().map_or(0, |m| m.exits.total())
    }

    /// Exits of one cause.
    pub fn of(&self, cause: Cause) -> u64 {
        self.report.as_ref().map_or(0, |m| m.exits.of(cause))
    }

    /// Exits for writes to traced page tables and descriptor tables.
    pub fn traces(&self) -> u64 {
        self.report.as_ref().map_or(0, figures::traces)
    }

    /// Exits for every thousand instructions.
    pub fn per_thousand(&self) -> Option<f64> {
        (self.retired > 0).then(|| 1000.0 * self.exits() as f64 / self.retired as f64)
    }
}

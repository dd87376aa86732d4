//! What a comparison found, for the forms in which it is printed.

use super::left_out::LeftOut;
use crate::lab::compare::{Finding, Row};
use crate::report::TranslationFigures;
use serde::Serialize;
use std::collections::BTreeMap;

/// The version of the forms for programs: one more whenever a key or a column changes its meaning or goes.
pub(crate) const SCHEMA: u32 = 2;

/// A comparison.
pub(in crate::cli) struct Table {
    /// The guest and what it was run with.
    pub(in crate::cli) subject: Subject,
    /// The rows, the bare machine's first.
    pub(in crate::cli) rows: Vec<Row>,
    /// What a missing rule broke, for each row without it.
    pub(in crate::cli) findings: Vec<Finding>,
    /// What adaptation changes, for each row without it.
    pub(in crate::cli) adaptation: Vec<String>,
    /// What the machine's processor cannot run, if there is such.
    pub(in crate::cli) left_out: Option<LeftOut>,
    /// A signal came before all rows were finished.
    pub(in crate::cli) interrupted: bool,
}

/// What was compared: two tables with the same subject can be held against each other.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct Subject {
    /// The guest's name.
    pub(in crate::cli) guest: String,
    /// A hash of the machine before its first instruction: processor, memory and chips.
    pub(in crate::cli) guest_hash: String,
    /// Where the costs come from: `built-in`, or a file.
    pub(in crate::cli) costs: String,
    /// A hash of all costs.
    pub(in crate::cli) costs_hash: String,
    /// The options that the figures depend on.
    pub(in crate::cli) options: BTreeMap<&'static str, serde_json::Value>,
}

/// Shares of translated code in percent, and its expansion.
pub(super) struct Shares {
    /// Instructions carried over unchanged.
    pub(super) ident: Option<f64>,
    /// Bytes of translated code for each of the guest's.
    pub(super) expansion: Option<f64>,
    /// Unit ends that led straight to the next unit.
    pub(super) chained: Option<f64>,
    /// Indirect branches whose target was predicted.
    pub(super) hits: Option<f64>,
}

impl Shares {
    /// The shares of what `t` counted; none of nothing.
    pub(super) fn of(t: &TranslationFigures) -> Self {
        Self {
            ident: (t.instructions > 0).then(|| t.ident_share()),
            expansion: (t.expansion > 0.0).then_some(t.expansion),
            chained: (t.runs > t.entries).then(|| t.chained()),
            hits: (t.indirect > 0).then(|| t.indirect_hits()),
        }
    }
}

/// A quotient with so many digits, or `none` of nothing.
pub(super) fn quotient(of: Option<f64>, digits: usize, none: &str) -> String {
    of.map_or(none.to_owned(), |of| format!("{of:.digits$}"))
}

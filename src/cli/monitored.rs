//! What a run under a monitor counted: who ran its instructions, and what that took.

use crate::cell::Cell;
use crate::lab::digits::grouped;
use crate::report::{Report, Walks};
use crate::vmm::cost::Costs;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What a monitor counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Monitored {
    #[serde(flatten)]
    cell: Cell,
    /// Instructions that ran by themselves.
    direct: u64,
    /// Instructions in translated code.
    translated: u64,
    /// Instructions that were emulated after an exit or a callout.
    emulated: u64,
    /// Instructions that were interpreted because the state had no image.
    interpreted: u64,
    /// Exits, all together.
    exits: u64,
    /// Exits by cause.
    by_cause: BTreeMap<&'static str, u64>,
    /// Units that were translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<u64>,
    /// Callouts by rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    callouts: Option<BTreeMap<&'static str, u64>>,
    /// Two-dimensional walks of page tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    walks: Option<Walks>,
    /// At the prices that the run was asked for.
    modelled_cycles: u64,
}

impl Monitored {
    /// What a monitor reports, at the prices of `costs`.
    pub(super) fn of(report: &Report, costs: &Costs) -> Self {
        let translation = report.translation.as_ref();
        let counts = &report.counts;
        Self {
            cell: report.cell,
            direct: counts.direct,
            translated: counts.translated,
            emulated: counts.emulated,
            interpreted: counts.interpreted.values().sum(),
            exits: report.exits.total(),
            by_cause: report.exits.by_cause.iter().map(|(cause, n)| (cause.name(), *n)).collect(),
            units: translation.map(|t| t.units),
            callouts: translation.map(|t| t.callouts.clone()),
            walks: report.nested.as_ref().map(|nested| nested.walks),
            modelled_cycles: costs.total(report),
        }
    }

    /// Rows of a table: a name, and what is to stand beside it.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let ran = format!(
            "direct {}, translated {}, emulated {}, interpreted {}",
            grouped(self.direct),
            grouped(self.translated),
            grouped(self.emulated),
            grouped(self.interpreted)
        );
        let mut rows = vec![
            ("monitor", self.cell.to_string()),
            ("ran", ran),
            ("exits", counted(self.exits, &self.by_cause)),
        ];
        if let (Some(units), Some(callouts)) = (self.units, &self.callouts) {
            rows.push(("callouts", counted(callouts.values().sum(), callouts)));
            rows.push(("units", format!("{} translated", grouped(units))));
        }
        if let Some(walks) = &self.walks {
            let all = format!(
                "{} in two dimensions, {} references, {} of them of the guest's tables",
                grouped(walks.walks),
                grouped(walks.references),
                grouped(walks.native)
            );
            rows.push(("page walks", all));
        }
        rows.push(("modelled", format!("{} cycles", grouped(self.modelled_cycles))));
        rows
    }
}

/// The sum, and what it is of, the most first.
fn counted(sum: u64, of: &BTreeMap<&'static str, u64>) -> String {
    let mut of: Vec<_> = of.iter().filter(|(_, n)| **n > 0).collect();
    of.sort_by_key(|(name, n)| (Reverse(**n), **name));
    let list: Vec<_> = of.into_iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
    if list.is_empty() { grouped(sum) } else { format!("{}: {}", grouped(sum), list.join(", ")) }
}

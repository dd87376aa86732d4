//! `subring compare --by-phase`: what an operation costs in each phase that the guest marks, a table for each
//! figure, a column for each machine.

use super::table::{SCHEMA, Table};
use crate::cli::columns::wrapped;
use crate::lab::compare::{Phase, Phases, Row, Spent};
use crate::lab::digits::grouped;
use serde_json::{Value, json};
use std::fmt::Write;

/// Columns of machines side by side.
const COLUMNS: usize = 8;
/// Width of such a column, and of the phases' names.
const WIDTH: usize = 7;
const NAMES: usize = 12;

/// A figure of a phase, in the form in which it is printed: the row's phase, and the bare machine's.
type Figure = fn(&Phase, &Phase) -> String;

const FIGURES: [(&str, Figure); 4] = [
    ("modelled cycles per operation, times bare", |p, bare| times(p.cycles(), bare.cycles())),
    ("exits and callouts per operation", |p, _| number(p.each((p.spent.exits + p.spent.callouts) as f64))),
    ("modelled cycles per operation", |p, _| number(p.cycles())),
    ("host nanoseconds per operation (measured)", |p, _| number(p.host())),
];

/// The tables as text, or a sentence if the guest marks no phases.
pub(super) fn text(table: &Table) -> String {
    let mut out = String::new();
    let rows: Vec<&Row> = table.rows.iter().filter(|row| row.phases.is_some()).collect();
    let Some(bare) = rows.first().and_then(|row| row.phases.as_ref()) else { return out };
    if bare.each.is_empty() {
        out += &wrapped(
            "the guest marks no phases: a write of a description's address to port 0xec begins one, and ends it \
             (book/src/reference/phases.md)",
            2,
        );
    }
    for (head, figure) in FIGURES.iter().filter(|_| !bare.each.is_empty()) {
        for rows in rows.chunks(COLUMNS) {
            let _ = write!(out, "\n{head}\n{}", matrix(rows, bare, *figure));
        }
    }
    out.push('\n');
    out += &outside(&rows);
    for row in rows {
        for note in row.phases.iter().flat_map(|phases| &phases.notes) {
            out += &wrapped(&format!("note: {}: {note}", row.name()), 2);
        }
    }
    out
}

/// One figure of all phases.
fn matrix(rows: &[&Row], bare: &Phases, figure: Figure) -> String {
    let mut out = String::new();
    for part in 0..2 {
        let _ = write!(out, "{:NAMES$}", "");
        rows.iter().for_each(|row| _ = write!(out, " {:>WIDTH$}", heads(row)[part]));
        out.push('\n');
    }
    for reference in &bare.each {
        let _ = write!(out, "{:NAMES$.NAMES$}", reference.name);
        for row in rows {
            let phase = row.phases.as_ref().and_then(|phases| phases.named(&reference.name));
            let value = phase.filter(|p| p.operations == reference.operations);
            let _ = write!(out, " {:>WIDTH$}", value.map_or("-".into(), |phase| figure(phase, reference)));
        }
        out.push('\n');
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The heading of a row's column, in two lines: the strategy, and what is below it.
fn heads(row: &Row) -> [String; 2] {
    let cell = row.variant.cell;
    let below = match cell.coherence() {
        Some(coherence) => coherence.to_string(),
        None => cell.mmu().to_string(),
    };
    let without = row.variant.without.is_some() || !row.variant.adaptive;
    [cell.strategy().to_string(), if without { "without".into() } else { below }]
}

/// One line on what was in no phase.
fn outside(rows: &[&Row]) -> String {
    let Some((bare, phases)) = rows.first().and_then(|row| Some((row, row.phases.as_ref()?))) else {
        return String::new();
    };
    let Spent { instructions, .. } = phases.outside;
    let share = bare.percent(instructions).unwrap_or(0.0);
    let exits: Vec<_> = rows
        .iter()
        .skip(1)
        .filter_map(|row| Some(format!("{} {}", row.name(), grouped(row.phases.as_ref()?.outside.exits))))
        .collect();
    let exits = if exits.is_empty() { String::new() } else { format!("; exits: {}", exits.join(", ")) };
    let all = grouped(instructions);
    wrapped(&format!("in no phase: {all} instructions, {share:.1} % of all{exits}"), 2)
}

/// Three significant digits or more, in seven characters at most.
fn number(n: f64) -> String {
    match n {
        n if n >= 99_999_500.0 => format!("{}M", grouped((n / 1e6).round() as u64)),
        n if n >= 999_999.5 => format!("{}k", grouped((n / 1000.0).round() as u64)),
        n if n >= 99.95 => grouped(n.round() as u64),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

fn times(n: f64, bare: f64) -> String {
    if bare > 0.0 { number(n / bare) } else { "-".into() }
}

const HEADS: [&str; 16] = [
    "schema",
    "guest",
    "guest_hash",
    "costs_hash",
    "cell",
    "without_rule",
    "adaptive",
    "outcome",
    "phase",
    "operations",
    "instructions",
    "exits",
    "callouts",
    "modelled_cycles",
    "times_bare",
    "host_seconds",
];

/// A line for each machine and phase.
pub(super) fn csv(table: &Table) -> String {
    let mut out = HEADS.join(",");
    out.push('\n');
    let bare = table.rows.first().and_then(|row| row.phases.as_ref());
    for row in &table.rows {
        for phase in row.phases.iter().flat_map(|phases| &phases.each) {
            let reference = bare.and_then(|bare| bare.named(&phase.name));
            out += &line(table, row, phase, reference).join(",");
            out.push('\n');
        }
    }
    out
}

fn line(table: &Table, row: &Row, phase: &Phase, bare: Option<&Phase>) -> [String; HEADS.len()] {
    let (subject, variant) = (&table.subject, &row.variant);
    [
        SCHEMA.to_string(),
        super::csv::quoted(&subject.guest),
        subject.guest_hash.clone(),
        subject.costs_hash.clone(),
        variant.cell.to_string(),
        variant.without_name().unwrap_or_default().into(),
        variant.adaptive.to_string(),
        row.outcome.name().into(),
        super::csv::quoted(&phase.name),
        phase.operations.to_string(),
        phase.spent.instructions.to_string(),
        phase.spent.exits.to_string(),
        phase.spent.callouts.to_string(),
        phase.spent.cycles.to_string(),
        ratio(phase, bare).map_or(String::new(), |ratio| format!("{ratio:.4}")),
        format!("{:.9}", phase.spent.host.as_secs_f64()),
    ]
}

fn ratio(phase: &Phase, bare: Option<&Phase>) -> Option<f64> {
    bare.filter(|bare| bare.spent.cycles > 0).map(|bare| phase.cycles() / bare.cycles())
}

/// The phases of `row` for `--json`, held against the bare machine's.
pub(super) fn json(row: &Row, bare: Option<&Phases>) -> Option<Value> {
    let phases = row.phases.as_ref()?;
    let each: Vec<_> = phases
        .each
        .iter()
        .map(|phase| {
            let mut object = spent(&phase.spent);
            object["name"] = json!(phase.name);
            object["operations"] = json!(phase.operations);
            object["exits_per_operation"] = json!(phase.exits());
            object["cycles_per_operation"] = json!(phase.cycles());
            object["times_bare"] = json!(ratio(phase, bare.and_then(|bare| bare.named(&phase.name))));
            object
        })
        .collect();
    Some(json!({ "each": each, "outside": spent(&phases.outside), "notes": phases.notes }))
}

fn spent(of: &Spent) -> Value {
    json!({
        "instructions": of.instructions,
        "exits": of.exits,
        "callouts": of.callouts,
        "modelled_cycles": of.cycles,
        "host_seconds": of.host.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_column() {
        let all = [0.004, 9.994, 99.94, 99.96, 999_999.0, 1_000_000.0, 99_999_000.0, 1e9, 99e9];
        let wanted = ["0.00", "9.99", "99.9", "100", "999,999", "1,000k", "99,999k", "1,000M", "99,000M"];
        assert_eq!(all.map(number), wanted);
    }
}

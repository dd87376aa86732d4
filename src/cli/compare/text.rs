//! What `subring compare` prints for people: the answer first, then the table, then what there is to say of
//! each row. Events, modelled cycles and host time stand in columns of their own.

use super::phases;
use super::table::{Shares, Table, quotient};
use crate::cli::columns::{in_columns, wrapped};
use crate::lab::compare::figures::{by_frequency, listed, sites_by_frequency};
use crate::lab::compare::{Divergence, Outcome, Row};
use crate::lab::digits::grouped;
use crate::report::{Audit, Cause, NestedFigures, Report, ShadowFigures, TranslationFigures};
use std::fmt::Write;

const INTERRUPTED: &str = "\ninterrupted: the rows above are those that were finished\n";
/// Causes shown of a row.
const CAUSES: usize = 3;
/// Places shown of a row.
const SITES: usize = 8;
/// Differing pieces of state shown.
const PIECES: usize = 4;

/// How much is printed.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Detail {
    /// All columns, and the table of translation.
    pub(in crate::cli) wide: bool,
    /// All causes of exits, and the places that most come from.
    pub(in crate::cli) exits: bool,
    /// What the columns mean.
    pub(in crate::cli) legend: bool,
    /// The phases that the guest marks in the place of the whole run.
    pub(in crate::cli) by_phase: bool,
}

/// The comparison as text.
pub(in crate::cli) fn text(table: &Table, detail: Detail) -> String {
    let mut out = String::new();
    if let Some(Row { outcome: Outcome::Reference(ending), .. }) = table.rows.first() {
        out += &wrapped(&format!("{}: {ending}", table.subject.guest), 2);
    }
    out += &answer(&table.rows);
    out += &table.left_out.iter().map(|cells| wrapped(&cells.sentence(), 2)).collect::<String>();
    if detail.by_phase {
        out += &phases::text(table);
        out += &divergences(&table.rows);
        return out + if table.interrupted { INTERRUPTED } else { "" };
    }
    out.push('\n');
    out += &if detail.wide { wide(&table.rows) } else { narrow(&table.rows) };
    if table.interrupted {
        out += INTERRUPTED;
    }
    if detail.legend {
        out += &legend(detail.wide);
    }
    out += &divergences(&table.rows);
    table.rows.iter().for_each(|row| about(&mut out, row, detail));
    let findings = table.findings.iter().map(|finding| finding.line(table.findings.len() > 1));
    for sentence in findings.chain(table.adaptation.iter().cloned()) {
        out.push('\n');
        out += &wrapped(&sentence, 2);
    }
    out
}

/// Which rows are the same, and at which instruction the others part.
fn answer(rows: &[Row]) -> String {
    let named = |of: fn(&Outcome) -> bool| -> Vec<_> {
        rows.iter().filter(|row| of(&row.outcome)).map(Row::name).collect()
    };
    let same = named(|outcome| matches!(outcome, Outcome::Same));
    let otherwise = named(|outcome| matches!(outcome, Outcome::EndedOtherwise));
    let mut out = String::new();
    if !same.is_empty() {
        out += &wrapped(&format!("the same as bare: {}", same.join(", ")), 2);
    }
    for (names, d, symbol) in parted(rows) {
        let symbol = symbol.map_or(String::new(), |s| format!(" ({s})"));
        out += &wrapped(
            &format!(
                "diverged: {}, after {} instructions, at {:04x}:{:08x}{symbol}: {}",
                names.join(", "),
                grouped(d.after),
                d.cs,
                d.eip,
                d.disassembly
            ),
            2,
        );
    }
    if !otherwise.is_empty() {
        out += &wrapped(&format!("ended otherwise: {}", otherwise.join(", ")), 2);
    }
    out
}

/// The divergences, each with the names of the rows that part there and in the same way.
fn parted(rows: &[Row]) -> Vec<(Vec<String>, &Divergence, Option<&str>)> {
    let mut found: Vec<(Vec<String>, &Divergence, Option<&str>)> = Vec::new();
    for row in rows {
        let Outcome::Diverged(d, symbol) = &row.outcome else { continue };
        match found.iter_mut().find(|(_, of, _)| *of == &**d) {
            Some((names, ..)) => names.push(row.name()),
            None => found.push((vec![row.name()], d, symbol.as_deref())),
        }
    }
    found
}

const NARROW: [&str; 6] = ["strategy", "outcome", "exits", "per 1000", "slowdown", "host s"];

fn narrow(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        [
            row.name(),
            row.outcome.name().into(),
            grouped(row.exits()),
            quotient(row.per_thousand(), 2, "-"),
            quotient(row.slowdown, 2, "-"),
            format!("{:.3}", row.host.as_secs_f64()),
        ]
    };
    in_columns(NARROW, rows.iter().map(cells), 2)
}

const WIDE: [&str; 14] = [
    "strategy",
    "outcome",
    "instructions",
    "direct %",
    "translated %",
    "callouts",
    "exits",
    "per 1000",
    "hidden #PF",
    "true #PF",
    "traces",
    "modelled cycles",
    "slowdown",
    "host s",
];

const TRANSLATION: [&str; 12] = [
    "translation",
    "units",
    "IDENT %",
    "expansion",
    "runs",
    "chained %",
    "indirect",
    "hits %",
    "inline",
    "retranslated",
    "taken back",
    "thrown away",
];

fn wide(rows: &[Row]) -> String {
    let mut out = in_columns(WIDE, rows.iter().map(wide_cells), 2);
    let translated: Vec<_> = rows.iter().filter_map(|row| Some((row, row.translation()?))).collect();
    if !translated.is_empty() {
        out.push('\n');
        out += &in_columns(TRANSLATION, translated.into_iter().map(translation_cells), 1);
    }
    out
}

fn wide_cells(row: &Row) -> [String; 14] {
    [
        row.name(),
        row.outcome.name().into(),
        grouped(row.retired),
        quotient(row.percent(row.direct()), 2, "-"),
        quotient(row.percent(row.translated()), 2, "-"),
        grouped(row.callouts()),
        grouped(row.exits()),
        quotient(row.per_thousand(), 2, "-"),
        grouped(row.of(Cause::HiddenPageFault)),
        grouped(row.of(Cause::TruePageFault)),
        grouped(row.traces()),
        grouped(row.cycles),
        quotient(row.slowdown, 2, "-"),
        format!("{:.3}", row.host.as_secs_f64()),
    ]
}

fn translation_cells((row, t): (&Row, &TranslationFigures)) -> [String; 12] {
    let shares = Shares::of(t);
    [
        row.name(),
        grouped(t.units),
        quotient(shares.ident, 1, "-"),
        quotient(shares.expansion, 1, "-"),
        grouped(t.runs),
        quotient(shares.chained, 2, "-"),
        grouped(t.indirect),
        quotient(shares.hits, 2, "-"),
        grouped(t.inline),
        grouped(t.adapted),
        grouped(t.reverted),
        grouped(t.dropped.values().sum()),
    ]
}

/// Headings, and what they mean.
const LEGEND: &[(&str, &str)] = &[
    ("strategy", "who runs sensitive instructions, and who translates addresses"),
    ("outcome", "same: ends in the bare machine's state after as many instructions"),
    ("exits", "times that the monitor was entered: an event, counted"),
    ("per 1000", "exits for every thousand instructions"),
    ("slowdown", "modelled cycles, by those that the instructions alone take"),
    ("host s", "host time in seconds: measured, all other columns are exact"),
];

/// Headings of `--wide`, and what they mean.
const WIDE_LEGEND: &[(&str, &str)] = &[
    ("instructions", "instructions retired, to the divergence if there is one"),
    ("direct %", "instructions that ran on the processor as they are"),
    ("translated %", "instructions that ran in translated code"),
    ("callouts", "calls from translated code into the monitor, without a fault"),
    ("hidden #PF", "exits to fill the shadow page tables: the guest sees none"),
    ("true #PF", "exits for page faults that are the guest's"),
    ("traces", "exits for writes to the guest's page tables and descriptors"),
    ("modelled cycles", "events, each at the price that the table of costs gives it"),
    ("units", "basic blocks and traces translated"),
    ("IDENT %", "translated instructions that were carried over unchanged"),
    ("expansion", "bytes of translated code for each byte of the guest's"),
    ("runs", "times that a unit ran"),
    ("chained %", "ends of units that led straight to the next"),
    ("indirect", "runs that ended in an indirect branch"),
    ("hits %", "indirect branches whose target was the predicted one"),
    ("inline", "runs of a sequence on the virtual state, without an exit"),
    ("retranslated", "accesses that kept leaving, translated into callouts"),
    ("taken back", "accesses among them that became plain again"),
    ("thrown away", "units dropped: code changed, or memory was used up"),
];

fn legend(all: bool) -> String {
    let more = if all { WIDE_LEGEND } else { &[] };
    let line = |(head, what): &(&str, &str)| wrapped(&format!("  {head:<15}  {what}"), 19);
    let lines = LEGEND.iter().chain(more).map(line);
    std::iter::once("\n".to_owned()).chain(lines).collect()
}

fn divergences(rows: &[Row]) -> String {
    let mut out = String::new();
    for (names, d, symbol) in parted(rows) {
        let _ = writeln!(out);
        out += &wrapped(&names.join(", "), 2);
        let place = symbol.map_or(String::new(), |s| format!(" ({s})"));
        let after = grouped(d.after);
        let _ = writeln!(out, "  diverged after {after} instructions, at {:04x}:{:08x}{place}", d.cs, d.eip);
        let bytes: Vec<_> = d.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(out, "    {}  {}", bytes.join(" "), d.disassembly);
        for piece in d.differences.iter().take(PIECES) {
            out += &wrapped(&format!("    {}: bare {}, here {}", piece.piece, piece.first, piece.second), 6);
        }
        let more = d.differences.len().saturating_sub(PIECES);
        if more > 0 {
            let _ = writeln!(out, "    and {more} more pieces of state");
        }
        let kind = if d.sensitive_unprivileged { "sensitive and unprivileged" } else { "not sensitive" };
        out += &wrapped(&format!("    {kind}. {}", capitalized(&d.why)), 4);
    }
    out
}

/// The sentence with its first letter in upper case.
fn capitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn about(out: &mut String, row: &Row, detail: Detail) {
    let Some(report) = &row.report else { return };
    let _ = writeln!(out, "\n{}", row.name());
    *out += &wrapped(&exits(report, if detail.exits { usize::MAX } else { CAUSES }), 4);
    for (why, n) in &report.counts.interpreted {
        let share = quotient(row.percent(*n), 2, "-");
        *out += &wrapped(&format!("  interpreted: {} ({share}%), {}", grouped(*n), why.sentence()), 4);
    }
    if let Some(t) = &report.translation {
        *out += &wrapped(&format!("  callouts: {}", listed(&t.callouts)), 4);
        if detail.wide {
            let (dropped, renewed, singles) = (listed(&t.dropped), grouped(t.renewed), grouped(t.singles));
            let line = format!("  thrown away: {dropped}; found unchanged {renewed}; single steps {singles}");
            *out += &wrapped(&line, 4);
        }
    }
    if let Some(audit) = &report.audit {
        *out += &wrapped(&audited(audit), 4);
    }
    if detail.exits {
        for ((cause, at), n) in sites_by_frequency(report).into_iter().take(SITES) {
            let _ = writeln!(out, "    at {at:#010x}: {} {}", cause.name(), grouped(n));
        }
        if let Some(figures) = &report.shadow {
            *out += &wrapped(&format!("  shadow: {}", shadow(figures)), 4);
        }
    }
    if let Some(figures) = &report.nested {
        *out += &wrapped(&format!("  nested: {}", nested(figures)), 4);
    }
    if let Some(n) = row.boundaries {
        let _ = writeln!(out, "  compared at {} boundaries", grouped(n));
    }
}

/// The most frequent causes of exits.
fn exits(report: &Report, most: usize) -> String {
    let causes = by_frequency(report);
    if causes.is_empty() {
        return "  exits: none".into();
    }
    let more = causes.len().saturating_sub(most);
    let list: Vec<_> =
        causes.iter().take(most).map(|(c, n)| format!("{} {}", c.name(), grouped(*n))).collect();
    let more = match more {
        0 => String::new(),
        1 => ", 1 other cause".into(),
        _ => format!(", {more} other causes"),
    };
    format!("  exits: {}{more}", list.join(", "))
}

fn audited(audit: &Audit) -> String {
    match audit.first {
        Some((breach, at)) => format!("  audited: the guest got at {}, near {at}", breach.name()),
        None => format!("  audited: no monitor state changed in {} entries", grouped(audit.entries)),
    }
}

/// Walks in two dimensions, and what the second one adds.
fn nested(figures: &NestedFigures) -> String {
    let NestedFigures { counts, walks, most_tables } = figures;
    let each = (walks.walks > 0).then(|| walks.references as f64 / walks.walks as f64);
    format!(
        "{} walks, {} references each ({} in all, {} of them of the guest's tables); {} frames mapped, tables at \
         most {most_tables}",
        grouped(walks.walks),
        quotient(each, 1, "-"),
        grouped(walks.references),
        grouped(walks.native),
        grouped(counts.fills),
    )
}

fn shadow(figures: &ShadowFigures) -> String {
    let changes = figures.counts.changes.iter().map(|(change, n)| {
        let name = serde_json::to_value(change).ok().and_then(|v| v.as_str().map(str::to_owned));
        format!("{} {}", name.unwrap_or_default(), grouped(*n))
    });
    let spaces = format!("address spaces {}", grouped(figures.counts.spaces_made));
    let switches = format!("switches {}", grouped(figures.counts.switches));
    let frames = format!("tables at most {}", figures.most_tables);
    changes.chain([spaces, switches, frames]).collect::<Vec<_>>().join(", ")
}

//! `subring compare --csv`: a line for each row. The columns are one table, which book/src/compare-data.md
//! documents.

use super::table::{SCHEMA, Shares, Table, quotient};
use crate::lab::compare::{Outcome, Row};
use crate::report::{Cause, Term, TranslationFigures, Walks};
use crate::vmm::bt::rules::RULES;

/// A column: its name, and its field of a row.
type Column = (&'static str, fn(&Table, &Row) -> String);

/// The columns before those that there is one of for each cause, term and rule.
const COLUMNS: &[Column] = &[
    ("schema", |_, _| SCHEMA.to_string()),
    ("guest", |t, _| quoted(&t.subject.guest)),
    ("guest_hash", |t, _| t.subject.guest_hash.clone()),
    ("costs", |t, _| quoted(&t.subject.costs)),
    ("costs_hash", |t, _| t.subject.costs_hash.clone()),
    ("options", |t, _| quoted(&options(t))),
    ("strategy", |_, r| r.variant.cell.strategy().to_string()),
    ("mmu", |_, r| r.variant.cell.mmu().to_string()),
    ("coherence", |_, r| r.variant.cell.coherence().map_or(String::new(), |c| c.to_string())),
    ("engine", |_, r| r.variant.cell.engine().to_string()),
    ("without_rule", |_, r| r.variant.without_name().unwrap_or_default().into()),
    ("adaptive", |_, r| if r.translates() { r.variant.adaptive.to_string() } else { String::new() }),
    ("outcome", |_, r| r.outcome.name().into()),
    ("diverged_after", |_, r| diverged(r).map_or(String::new(), |d| d.after.to_string())),
    ("diverged_at", |_, r| diverged(r).map_or(String::new(), |d| format!("{:#x}", d.linear))),
    ("instructions", |_, r| r.retired.to_string()),
    ("direct_percent", |_, r| figure(r.percent(r.direct()))),
    ("translated_percent", |_, r| {
        r.translation().map_or(String::new(), |_| figure(r.percent(r.translated())))
    }),
    ("exits", |_, r| r.exits().to_string()),
    ("exits_per_1000", |_, r| figure(r.per_thousand())),
    ("hidden_page_faults", |_, r| r.of(Cause::HiddenPageFault).to_string()),
    ("true_page_faults", |_, r| r.of(Cause::TruePageFault).to_string()),
    ("trace_hits", |_, r| r.traces().to_string()),
    ("callouts", |_, r| translation(r, |t| t.all_callouts().to_string())),
    ("units", |_, r| translation(r, |t| t.units.to_string())),
    ("ident_percent", |_, r| translation(r, |t| figure(Shares::of(t).ident))),
    ("chained_percent", |_, r| translation(r, |t| figure(Shares::of(t).chained))),
    ("indirect_hit_percent", |_, r| translation(r, |t| figure(Shares::of(t).hits))),
    ("expansion", |_, r| translation(r, |t| figure(Shares::of(t).expansion))),
    ("units_dropped", |_, r| translation(r, |t| t.dropped.values().sum::<u64>().to_string())),
    ("retranslated", |_, r| translation(r, |t| t.adapted.to_string())),
    ("taken_back", |_, r| translation(r, |t| t.reverted.to_string())),
    ("nested_walks", |_, r| walks(r, |walks| walks.walks)),
    ("nested_references", |_, r| walks(r, |walks| walks.references)),
    ("modelled_cycles", |_, r| r.cycles.to_string()),
    ("slowdown", |_, r| figure(r.slowdown)),
    ("host_seconds", |_, r| format!("{:.6}", r.host.as_secs_f64())),
];

/// The table as CSV (RFC 4180), with a line of names.
pub(in crate::cli) fn csv(table: &Table) -> String {
    let names = COLUMNS.iter().map(|(name, _)| (*name).to_owned());
    let exits = Cause::all().map(|cause| format!("exits_{}", cause.key()));
    let cycles = Term::all().map(|term| format!("cycles_{}", term.name()));
    let callouts = RULES.iter().map(|rule| format!("callouts_{}", rule.name));
    let heads: Vec<_> = names.chain(exits).chain(cycles).chain(callouts).collect();
    let mut out = heads.join(",") + "\n";
    for row in &table.rows {
        out += &fields(table, row).join(",");
        out.push('\n');
    }
    out
}

fn fields(table: &Table, row: &Row) -> Vec<String> {
    let mut fields: Vec<_> = COLUMNS.iter().map(|(_, field)| field(table, row)).collect();
    fields.extend(Cause::all().map(|cause| row.of(cause).to_string()));
    fields.extend(Term::all().map(|term| cycles_of(row, term).to_string()));
    let callouts = row.translation().map(|t| &t.callouts);
    fields.extend(RULES.iter().map(|rule| {
        callouts.map_or(String::new(), |of| of.get(rule.name).copied().unwrap_or(0).to_string())
    }));
    fields
}

/// Cycles of one term.
fn cycles_of(row: &Row, term: Term) -> u64 {
    row.terms.iter().find(|(of, ..)| *of == term).map_or(0, |(.., cycles)| *cycles)
}

fn diverged(row: &Row) -> Option<&crate::lab::compare::Divergence> {
    match &row.outcome {
        Outcome::Diverged(d, _) => Some(d),
        _ => None,
    }
}

fn figure(of: Option<f64>) -> String {
    quotient(of, 4, "")
}

fn walks(row: &Row, of: impl Fn(&Walks) -> u64) -> String {
    let nested = row.report.as_ref().and_then(|report| report.nested.as_ref());
    nested.map_or(String::new(), |nested| of(&nested.walks).to_string())
}

fn translation(row: &Row, of: impl Fn(&TranslationFigures) -> String) -> String {
    row.translation().map_or(String::new(), of)
}

/// The options as `name=value`, with blanks between.
fn options(table: &Table) -> String {
    let pair = |(name, value): (&&str, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    table.subject.options.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// A CSV field, quoted where it must be (RFC 4180).
pub(super) fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

//! `subring compare --json`: one object. Its keys are documented in book/src/compare-data.md. Of its values
//! only `host_seconds` differ from run to run.

use super::phases;
use super::table::{SCHEMA, Table};
use crate::lab::compare::{Outcome, Row, figures};
use crate::report::{Cause, Obstacle};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The table as one line of JSON. `places` adds where exits come from.
pub(in crate::cli) fn json(table: &Table, places: bool) -> String {
    let mut rows: Vec<_> = table.rows.iter().map(row_json).collect();
    if places {
        rows.iter_mut()
            .zip(&table.rows)
            .for_each(|(object, row)| object["exits_by_place"] = places_json(row));
    }
    let bare = table.rows.first().and_then(|row| row.phases.as_ref());
    for (object, row) in rows.iter_mut().zip(&table.rows) {
        if let Some(phases) = phases::json(row, bare) {
            object["phases"] = phases;
        }
    }
    let subject = &table.subject;
    let mut object = json!({
        "schema": SCHEMA,
        "guest": subject.guest,
        "guest_hash": subject.guest_hash,
        "costs": { "name": subject.costs, "hash": subject.costs_hash },
        "options": subject.options,
        "interrupted": table.interrupted,
        "rows": rows,
    });
    if !table.findings.is_empty() {
        object["without_rule"] = json!(table.findings);
    }
    if !table.adaptation.is_empty() {
        object["adaptation"] = json!(table.adaptation);
    }
    if let Some(left_out) = &table.left_out {
        object["left_out"] = json!(left_out);
    }
    format!("{object}\n")
}

/// Places that exits come from, the most frequent first.
fn places_json(row: &Row) -> Value {
    let places = row.report.as_ref().map(figures::sites_by_frequency).unwrap_or_default();
    let place =
        |((cause, at), n): ((Cause, u32), u64)| json!({ "at": at, "cause": cause.name(), "exits": n });
    places.into_iter().map(place).collect()
}

fn row_json(row: &Row) -> Value {
    let report = row.report.as_ref();
    let exits: BTreeMap<_, _> = Cause::all().map(|c| (c.name(), row.of(c))).collect();
    let interpreted: BTreeMap<Obstacle, u64> =
        report.map(|m| m.counts.interpreted.clone()).unwrap_or_default();
    let divergence = match &row.outcome {
        Outcome::Diverged(d, symbol) => json!({ "symbol": symbol, "where": d }),
        _ => Value::Null,
    };
    let terms: BTreeMap<_, _> = row
        .terms
        .iter()
        .map(|(term, events, cycles)| (term.name(), json!({ "events": events, "cycles": cycles })))
        .collect();
    json!({
        "cell": row.variant.cell.to_string(),
        "strategy": row.variant.cell.strategy(),
        "mmu": row.variant.cell.mmu(),
        "coherence": row.variant.cell.coherence(),
        "engine": row.variant.cell.engine(),
        "without_rule": row.variant.without_name(),
        "adaptive": row.translation().map(|_| row.variant.adaptive),
        "outcome": row.outcome.name(),
        "instructions": row.retired,
        "direct": row.direct(),
        "translated": row.translated(),
        "translation": row.translation(),
        "emulated": report.map_or(0, |m| m.counts.emulated),
        "interpreted": interpreted,
        "exits": exits,
        "exits_total": row.exits(),
        "trace_hits": row.traces(),
        "boundaries": row.boundaries,
        "shadow": report.and_then(|m| m.shadow.as_ref()),
        "nested": report.and_then(|m| m.nested.as_ref()),
        "modelled_cycles": row.cycles,
        "cycles_by_term": terms,
        "slowdown": row.slowdown,
        "host_seconds": row.host.as_secs_f64(),
        "divergence": divergence,
    })
}

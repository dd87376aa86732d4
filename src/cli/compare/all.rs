//! `subring compare --all`: the census of sensitive unprivileged instructions, as text, JSON or CSV.

use super::csv::quoted;
use super::table::{SCHEMA, Subject};
use crate::cell::Cell;
use crate::cli::columns::{in_columns, wrapped};
use crate::lab::compare::census::{Census, Form, Place};
use crate::lab::digits::grouped;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Places that the text shows.
const PLACES: usize = 20;
/// Differing pieces of state that a line names.
const PIECES: usize = 3;

/// The census of a guest.
pub(in crate::cli) struct Found {
    /// What was run.
    pub(in crate::cli) subject: Subject,
    /// The cell of the monitor.
    pub(in crate::cli) cell: Cell,
    /// What was counted.
    pub(in crate::cli) census: Census,
}

/// The census as text: the answer, the forms, then the places.
pub(in crate::cli) fn text(found: &Found) -> String {
    let Found { subject, cell, census } = found;
    let mut out = wrapped(&format!("{}, under {cell}: {}", subject.guest, answer(census)), 2);
    if !census.forms.is_empty() {
        out.push('\n');
        let heads = ["instruction", "what differed", "ran", "went wrong", "places"];
        out += &in_columns(heads, census.forms.iter().map(form_cells), 2);
        if census.forms.iter().any(|form| !form.listed) {
            out += "* sensitive, and not on Robin and Irvine's list\n";
        }
    }
    let never = census.never_ran();
    if !never.is_empty() {
        out += &wrapped(&format!("never ran: {}", never.join(", ")), 2);
    }
    out += &places(census);
    for other in &census.others {
        let (by, n) = (grouped(other.by), other.differences.len());
        out +=
            &wrapped(&format!("\nby {by} instructions {n} pieces of state differed for another reason:"), 2);
        for d in other.differences.iter().take(PIECES) {
            out += &wrapped(&format!("  {}: bare {}, here {}", d.piece, d.first, d.second), 4);
        }
    }
    out
}

/// One sentence: how often instructions went wrong, and whether anything else did.
fn answer(census: &Census) -> String {
    let how = census.ended.as_deref().unwrap_or("the guest could go on");
    let state = if census.others.is_empty() {
        let times = match census.whole {
            1 => "in one comparison".to_owned(),
            n => format!("in {n} comparisons"),
        };
        format!("healed after each, the whole state was the bare machine's {times}")
    } else {
        format!(
            "{} of {} comparisons of the whole state found other differences",
            census.others.len(),
            census.whole
        )
    };
    format!(
        "of {} instructions {} were sensitive and unprivileged, and {} of these went wrong, at {} places; {state} \
         ({how})",
        grouped(census.retired),
        grouped(census.ran()),
        grouped(census.wrong()),
        census.places.iter().filter(|place| place.wrong > 0).count(),
    )
}

fn form_cells(form: &Form) -> [String; 5] {
    [
        format!("{}{}", form.name, if form.listed { "" } else { " *" }),
        differed(&form.differed),
        grouped(form.ran),
        grouped(form.wrong),
        grouped(form.places),
    ]
}

fn places(census: &Census) -> String {
    let wrong: Vec<_> = census.places.iter().filter(|place| place.wrong > 0).collect();
    if wrong.is_empty() {
        return String::new();
    }
    let cells = |place: &&Place| {
        let symbol = place.symbol.as_ref().map_or(String::new(), |symbol| format!(" {symbol}"));
        [
            format!("{:08x}{symbol}", place.linear),
            place.disassembly.clone(),
            differed(&place.differed),
            grouped(place.wrong),
        ]
    };
    let heads = ["at", "instruction", "what differed", "went wrong"];
    let mut out = format!("\n{}", in_columns(heads, wrong.iter().take(PLACES).map(cells), 3));
    let more = wrong.len().saturating_sub(PLACES);
    if more > 0 {
        let _ = writeln!(out, "and {more} more places: --csv and --json have all");
    }
    if census.elsewhere > 0 {
        let _ = writeln!(out, "{} ran at places beyond the first 4096", grouped(census.elsewhere));
    }
    out
}

/// The pieces that differed most often.
fn differed(pieces: &BTreeMap<&'static str, u64>) -> String {
    let mut pieces: Vec<_> = pieces.iter().map(|(name, n)| (*n, *name)).collect();
    pieces.sort_by_key(|(n, name)| (std::cmp::Reverse(*n), *name));
    if pieces.is_empty() {
        return "-".into();
    }
    let more = if pieces.len() > PIECES { ", …" } else { "" };
    let names: Vec<_> = pieces.iter().take(PIECES).map(|(_, name)| *name).collect();
    format!("{}{more}", names.join(", "))
}

/// The census as one line of JSON.
pub(in crate::cli) fn json(found: &Found) -> String {
    let Found { subject, cell, census } = found;
    let mut object = json!(census);
    let never: Value = census.never_ran().into();
    for (key, value) in [
        ("schema", json!(SCHEMA)),
        ("guest", json!(subject.guest)),
        ("guest_hash", json!(subject.guest_hash)),
        ("options", json!(subject.options)),
        ("cell", json!(cell.to_string())),
        ("ran", json!(census.ran())),
        ("wrong", json!(census.wrong())),
        ("never_ran", never),
    ] {
        object[key] = value;
    }
    format!("{object}\n")
}

/// The places as CSV, a line for each.
pub(in crate::cli) fn csv(found: &Found) -> String {
    let Found { subject, cell, census } = found;
    let mut out = String::from(
        "schema,guest,guest_hash,cell,linear,symbol,mode,instruction,class,disassembly,ran,went_wrong,differed,\
         first_after\n",
    );
    for place in &census.places {
        let differed: Vec<_> = place.differed.iter().map(|(name, n)| format!("{name}={n}")).collect();
        let _ = writeln!(
            out,
            "{SCHEMA},{},{},{cell},{:#x},{},{},{},{},{},{},{},{},{}",
            quoted(&subject.guest),
            subject.guest_hash,
            place.linear,
            quoted(place.symbol.as_deref().unwrap_or_default()),
            place.mode,
            place.form,
            place.class,
            quoted(&place.disassembly),
            place.ran,
            place.wrong,
            differed.join(" "),
            place.first_after.map_or(String::new(), |after| after.to_string()),
        );
    }
    out
}

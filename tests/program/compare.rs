//! `subring compare` on the guests inside the program: translated, each ends as on the bare machine with both coherence policies;
//! trapped, so do those without sensitive unprivileged instructions.

use crate::common::program::{ends, refused};
use serde_json::Value;
use subring::load::builtin;

/// Those that use none.
const CLEAN: [&str; 7] = ["hello", "rings-clean", "nano-clean", "smc", "vmx", "bench", "boot"];

/// The rows that `compare` prints, without the bare machine's.
fn rows(args: &[&str]) -> Vec<Value> {
    rows_of(&[&["--budget", "20M"], args].concat())
}

/// Those of `compare` with nothing but `args`.
fn rows_of(args: &[&str]) -> Vec<Value> {
    let out = ends(&[&["compare", "--json"], args].concat(), 0);
    let mut table: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    let mut rows = std::mem::take(table["rows"].as_array_mut().expect("rows"));
    rows.remove(0);
    rows
}

fn all_same(guest: &str, args: &[&str]) {
    let rows = rows(&[&[guest], args].concat());
    assert!(rows.len() > 1, "{rows:?}");
    for row in rows {
        assert_eq!(row["outcome"], "same", "{guest}: {row}");
    }
}

#[test]
fn every_guest_is_the_same_under_bt() {
    for guest in builtin::ALL {
        all_same(guest.name, &["--strategy", "bt"]);
    }
}

#[test]
fn every_guest_is_the_same_under_hvm() {
    for guest in builtin::ALL {
        all_same(guest.name, &["--strategy", "hvm"]);
    }
}

#[test]
fn every_clean_guest_is_the_same_under_trap() {
    for guest in CLEAN {
        all_same(guest, &["--strategy", "trap"]);
    }
}

/// The page that documents what `compare` prints for programs.
const PAGE: &str = include_str!("../../book/src/compare-data.md");

fn documented(name: &str) -> bool {
    PAGE.contains(&format!("`{name}`"))
}

#[test]
fn every_column_is_documented() {
    let out = ends(&["compare", "hello", "--csv", "--budget", "10K"], 0);
    let csv = String::from_utf8(out.stdout).expect("text");
    for column in csv.lines().next().expect("names").split(',') {
        let family = [("exits_", "exits_CAUSE"), ("cycles_", "cycles_TERM"), ("callouts_", "callouts_RULE")]
            .iter()
            .find(|(prefix, _)| column.starts_with(prefix) && column != "exits_per_1000");
        assert!(documented(family.map_or(column, |(_, family)| family)), "{column}");
    }
    for other in [["sensitive", "--all"], ["hello", "--by-phase"]] {
        let out = ends(&[&["compare", "--csv"], &other[..]].concat(), 0);
        let csv = String::from_utf8(out.stdout).expect("text");
        for column in csv.lines().next().expect("names").split(',') {
            assert!(documented(column), "{column}");
        }
    }
}

#[test]
fn every_key_is_documented() {
    let object = |args: &[&str]| -> Value {
        let out = ends(&[&["compare", "sensitive", "--json"], args].concat(), 0);
        serde_json::from_slice(&out.stdout).expect("one JSON object")
    };
    let table = object(&["--exits", "--without-rule", "POPF"]);
    let rows = object(&["--strategy", "bt", "--no-adapt"]);
    let trapped = object(&["--strategy", "trap"]);
    let left_out = object(&["--strategy", "hvm", "--cpu", "yonah"]);
    let all = object(&["--all"]);
    let by_phase = ends(&["compare", "nano-clean", "--json", "--by-phase", "--strategy", "trap"], 0);
    let by_phase: Value = serde_json::from_slice(&by_phase.stdout).expect("one JSON object");
    let phases = &by_phase["rows"][1]["phases"];
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().expect("an object").keys().cloned().collect() };
    let rows =
        [&table, &rows, &trapped].into_iter().flat_map(|table| table["rows"].as_array().expect("rows"));
    let of_rows = rows.clone().flat_map(&keys);
    let diverged = rows.filter(|row| row["divergence"].is_object());
    let of_divergences = diverged.flat_map(|row| keys(&row["divergence"]["where"]));
    let of_parts = ["forms", "places"].into_iter().flat_map(|of| keys(&all[of][0]));
    let found: Vec<_> = keys(&table)
        .into_iter()
        .chain(keys(&left_out))
        .chain(keys(&left_out["left_out"]))
        .chain(of_rows)
        .chain(of_divergences)
        .chain(keys(&all))
        .chain(of_parts)
        .chain(keys(phases).into_iter().chain(keys(&phases["each"][0])))
        .collect();
    assert!(found.iter().any(|key| key == "differences") && found.iter().any(|key| key == "first_after"));
    for key in found {
        assert!(documented(&key), "{key}");
    }
}

/// The guest reads its own flags, tables and rings, and says so: each of its instructions is told, with how often.
#[test]
fn all_divergences_of_a_guest_are_found() {
    let out = ends(&["compare", "sensitive", "--all", "--json"], 0);
    let found: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(found["others"].as_array().map(Vec::len), Some(0), "{found}");
    let forms = found["forms"].as_array().expect("forms");
    let wrong = |name: &str| {
        let form =
            forms.iter().find(|form| form["name"] == name).unwrap_or_else(|| panic!("{name}: {found}"));
        form["wrong"].as_u64().expect("a count")
    };
    for name in ["SGDT", "SIDT", "SLDT", "STR", "SMSW", "PUSHF", "POPF", "MOV"] {
        assert!(wrong(name) > 0, "{name}: {found}");
    }
    let sums = |of: &str| forms.iter().map(|form| form[of].as_u64().expect("a count")).sum::<u64>();
    assert_eq!((Some(sums("ran")), Some(sums("wrong"))), (found["ran"].as_u64(), found["wrong"].as_u64()));
    let places = found["places"].as_array().expect("places");
    let counts: Vec<_> = places.iter().map(|place| place["wrong"].as_u64().expect("a count")).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b), "the most frequent first: {counts:?}");
    let printed = String::from_utf8(ends(&["compare", "sensitive", "--all"], 0).stdout).expect("text");
    assert!(printed.contains("went wrong") && printed.contains("sgdt"), "{printed}");
}

/// A kernel goes on through all of them to the same end as on the bare machine.
#[test]
fn a_kernel_that_is_healed_ends_as_on_the_bare_machine() {
    let out = ends(&["compare", "rings", "--all", "--json", "--budget", "6M"], 0);
    let found: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(found["others"].as_array().map(Vec::len), Some(0), "{found}");
    assert!(found["wrong"].as_u64() > Some(1) && found["whole"].as_u64() >= Some(1), "{found}");
    let names: Vec<_> = found["forms"].as_array().expect("forms").iter().map(|form| &form["name"]).collect();
    assert!(names.contains(&&Value::from("POPF")) && names.contains(&&Value::from("PUSHF")), "{names:?}");
}

#[test]
fn what_goes_wrong_nowhere_has_an_empty_census() {
    for guest in ["rings-clean", "hello"] {
        let out = ends(&["compare", guest, "--all", "--json", "--budget", "2M"], 0);
        let found: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        assert_eq!((&found["wrong"], &found["others"]), (&0.into(), &Value::Array(Vec::new())), "{found}");
    }
}

#[test]
fn all_is_of_trap() {
    let out = ends(&["compare", "hello", "--all", "--strategy", "bt"], 2);
    assert!(String::from_utf8_lossy(&out.stderr).contains("--all follows what goes wrong under trap"));
}

/// A processor without VMX, or without extended page tables, cannot run every row; who asks for what it cannot run
/// alone is refused.
#[test]
fn rows_that_the_processor_cannot_run_are_named() {
    let compare = |args: &[&str]| ends(&[&["compare", "hello", "--budget", "10K"], args].concat(), 0);
    let text = |args: &[&str]| String::from_utf8(compare(args).stdout).expect("text");
    let nested = "left out: hvm nested, which --cpu yonah cannot run: give --cpu yonah-ept\n";
    let printed = text(&["--cpu", "yonah"]);
    assert!(printed.contains(nested) && printed.contains("hvm shadow/vtlb"), "{printed}");
    let hvm = text(&["--cpu", "yonah", "--strategy", "hvm"]);
    assert!(
        hvm.contains(nested) && hvm.contains("the same as bare: hvm shadow/trace, hvm shadow/vtlb\n"),
        "{hvm}"
    );
    let all = "left out: hvm shadow/trace, hvm shadow/vtlb, hvm nested, which --cpu pentium-ii\n  cannot run: \
               give --cpu yonah-ept\n";
    assert!(text(&["--cpu", "pentium-ii"]).contains(all), "{}", text(&["--cpu", "pentium-ii"]));
    for args in [&[][..], &["--cpu", "yonah-ept"], &["--cpu", "yonah", "--strategy", "bt"]] {
        assert!(!text(args).contains("left out"), "{args:?}");
    }

    let json: Value = serde_json::from_slice(&compare(&["--cpu", "yonah", "--json"]).stdout).expect("JSON");
    assert_eq!(json["left_out"], serde_json::json!({ "cells": ["hvm nested"], "cpu": ["yonah-ept"] }));
    let csv = compare(&["--cpu", "yonah", "--csv"]);
    assert_eq!(String::from_utf8_lossy(&csv.stderr), format!("subring: note: {nested}"));
    assert!(!String::from_utf8_lossy(&csv.stdout).contains("left out"));

    let refused = ends(&["compare", "hello", "--strategy", "hvm", "--mmu", "nested", "--cpu", "yonah"], 2);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--mmu nested needs a processor with extended page tables"), "{said}");
}

/// `run` counts and traces VM exits at the prices of `compare`, for each generation.
#[test]
fn run_prices_vm_exits_as_compare_does() {
    let of = ["rings-clean", "--budget", "200K", "--strategy", "hvm", "--coherence", "vtlb"];
    let number = |value: &Value| value.as_u64().expect("a number");
    let priced = |generation: &str| {
        let args = [&of[..], &["--generation", generation]].concat();
        let out = ends(&[&["run", "--json", "--trace", "exit"], &args[..]].concat(), 124);
        let run: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        let monitor = &run["stats"]["monitor"];
        let trace = String::from_utf8(out.stderr).expect("text");
        let words = trace.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let traced: u64 = words
            .filter_map(|line| {
                let at = line.iter().position(|word| *word == "cycles")?;
                line[at - 1].parse::<u64>().ok()
            })
            .sum();
        let row = rows_of(&args).remove(0);
        assert_eq!(
            (&monitor["modelled_cycles"], &monitor["exits"]),
            (&row["modelled_cycles"], &row["exits_total"])
        );
        let terms = row["cycles_by_term"].as_object().expect("terms").iter();
        let of_exits =
            terms.filter(|(name, _)| name.starts_with("vm-exit.")).map(|(_, term)| number(&term["cycles"]));
        assert_eq!(traced, of_exits.sum::<u64>(), "{generation}: the trace's prices");
        (number(&monitor["modelled_cycles"]), number(&monitor["exits"]))
    };
    let (dear, exits) = priced("prescott");
    assert_eq!(priced("sandy-bridge"), (dear - exits * (3963 - 784), exits));
    let usual = ends(&[&["run", "--json"], &of[..]].concat(), 124);
    let usual: Value = serde_json::from_slice(&usual.stdout).expect("one JSON object");
    assert_eq!(number(&usual["stats"]["monitor"]["modelled_cycles"]), dear, "the default");
    for strategy in ["bare", "trap", "bt"] {
        let args = ["run", "hello", "--strategy", strategy, "--generation", "merom"];
        let words = format!("--generation prices the VM exits of hvm, and --strategy {strategy} has none");
        refused(&args, 2, &words);
    }
}

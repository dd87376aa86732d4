//! `subring compare` on the guests inside the program: translated, each ends as on the bare machine with both coherence policies;
//! trapped, so do those without sensitive unprivileged instructions.

use crate::common::program::ends;
use serde_json::Value;
use subring::load::builtin;

/// Those that use none.
const CLEAN: [&str; 6] = ["hello", "rings-clean", "nano-clean", "smc", "bench", "boot"];

/// The rows that `compare` prints, without the bare machine's.
fn rows(args: &[&str]) -> Vec<Value> {
    let out = ends(&[&["compare", "--json", "--budget", "20M"], args].concat(), 0);
    let mut table: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    let mut rows = std::mem::take(table["rows"].as_array_mut().expect("rows"));
    rows.remove(0);
    rows
}

fn all_same(guest: &str, args: &[&str]) {
    let rows = rows(&[&[guest], args].concat());
    assert_eq!(rows.len(), 2);
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
fn every_clean_guest_is_the_same_under_trap() {
    for guest in CLEAN {
        all_same(guest, &["--strategy", "trap"]);
    }
}

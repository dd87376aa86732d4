//! Real kernels under trap and emulate: where each first goes another way than on the bare machine, and why. That is what ring
//! compression comes to on IA-32: GNU Mach and Linux read IF by PUSHF, which does not fault outside ring 0; memtest86+, which uses
//! PAE and no such instruction on its way, ends as on the bare machine.

use super::fetch::{file, have, skipped};
use super::{gnumach, linux};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// The rows of `subring compare` under the monitor that traps and emulates.
#[track_caller]
fn compare(guest: &Path, options: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["compare", "--strategy", "trap"])
        .arg(guest)
        .args(options.split_whitespace())
        .arg("--json")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = all["rows"].as_array().unwrap();
    assert!(rows.len() > 1, "{all}");
    rows[1..].to_vec()
}

/// Asserts that the guest of `row` runs as on the bare machine, at least `share` of it with no intervention.
#[track_caller]
fn runs_the_same(row: &Value, share: f64) {
    assert_eq!(row["outcome"], "same", "{row}");
    assert_eq!(row["interpreted"].as_object().unwrap().get("no-shadow"), None, "{row}");
    let direct = row["direct"].as_f64().unwrap() / row["instructions"].as_f64().unwrap();
    assert!(direct > share, "{direct}: {row}");
}

/// Asserts that the guest of `row` parts at the sensitive unprivileged instruction `mnemonic`. Gives EIP and the count of
/// instructions before.
#[track_caller]
fn parts_at(row: &Value, mnemonic: &str) -> (u64, u64) {
    assert_eq!(row["outcome"], "diverged", "{row}");
    let at = &row["divergence"]["where"];
    assert_eq!(
        (&at["sensitive_unprivileged"], at["disassembly"].as_str()),
        (&Value::Bool(true), Some(mnemonic)),
        "{at}"
    );
    println!("{} after {}: {}", at["eip"], at["after"], at["why"]);
    (at["eip"].as_u64().unwrap(), at["after"].as_u64().unwrap())
}

const MEMTEST: &str = "usr/lib/memtest86+/memtest86+ia32.iso";

/// Its own start, PAE switched on after 11 million instructions, and its first tests.
#[test]
#[ignore = "needs packages from Debian"]
fn memtest_is_the_same_and_mostly_direct() {
    if !have(&["memtest86+"]) {
        return;
    }
    let budget = if super::full() { "500M" } else { "25M" };
    let options = format!("--format disk --mem 5M --hz 1M --budget {budget}");
    for row in compare(&file("memtest86+", MEMTEST), &options) {
        runs_the_same(&row, 0.99);
        assert!(row["exits"]["hidden-page-fault"].as_u64() > Some(1000), "{row}");
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn mach_parts_at_pushf() {
    if !super::full() {
        return skipped("it takes 44 M instructions seven times; SUBRING_FULL=1 runs it");
    }
    if !have(&[gnumach::MACH]) {
        return;
    }
    for row in compare(&gnumach::kernel(), "--append console=com0 --hz 10M --budget 50M") {
        assert_eq!(parts_at(&row, "pushf"), (0xc100_8810, 43_822_501));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_parts_at_pushf() {
    if !super::full() {
        return skipped("it takes 2.3 G instructions six times; SUBRING_FULL=1 runs it");
    }
    if !have(&linux::PACKAGES) {
        return;
    }
    for row in compare(&linux::kernel(), "--append console=ttyS0 --mem 128M --budget 3G --coherence trace") {
        // Where exactly is another place in each of Debian's updates.
        let (eip, after) = parts_at(&row, "pushf");
        assert!(eip >= 0xc000_0000 && after > 1_000_000_000, "{row}");
    }
}

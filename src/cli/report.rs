//! What a run leaves for the user: one line, a table, or a JSON object.

use super::columns::wrapped;
use super::ending::{End, Ending};
use super::monitored::Monitored;
use super::screen;
use super::stats::Stats;
use crate::cpu::fault::vector_name;
use crate::debug;
use crate::lab::digits::grouped;
use crate::machine::board::chip_name;
use serde::Serialize;
use std::collections::BTreeMap;

/// Ports shown in a table; all are in the JSON object.
const PORTS_SHOWN: usize = 12;

/// One line: how it ended, after how much.
pub fn line(end: &End) -> String {
    let status = end.ending.status();
    format!("{} after {} instructions (exit status {status})", end.ending.sentence(), grouped(end.retired))
}

/// The counts of a run in short. Host time stands apart: it is measured, all else is exact and repeats.
pub fn summary(end: &End) -> String {
    let mut out = String::new();
    let seconds = end.host.as_secs_f64();
    let guest = end.ticks as f64 / end.hz as f64;
    let mips = if seconds > 0.0 { end.retired as f64 / seconds / 1e6 } else { 0.0 };
    row(&mut out, "instructions", &grouped(end.retired));
    row(&mut out, "guest time", &format!("{guest:.6} s"));
    row(&mut out, "host time", &format!("{seconds:.3} s ({mips:.0} million instructions per second)"));
    let Stats { exceptions, interrupts, software, ports, unbuilt, .. } = &end.stats;
    let exception = |(&v, &n): (&u8, &u64)| format!("{} {}", vector_name(v), grouped(n));
    let vector = |(&v, &n): (&u8, &u64)| format!("{v:#04x} {}", grouped(n));
    row(&mut out, "exceptions", &list(exceptions.iter().map(exception)));
    row(&mut out, "interrupts", &list(interrupts.iter().map(vector)));
    row(&mut out, "INT n", &list(software.iter().map(vector)));
    row(&mut out, "port accesses", &list(by_chip(ports, end.retired)));
    for (name, &n) in unbuilt {
        row(&mut out, "not built", &format!("{name} raised #UD {} times", grouped(n)));
    }
    out
}

/// All counts of a run: the summary, the busiest ports, and what the machine did behind the scenes.
pub fn table(end: &End) -> String {
    let mut out = summary(end);
    let mut busiest: Vec<_> = end.stats.ports.iter().map(|(&p, &(r, w))| (p, r, w)).collect();
    busiest.sort_by_key(|&(p, r, w)| (std::cmp::Reverse(r.saturating_add(w)), p));
    let more = busiest.len().saturating_sub(PORTS_SHOWN);
    let shown = busiest.iter().take(PORTS_SHOWN);
    let cells = shown.map(|&(p, r, w)| format!("{p:#x} {}r {}w", grouped(r), grouped(w)));
    row(&mut out, "ports", &list(cells.chain((more > 0).then(|| format!("{more} more")))));
    for (name, &n) in &end.stats.other {
        row(&mut out, name, &grouped(n));
    }
    for (name, value) in end.stats.monitor.iter().flat_map(Monitored::rows) {
        row(&mut out, name, &value);
    }
    out
}

/// Port accesses per chip, the busiest first, with their share of all instructions where it is a percent or more.
fn by_chip(ports: &BTreeMap<u16, (u64, u64)>, retired: u64) -> Vec<String> {
    let mut chips: BTreeMap<&str, u64> = BTreeMap::new();
    for (&port, &(reads, writes)) in ports {
        *chips.entry(chip_name(port)).or_default() += reads + writes;
    }
    let mut chips: Vec<_> = chips.into_iter().collect();
    chips.sort_by_key(|&(name, n)| (std::cmp::Reverse(n), name));
    let cell = |(name, n): (&str, u64)| match 100 * n / retired.max(1) {
        0 => format!("{name} {}", grouped(n)),
        share => format!("{name} {} ({share}% of instructions)", grouped(n)),
    };
    chips.into_iter().map(cell).collect()
}

/// Cells with commas between them.
fn list(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    if cells.is_empty() { "none".into() } else { cells.join(", ") }
}

fn row(out: &mut String, name: &str, value: &str) {
    *out += &wrapped(&format!("  {name:<13} {value}"), 16);
}

/// The version of the object: one more whenever a key changes its meaning or goes.
const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    guest: &'a str,
    outcome: &'a Ending,
    status: u8,
    retired: u64,
    ticks: u64,
    hz: u64,
    stats: &'a Stats,
    serial: String,
    /// Bytes that are missing at the end of `serial`.
    #[serde(skip_serializing_if = "is_zero")]
    serial_cut: u64,
    screen: Option<Vec<String>>,
    registers: &'a BTreeMap<&'static str, String>,
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    post_mortem: Option<&'a debug::Report>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One JSON object on one line. It holds no host time: the same run gives the same bytes.
pub fn json(guest: &str, end: &End) -> String {
    let object = Json {
        schema: SCHEMA,
        guest,
        outcome: &end.ending,
        status: end.ending.status(),
        retired: end.retired,
        ticks: end.ticks,
        hz: end.hz,
        stats: &end.stats,
        serial: String::from_utf8_lossy(&end.serial).into_owned(),
        serial_cut: end.serial_cut,
        screen: end.screen.as_ref().map(|s| screen::dump(s).lines().map(str::to_owned).collect()),
        registers: &end.registers,
        notes: &end.notes,
        post_mortem: end.post_mortem.as_ref(),
    };
    // All keys are strings or integers and no value can fail to serialise.
    serde_json::to_string(&object).unwrap_or_default()
}

//! What a run leaves for the user: one line, a table, or a JSON object.

use super::screen;
use super::session::{End, Ending, Stats};
use serde::Serialize;
use std::fmt::Write;

/// The names of the exceptions (SDM vol. 3, table 6-1).
const EXCEPTIONS: [&str; 20] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP", "#PF", "",
    "#MF", "#AC", "#MC", "#XM",
];
/// Ports shown in a table; all are in the JSON object.
const PORTS_SHOWN: usize = 12;

/// A count with its digits in groups of three.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// One line: how it ended, after how much.
pub fn line(end: &End) -> String {
    let status = end.ending.status();
    format!("{} after {} instructions (exit status {status})", end.ending.sentence(), grouped(end.retired))
}

/// The counts of a run. Host time stands apart: it is measured, all else is exact and repeats.
pub fn table(end: &End) -> String {
    let mut out = String::new();
    let seconds = end.host.as_secs_f64();
    let guest = end.ticks as f64 / end.hz as f64;
    let mips = if seconds > 0.0 { end.retired as f64 / seconds / 1e6 } else { 0.0 };
    row(&mut out, "instructions", &grouped(end.retired));
    row(&mut out, "guest time", &format!("{guest:.6} s"));
    row(&mut out, "host time", &format!("{seconds:.3} s ({mips:.0} million instructions per second)"));
    let Stats { exceptions, interrupts, software, ports, unbuilt, other } = &end.stats;
    for (name, counts) in [("exceptions", exceptions), ("interrupts", interrupts), ("INT n", software)] {
        let cells: Vec<String> = counts
            .iter()
            .map(|(&v, &n)| {
                let exception =
                    if name == "exceptions" { EXCEPTIONS.get(usize::from(v)).copied() } else { None };
                match exception.filter(|e| !e.is_empty()) {
                    Some(e) => format!("{e} {}", grouped(n)),
                    None => format!("{v:#04x} {}", grouped(n)),
                }
            })
            .collect();
        row(&mut out, name, if cells.is_empty() { "none".into() } else { cells.join(", ") }.as_str());
    }
    let mut busiest: Vec<_> = ports.iter().map(|(&p, &(r, w))| (p, r, w)).collect();
    busiest.sort_by_key(|&(p, r, w)| (std::cmp::Reverse(r.saturating_add(w)), p));
    let more = busiest.len().saturating_sub(PORTS_SHOWN);
    let mut cells: Vec<String> = busiest
        .iter()
        .take(PORTS_SHOWN)
        .map(|&(p, r, w)| format!("{p:#x} {}r {}w", grouped(r), grouped(w)))
        .collect();
    if more > 0 {
        cells.push(format!("{more} more"));
    }
    row(&mut out, "ports", if cells.is_empty() { "none".into() } else { cells.join(", ") }.as_str());
    for (name, &n) in other {
        row(&mut out, name, &grouped(n));
    }
    for (name, &n) in unbuilt {
        row(&mut out, "not built", &format!("{name} raised #UD {} times", grouped(n)));
    }
    out
}

fn row(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {name:<13} {value}");
}

#[derive(Serialize)]
struct Json<'a> {
    guest: &'a str,
    outcome: &'a Ending,
    status: u8,
    retired: u64,
    ticks: u64,
    hz: u64,
    stats: &'a Stats,
    serial: String,
    screen: Option<Vec<String>>,
    registers: &'a str,
    notes: &'a [String],
}

/// One JSON object on one line. It holds no host time: the same run gives the same bytes.
pub fn json(guest: &str, end: &End) -> String {
    let object = Json {
        guest,
        outcome: &end.ending,
        status: end.ending.status(),
        retired: end.retired,
        ticks: end.ticks,
        hz: end.hz,
        stats: &end.stats,
        serial: String::from_utf8_lossy(&end.serial).into_owned(),
        screen: end.screen.as_ref().map(|s| screen::dump(s).lines().map(str::to_owned).collect()),
        registers: &end.registers,
        notes: &end.notes,
    };
    // All keys are strings or integers and no value can fail to serialise.
    serde_json::to_string(&object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}

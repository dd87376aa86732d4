//! The report as text for a terminal.

use super::Report;
use std::fmt::Write;

/// The report's text, many lines.
pub fn explain(report: &Report) -> String {
    let mut t = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut t, report);
    t
}

fn write(t: &mut String, r: &Report) -> std::fmt::Result {
    writeln!(t, "post-mortem: {}", r.what)?;
    for (n, d) in r.diagnoses.iter().enumerate() {
        let lead = if n == 0 { "likely" } else { "also" };
        writeln!(t, "\n{lead}: {} [{}]", d.sentence, d.rule)?;
    }
    if !r.chain.is_empty() {
        writeln!(t, "\nwhat happened, step by step:")?;
    }
    for (n, step) in r.chain.iter().enumerate() {
        writeln!(t, "  {}. {}", n + 1, step.event)?;
        if !step.code.is_empty() {
            writeln!(t, "       error code: {}", step.code.join("; "))?;
        }
        for line in &step.walk {
            writeln!(t, "       {line}")?;
        }
    }
    writeln!(t, "\nregisters:")?;
    for line in r.registers.lines() {
        writeln!(t, "  {line}")?;
    }
    writeln!(t, "\ncode:")?;
    for line in &r.code {
        if let Some(symbol) = &line.symbol {
            writeln!(t, "  {symbol}:")?;
        }
        let mark = if line.current { "=>" } else { "  " };
        writeln!(t, "  {mark} {:08x}  {:<24} {}", line.eip, line.bytes, line.text)?;
    }
    writeln!(t, "\nbacktrace (by frame pointers):")?;
    for (n, c) in r.backtrace.iter().enumerate() {
        writeln!(t, "  #{n:<2} {:08x}  {}", c.eip, c.symbol.as_deref().unwrap_or("?"))?;
    }
    if !r.events.is_empty() {
        writeln!(t, "\nlast events (tick, what, where):")?;
    }
    for line in &r.events {
        writeln!(t, "{line}")?;
    }
    Ok(())
}

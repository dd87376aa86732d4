//! The report as text for a terminal.

use super::Report;
use super::source::Place;
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
    if let Some(excerpt) = &r.source {
        writeln!(t, "\nsource, {}:", excerpt.place)?;
        for (n, line) in &excerpt.lines {
            let mark = if *n == excerpt.place.line { "=>" } else { "  " };
            writeln!(t, "  {}", format!("{mark} {n:>5}  {line}").trim_end())?;
        }
    }
    if let Some(trouble) = &r.source_trouble {
        writeln!(t, "\ndebug information unusable: {trouble}")?;
    }
    writeln!(t, "\ncode:")?;
    for line in &r.code {
        if let Some(symbol) = &line.symbol {
            writeln!(t, "  {symbol}:")?;
        }
        if let Some(place) = &line.source {
            let text = line.source_text.as_deref().unwrap_or("").trim_start();
            writeln!(t, "     {}", format!("{place}  {text}").trim_end())?;
        }
        let mark = if line.current { "=>" } else { "  " };
        writeln!(t, "  {mark} {:08x}  {:<24} {}", line.eip, line.bytes, line.text)?;
    }
    writeln!(t, "\nbacktrace (by frame pointers):")?;
    for (n, c) in r.backtrace.iter().enumerate() {
        let at = |place: &Option<Place>| place.as_ref().map_or(String::new(), |p| format!(" at {p}"));
        write!(t, "  #{n:<2} {:08x}  ", c.eip)?;
        for function in &c.inlined {
            write!(t, "{}{}, inlined in\n                 ", function.name, at(&function.place))?;
        }
        writeln!(t, "{}{}", c.symbol.as_deref().unwrap_or("?"), at(&c.source))?;
    }
    if !r.events.is_empty() {
        writeln!(t, "\nlast events (after how many instructions, where, what):")?;
    }
    for line in &r.events {
        writeln!(t, "{line}")?;
    }
    // The terminal ends here: what is looked for first stands here once more.
    if let Some(d) = r.diagnoses.first() {
        writeln!(t, "\nlikely: {} [{}]", d.sentence, d.rule)?;
    }
    Ok(())
}

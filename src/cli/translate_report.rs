//! What `subring translate` prints: units of translated code, guest instructions to the left, what became of
//! them to the right; for people, or as JSON. Events only, so that the same guest gives the same bytes.

use crate::classify::{Class, verdict};
use crate::decode::disassemble;
use crate::lab::digits::grouped;
use crate::load::{Symbol, symbol_at};
use crate::machine::TranslationView;
use crate::report::TranslationFigures;
use crate::translate::{RuleId, Step, Tail, UnitInfo, Why};
use crate::vmm::bt::rules::{self, COLUMNS};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;

/// All of it.
pub(super) struct Report {
    pub(super) guest: String,
    pub(super) ending: String,
    pub(super) instructions: u64,
    pub(super) translated: u64,
    pub(super) figures: TranslationFigures,
    /// Units that were dropped and can no longer be shown.
    pub(super) lost: u32,
    pub(super) units: Vec<Unit>,
}

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Tag {
    /// Carried over.
    Ident,
    /// Carried over; the real processor faults there, and the monitor emulates it.
    Exit,
    /// An inline sequence.
    Inline,
    /// The monitor is called.
    Callout,
}

/// A guest instruction and its translation.
#[derive(Debug, Serialize)]
struct Line {
    linear: u32,
    bytes: String,
    guest: String,
    /// How often it ran to its end; one that the monitor runs: how often it was called.
    runs: u64,
    tag: Tag,
    rule: Option<&'static str>,
    translation: String,
    /// What an inline sequence does, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    flags_dead: bool,
    side_exit: Option<u8>,
}

/// A way out of a unit.
#[derive(Debug, Serialize)]
struct Way {
    name: String,
    /// The unit that it is chained to, and where that is.
    unit: Option<u32>,
    linear: Option<u32>,
}

/// A unit.
#[derive(Debug, Serialize)]
pub(super) struct Unit {
    number: u32,
    linear: u32,
    eip: u32,
    machine: u32,
    symbol: Option<String>,
    mode: &'static str,
    bits: u8,
    runs: u64,
    bytes: usize,
    ident: usize,
    ends_at: &'static str,
    thrown_away: Option<&'static str>,
    lines: Vec<Line>,
    ways_out: Vec<Way>,
}

impl Unit {
    /// What there is to say of `unit`.
    pub(super) fn of(unit: &UnitInfo<'_>, translation: &dyn TranslationView, symbols: &[Symbol]) -> Self {
        Self {
            number: unit.number,
            linear: unit.linear,
            eip: unit.eip,
            machine: unit.key.at.0,
            symbol: symbol_at(symbols, unit.linear),
            mode: COLUMNS.get(usize::from(unit.key.policy())).copied().unwrap_or("unknown mode"),
            bits: if unit.key.code32() { 32 } else { 16 },
            runs: unit.runs,
            bytes: unit.code.len(),
            ident: unit.plan.body.len(),
            ends_at: unit.plan.ending.sentence(),
            thrown_away: unit.gone.map(Why::name),
            lines: lines(unit),
            ways_out: ways_out(unit, translation),
        }
    }
}

/// A line for each instruction of the unit.
fn lines(unit: &UnitInfo<'_>) -> Vec<Line> {
    let mut offset = 0;
    let plan = unit.plan;
    let last_of_body = plan.body.len().wrapping_sub(1);
    let mut lines: Vec<_> = plan
        .body
        .iter()
        .enumerate()
        .map(|(n, step)| {
            let fused = unit.fused && n == last_of_body;
            let line = body_line(unit, (n, offset), step, fused);
            offset += usize::from(step.insn.len);
            line
        })
        .collect();
    if let Some(insn) = &plan.last {
        let (tag, rule, text) = tail(unit, plan.tail);
        let steps = match plan.tail {
            Tail::Inline(id) => rules::by_id(id).steps().collect(),
            _ => Vec::new(),
        };
        lines.push(Line {
            tag,
            rule,
            translation: text,
            steps,
            ..line(unit, plan.body.len(), offset, insn.len)
        });
    }
    lines
}

/// The guest's side of the instruction with this number, of `len` bytes at `offset` in the unit.
fn line(unit: &UnitInfo<'_>, number: usize, offset: usize, len: u8) -> Line {
    let bytes = unit.code.get(offset..offset + usize::from(len)).unwrap_or_default();
    let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Line {
        linear: unit.linear.wrapping_add(offset as u32),
        bytes: hex.join(" "),
        guest: disassemble(bytes, unit.key.code32(), unit.eip.wrapping_add(offset as u32)),
        runs: unit.counts.as_ref().and_then(|counts| counts.get(number)).copied().unwrap_or(unit.runs),
        tag: Tag::Ident,
        rule: None,
        translation: String::new(),
        steps: Vec::new(),
        flags_dead: false,
        side_exit: None,
    }
}

/// An instruction that is carried over.
fn body_line(unit: &UnitInfo<'_>, (number, offset): (usize, usize), step: &Step, fused: bool) -> Line {
    let mut notes = Vec::new();
    let found = verdict(&step.insn);
    let faults =
        found.class == Class::Privileged && usize::from(unit.key.policy()) >= usize::from(rules::KERNEL);
    if faults {
        notes.push("it faults, and the monitor emulates it".to_owned());
    }
    if step.flags_dead {
        notes.push("flags dead: not computed".to_owned());
    }
    if fused {
        notes.push("one operation with the jump".to_owned());
    }
    if let Some(exit) = step.side_exit {
        notes.push(format!("side exit {}", exit + 1));
    }
    Line {
        tag: if faults { Tag::Exit } else { Tag::Ident },
        translation: notes.join("; "),
        flags_dead: step.flags_dead,
        side_exit: step.side_exit,
        ..line(unit, number, offset, step.insn.len)
    }
}

/// What becomes of the instruction at the end.
fn tail(unit: &UnitInfo<'_>, tail: Tail) -> (Tag, Option<&'static str>, String) {
    let by = |id: RuleId| rules::by_id(id);
    match tail {
        Tail::Inline(id) => {
            let rule = by(id);
            (Tag::Inline, Some(rule.name), rule.why.to_owned())
        }
        Tail::Callout(id) => (Tag::Callout, Some(by(id).name), by(id).why.to_owned()),
        Tail::Indirect => (Tag::Ident, None, "through the inline cache".into()),
        Tail::Conditional | Tail::Direct => (Tag::Ident, None, "chained".into()),
        Tail::String => (Tag::Ident, None, "an iteration at a time".into()),
        Tail::Other | Tail::Fall => {
            let last = unit.plan.last.as_ref().map(verdict);
            let kernel = unit.key.policy() >= rules::KERNEL;
            if kernel && last.is_some_and(|v| v.class == Class::Privileged) {
                (Tag::Exit, None, "it faults, and the monitor emulates it".into())
            } else {
                (Tag::Ident, None, "the run loop looks up after it".into())
            }
        }
    }
}

/// The ways out, and what they are chained to.
fn ways_out(unit: &UnitInfo<'_>, translation: &dyn TranslationView) -> Vec<Way> {
    let jumps = unit.plan.last.is_some_and(|insn| {
        use crate::decode::Op::{Call, Jmp};
        matches!(insn.op, Jmp | Call)
    });
    let names: &[(usize, &str)] = match unit.plan.tail {
        Tail::Conditional => &[(0, "taken"), (1, "not taken")],
        Tail::Direct if jumps => &[(0, "taken")],
        Tail::Direct => &[(0, "taken"), (1, "not taken")],
        Tail::Indirect => &[(0, "inline cache")],
        Tail::Fall | Tail::Inline(_) => &[(1, "goes on")],
        Tail::String => &[(1, "done")],
        Tail::Other | Tail::Callout(_) => &[],
    };
    let side = unit.plan.body.iter().filter_map(|step| step.side_exit);
    let side = side.map(|n| (2 + usize::from(n), format!("side exit {}", n + 1)));
    let names = side.chain(names.iter().map(|(way, name)| (*way, (*name).to_owned())));
    names
        .map(|(way, name)| {
            let to = unit.links.get(way).copied().flatten();
            let linear = to.and_then(|n| translation.translator().unit(n)).map(|u| u.linear);
            Way { name, unit: to.filter(|_| linear.is_some()), linear }
        })
        .collect()
}

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let share = 100.0 * report.translated as f64 / report.instructions.max(1) as f64;
    let _ = writeln!(
        out,
        "{}: {} after {} instructions, {share:.2}% of them translated",
        report.guest,
        report.ending,
        grouped(report.instructions)
    );
    let f = &report.figures;
    let dropped: Vec<_> = f.dropped.iter().map(|(why, n)| format!("{} {why}", grouped(*n))).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    let _ = writeln!(
        out,
        "{} units translated, {} thrown away; {} shown{}",
        grouped(f.units),
        dropped,
        grouped(report.units.len() as u64),
        match report.lost {
            0 => String::new(),
            lost => format!("; the first {} are no longer kept", grouped(lost.into())),
        }
    );
    report.units.iter().for_each(|unit| unit_text(&mut out, unit));
    out
}

fn unit_text(out: &mut String, unit: &Unit) {
    let symbol = unit.symbol.as_ref().map_or(String::new(), |s| format!(" {s}"));
    let _ = writeln!(
        out,
        "\nunit {} at {:08x}{symbol}: {}, {}-bit; ran {} times",
        unit.number,
        unit.linear,
        unit.mode,
        unit.bits,
        grouped(unit.runs)
    );
    let width = |of: fn(&Line) -> &str| unit.lines.iter().map(|l| of(l).len()).max().unwrap_or(0);
    let (bytes, guest) = (width(|l| &l.bytes), width(|l| &l.guest));
    let runs = unit.lines.iter().map(|l| grouped(l.runs).len()).max().unwrap_or(0);
    for line in &unit.lines {
        let (Line { linear, bytes: b, guest: g, .. }, tag) = (line, tag_text(line));
        let row = format!(
            "  {linear:08x}  {b:bytes$}  {g:guest$}  {:>runs$} | {tag:22}{}",
            grouped(line.runs),
            line.translation
        );
        let _ = writeln!(out, "{}", row.trim_end());
        // Below the translation, to the right of the bar.
        let left = row.chars().position(|c| c == '|').unwrap_or(0);
        for (n, step) in (1..).zip(&line.steps) {
            let _ = writeln!(out, "{:left$}|   {n} {step}", "");
        }
    }
    let ways: Vec<_> = unit.ways_out.iter().map(way_text).collect();
    let ways = if ways.is_empty() { String::new() } else { format!("; {}", ways.join("; ")) };
    let _ = writeln!(out, "  ends at: {}{ways}", unit.ends_at);
    if let Some(why) = unit.thrown_away {
        let _ = writeln!(out, "  thrown away: {why}");
    }
}

fn tag_text(line: &Line) -> String {
    let name = match line.tag {
        Tag::Ident => "IDENT",
        Tag::Exit => "exit",
        Tag::Inline => "inline",
        Tag::Callout => "callout",
    };
    line.rule.map_or(name.to_owned(), |rule| format!("{name} {rule}"))
}

fn way_text(way: &Way) -> String {
    match (way.unit, way.linear) {
        (Some(unit), Some(linear)) => format!("{} -> unit {unit} at {linear:08x}", way.name),
        _ => format!("{} -> not chained", way.name),
    }
}

/// One object.
pub(super) fn json(report: &Report) -> String {
    let object = json!({
        "guest": report.guest,
        "ending": report.ending,
        "instructions": report.instructions,
        "translated": report.translated,
        "translation": report.figures,
        "lost": report.lost,
        "units": report.units,
    });
    format!("{object}\n")
}

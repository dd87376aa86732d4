//! `subring theorem`: Popek and Goldberg's definitions and theorems on their own machine, for one instruction set or
//! all, as text for a student or as JSON.

use super::output::out;
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::theorem::isa::Isa;
use crate::theorem::machine::{By, Mode};
use crate::theorem::report::{Cell, Condition, Demonstration, Laboratory, Report, Row, Search, Trace};
use clap::Args;
use std::fmt::Write;

const INTRO: &str = "\
Popek and Goldberg, \"Formal Requirements for Virtualizable Third Generation Architectures\", CACM 17(7), 1974

The machine <E, M, P, R>: storage, mode (s or u), program counter, relocation R = (l, b). A trap stores <M, P, R>
in E[0] and loads it from E[1]. The classes are found by running every instruction in every state of a machine of
four words. Then real monitors run small programs: the VMM of Theorem 1, which lets the guest run on the machine and
emulates what traps, and the hybrid VMM of Theorem 3, which interprets the guest's supervisor mode.
";

/// Width of a column of a trace.
const COLUMN: usize = 36;

/// The options of `subring theorem`.
#[derive(Args, Clone, Debug)]
pub struct Command {
    /// One instruction set, with all witnesses: compliant, jrst1, popf, move-sr, lra, mov-ds, stck
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Print one JSON array with a report for each instruction set
    #[arg(long)]
    json: bool,
}

impl Command {
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        let isas: Vec<Isa> = match &self.isa {
            None => Isa::names().filter_map(Isa::find).collect(),
            Some(name) => vec![Isa::find(name).ok_or_else(|| unknown(name))?],
        };
        let mut progress = Progress::new();
        progress.begin("theorem");
        let mut laboratory = Laboratory::default();
        let reports: Vec<Report> = isas.into_iter().map(|isa| laboratory.report(isa)).collect();
        drop(progress);
        let text = if self.json {
            // All keys are strings and no value can fail to serialise.
            serde_json::to_string(&reports).unwrap_or_default() + "\n"
        } else {
            text(&reports, self.isa.is_some())
        };
        out(text.as_bytes())?;
        Ok(0)
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = Isa::names().collect();
    Error::Usage(format!("there is no instruction set `{name}`: the sets are {}", names.join(", ")))
}

fn text(reports: &[Report], alone: bool) -> String {
    let mut out = String::from(INTRO);
    for (n, report) in reports.iter().enumerate() {
        one(&mut out, report, alone || n == 0, alone);
    }
    if !alone {
        summary(&mut out, reports);
        out += "\n`subring theorem --isa NAME` shows the states behind each class.\n";
    }
    out
}

// Writing to a String cannot fail: the results below are dropped.

/// One instruction set: `whole` with all instructions and the demonstration, else what it adds; with the witnesses.
fn one(out: &mut String, report: &Report, whole: bool, witnesses: bool) {
    let _ = writeln!(out, "\n── {}: {}\n", report.isa, report.about);
    let rows: Vec<&Row> = report.instructions.iter().filter(|r| whole || r.added).collect();
    classes(out, &rows);
    if witnesses {
        for row in rows {
            show_witnesses(out, row);
        }
    }
    let _ = writeln!(out);
    condition(out, "Theorem 1: sensitive ⊆ privileged     ", &report.theorem_1);
    condition(out, "Theorem 3: user-sensitive ⊆ privileged", &report.theorem_3);
    for search in &report.searches {
        found(out, search);
    }
    if report.theorem_1.holds && report.trace.is_some() {
        out.push_str(
            "    The condition holds, and equivalence is promised but for timing; this instruction shows the time, and\n    \
             each level of monitors adds to it. It is why Theorem 2 asks for a VMM without timing dependence.\n",
        );
    }
    if let Some(trace) = &report.trace {
        side_by_side(out, trace);
    }
    if whole {
        demonstration(out, &report.demonstration, witnesses);
    }
}

// ---- Classes ------------------------------------------------------------------------------------------------------

fn classes(out: &mut String, rows: &[&Row]) {
    let _ = writeln!(
        out,
        "  {:<8} {:<44} {:<10} {:<7} {:<8} {:<4} user",
        "", "what it does", "privileged", "control", "location", "mode"
    );
    for r in rows {
        let line = format!(
            "  {:<8} {:<44} {:<10} {:<7} {:<8} {:<4} {:<5} {}",
            r.name,
            r.about,
            yes(r.privileged),
            modes(&r.control),
            modes(&r.location),
            yes(r.mode),
            yes(r.user_sensitive),
            verdict(r)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push_str(
        "  control, location: control- and location-sensitive, in mode s or u; mode: mode-sensitive; user: user-sensitive\n",
    );
}

fn verdict(r: &Row) -> &'static str {
    match (r.sensitive, r.privileged) {
        (false, _) => "innocuous",
        (true, true) => "sensitive",
        (true, false) => "SENSITIVE, NOT PRIVILEGED",
    }
}

fn yes(b: bool) -> &'static str {
    if b { "yes" } else { "-" }
}

fn modes(modes: &[Mode]) -> String {
    if modes.is_empty() { "-".into() } else { modes.iter().map(Mode::to_string).collect() }
}

fn show_witnesses(out: &mut String, r: &Row) {
    let _ = writeln!(out, "\n  {}: {} states. States are <M,P,R> [E]", r.name, r.states);
    for w in &r.witnesses {
        for (n, run) in w.runs.iter().enumerate() {
            let _ = writeln!(out, "    {:<24} {run}", if n == 0 { w.claim } else { "" });
        }
    }
}

fn condition(out: &mut String, what: &str, c: &Condition) {
    let says = if c.holds { "holds".into() } else { format!("does not hold: {}", c.exceptions.join(", ")) };
    let _ = writeln!(out, "  {what}  {says}");
}

// ---- Monitors -----------------------------------------------------------------------------------------------------

/// "VMM", "VMM, 3 deep".
fn monitor(s: &Search) -> String {
    if s.depth == 1 { s.monitor.into() } else { format!("{}, {} deep", s.monitor, s.depth) }
}

fn found(out: &mut String, s: &Search) {
    let says = match &s.counterexample {
        None => {
            format!("none of {} programs of up to {} instructions sees a difference", s.programs, s.longest)
        }
        Some(program) => format!("told from the bare machine by: {}", program.join("; ")),
    };
    let _ = writeln!(out, "  {:<12} {says}", monitor(s));
}

fn side_by_side(out: &mut String, trace: &Trace) {
    let _ = writeln!(out, "\n  {}; then HALT. Traps go to P=6.\n", trace.program.join("; "));
    line(out, "", ["bare machine", "VMM", "hybrid VMM"].map(String::from));
    // A machine that differs is shown up to there.
    let mut over = [false; 3];
    for (n, cells) in trace.steps.iter().enumerate() {
        let mut columns = [const { Vec::new() }; 3];
        for (i, cell) in cells.iter().enumerate() {
            if !over[i] {
                columns[i] = lines(cell, i == 0);
            }
            over[i] |= cell.differs;
        }
        for l in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
            let number = if l == 0 { n.to_string() } else { String::new() };
            line(out, &number, columns.each_ref().map(|c| c.get(l).cloned().unwrap_or_default()));
        }
    }
}

fn line(out: &mut String, number: &str, columns: [String; 3]) {
    let [a, b, c] = columns;
    let text = format!("  {number:>3}  {a:<COLUMN$}{b:<COLUMN$}{c}");
    let _ = writeln!(out, "{}", text.trim_end());
}

/// What a machine did in a step, and where it is then.
fn lines(cell: &Cell, bare: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(instruction) = &cell.instruction {
        let how = match cell.by {
            _ if bare => "",
            By::Hardware => ", direct",
            By::Routine => ", emulated",
            By::Reflection => ", trap reflected",
            By::Interpreter => ", interpreted",
        };
        lines.push(format!("{instruction}{how}"));
    }
    let mark = if cell.differs { "  <- differs" } else { "" };
    lines.push(format!("  {}{mark}", cell.psw));
    lines.extend(cell.changed.iter().map(|c| format!("  {c}")));
    if let Some(lost) = cell.out_of_control {
        // A column is narrower than the sentence.
        lines.push("  control lost:".into());
        lines.extend(wrap(lost, COLUMN - 4).into_iter().map(|l| format!("   {l}")));
    }
    lines
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        match lines[last].len() {
            0 => lines[last].push_str(word),
            n if n + 1 + word.len() <= width => {
                lines[last].push(' ');
                lines[last].push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

fn demonstration(out: &mut String, all: &[Demonstration], each: bool) {
    out.push_str("\n  A kernel with a task that counts, calls and is refused a privileged instruction:\n\n");
    let _ = writeln!(
        out,
        "  {:<12} {:>6} {:>7} {:>9} {:>10} {:>12} {:>6}  end",
        "", "steps", "direct", "emulated", "reflected", "interpreted", "ticks"
    );
    for d in all {
        let h = &d.handled;
        let end = match (d.machine, d.same_end) {
            ("bare", _) => "",
            (_, true) => "the same",
            (_, false) => "DIFFERENT",
        };
        let line = format!(
            "  {:<12} {:>6} {:>7} {:>9} {:>10} {:>12} {:>6}  {end}",
            d.machine, d.steps, h.direct, h.emulated, h.reflected, h.interpreted, d.ticks
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if let Some(vmm) = all.iter().find(|d| each && d.machine == "VMM") {
        out.push_str("\n  Under the VMM, by instruction:\n\n");
        for (name, h) in &vmm.instructions {
            let counts = [(h.direct, "direct"), (h.emulated, "emulated"), (h.reflected, "reflected")];
            let told: Vec<_> =
                counts.iter().filter(|c| c.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
            let _ = writeln!(out, "  {name:<8} {}", told.join(", "));
        }
    }
}

fn summary(out: &mut String, reports: &[Report]) {
    out.push_str("\n── In short\n\n");
    let _ = writeln!(out, "  {:<10} {:<10} {:<8} {:<10} hybrid VMM", "", "Theorem 1", "VMM", "Theorem 3");
    for r in reports {
        let holds = |c: &Condition| if c.holds { "holds" } else { "fails" };
        let fate = |s: &Search| if s.counterexample.is_some() { "differs" } else { "alike" };
        let _ = writeln!(
            out,
            "  {:<10} {:<10} {:<8} {:<10} {}",
            r.isa,
            holds(&r.theorem_1),
            fate(&r.searches[0]),
            holds(&r.theorem_3),
            fate(&r.searches[1])
        );
    }
    out.push_str("  alike: no program saw a difference from the bare machine; differs: one did\n");
}

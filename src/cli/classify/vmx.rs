//! `subring classify --vmx`: which forms of instruction exit in VMX non-root operation, by which control, and
//! whether Popek and Goldberg's condition holds. See [`crate::classify::vmx`].

use super::{Command, operands, wrap_to};
use crate::classify::forms::{Form, all};
use crate::classify::judge::judge;
use crate::classify::vmx::{Behaviour, Level, VMX_DEFINITIONS, behaviour};
use crate::classify::{Mode, Setting};
use crate::cli::columns::{WIDTH, wrapped};
use crate::cpu::vmx::caps::YONAH_EPT;
use crate::cpu::vmx::{Reason, Secondary};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A form and what it does.
type Row = (Form, Behaviour);

/// What a form is in non-root operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Exits whatever the controls are.
    Always,
    /// Sensitive; a control makes it exit, or gives it the guest's value.
    Controlled,
    /// Sensitive, and runs on under all controls.
    Escapes,
    /// Not sensitive, and can be made to exit.
    Optional,
    /// Not sensitive; in some states it exits, whatever the controls are.
    Sometimes,
    /// Not sensitive, and never exits.
    Innocuous,
}

impl Kind {
    fn of(b: &Behaviour) -> Self {
        // A bitmap of exceptions is for faults, which any instruction may raise.
        let controls = b.by.iter().any(|name| *name != EXCEPTIONS);
        if b.escape.is_some() {
            Self::Escapes
        } else if b.exits > 0 && b.exits_always() {
            Self::Always
        } else if b.harm.is_some() {
            Self::Controlled
        } else if controls {
            Self::Optional
        } else if b.exits > 0 {
            Self::Sometimes
        } else {
            Self::Innocuous
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Always => "exits always",
            Self::Controlled => "sensitive, dealt with by a control",
            Self::Escapes => "sensitive, does not exit",
            Self::Optional => "not sensitive, can be made to exit",
            Self::Sometimes => "not sensitive, exits in some states",
            Self::Innocuous => "not sensitive, does not exit",
        }
    }
}

const EXCEPTIONS: &str = "exception bitmap";

impl Command {
    /// The text of `--vmx`.
    pub(super) fn vmx(&self) -> Result<String> {
        if self.explain {
            return Ok(VMX_DEFINITIONS.to_owned());
        }
        let reports = Level::ALL.map(|level| (level, self.behaviours(level)));
        if self.json {
            return objects(&reports);
        }
        let mut text = String::new();
        head(&mut text, &reports, self);
        let [(_, kernel), (_, user)] = &reports;
        _ = writeln!(text, "\nRing 0");
        ring(&mut text, kernel);
        self.resolved(&mut text, kernel);
        _ = writeln!(text, "\nRing 3");
        ring(&mut text, user);
        Ok(text)
    }

    /// Runs every form at `level`, on as many host threads as there are processors.
    fn behaviours(&self, level: Level) -> Vec<Row> {
        self.on_threads(|form| behaviour(form, level, self.seed, self.states()))
    }

    fn on_threads<T: Send>(&self, judged: impl Fn(&Form) -> T + Sync) -> Vec<(Form, T)> {
        let forms = all(true).built;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let judged = &judged;
        std::thread::scope(|scope| {
            let work = |part: &[Form]| {
                let part = part.to_vec();
                scope.spawn(move || part.into_iter().map(|f| (f.clone(), judged(&f))).collect::<Vec<_>>())
            };
            let workers: Vec<_> = forms.chunks(forms.len().div_ceil(threads)).map(work).collect();
            let done = workers.into_iter().map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
            done.flatten().collect()
        })
    }

    /// The forms that break the condition under ring compression and run right here.
    fn resolved(&self, text: &mut String, kernel: &[Row]) {
        let ring = Setting { mode: Mode::Cpl1, iopl: 0, umip: false };
        let escaped: BTreeSet<String> = self
            .on_threads(|form| judge(form, ring, self.seed, self.states()).class.escapes())
            .into_iter()
            .filter(|(_, escapes)| *escapes)
            .map(|(form, _)| key(&form))
            .collect();
        let right = |b: &Behaviour| matches!(Kind::of(b), Kind::Innocuous | Kind::Sometimes);
        let resolved: Vec<&Row> =
            kernel.iter().filter(|(f, b)| right(b) && escaped.contains(&key(f))).collect();
        let title = format!(
            "break the condition under ring compression (in ring 1), and run right here without an exit, but for task \
             switches: {} forms",
            resolved.len()
        );
        *text += &wrapped(&format!("\n  {title}"), 2);
        mnemonics(text, kernel, &resolved);
        let watched = YONAH_EPT.secondary.is_some_and(|s| s.offers(Secondary::DESCRIPTOR_TABLES.bits()));
        let watch = if watched { "" } else { WATCH };
        *text += &wrapped(&format!("    Why: {WHY}.{watch}"), 4);
    }
}

/// What a form is told by.
fn key(form: &Form) -> String {
    format!("{} [{}]", form.name, form.opcode)
}

/// Why an instruction that shows or changes the guest's own state needs no exit.
const WHY: &str = "the kernel is in ring 0, and GDTR, IDTR, LDTR, TR, the segments and the flags with IF and IOPL are its \
                   own: a VM entry loads them, a VM exit saves them. What SGDT or POPF reads or changes is the guest's \
                   and not the hypervisor's, so it is not sensitive";
/// What a model without descriptor-table exiting does without.
const WATCH: &str = " (Processors with \"descriptor-table exiting\" let a hypervisor watch SGDT and its kin all the \
                     same; this model has none, and the condition does not need it.)";

fn head(text: &mut String, reports: &[(Level, Vec<Row>); 2], command: &Command) {
    let escapes = |rows: &[Row]| rows.iter().filter(|(_, b)| Kind::of(b) == Kind::Escapes).count();
    let all: usize = reports.iter().map(|(_, rows)| escapes(rows)).sum();
    let forms = reports[0].1.len();
    let answer = if all == 0 {
        "Popek and Goldberg's condition holds in VMX non-root operation: each form of instruction that is sensitive \
         exits, always or under a control that the hypervisor can set, or is given the guest's own value."
            .to_owned()
    } else {
        format!(
            "Popek and Goldberg's condition does not hold in VMX non-root operation: {all} forms are sensitive and run \
             on without an exit, under all controls."
        )
    };
    *text += &wrapped(&answer, 0);
    let how = format!(
        "({forms} forms on the model yonah-ept, {} states each, seed {}; `subring classify --vmx --explain` has the \
         definitions)",
        command.states(),
        command.seed
    );
    *text += &wrapped(&how, 0);
}

/// The forms of one ring by what they are.
fn ring(text: &mut String, rows: &[Row]) {
    let of = |kind: Kind| -> Vec<&Row> { rows.iter().filter(|(_, b)| Kind::of(b) == kind).collect() };
    for kind in [Kind::Escapes, Kind::Always, Kind::Controlled, Kind::Optional, Kind::Sometimes] {
        let found = of(kind);
        if found.is_empty() && kind != Kind::Escapes {
            continue;
        }
        _ = writeln!(text, "\n  {}: {} forms", kind.name(), found.len());
        match kind {
            Kind::Always => always(text, rows, &found),
            _ => grouped(text, rows, &found),
        }
    }
    _ = writeln!(text, "\n  {}: {} forms", Kind::Innocuous.name(), of(Kind::Innocuous).len());
}

fn by_mnemonic<'a>(rows: &[&'a Row]) -> BTreeMap<&'a str, Vec<&'a Row>> {
    let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for &row in rows {
        groups.entry(row.0.mnemonic()).or_default().push(row);
    }
    groups
}

/// Mnemonics, with their operands where only some forms are meant.
fn mnemonics(text: &mut String, rows: &[Row], found: &[&Row]) {
    let words = by_mnemonic(found).into_iter().map(|(mnemonic, forms)| {
        let all = rows.iter().filter(|(f, _)| f.mnemonic() == mnemonic).count();
        if all == forms.len() { mnemonic.to_owned() } else { format!("{mnemonic} ({})", operands(&forms)) }
    });
    let mut list = String::new();
    wrap_to(&mut list, words, WIDTH - 6);
    for line in list.lines() {
        *text += &wrapped(&format!("  {line}"), 6);
    }
}

fn always(text: &mut String, rows: &[Row], found: &[&Row]) {
    let (spared, others): (Vec<&Row>, Vec<&Row>) = found.iter().partition(|(_, b)| !b.spared_by.is_empty());
    mnemonics(text, rows, &others);
    for (mnemonic, forms) in by_mnemonic(&spared) {
        let spared: Vec<&str> = forms[0].1.spared_by.iter().copied().collect();
        *text +=
            &wrapped(&format!("    {mnemonic:<8} unless \"{}\" lets it through", spared.join("\", \"")), 13);
    }
}

/// The forms that go together: by what makes them exit, and what goes wrong otherwise.
fn grouped(text: &mut String, rows: &[Row], found: &[&Row]) {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for &row in found {
        groups.entry(what(&row.1)).or_default().push(row);
    }
    for (what, forms) in groups {
        mnemonics(text, rows, &forms);
        *text += &wrapped(&format!("        {what}"), 8);
    }
}

/// What makes a form exit, and what goes wrong otherwise.
fn what(b: &Behaviour) -> String {
    let list = |names: &[&str]| names.join(", ");
    let by: Vec<&str> = b.by.iter().copied().filter(|name| *name != EXCEPTIONS).collect();
    let answered: Vec<&str> = b.answered_by.iter().copied().filter(|name| !by.contains(name)).collect();
    let mut parts = Vec::new();
    if !by.is_empty() {
        parts.push(format!("exits by: {}", list(&by)));
    }
    if b.harm.is_some() && !answered.is_empty() {
        parts.push(format!("right without an exit by: {}", list(&answered)));
    }
    if parts.is_empty() {
        parts.push(reasons(b));
    }
    if let Some((harm, _)) = b.escape.or(b.harm) {
        parts.push(format!("else {harm}"));
    }
    parts.join("; ")
}

/// The reasons of exits that no control brings about.
fn reasons(b: &Behaviour) -> String {
    let names: Vec<&str> = b.reasons.iter().filter(|r| **r != Reason::Exception).map(|r| r.name()).collect();
    if names.is_empty() {
        "no control makes it exit".to_owned()
    } else {
        format!("exits as \"{}\"", names.join("\", \""))
    }
}

fn objects(reports: &[(Level, Vec<Row>); 2]) -> Result<String> {
    let object = |level: Level, (form, b): &Row| {
        json!({
            "ring": level.number(),
            "form": form.name,
            "opcode": form.opcode,
            "class": Kind::of(b).name(),
            "states": b.states,
            "exits_under_fewest_controls": b.exits,
            "controls": b.by,
            "spared_by": b.spared_by,
            "answered_by": b.answered_by,
            "reasons": b.reasons.iter().map(|r| r.name()).collect::<Vec<_>>(),
            "without_an_exit": b.harm.map(|(harm, _)| harm.to_string()),
            "escapes": b.escape.map(|(harm, _)| harm.to_string()),
        })
    };
    let rows: Vec<Value> =
        reports.iter().flat_map(|(level, rows)| rows.iter().map(|row| object(*level, row))).collect();
    let text = serde_json::to_string_pretty(&rows).map_err(|e| Error::Usage(e.to_string()))?;
    Ok(text + "\n")
}

//! `subring classify`: derives Popek and Goldberg's classification of IA-32 by running every form of instruction, and
//! prints it. See [`crate::classify`].

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod host;
mod vmx;

use super::output::out;
use super::progress::Progress;
use crate::classify::forms::{Form, all};
use crate::classify::judge::{Judgement, judge, tell};
use crate::classify::literature::{NOTES, compare};
use crate::classify::{Class, DEFINITIONS, Mode, Setting};
use crate::error::{Error, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// A protected-mode kernel in ring 1
    Cpl1,
    /// A protected-mode kernel in ring 3
    Cpl3,
    /// Real-mode code in virtual-8086 mode
    V86,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassArg {
    Privileged,
    ControlSensitive,
    BehaviourSensitive,
    Guarded,
    Innocuous,
    Undefined,
}

/// The options of `subring classify`.
#[derive(Args, Clone, Debug)]
pub(super) struct Command {
    /// How the guest's supervisor is de-privileged [default: cpl1; with --json and --csv: all three]
    #[arg(long)]
    mode: Option<ModeArg>,
    /// The real EFLAGS.IOPL, 0 to 3 [default: 0; with --json and --csv: 0 and 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=3))]
    iopl: Option<u8>,
    /// With CR4.UMIP set: what it repairs
    #[arg(long)]
    umip: bool,
    /// In VMX non-root operation instead: which forms exit, by which control, and whether a sensitive one does not
    #[arg(long, conflicts_with_all = ["mode", "iopl", "umip", "only", "witness", "host", "csv"])]
    vmx: bool,
    /// Only the forms of one class
    #[arg(long, value_name = "CLASS")]
    only: Option<ClassArg>,
    /// The state that proves a form's class, in full: `PUSH CS`, or a mnemonic for all of its forms
    #[arg(long, value_name = "FORM", conflicts_with_all = ["json", "csv", "only"])]
    witness: Option<String>,
    /// The definitions, exactly
    #[arg(long, conflicts_with_all = ["json", "csv", "only", "witness"])]
    explain: bool,
    /// The user-mode half on this machine's own processor: which forms trap at CPL 3, and which run (x86-64 Linux)
    #[arg(long)]
    host: bool,
    #[arg(long, hide = true, value_name = "N")]
    host_child: Option<usize>,
    /// What the states are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// States for each form, 16 to 100000 [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=100_000))]
    states: Option<u32>,
    /// JSON: an object for each form in each setting
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// CSV: a line for each form in each setting
    #[arg(long)]
    csv: bool,
}

/// One setting's forms, each with what it is.
struct Report {
    setting: Setting,
    unbuilt: usize,
    results: Vec<(Form, Judgement)>,
}

impl Command {
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        if let Some(from) = self.host_child {
            return self.host_child(from);
        }
        self.check()?;
        let mut progress = Progress::new();
        progress.begin("classify");
        let text = if self.vmx {
            self.vmx()?
        } else if self.host {
            self.host()?
        } else if self.explain {
            DEFINITIONS.to_owned()
        } else if let Some(form) = &self.witness {
            self.witnesses(form)?
        } else if self.json || self.csv {
            self.rows()?
        } else {
            self.table()
        };
        drop(progress);
        out(text.as_bytes())?;
        Ok(0)
    }

    /// Refuses what `--host` can do nothing with.
    fn check(&self) -> Result<()> {
        let unfit = [
            ("--mode", self.mode.is_some()),
            ("--iopl", self.iopl.is_some()),
            ("--umip", self.umip),
            ("--states", self.states.is_some()),
            ("--only", self.only.is_some()),
            ("--witness", self.witness.is_some()),
            ("--explain", self.explain),
            ("--json", self.json),
            ("--csv", self.csv),
        ];
        let states = [
            ("--mode", self.mode.is_some()),
            ("--iopl", self.iopl.is_some()),
            ("--umip", self.umip),
            ("--states", self.states.is_some()),
        ];
        if let Some((name, _)) = states.into_iter().find(|(_, given)| self.explain && *given) {
            return Err(Error::Usage(format!(
                "--explain prints the definitions, which are the same in every setting: leave {name} out"
            )));
        }
        match unfit.into_iter().find(|(_, given)| self.host && *given) {
            Some((name, _)) => Err(Error::Usage(format!(
                "--host runs each form once on this machine's own processor, at CPL 3 as its kernel has set it up, and prints a \
                 line for each; it can do nothing with {name}: leave one of the two out"
            ))),
            None => Ok(()),
        }
    }

    fn states(&self) -> u32 {
        self.states.unwrap_or(64)
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn host(&self) -> Result<String> {
        host::report(self.seed)
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn host_child(&self, from: usize) -> Result<u8> {
        host::run_child(from, self.seed)
    }

    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn host(&self) -> Result<String> {
        Err(Error::Usage("--host needs an x86-64 Linux host, and this is not one".into()))
    }

    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn host_child(&self, _: usize) -> Result<u8> {
        self.host().map(|_| 0)
    }

    fn modes(&self) -> Vec<Mode> {
        match self.mode {
            Some(ModeArg::Cpl1) => vec![Mode::Cpl1],
            Some(ModeArg::Cpl3) => vec![Mode::Cpl3],
            Some(ModeArg::V86) => vec![Mode::V86],
            None => Mode::ALL.to_vec(),
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let iopls = self.iopl.map_or(vec![0, 3], |n| vec![n]);
        let of = |mode| iopls.iter().map(move |&iopl| Setting { mode, iopl, umip: self.umip });
        self.modes().into_iter().flat_map(of).collect()
    }

    /// The one setting of the table and of a witness.
    fn main_setting(&self) -> Setting {
        let mode = self.mode.map_or(Mode::Cpl1, |_| self.modes()[0]);
        Setting { mode, iopl: self.iopl.unwrap_or(0), umip: self.umip }
    }

    fn class(&self) -> Option<Class> {
        self.only.map(|c| Class::ALL[c as usize])
    }

    /// Runs every form in each of the settings, on as many host threads as there are processors.
    fn reports(&self, settings: &[Setting]) -> Vec<Report> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        settings.iter().map(|&setting| self.report(setting, threads)).collect()
    }

    fn report(&self, setting: Setting, threads: usize) -> Report {
        let forms = all(setting.mode.code32());
        let share = forms.built.len().div_ceil(threads);
        let results = std::thread::scope(|scope| {
            let work = |part: Vec<Form>| {
                scope.spawn(move || {
                    let judged = |f: Form| {
                        let j = judge(&f, setting, self.seed, self.states());
                        (f, j)
                    };
                    part.into_iter().map(judged).collect::<Vec<_>>()
                })
            };
            let workers: Vec<_> = forms.built.chunks(share).map(|part| work(part.to_vec())).collect();
            let done = workers.into_iter().map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
            done.flatten().collect()
        });
        Report { setting, unbuilt: forms.unbuilt, results }
    }

    fn witnesses(&self, wanted: &str) -> Result<String> {
        let setting = self.main_setting();
        let same =
            |f: &Form| f.name.eq_ignore_ascii_case(wanted) || f.mnemonic().eq_ignore_ascii_case(wanted);
        let forms: Vec<Form> = all(setting.mode.code32()).built.into_iter().filter(same).collect();
        if forms.is_empty() {
            return Err(Error::Usage(format!(
                "there is no form `{wanted}` in {}; `subring classify --csv --mode {}` names all of them",
                setting.mode.name(),
                setting.mode.name()
            )));
        }
        let mut text = String::new();
        for form in forms {
            let j = judge(&form, setting, self.seed, self.states());
            let _ = writeln!(text, "{} [{}]: {}{}", form.name, form.opcode, j.class.name(), kind(&j));
            let _ = writeln!(text, "{}", counts(&j));
            text += &tell(&form, setting, self.seed, &j.witness);
            text.push('\n');
        }
        Ok(text)
    }

    fn rows(&self) -> Result<String> {
        let reports = self.reports(&self.settings());
        let rows: Vec<Row> = reports
            .iter()
            .flat_map(|r| r.results.iter().map(|(f, j)| Row::new(r.setting, f, j)))
            .filter(|r| self.class().is_none_or(|c| r.class == c.name()))
            .collect();
        if self.json {
            let text = serde_json::to_string_pretty(&rows).map_err(|e| Error::Usage(e.to_string()))?;
            return Ok(text + "\n");
        }
        let mut text =
            String::from("mode,iopl,umip,form,opcode,class,depends_on,trapped,ran,wrong,witness\n");
        for r in rows {
            let _ = writeln!(
                text,
                "{},{},{},\"{}\",{},{},{},{},{},{},\"{}\"",
                r.mode,
                r.iopl,
                r.umip,
                r.form,
                r.opcode,
                r.class,
                r.depends_on.unwrap_or(""),
                r.trapped,
                r.ran,
                r.wrong,
                r.witness
            );
        }
        Ok(text)
    }

    fn table(&self) -> String {
        let main = self.main_setting();
        let alone = self.mode.is_some() || self.iopl.is_some() || self.only.is_some();
        let mut settings = vec![main];
        if !alone {
            settings.extend(self.settings().into_iter().filter(|s| *s != main));
        }
        let reports = self.reports(&settings);
        let mut text = String::new();
        let report = &reports[0];
        let _ = writeln!(
            text,
            "{}: {} forms of instruction, {} states each, seed {}",
            name(main),
            report.results.len(),
            self.states(),
            self.seed
        );
        let _ = writeln!(
            text,
            "({} more forms are of later processors and #UD here; `subring classify --explain` has the definitions)",
            report.unbuilt
        );
        for class in Class::ALL {
            if self.class().is_none_or(|c| c == class) {
                section(&mut text, report, class);
            }
        }
        if self.only.is_some() {
            return text;
        }
        literature(&mut text, report);
        if !alone {
            summary(&mut text, &reports);
        }
        text
    }
}

fn name(s: Setting) -> String {
    let what = match s.mode {
        Mode::Cpl1 => "a protected-mode kernel in ring 1",
        Mode::Cpl3 => "a protected-mode kernel in ring 3",
        Mode::V86 => "real-mode code in virtual-8086 mode",
    };
    format!("{what}, IOPL {}{}", s.iopl, if s.umip { ", CR4.UMIP" } else { "" })
}

fn kind(j: &Judgement) -> String {
    j.kind.map_or(String::new(), |k| format!(" ({})", k.name()))
}

fn counts(j: &Judgement) -> String {
    format!("de-privileged it trapped in {} states, and ran in {}, wrongly in {}", j.trapped, j.ran, j.wrong)
}

/// A form of output.
#[derive(Serialize)]
struct Row {
    mode: &'static str,
    iopl: u8,
    umip: bool,
    form: String,
    opcode: String,
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends_on: Option<&'static str>,
    trapped: u32,
    ran: u32,
    wrong: u32,
    state: u32,
    witness: String,
}

impl Row {
    fn new(s: Setting, f: &Form, j: &Judgement) -> Self {
        Self {
            mode: s.mode.name(),
            iopl: s.iopl,
            umip: s.umip,
            form: f.name.clone(),
            opcode: f.opcode.clone(),
            class: j.class.name(),
            depends_on: j.kind.map(|k| k.name()),
            trapped: j.trapped,
            ran: j.ran,
            wrong: j.wrong,
            state: j.witness.state,
            witness: proof(j),
        }
    }
}

/// The witness in a few words.
fn proof(j: &Judgement) -> String {
    match (j.witness.piece, j.witness.vector, j.class) {
        (Some(piece), ..) => piece.to_string(),
        (_, Some(v), _) => format!("{} de-privileged", crate::cpu::fault::vector_name(v)),
        (.., Class::Privileged | Class::Guarded) => "it enters the monitor".into(),
        (.., Class::Undefined) => "it faults".into(),
        _ => "no difference".into(),
    }
}

fn section(text: &mut String, report: &Report, class: Class) {
    let of: Vec<&(Form, Judgement)> = report.results.iter().filter(|(_, j)| j.class == class).collect();
    let _ = writeln!(text, "\n{}: {} forms ({})", class.name(), of.len(), class.about());
    let mut groups: BTreeMap<&str, Vec<&(Form, Judgement)>> = BTreeMap::new();
    for r in &of {
        groups.entry(r.0.mnemonic()).or_default().push(r);
    }
    if !class.escapes() {
        let listed = groups.iter().map(|(m, forms)| partial(report, m, forms));
        wrap(text, listed);
        return;
    }
    for (mnemonic, forms) in groups {
        let operands = Some(operands(&forms)).filter(|o| o != "alone").unwrap_or_default();
        let first = &forms[0].1;
        let gap = if operands.len() > 30 { format!("\n{:42}", "") } else { " ".into() };
        let _ = writeln!(text, "  {mnemonic:<8} {operands:<30}{gap}{}{}", proof(first), kind(first));
    }
}

/// A mnemonic; with its operands where other forms of it are of other classes.
fn partial(report: &Report, mnemonic: &str, forms: &[&(Form, Judgement)]) -> String {
    let all = report.results.iter().filter(|(f, _)| f.mnemonic() == mnemonic).count();
    if all == forms.len() { mnemonic.to_owned() } else { format!("{mnemonic} ({})", operands(forms)) }
}

/// The operands of several forms of a mnemonic, sizes left out.
fn operands<T>(forms: &[&(Form, T)]) -> String {
    let mut seen: Vec<String> = Vec::new();
    for (form, _) in forms {
        let prefix =
            form.name.split(' ').next().filter(|p| matches!(*p, "LOCK" | "REP" | "REPNE")).unwrap_or("");
        let operands = form.name.split_once(form.mnemonic()).map_or("", |(_, rest)| rest.trim());
        let plain: String = operands.split(", ").map(unsized_operand).collect::<Vec<_>>().join(",");
        let one = [prefix, &plain].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" ");
        let one = if one.is_empty() && form.name == form.mnemonic() { "alone".to_owned() } else { one };
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen.join(" ")
}

/// `r32` to `r`, `m16:32` to `m`; registers keep their names.
fn unsized_operand(operand: &str) -> &str {
    let kind = operand.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':' || c == '&');
    if matches!(kind, "r" | "m" | "imm" | "ptr" | "moffs" | "rel") { kind } else { operand }
}

fn wrap(text: &mut String, words: impl Iterator<Item = String>) {
    wrap_to(text, words, 108);
}

fn wrap_to(text: &mut String, words: impl Iterator<Item = String>, width: usize) {
    let mut line = String::from(" ");
    for word in words {
        if line.len() + word.len() > width && line.len() > 1 {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {word}");
    }
    if line.len() > 1 {
        let _ = writeln!(text, "{line}");
    }
}

fn literature(text: &mut String, report: &Report) {
    let v86 = report.setting.mode == Mode::V86;
    let comparison = compare(&report.results, v86, report.setting.umip);
    let _ = writeln!(text, "\nSensitive and unprivileged, beside Robin and Irvine (USENIX Security 2000)");
    let mut group = "";
    for (of, listed, forms, why) in &comparison.listed {
        if *of != group {
            group = of;
            let _ = writeln!(text, "  {group}");
        }
        let derived = match why {
            Some(why) => format!("not derived: {why}"),
            None if forms.is_empty() => "not derived".into(),
            None => format!("derived, {} forms", forms.len()),
        };
        let _ = writeln!(text, "    {listed:<6} {derived}");
    }
    let _ = writeln!(text, "  derived, and not on their list");
    if comparison.beyond.is_empty() {
        let _ = writeln!(text, "    none");
    }
    for (mnemonic, why) in &comparison.beyond {
        let _ = writeln!(text, "    {mnemonic:<8} {}", why.unwrap_or("unexplained"));
    }
    if !v86 {
        let _ = writeln!(text, "  notes");
        for note in NOTES {
            let _ = writeln!(text, "    {note}");
        }
    }
}

fn summary(text: &mut String, reports: &[Report]) {
    let _ = writeln!(text, "\nForms by setting");
    let head: String = Class::ALL.iter().fold(String::new(), |line, c| line + &format!(" {:>19}", c.name()));
    let _ = writeln!(text, "  {:<12}{head}", "");
    for r in reports {
        let count = |c: Class| r.results.iter().filter(|(_, j)| j.class == c).count();
        let row: String =
            Class::ALL.iter().fold(String::new(), |line, &c| line + &format!(" {:>19}", count(c)));
        let _ = writeln!(text, "  {:<5} IOPL {}{row}", r.setting.mode.name(), r.setting.iopl);
    }
}

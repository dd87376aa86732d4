//! Running the forms: one process per host processor, one line per failing case, a summary at the end. `main` calls
//! [`run_all`], which starts this program again for every shard; a shard prints its counts on lines of their own.

use super::case::*;
use super::compare::{compare, describe, flag_names};
use super::forms::{Form, LEFT_OUT, all};
use super::generate::draw;
use super::host::HostCpu;
use super::known;
use super::ours::Ours;
use super::rng::Rng;
use std::collections::BTreeMap;
use std::process::{Child, Command, ExitCode, Stdio};

/// Failing cases printed per form.
const SHOWN: u32 = 3;

/// What one form's cases came to.
#[derive(Default)]
struct Tally {
    cases: u32,
    faults: u32,
    failures: u32,
    /// The largest difference that was met in an x87 register.
    ulps: u64,
    /// Undefined flags that differ, by class of cases.
    undefined: BTreeMap<(&'static str, u32), u32>,
}

/// Says loudly that nothing was compared.
pub fn skipped(why: &str) -> ExitCode {
    println!("*** SKIPPED: the host-CPU oracle cannot run here: {why}. Nothing was compared. ***");
    ExitCode::SUCCESS
}

/// A form's seed: its name decides, so adding a form changes no other form's cases.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Cases per form.
fn wanted() -> u32 {
    std::env::var("SUBRING_ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

/// Of how many cases one runs through the translator, too: all of them with `SUBRING_FULL=1`.
fn translated_one_in() -> u32 {
    if std::env::var_os("SUBRING_FULL").is_some_and(|v| v == "1") { 1 } else { 4 }
}

/// Who is judged.
struct Judged {
    /// Semantics by themselves.
    plain: Ours,
    /// In translated code.
    translated: Ours,
    /// Cases that ran there.
    cases: u64,
}

/// Runs one form on both sides.
fn run_form(form: &Form, host: &mut HostCpu, ours: &mut Judged) -> Tally {
    let one_in = translated_one_in();
    let mut rng = Rng::new(seed(&form.name));
    let (mut tally, mut case) = (Tally::default(), Case::default());
    let (mut theirs, mut mine) = (Outcome::default(), Outcome::default());
    tally.cases = if form.faults { wanted().div_ceil(10) } else { wanted() };
    for n in 0..tally.cases {
        draw(form.mode, form.size, &form.build, &mut rng, &mut case);
        host.run(&case, &mut theirs);
        tally.faults += u32::from(theirs.fault.is_some());
        ours.plain.run(&case, &mut mine);
        judge(form, &case, host, (&mut theirs, &mine), &mut tally);
        if n % one_in == 0 {
            ours.cases += 1;
            ours.translated.run(&case, &mut mine);
            let before = tally.failures;
            judge(form, &case, host, (&mut theirs, &mine), &mut tally);
            if tally.failures != before && tally.failures <= SHOWN {
                eprintln!("    (that was in translated code)");
            }
        }
    }
    if let Some(addr) = host.stray_write() {
        eprintln!("{}: a case wrote outside its windows, at {addr:x}", form.name);
        tally.failures += 1;
    }
    tally
}

/// Compares what the host made of `case` with what one of ours did.
fn judge(
    form: &Form,
    case: &Case,
    host: &mut HostCpu,
    (theirs, mine): (&mut Outcome, &Outcome),
    tally: &mut Tally,
) {
    let mut verdict = compare(case, theirs, mine);
    if !verdict.agrees && !case.fpu.is_empty() {
        // Another process may have had the processor in between, after which AMD's have lost the x87's pointers.
        host.run(case, theirs);
        verdict = compare(case, theirs, mine);
    }
    tally.ulps = tally.ulps.max(verdict.ulps);
    if verdict.undefined != 0 {
        *tally.undefined.entry((case.class, verdict.undefined)).or_default() += 1;
    }
    if !verdict.agrees {
        tally.failures += 1;
        if tally.failures <= SHOWN {
            eprintln!("{}", describe(&form.name, case, theirs, mine));
        }
    }
}

/// Runs the forms of shard `k/n` and prints a line for each.
pub fn run_shard(shard: &str, filters: &[String]) -> ExitCode {
    let (k, n) =
        shard.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?))).unwrap_or((0, 1));
    let (mut host, no_sixteen) = match HostCpu::new() {
        Ok(made) => made,
        Err(why) => {
            println!("SKIP {why}");
            return ExitCode::SUCCESS;
        }
    };
    if let Some(why) = &no_sixteen {
        println!("NO16 {why}");
    }
    known::check(&mut host, no_sixteen.is_none());
    known::check_comparison();
    let mut judged = Judged { plain: Ours::new(false), translated: Ours::new(true), cases: 0 };
    let forms = all(no_sixteen.is_none());
    let chosen =
        forms.iter().filter(|f| filters.is_empty() || filters.iter().any(|x| f.name.contains(x.as_str())));
    for form in chosen.skip(k).step_by(n) {
        let tally = run_form(form, &mut host, &mut judged);
        println!("FORM {} {} {} {}", tally.cases, tally.faults, tally.failures, form.name);
        if tally.ulps != 0 {
            println!("ULPS {}: {} at most", form.name, tally.ulps);
        }
        for ((class, flags), count) in tally.undefined {
            println!("UNDEFINED {}: {} in {count} cases {}", form.name, flag_names(flags), class);
        }
    }
    println!("TRANSLATED {} {}", judged.cases, judged.translated.units());
    ExitCode::SUCCESS
}

/// What all shards said.
#[derive(Default)]
struct Summary {
    forms: u32,
    cases: u64,
    faults: u64,
    failed: Vec<String>,
    undefined: Vec<String>,
    ulps: Vec<String>,
    /// Cases that ran through the translator, too, and units that did.
    translated: u64,
    units: u64,
    notes: Vec<String>,
}

impl Summary {
    fn take(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "FORM" => self.take_form(rest),
            "UNDEFINED" => self.undefined.push(rest.into()),
            "ULPS" => self.ulps.push(rest.into()),
            "TRANSLATED" => self.take_translated(rest),
            "NO16" => self.notes.push(format!("*** 16-bit code LEFT OUT on this host: {rest} ***")),
            "SKIP" => self.notes.push(format!("*** SKIPPED: {rest}. Nothing was compared. ***")),
            _ => println!("{line}"),
        }
    }

    fn take_translated(&mut self, line: &str) {
        let (cases, units) = line.split_once(' ').unwrap_or_default();
        self.translated += cases.parse::<u64>().unwrap_or(0);
        self.units += units.parse::<u64>().unwrap_or(0);
    }

    fn take_form(&mut self, line: &str) {
        let mut fields = line.splitn(4, ' ');
        let mut number = || fields.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        let (cases, faults, failures) = (number(), number(), number());
        self.forms += 1;
        self.cases += u64::from(cases);
        self.faults += u64::from(faults);
        if failures > 0 {
            let name = fields.next().unwrap_or("");
            self.failed.push(format!("{failures} of {cases} cases of {name}"));
        }
    }

    fn print(mut self) -> ExitCode {
        if self.units < self.translated / 2 {
            self.failed.push(format!("of {} cases, units ran {} times only", self.translated, self.units));
        }
        self.notes.sort();
        self.notes.dedup();
        self.failed.sort();
        for left in LEFT_OUT {
            println!("left out: {left}");
        }
        if !self.undefined.is_empty() {
            println!("undefined flags that the host leaves otherwise (not failures):");
            self.undefined.iter().for_each(|line| println!("  {line}"));
        }
        if !self.ulps.is_empty() {
            println!("transcendental results that the host has otherwise, in units in the last place:");
            self.ulps.iter().for_each(|line| println!("  {line}"));
        }
        self.failed.iter().for_each(|line| println!("FAILED: {line}"));
        self.notes.iter().for_each(|line| println!("{line}"));
        let (forms, cases, faults) = (self.forms, self.cases, self.faults);
        println!(
            "host oracle: {forms} forms, {cases} cases ({faults} faults), {} forms failed",
            self.failed.len()
        );
        println!(
            "through the translator, too: {} of these cases, in {} runs of units",
            self.translated, self.units
        );
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Starts shard `k` of `n`.
fn start(k: usize, n: usize, filters: &[String]) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    Command::new(program).arg(format!("--shard={k}/{n}")).args(filters).stdout(Stdio::piped()).spawn()
}

/// Runs all shards and prints what they found.
pub fn run_all(filters: &[String]) -> ExitCode {
    let n = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut summary = Summary::default();
    let children: Vec<_> = (0..n).map(|k| start(k, n, filters)).collect();
    // A shard's output is far smaller than what would make another one wait for long: reading in turn is enough.
    for (k, child) in children.into_iter().enumerate() {
        match child.and_then(Child::wait_with_output) {
            Ok(done) => {
                String::from_utf8_lossy(&done.stdout).lines().for_each(|line| summary.take(line));
                if !done.status.success() {
                    summary.failed.push(format!("shard {k} ended with {}", done.status));
                }
            }
            Err(why) => summary.failed.push(format!("shard {k} did not start: {why}")),
        }
    }
    summary.print()
}

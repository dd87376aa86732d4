//! ISA cases as text: what user mode cannot run (segments, levels, gates, tasks, paging, debugging), one line per
//! case. The format is in `README.md`, the cases in `cases/`.
//!
//! In reading order: `text` (files into cases), `layout` and `base` (the environment that a case starts in),
//! `descriptor`, `memory`, `state` (how things are named), `expect` (what shall be afterwards), `run`.
//!
//! `SUBRING_ISA` chooses cases whose place contains it, such as `gates.txt` or `gates.txt:12`.
#![allow(unreachable_pub, missing_docs)]

mod base;
mod descriptor;
mod expect;
mod layout;
mod memory;
mod run;
mod state;
mod text;
mod vmx;

use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isa").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the cases are there")
        .map(|e| e.expect("readable").path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
}

fn cases(path: &Path) -> Result<Vec<text::Case>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    text::parse(&name, &std::fs::read_to_string(path).expect("a readable file"))
}

/// What became of cases.
#[derive(Default)]
struct Tally {
    /// What failed, by place among the cases.
    failures: Vec<(usize, String)>,
    /// Cases of which something ran translated, and of which whole units did.
    translated: usize,
    units: usize,
    /// Cases of which something ran in VMX non-root operation, with no exit.
    non_root: usize,
    /// Cases that ended otherwise there, and may.
    fresher: usize,
}

/// Runs every `n`th case from the `first` on.
fn run_share(cases: &[text::Case], first: usize, n: usize) -> Tally {
    let mut tally = Tally::default();
    for (index, case) in cases.iter().enumerate().skip(first).step_by(n) {
        match run::check(case) {
            Ok(ran) => {
                tally.translated += usize::from(ran.translated);
                tally.units += usize::from(ran.units);
                tally.non_root += usize::from(ran.non_root);
                tally.fresher += usize::from(ran.fresher);
            }
            Err(what) => {
                let head = format!("{}: {}\n  {}", case.place, case.group, case.assembly);
                tally.failures.push((index, format!("{head}\n{}", what.trim_end())));
            }
        }
    }
    tally
}

/// Runs all cases, dealt out to the host's processors.
fn run_all(cases: &[text::Case]) -> Tally {
    let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..n).map(|first| scope.spawn(move || run_share(cases, first, n))).collect();
        shares.into_iter().map(|s| s.join().expect("no case panics")).fold(
            Tally::default(),
            |mut all, one| {
                all.failures.extend(one.failures);
                all.translated += one.translated;
                all.units += one.units;
                all.non_root += one.non_root;
                all.fresher += one.fresher;
                all
            },
        )
    });
    all.failures.sort();
    all
}

#[test]
fn every_case_ends_as_the_manual_says() {
    let wanted = std::env::var("SUBRING_ISA").unwrap_or_default();
    let (mut ran, mut all, mut failures) = (0, Tally::default(), Vec::new());
    for path in files("cases") {
        let mut count = 0;
        match cases(&path) {
            Ok(mut cases) => {
                cases.retain(|c| c.place.contains(&wanted));
                count = cases.len();
                let tally = run_all(&cases);
                all.translated += tally.translated;
                all.units += tally.units;
                all.non_root += tally.non_root;
                all.fresher += tally.fresher;
                failures.extend(tally.failures.into_iter().map(|(_, what)| what));
            }
            Err(e) => failures.push(e),
        }
        println!("{count:>5} cases  {}", path.display());
        ran += count;
    }
    println!(
        "{ran:>5} cases  in all, each run fast, observed, on the portable engine, and under three monitors"
    );
    let Tally { translated, units, non_root, fresher, .. } = all;
    println!("{translated:>5} of them  with instructions in translated code, {units} with units that ran");
    println!("{non_root:>5} of them  with instructions in VMX non-root operation");
    println!(
        "{fresher:>5} of them  ended otherwise under a monitor, and may: they rely on a stale TLB entry"
    );
    assert!(ran > 0, "no case matches {wanted:?}");
    assert!(failures.is_empty(), "{} of {ran} cases failed\n{}", failures.len(), failures.join("\n"));
    assert!(fresher <= 17, "{fresher} cases end otherwise under the monitor, and it used to be 17");
    assert!(!wanted.is_empty() || units * 4 > ran, "units ran in {units} of {ran} cases");
    assert!(!wanted.is_empty() || non_root * 2 > ran, "{non_root} of {ran} cases ran in non-root operation");
}

#[test]
fn every_case_of_vmx_ends_as_the_manual_says() {
    let wanted = std::env::var("SUBRING_ISA").unwrap_or_default();
    let (mut ran, mut failures) = (0, Vec::new());
    for path in files("vmx") {
        let cases = cases(&path).expect("the file means something");
        for case in cases.iter().filter(|c| c.place.contains(&wanted)) {
            ran += 1;
            if let Err(what) = vmx::check(case) {
                failures.push(format!(
                    "{}: {}\n  {}\n{}",
                    case.place,
                    case.group,
                    case.assembly,
                    what.trim_end()
                ));
            }
        }
    }
    println!("{ran:>5} cases of VMX");
    assert!(!wanted.is_empty() || ran > 400, "there are {ran} cases");
    assert!(failures.is_empty(), "{} of {ran} cases failed\n{}", failures.len(), failures.join("\n"));
}

/// What is wrong with the only case of `text`, in protected mode at CPL 0.
fn failure(line: &str) -> String {
    let cases = text::parse("here", &format!("env prot32\ngroup Vol. 2: a\n{line}\n")).expect("a case");
    run::check(&cases[0]).expect_err("the case is wrong")
}

#[test]
fn a_case_that_says_too_little_or_something_wrong_fails() {
    assert!(failure("40 | inc eax | eax=1 | ").contains("eax          expected 0x1, got 0x2"));
    assert!(failure("40 | inc eax | eax=1 | eax=3").contains("eax          expected 0x3, got 0x2"));
    assert!(
        failure("40 | inc ecx | eax=1 | eax=2").contains("disassembly: expected `inc ecx`, got `inc eax`")
    );
    assert!(failure("0f 0b | ud2 | | ").contains("exceptions   expected none, got #UD"));
    assert!(failure("0f 0b | ud2 | | #GP(0)").contains("exceptions   expected #GP(0x0), got #UD"));
    assert!(failure("90 | nop | | #UD").contains("exceptions   expected #UD, got none"));
    assert!(failure("50 | push eax | | esp=stack-4").contains("mem 0xdffc   expected 0x00000000"));
    assert!(
        failure("8e d8 | mov ds,eax | eax=0x08 | ds=0x10").contains("ds           expected 0x10, got 0x8")
    );
    let fresh = "gdt 0x80 = data32 fresh\n8e d8 | mov ds,eax | eax=0x80 | ds=0x80";
    assert!(failure(fresh).contains("mem 0x1084"));
}

#[test]
fn a_line_that_means_nothing_is_refused() {
    let parse = |line: &str| text::parse("here", &format!("group a\n{line}\n"));
    assert!(parse("90 | nop |").is_err_and(|e| e == "here:2: a case has four columns, not 3"));
    assert!(parse("zz | nop | | ").is_err_and(|e| e == "here:2: `zz` is not a byte"));
    assert!(text::parse("here", "90 | nop | | ").is_err());
    assert!(failure("90 | nop | rax=1 | ").contains("there is no register or flag `rax`"));
    assert!(failure("90 | nop | gdt 0x80 = data64 | ").contains("`data64` is not a kind of descriptor"));
}

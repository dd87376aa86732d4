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

use std::path::{Path, PathBuf};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isa/cases");
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

/// Runs every `n`th case from the `first` on; what failed, by place in `cases`.
fn run_share(cases: &[text::Case], first: usize, n: usize) -> Vec<(usize, String)> {
    let mut failures = Vec::new();
    for (index, case) in cases.iter().enumerate().skip(first).step_by(n) {
        if let Err(what) = run::check(case) {
            let head = format!("{}: {}\n  {}", case.place, case.group, case.assembly);
            failures.push((index, format!("{head}\n{}", what.trim_end())));
        }
    }
    failures
}

/// Runs all cases, dealt out to the host's processors.
fn run_all(cases: &[text::Case]) -> Vec<String> {
    let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut failures: Vec<(usize, String)> = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..n).map(|first| scope.spawn(move || run_share(cases, first, n))).collect();
        shares.into_iter().flat_map(|s| s.join().expect("no case panics")).collect()
    });
    failures.sort();
    failures.into_iter().map(|(_, what)| what).collect()
}

#[test]
fn every_case_ends_as_the_manual_says() {
    let wanted = std::env::var("SUBRING_ISA").unwrap_or_default();
    let (mut ran, mut failures) = (0, Vec::new());
    for path in files() {
        let mut count = 0;
        match cases(&path) {
            Ok(mut cases) => {
                cases.retain(|c| c.place.contains(&wanted));
                count = cases.len();
                failures.extend(run_all(&cases));
            }
            Err(e) => failures.push(e),
        }
        println!("{count:>5} cases  {}", path.display());
        ran += count;
    }
    println!("{ran:>5} cases  in all, each run twice");
    assert!(ran > 0, "no case matches {wanted:?}");
    assert!(failures.is_empty(), "{} of {ran} cases failed\n{}", failures.len(), failures.join("\n"));
}

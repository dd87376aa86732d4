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

#[test]
fn every_case_ends_as_the_manual_says() {
    let wanted = std::env::var("SUBRING_ISA").unwrap_or_default();
    let (mut ran, mut failures) = (0, Vec::new());
    for path in files() {
        let before = ran;
        match cases(&path) {
            Ok(cases) => {
                for case in cases.iter().filter(|c| c.place.contains(&wanted)) {
                    ran += 1;
                    if let Err(what) = run::check(case) {
                        let head = format!("{}: {}\n  {}", case.place, case.group, case.assembly);
                        failures.push(format!("{head}\n{}", what.trim_end()));
                    }
                }
            }
            Err(e) => failures.push(e),
        }
        println!("{:>5} cases  {}", ran - before, path.display());
    }
    println!("{ran:>5} cases  in all, each run twice");
    assert!(ran > 0, "no case matches {wanted:?}");
    assert!(failures.is_empty(), "{} of {ran} cases failed\n{}", failures.len(), failures.join("\n"));
}

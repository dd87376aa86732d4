//! The rules of the repository, as tests: which module may use which, where `unsafe` and iced-x86 may stand, and how a
//! file looks. The layers are those of the table in `src/lib.rs`, in finer rows.

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// The rows of `src/`, from the top. A module uses its own files and lower rows only.
const ROWS: [&[&str]; 27] = [
    &["main"],
    &["cli"],
    &["theorem"],
    &["explorer"],
    &["lab"],
    &["debug"],
    &["load"],
    &["snapshot"],
    &["vmm"],
    &["machine"],
    &["report"],
    &["classify"],
    &["translate"],
    &["interp"],
    &["exec"],
    &["firmware"],
    &["device"],
    &["media"],
    &["mmu"],
    &["bus"],
    &["console"],
    &["cpu"],
    &["decode"],
    &["mem"],
    &["cell", "event"],
    &["host"],
    &["addr", "width", "clock", "error", "saved", "seeded", "symbols"],
];

/// The files that may hold `unsafe`, each for one reason that its SAFETY comments give.
const UNSAFE_FILES: [&str; 6] = [
    "src/classify/host_cpu.rs", // running single instructions on the host's own processor
    "src/host/lock.rs",         // fcntl(2) with a lock on single bytes, as QEMU has them
    "src/mem/ram.rs",           // mapping the memfd that is guest RAM
    "src/translate/backend/native/host.rs", // running generated code on the host's own processor
    "src/translate/backend/native/window.rs", // mapping guest RAM where generated code finds it
    "tests/host_oracle/host.rs", // running test cases on the host's own processor
];

/// The files that may name iced-x86: from bytes to our instructions, and from instructions to the host's bytes.
const ICED_FILES: [&str; 3] =
    ["src/decode/lower.rs", "src/decode/disasm.rs", "src/translate/backend/native/emit.rs"];

/// The longest file in `src/`, in lines.
const LONGEST: usize = 700;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: its path from the repository's root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines that are code: comments (and with them documentation links) and string literals blanked out.
    fn code(&self) -> Vec<String> {
        self.text.lines().map(code_of).collect()
    }

    /// The top-level module that a file of `src/` belongs to: `src/cpu/flags.rs` to `cpu`.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split(['/', '.']).next().unwrap_or(inner)
    }
}

/// A line without its strings and its line comment.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut rest = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' if in_string => _ = rest.next(),
            '"' if !code.ends_with('\'') => in_string = !in_string,
            '/' if !in_string && rest.peek() == Some(&'/') => break,
            _ if !in_string => code.push(c),
            _ => {}
        }
    }
    code
}

/// The Rust files below `dir`, in the order of their paths.
fn sources(dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a readable source file");
                let path =
                    path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// All Rust files of the repository.
fn all_sources() -> Vec<Source> {
    ["src", "tests", "benches", "fuzz/fuzz_targets"].into_iter().flat_map(sources).collect()
}

/// Where `code` holds `word` and no longer word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// The top-level modules that a line names after `crate::`, also within braces.
fn imports(code: &str) -> Vec<String> {
    let name =
        |s: &str| s.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().map(String::from);
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let Some(path) = code[at..].strip_prefix("crate::") else { continue };
        match path.strip_prefix('{') {
            Some(list) => found.extend(top_level(list).into_iter().filter_map(name)),
            None => found.extend(name(path)),
        }
    }
    found.retain(|n| !n.is_empty());
    found
}

/// The items of a `{…}` list, up to its closing brace, without what stands in inner braces.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[start..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    items
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|r| r.contains(&module))
}

fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}", wrong.join("\n  "));
}

#[test]
fn a_module_uses_only_lower_rows() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources("src").iter().filter(|s| s.path != "src/lib.rs") {
        let own = row(source.module());
        if own.is_none() {
            wrong.push(format!("{}: `{}` is in no row of this test", source.path, source.module()));
        }
        // Joined, so that a `use` list over several lines is one; the line is told by counting.
        let code = source.code().join(" ");
        for used in imports(&code) {
            seen += 1;
            let lower = row(&used).zip(own).is_some_and(|(used, own)| used > own);
            if used != source.module() && !lower {
                wrong.push(format!("{} uses crate::{used}", source.path));
            }
        }
    }
    assert!(seen > 100, "the scan finds imports at all: {seen}");
    assert_none(wrong, "a module uses only its own files and lower rows");
}

#[test]
fn the_scan_of_imports_sees_every_form() {
    assert_eq!(imports("use crate::cpu::{Cpu, Fault};"), ["cpu"]);
    assert_eq!(imports("use crate::{addr::Linear, cpu::{Cpu, gpr}, mem};"), ["addr", "cpu", "mem"]);
    assert_eq!(imports("let w: crate::width::Width = $crate::decode::X;"), ["width", "decode"]);
    assert!(imports(&code_of("/// see [`crate::cli`]")).is_empty());
    assert!(imports(&code_of("pub(crate) fn f() { print(\"crate::cli\") }")).is_empty());
}

#[test]
fn the_map_names_every_module() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let map: Vec<&str> = lib.lines().filter(|l| l.starts_with("//! |")).collect();
    let mut wrong = Vec::new();
    for line in lib.lines() {
        let Some(module) = line.strip_prefix("pub mod ").and_then(|m| m.strip_suffix(';')) else { continue };
        let link = format!("[`{module}`]");
        if !map.iter().any(|l| l.contains(&link)) {
            wrong.push(module.to_owned());
        }
        if row(module).is_none() {
            wrong.push(format!("{module} (in ROWS of this test)"));
        }
    }
    assert_none(wrong, "the table in src/lib.rs names every module");
}

#[test]
fn one_file_names_the_decoder_library() {
    let named = |s: &Source| s.code().iter().any(|l| words(l, "iced_x86").next().is_some());
    let wrong = sources("src").into_iter().filter(|s| !ICED_FILES.contains(&s.path.as_str()) && named(s));
    assert_none(
        wrong.map(|s| s.path).collect(),
        "iced_x86 is named in src/decode/lower.rs, disasm.rs and the backend's emit.rs only",
    );
}

#[test]
fn unsafe_stands_in_few_files_and_says_why() {
    let mut wrong = Vec::new();
    for source in all_sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, code) in source.code().iter().enumerate() {
            if words(code, "unsafe").next().is_none() {
                continue;
            }
            let at = format!("{}:{}", source.path, n + 1);
            if !UNSAFE_FILES.contains(&source.path.as_str()) {
                wrong.push(format!("{at}: not in a file that may"));
            } else if !explained(&lines[..n]) {
                wrong.push(format!("{at}: no SAFETY comment above"));
            }
        }
    }
    assert_none(wrong, "`unsafe` stands in the listed files only, each under a SAFETY comment");
}

/// Whether the comment nearest above the last line, within its statement, is a SAFETY comment.
fn explained(above: &[&str]) -> bool {
    let is_comment = |l: &&&str| l.trim_start().starts_with("//");
    let code = above.iter().rev().take_while(|l| !is_comment(l)).count();
    let comment = above.iter().rev().skip(code).take_while(is_comment);
    code <= 2 && comment.into_iter().any(|l| l.contains("SAFETY") || l.contains("# Safety"))
}

#[test]
fn every_file_begins_with_what_it_is() {
    let wrong = all_sources().into_iter().filter(|s| !s.text.starts_with("//! "));
    assert_none(wrong.map(|s| s.path).collect(), "a file begins with a `//!` header");
}

#[test]
fn files_are_short() {
    let long = |s: &Source| s.text.lines().count() > LONGEST;
    let wrong = sources("src").into_iter().filter(long);
    let told = wrong.map(|s| format!("{}: {} lines", s.path, s.text.lines().count()));
    assert_none(told.collect(), "no file of src/ is longer than 700 lines");
}

#[test]
fn nothing_is_left_to_do() {
    // Spelled apart, so that this file does not hold what it looks for.
    let marks = [concat!("todo", "!"), concat!("unimplemented", "!"), concat!("FIX", "ME")];
    let mut wrong = Vec::new();
    for source in all_sources() {
        for (n, line) in source.text.lines().enumerate() {
            if marks.iter().any(|m| line.contains(m)) {
                wrong.push(format!("{}:{}", source.path, n + 1));
            }
        }
    }
    assert_none(wrong, "no unfinished code");
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let (mut section, mut explained, mut wrong) = (String::new(), false, Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else {
            if section.contains("dependencies") && line.contains('=') && !explained {
                wrong.push(line.to_owned());
            }
            explained = false;
        }
    }
    assert_none(wrong, "a comment above a dependency says what it is for");
}

#[test]
fn the_book_shows_code_that_is_there() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for chapter in fs::read_dir(root().join("book/src")).expect("the book").flatten() {
        if chapter.path().is_dir() {
            continue;
        }
        let text = fs::read_to_string(chapter.path()).expect("a chapter");
        for include in text.split("{{#include ").skip(1).filter_map(|rest| rest.split("}}").next()) {
            seen += 1;
            let (file, anchor) = include.split_once(':').unwrap_or((include, ""));
            let source = fs::read_to_string(root().join("book/src").join(file)).unwrap_or_default();
            let has = |mark: &str| source.lines().any(|l| l.trim() == format!("// {mark}: {anchor}"));
            if !has("ANCHOR") || !has("ANCHOR_END") {
                wrong.push(format!("{}: {include}", chapter.path().display()));
            }
        }
    }
    assert!(seen > 0, "the scan finds includes at all");
    assert_none(wrong, "each include of the book names an anchor of a source file");
}

//! The program as its user runs it, and what it says.

// Each test takes what it needs of this.
#![allow(dead_code)]

use std::process::{Command, Output, Stdio};

/// The program with these arguments.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_subring"));
    command.args(args);
    command
}

/// Runs it with nothing to read.
pub(crate) fn subring(args: &[&str]) -> Output {
    program(args).stdin(Stdio::null()).output().unwrap()
}

/// What it put out, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it and asserts the exit status.
#[track_caller]
pub(crate) fn ends(args: &[&str], status: i32) -> Output {
    let output = subring(args);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
    output
}

/// Asserts that a run is refused with one sentence that contains `words`.
#[track_caller]
pub(crate) fn refused(args: &[&str], status: i32, words: &str) {
    let output = ends(args, status);
    let said = text(&output.stderr);
    assert!(said.contains(words), "{args:?}: `{said}` does not say `{words}`");
    // A note about the guest may stand before.
    assert_eq!(said.lines().filter(|line| !line.starts_with("subring: note: ")).count(), 1, "{said}");
    assert!(output.stdout.is_empty(), "nothing on stdout");
}

//! The command line: `subring`, `subring guests`, `subring run`, `subring snapshot`, `subring classify`, `subring
//! theorem`. One file per command; [`session`] is the loop that drives a machine for all of them, over the seam
//! [`session::Pc`].

pub mod args;
pub mod board;
pub mod builtin;
mod classify;
pub mod compare;
mod compare_report;
mod demo;
pub mod dump;
mod guests;
pub mod keys;
mod mmu;
pub mod monitor;
mod monitored;
mod progress;
pub mod report;
mod rules;
pub mod run;
pub mod screen;
pub mod session;
pub mod snapshot;
mod source;
pub mod tap;
pub mod terminal;
pub mod theorem;
mod trace;
pub mod translate;
mod translate_report;

use crate::error::Error;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Printed below the options of `subring --help` and `subring run --help`.
pub(crate) const STATUS_HELP: &str = "\
At a terminal, stdin goes to the guest's serial port:
  Ctrl-A X leaves, Ctrl-A C shows registers, Ctrl-A A sends Ctrl-A, Ctrl-A H helps

Exit status:
  0-255  the guest's own: the byte it wrote to port 0xF4
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option
  0      also: the guest turned the machine off (ACPI)
  120    triple fault
  121    halted for ever: HLT with nothing left that could wake it
  122    the guest asked for a reset
  124    the budget (--budget, --time) is spent
  130    left with Ctrl-A X, ended by gdb, or interrupted by a signal
A guest may choose one of these numbers itself; --json says which it was.";

#[derive(Parser)]
#[command(name = "subring", version, about, long_about = None, after_help = STATUS_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a guest and show its console
    Run(Box<run::Run>),
    /// Run a guest on the bare machine and under every monitor, and show what each costs and where it goes another way
    Compare(Box<compare::Command>),
    /// Show guest page tables, shadow page tables and the TLB side by side, and who changed what
    Mmu(Box<mmu::Command>),
    /// Run a guest under binary translation, and show what became of its code
    Translate(Box<translate::Command>),
    /// Run a guest to a point and save the machine, for `run --restore`
    Snapshot(Box<snapshot::Command>),
    /// List the built-in guests
    Guests,
    /// Popek and Goldberg's theorem on its own machine: which instruction sets it admits, and what breaks on the others
    Theorem(theorem::Command),
    /// Derive Popek and Goldberg's classification of IA-32 by running every form of instruction
    Classify(classify::Command),
}

/// Runs the program with `args` (the program's name first); machines come from `build`.
pub fn main(args: impl IntoIterator<Item = OsString>, build: &session::Build) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout with status 0; a closed pipe there is no news.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    let lists_rules = match &cli.command {
        Some(Command::Run(args)) => args.monitor.list_rules,
        Some(Command::Compare(args)) => args.lists_rules(),
        Some(Command::Mmu(args)) => args.lists_rules(),
        Some(Command::Snapshot(args)) => args.lists_rules(),
        Some(Command::Translate(args)) => args.lists_rules(),
        _ => false,
    };
    let result = match cli.command {
        _ if lists_rules => out(rules::list().as_bytes()).map(|()| 0),
        None => demo::run(build),
        Some(Command::Guests) => guests::run(),
        Some(Command::Theorem(args)) => args.run(),
        Some(Command::Classify(args)) => args.run(),
        Some(Command::Run(args)) => args.run(build),
        Some(Command::Compare(args)) => args.run(),
        Some(Command::Mmu(args)) => args.run(),
        Some(Command::Snapshot(args)) => args.run(build),
        Some(Command::Translate(args)) => args.run(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            tell(&format!("subring: {e}\n"));
            ExitCode::from(if matches!(e, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// Whether output went to a reader that had left.
fn is_closed_pipe(e: &Error) -> bool {
    matches!(e, Error::Host { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes to stderr. That it cannot be written (a full disk behind it) has nowhere to be told.
pub(crate) fn tell(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Tells what the loader had to say of a guest.
pub(crate) fn tell_notes(notes: &[String]) {
    notes.iter().for_each(|note| tell(&format!("subring: note: {note}\n")));
}

/// Creates a file of the user's, or says why not.
pub(crate) fn create(path: &std::path::Path) -> crate::error::Result<std::fs::File> {
    std::fs::File::create(path).map_err(|e| Error::file("create", path, e))
}

/// Writes to stdout and flushes; a failure says so.
pub(crate) fn out(bytes: &[u8]) -> crate::error::Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Host { action: "write to standard output", source })
}

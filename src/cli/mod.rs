//! The command line. One file per command: `run`, `compare`, `mmu`, `vmcs`, `translate`, `snapshot`, `guests`, `cpus`,
//! `theorem`, `classify`; `demo` is `subring` alone. What the commands share, from the options to the report:
//!
//! - `guest_args`, `monitor`: the options that every command with a guest takes; `restore` starts from a snapshot.
//! - `launch`: from those options to a [`crate::load::Spec`], which builds the machine; `source` finds the guest.
//! - `session`: the loop that drives a machine over the seam [`pc::Pc`]; `emulator` is the machine behind it.
//! - `terminal`, `screen`, `keys`, `record_replay`: what goes into a machine and comes out of it while it runs.
//! - `ending`, `stats`, `state`, `report`: what is left at the end.

pub mod args;
mod classify;
mod columns;
pub mod compare;
mod cpus;
mod demo;
pub mod dump;
pub mod emulator;
pub mod ending;
pub mod guest_args;
mod guests;
pub mod keys;
mod launch;
mod mmu;
pub mod monitor;
pub mod monitored;
mod output;
pub mod pc;
mod place;
mod progress;
mod record_file;
pub mod record_replay;
pub mod report;
pub mod restore;
mod rules;
pub mod run;
mod run_progress;
pub mod screen;
pub mod session;
mod signals;
pub mod snapshot;
mod source;
pub mod state;
pub mod stats;
mod status;
pub mod stop_on;
mod symbol_file;
mod terminal;
pub mod theorem;
pub mod trace;
pub mod translate;
mod translate_report;
mod vmcs;

use crate::error::Error;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "subring", version, about, long_about = None, max_term_width = 80, after_help = status::HELP)]
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
    /// Show the control structure of a guest's own hypervisor, its last VM exit, and why a VM entry failed
    Vmcs(Box<vmcs::Command>),
    /// Run a guest under binary translation, and show what became of its code
    Translate(Box<translate::Command>),
    /// Run a guest to a point and save the machine, for `run --restore`
    Snapshot(Box<snapshot::Command>),
    /// List the built-in guests
    Guests,
    /// List the processor models and what each has
    Cpus(cpus::Command),
    /// Popek and Goldberg's theorem on its own machine: which instruction sets it admits, and what breaks on the others
    Theorem(theorem::Command),
    /// Derive Popek and Goldberg's classification of IA-32 by running every form of instruction
    Classify(classify::Command),
}

/// Runs the program with `args` (the program's name first).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout with status 0; a closed pipe there is no news.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    let lists_rules = match &cli.command {
        Some(Command::Run(args)) => args.lists_rules(),
        Some(Command::Compare(args)) => args.lists_rules(),
        Some(Command::Mmu(args)) => args.lists_rules(),
        Some(Command::Snapshot(args)) => args.lists_rules(),
        Some(Command::Translate(args)) => args.lists_rules(),
        _ => false,
    };
    let result = match cli.command {
        _ if lists_rules => output::out(rules::list().as_bytes()).map(|()| 0),
        None => demo::run(),
        Some(Command::Guests) => guests::run(),
        Some(Command::Cpus(args)) => args.run(),
        Some(Command::Theorem(args)) => args.run(),
        Some(Command::Classify(args)) => args.run(),
        Some(Command::Run(args)) => args.run(),
        Some(Command::Compare(args)) => args.run(),
        Some(Command::Mmu(args)) => args.run(),
        Some(Command::Vmcs(args)) => args.run(),
        Some(Command::Snapshot(args)) => args.run(),
        Some(Command::Translate(args)) => args.run(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::tell(&format!("subring: {e}\n"));
            ExitCode::from(if matches!(e, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

/// Whether output went to a reader that had left.
fn is_closed_pipe(e: &Error) -> bool {
    matches!(e, Error::Host { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

//! `subring compare`: one guest on the bare machine and under every monitor that is built, side by side.
//! Where a monitor goes another way than the bare machine, the first instruction after which it does.

mod all;
mod csv;
mod json;
mod left_out;
mod phases;
mod table;
mod text;

use self::left_out::LeftOut;
use self::table::{Subject, Table};
use self::text::Detail;
use super::emulator::Emulator;
use super::ending::Ending;
use super::guest_args::GuestArgs;
use super::output::{out, tell_notes};
use super::progress::Progress;
use super::session;
use super::signals::watch_signals;
use super::terminal::{Console, Setup};
use crate::cell::{Cell, Choice, Engine, Strategy};
use crate::error::{Error, Result};
use crate::lab::compare::census;
use crate::lab::compare::{Comparison, Doing, Reference, Row, Variant, adaptation, findings, variants};
use crate::lab::guest::Guest;
use crate::load::{Spec, Symbol};
use crate::machine::Machine;
use crate::vmm;
use crate::vmm::cost::{Costs, Generation};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Printed below the options.
const HELP: &str = "\
Exit status:
  0      the table is there, whatever it shows
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option
  3      with --expect: a row is not as expected
  130    interrupted: the rows that were finished are printed";

/// The exit status when a row is not as `--expect` says.
const UNEXPECTED: u8 = 3;

/// The options of `subring compare`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("load_at", |arg| arg.alias("at")), after_help = HELP)]
pub struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    /// What exits cost, in modelled cycles: a TOML file in the form of the built-in table,
    /// src/vmm/costs.toml, with the costs that differ from it
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Price VM exits under hvm as this generation of processors takes them
    #[arg(long, value_enum, default_value_t)]
    generation: Generation,
    /// Print what an operation costs in each phase that the guest marks (port 0xec), and not the whole run;
    /// `nano`, `bench` and `rings` mark theirs
    #[arg(long, conflicts_with_all = ["wide", "exits"])]
    by_phase: bool,
    /// Print all columns of the table, and what became of translated code
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    wide: bool,
    /// Explain the columns
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    legend: bool,
    /// Print all exits by cause, and where most of them come from; with --json, which has the causes anyway,
    /// up to 4096 places
    #[arg(long)]
    exits: bool,
    /// Compare after each instruction under trap, at each exit and at the end of each translation unit under
    /// bt, not only in growing strides: this finds what goes wrong and heals. A comparison takes about 3
    /// microseconds, a row some ten times as long as without (20 M instructions: about a minute)
    #[arg(long)]
    lockstep: bool,
    /// Under trap, go on after each divergence with the bare machine's state, and print every sensitive
    /// unprivileged instruction that ran: where, how often, how often it went wrong, and what differed
    #[arg(long, conflicts_with_all = ["lockstep", "exits", "wide", "by_phase", "legend", "costs", "generation", "expect"])]
    all: bool,
    /// End with status 3 unless each row but the bare machine's is so
    #[arg(long, value_enum)]
    expect: Option<Expected>,
    /// Print the table as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print the table as one JSON object
    #[arg(long)]
    json: bool,
}

/// `--expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Expected {
    /// The guest does the same as on the bare machine
    Same,
    /// The guest goes another way than on the bare machine
    Diverged,
}

impl Expected {
    /// Whether all rows but the first, which is the bare machine's, are so.
    fn holds(self, rows: &[Row]) -> bool {
        rows.iter().skip(1).all(|row| row.outcome.is_other() == (self == Self::Diverged))
    }
}

/// What the bare machine's run gives for the others.
struct Base {
    reference: Reference,
    interrupted: bool,
    symbols: Vec<Symbol>,
    hash: u64,
}

impl Command {
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        let costs = self.costs.as_deref().map_or_else(|| Ok(Costs::default()), Costs::read)?;
        let costs = costs.of_generation(self.generation);
        self.check()?;
        let signal = watch_signals()?;
        let mut progress = Progress::new();
        let base = self.reference(&mut progress)?;
        if self.all {
            return self.every_divergence(&base, &signal, progress);
        }
        let (variants, left_out) = self.variants();
        let mut rows = vec![base.reference.row(&costs)];
        let compared = || self.rows(&base, &costs, variants, &signal, (&mut rows, &mut progress));
        let interrupted = base.interrupted || !compared()?;
        drop(progress);
        let table = Table {
            subject: self.subject(base.hash, &costs),
            findings: findings(&rows, &base.symbols),
            adaptation: adaptation(&rows),
            left_out,
            rows,
            interrupted,
        };
        out(self.rendered(&table).as_bytes())?;
        if self.csv {
            tell_notes(&table.left_out.iter().map(LeftOut::sentence).collect::<Vec<_>>());
        }
        Ok(match self.expect {
            _ if interrupted => 130,
            Some(expected) if !expected.holds(&table.rows) => UNEXPECTED,
            _ => 0,
        })
    }

    fn rendered(&self, table: &Table) -> String {
        if self.json {
            json::json(table, self.exits)
        } else if self.csv && self.by_phase {
            phases::csv(table)
        } else if self.csv {
            csv::csv(table)
        } else {
            let Self { wide, exits, legend, by_phase, .. } = *self;
            text::text(table, Detail { wide, exits, legend, by_phase })
        }
    }

    /// `--all`. Gives the program's exit status.
    fn every_divergence(&self, base: &Base, signal: &AtomicBool, mut progress: Progress) -> Result<u8> {
        let cell = self.choice().cell()?;
        let config = self.guest.monitor_for(cell);
        let guest =
            |monitor| Ok::<_, Error>(Guest::new(self.machine(monitor)?, base.reference.inputs.clone()));
        let (bare, trapped) = (guest(None)?, guest(Some(config))?);
        let found = census::census(bare, trapped, base.reference.limit, &base.symbols, |retired| {
            progress.tell(&format!("following {cell}"), retired, Some(base.reference.retired));
            !signal.load(Ordering::Relaxed)
        })?;
        drop(progress);
        let Some(census) = found else { return Ok(130) };
        let found = all::Found { subject: self.subject(base.hash, &Costs::default()), cell, census };
        let text = if self.json {
            all::json(&found)
        } else if self.csv {
            all::csv(&found)
        } else {
            all::text(&found)
        };
        out(text.as_bytes())?;
        Ok(if base.interrupted { 130 } else { 0 })
    }

    /// The axes of the cube as asked for; if no strategy is, of the first that the engine can run.
    fn choice(&self) -> Choice {
        let choice = self.guest.monitor.choice();
        let usual = if choice.engine == Some(Engine::Portable) { Strategy::Bt } else { Strategy::Trap };
        Choice { strategy: choice.strategy.or(Some(usual)), ..choice }
    }

    /// Adds the rows of `variants`. `false`: a signal came.
    fn rows(
        &self,
        base: &Base,
        costs: &Costs,
        variants: Vec<vmm::Config>,
        signal: &AtomicBool,
        (rows, progress): (&mut Vec<Row>, &mut Progress),
    ) -> Result<bool> {
        let build = |monitor| self.machine(monitor);
        let comparison = Comparison {
            build: &build,
            reference: &base.reference,
            costs,
            symbols: &base.symbols,
            lockstep: self.lockstep,
            by_phase: self.by_phase,
        };
        if self.by_phase && !self.bare_phases(&comparison, signal, (rows, progress))? {
            return Ok(false);
        }
        for config in variants {
            let name = Variant::from(config).to_string();
            let row = comparison.row(config, |doing, retired| {
                let doing = match doing {
                    Doing::Comparing => "comparing",
                    Doing::Lockstep => "lockstep",
                    Doing::Measuring => "measuring",
                };
                progress.tell(&format!("{doing} {name}"), retired, Some(base.reference.retired));
                !signal.load(Ordering::Relaxed)
            })?;
            match row {
                Some(row) => rows.push(row),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Adds the bare machine's phases to its row, the first. `false`: a signal came.
    fn bare_phases(
        &self,
        comparison: &Comparison<'_>,
        signal: &AtomicBool,
        (rows, progress): (&mut [Row], &mut Progress),
    ) -> Result<bool> {
        let all = comparison.reference.retired;
        let phases = comparison.bare_phases(|_, retired| {
            progress.tell("measuring bare direct", retired, Some(all));
            !signal.load(Ordering::Relaxed)
        })?;
        let found = phases.is_some();
        rows[0].phases = phases;
        Ok(found)
    }

    /// The monitors that are asked for, and what the machine's processor cannot run of them.
    fn variants(&self) -> (Vec<vmm::Config>, Option<LeftOut>) {
        let choice = self.guest.monitor.choice();
        let wanted = |cell: &Cell| cell.has_monitor() && choice.admits(*cell);
        let cells = Cell::COMPARED.iter().copied().filter(wanted).collect();
        let (cells, left_out) = left_out::divided(cells, &self.guest);
        (variants(cells.into_iter(), |cell| self.guest.monitor_for(cell)), left_out)
    }

    /// Whether the rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    fn check(&self) -> Result<()> {
        let monitor = &self.guest.monitor;
        if self.exits && self.csv {
            return Err(Error::Usage(
                "--csv has a column for each cause of exits anyway, and no room for their places: leave --exits out, or \
                 give --json instead"
                    .into(),
            ));
        }
        if monitor.strategy.is_some() && monitor.strategy() == Strategy::Bare {
            return Err(Error::Usage(
                "`compare` always compares with the bare machine: give --strategy trap, bt or hvm, or leave it out"
                    .into(),
            ));
        }
        let cell = self.choice().cell()?;
        if self.all && cell.strategy() != Strategy::Trap {
            return Err(Error::Usage(format!(
                "--all follows what goes wrong under trap, and --strategy {} is given: give --strategy trap, or \
                 leave it out",
                cell.strategy()
            )));
        }
        monitor.check_rule()?;
        monitor.check_translated()
    }

    /// The guest's machine, bare or under a monitor.
    fn machine(&self, monitor: Option<vmm::Config>) -> Result<Machine> {
        self.spec(monitor)?.build()
    }

    /// What a machine is built from. The bare machine is the reference, interpreted whichever engine the monitors
    /// are to have, and its processor is without what monitors hide.
    fn spec(&self, monitor: Option<vmm::Config>) -> Result<Spec> {
        Ok(Spec { engine: Engine::Interp, plain: true, ..self.guest.spec_unseen(monitor)? })
    }

    fn reference(&self, progress: &mut Progress) -> Result<Base> {
        let spec = self.spec(None)?;
        tell_notes(&spec.plan.notes);
        let symbols = spec.plan.symbols.clone();
        let mut pc = Emulator::new(spec, None, None)?;
        let hash = pc.machine.state_hash();
        let mut console = Console::open_with(Setup::silent())?;
        let options = session::Options { record: true, ..self.guest.session() };
        progress.begin("running bare direct");
        let end = session::drive(&mut pc, &mut console, &options)?;
        let cut = end.ending.is_cut() || end.ending == Ending::Interrupted;
        let interrupted = end.ending == Ending::Interrupted;
        let reference = Reference::new(end.ending.sentence(), end.retired, cut, end.inputs, end.host);
        Ok(Base { reference, interrupted, symbols, hash })
    }

    fn subject(&self, hash: u64, costs: &Costs) -> Subject {
        let file = self.costs.as_ref().map(|path| path.display().to_string());
        Subject {
            guest: self.guest.name_or_medium(),
            guest_hash: format!("{hash:016x}"),
            costs: file.unwrap_or_else(|| "built-in".into()),
            costs_hash: format!("{:016x}", costs.hash()),
            options: self.options(),
        }
    }

    /// The options that the figures depend on; of those of the monitor only what is given.
    fn options(&self) -> BTreeMap<&'static str, Value> {
        let (guest, monitor) = (&self.guest, &self.guest.monitor);
        let all = [
            ("hz", Some(json!(guest.hz))),
            ("mem", Some(json!(guest.mem))),
            ("budget", guest.budget.map(|n| json!(n))),
            ("time_us", guest.time.map(|n| json!(n))),
            ("append", guest.append.as_ref().map(|text| json!(text))),
            ("lockstep", self.lockstep.then_some(json!(true))),
            ("uart_pace", guest.uart_pace.then_some(json!(true))),
            ("no_apic", guest.no_apic.then_some(json!(true))),
            ("no_acpi", guest.no_acpi.then_some(json!(true))),
            ("machine_mem", monitor.machine_mem.map(|n| json!(n))),
            ("shadow_frames", monitor.shadow_frames.map(|n| json!(n))),
            ("fragment_memory", monitor.fragment_memory.map(|n| json!(n))),
            ("frame_seed", monitor.frame_seed.map(|n| json!(n))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

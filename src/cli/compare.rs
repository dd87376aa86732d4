//! `subring compare`: one guest on the bare machine and under every monitor that is built, side by side. Where a monitor
//! goes another way than the bare machine, the first instruction after which it does.

use super::compare_report::{self as report, Row, Table, Verdict};
use super::emulator::Emulator;
use super::ending::Ending;
use super::guest_args::GuestArgs;
use super::output::{out, tell_notes};
use super::progress::Progress;
use super::rules::Finding;
use super::session;
use super::signals::watch_signals;
use super::terminal::{Console, Setup};
use crate::addr::Linear;
use crate::cell::{Cell, Choice, Strategy};
use crate::error::{Error, Result};
use crate::lab::boundary::Compared;
use crate::lab::guest::Guest;
use crate::lab::{boundary, lockstep, state};
use crate::load::Spec;
use crate::machine::Monitor;
use crate::snapshot::recording::Input;
use crate::vmm;
use crate::vmm::cost::Costs;
use clap::Args;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Instructions between two looks for a signal.
const STRIDE: u64 = 1 << 22;

/// Printed below the options.
const HELP: &str = "\
Exit status:
  0      the table is there, whatever it shows: --json and --csv say of each row whether it is the same
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option
  130    interrupted: the rows that were finished are printed";

/// The options of `subring compare`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("load_at", |arg| arg.alias("at")), after_help = HELP)]
pub struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    /// What exits cost, in modelled cycles: a TOML file in the form of the built-in table; see src/vmm/costs.toml
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Print all exits by cause, and where most of them come from; with --json, which has the causes anyway, up to 4096 places
    #[arg(long)]
    exits: bool,
    /// Compare after each instruction under trap, at each exit and at the end of each translation unit under bt, not only in growing
    /// strides: so is found what goes wrong and heals. Costs about 3 microseconds each, so that a row takes some ten times as long (20 M
    /// instructions: about a minute); where two part, some runs more
    #[arg(long)]
    lockstep: bool,
    /// Print the table as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print the table as one JSON object
    #[arg(long)]
    json: bool,
}

/// What is compared with the bare machine: a monitor for each of `cells`. Without a rule, or without adaptation, each
/// translating monitor comes with it and then without it.
fn variants(cells: impl Iterator<Item = Cell>, base: impl Fn(Cell) -> vmm::Config) -> Vec<vmm::Config> {
    let variants = |cell| {
        let config = base(cell);
        let pair = match (config.without, config.adaptive) {
            (Some(_), _) => [vmm::Config { without: None, ..config }, config],
            (None, false) => [vmm::Config { adaptive: true, ..config }, config],
            (None, true) => return vec![config],
        };
        if cell.strategy() == Strategy::Bt { pair.to_vec() } else { Vec::new() }
    };
    cells.flat_map(variants).collect()
}

/// The bare machine's run, which the others are held against.
struct Reference {
    ending: Ending,
    retired: u64,
    inputs: Vec<Input>,
    /// The last instruction count to run to: one more than the guest's own end, so that going on shows.
    limit: u64,
}

impl Command {
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        let costs = self.costs.as_deref().map_or_else(|| Ok(Costs::default()), Costs::read)?;
        self.check()?;
        let signal = watch_signals()?;
        let (reference, row) = self.reference(&costs)?;
        let mut rows = vec![row];
        let mut interrupted = reference.ending == Ending::Interrupted;
        let monitor = &self.guest.monitor;
        let wanted = |cell: &Cell| cell.has_monitor() && monitor.choice().admits(*cell);
        let cells = Cell::COMPARED.iter().copied().filter(wanted);
        for config in variants(cells, |cell| monitor.monitor(cell)) {
            if interrupted {
                break;
            }
            match self.variant(&reference, config, &costs, &signal)? {
                Some(row) => rows.push(row),
                None => interrupted = true,
            }
        }
        let (findings, adaptation) = (self.findings(&rows), self.adaptation(&rows));
        let table = Table { guest: self.guest.name(), rows, findings, adaptation, interrupted };
        let text = if self.json {
            report::json(&table, self.exits)
        } else if self.csv {
            report::csv(&table)
        } else {
            report::text(&table, self.exits)
        };
        out(text.as_bytes())?;
        Ok(if interrupted { 130 } else { 0 })
    }

    /// Whether the rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    /// What the missing rule broke, by coherence: each row without it comes after the one with all.
    fn findings(&self, rows: &[Row]) -> Vec<Finding> {
        let symbols = self.spec(None).map(|spec| spec.plan.symbols).unwrap_or_default();
        let place = |at: Linear| match crate::load::symbol_at(&symbols, at.0) {
            Some(name) => format!("{at} ({name})"),
            None => at.to_string(),
        };
        let pairs = rows.windows(2).filter_map(|pair| Some((pair[1].without?, pair)));
        pairs.map(|(rule, pair)| Finding::of(rule, &pair[0], &pair[1], place)).collect()
    }

    /// What adaptation does, by coherence: each row without it comes after the one with it.
    fn adaptation(&self, rows: &[Row]) -> Vec<String> {
        let pairs = rows.windows(2).filter(|pair| pair[0].adaptive && !pair[1].adaptive);
        pairs
            .filter(|pair| pair[0].cell.strategy() == Strategy::Bt)
            .map(|p| report::adaptation(&p[0], &p[1]))
            .collect()
    }

    fn check(&self) -> Result<()> {
        let monitor = &self.guest.monitor;
        if self.exits && self.csv {
            return Err(Error::Usage(
                "--csv has a column for each cause of exits anyway, and no room for their places: leave --exits out, or give \
                 --json instead"
                    .into(),
            ));
        }
        if monitor.strategy.is_some() && monitor.strategy() == Strategy::Bare {
            return Err(Error::Usage(
                "`compare` always compares with the bare machine: give --strategy trap or bt, or leave it out".into(),
            ));
        }
        let choice = monitor.choice();
        Choice { strategy: choice.strategy.or(Some(Strategy::Trap)), ..choice }.cell()?;
        monitor.check_rule()?;
        monitor.check_translated()
    }

    /// What each machine is built from; each variant brings its own monitor.
    fn spec(&self, monitor: Option<vmm::Config>) -> Result<Spec> {
        self.guest.spec_unseen(monitor)
    }

    fn reference(&self, costs: &Costs) -> Result<(Reference, Row)> {
        let spec = self.spec(None)?;
        tell_notes(&spec.plan.notes);
        let mut pc = Emulator::new(spec, None, None)?;
        let mut console = Console::open_with(Setup::silent())?;
        let options = session::Options {
            budget: self.guest.budget,
            time: self.guest.time,
            keys: self.guest.key_steps(),
            record: true,
            ..session::Options::default()
        };
        let end = session::drive(&mut pc, &mut console, &options)?;
        let limited = matches!(end.ending, Ending::BudgetSpent | Ending::TimeSpent | Ending::Interrupted);
        let limit = if limited { end.retired } else { end.retired.saturating_add(1) };
        let cycles = end.retired.saturating_mul(costs.instruction);
        let row = Row {
            cell: Cell::BARE,
            without: None,
            adaptive: true,
            verdict: Verdict::Reference(end.ending.sentence()),
            retired: end.retired,
            cycles,
            slowdown: costs.slowdown(cycles, end.retired),
            monitor: None,
            boundaries: None,
            host: end.host,
        };
        Ok((Reference { ending: end.ending, retired: end.retired, inputs: end.inputs, limit }, row))
    }

    fn machine(&self, reference: &Reference, monitor: Option<vmm::Config>) -> Result<Guest> {
        Ok(Guest::new(self.spec(monitor)?.build()?, reference.inputs.clone()))
    }

    /// One row; `None` when a signal came.
    fn variant(
        &self,
        reference: &Reference,
        config: vmm::Config,
        costs: &Costs,
        signal: &AtomicBool,
    ) -> Result<Option<Row>> {
        let goes_on = || !signal.load(Ordering::Relaxed);
        let Compared { divergence, same, boundaries } = self.compare(reference, config, goes_on)?;
        let mut guest = self.machine(reference, Some(config))?;
        let to = divergence.as_ref().map_or(reference.limit, |d| d.after);
        let start = Instant::now();
        loop {
            if !goes_on() {
                return Ok(None);
            }
            let next = guest.machine.cpu.retired().saturating_add(STRIDE).min(to);
            if guest.run_to(next).is_some() || next == to {
                break;
            }
            // What is printed is the bare machine's.
            _ = guest.machine.world.board.take_serial_output(0);
        }
        let host = start.elapsed();
        let monitor = guest.machine.monitor().map(Monitor::report);
        let retired = guest.machine.cpu.retired();
        let cycles = monitor.as_ref().map_or(0, |report| costs.total(report));
        let verdict = match divergence {
            Some(d) => Verdict::Diverged(Box::new(d), self.symbol_of(&guest)),
            None if same && retired == reference.retired => Verdict::Same,
            None => Verdict::Lost,
        };
        Ok(Some(Row {
            cell: config.cell,
            without: config.without,
            adaptive: config.adaptive,
            verdict,
            retired,
            cycles,
            slowdown: costs.slowdown(cycles, retired),
            monitor,
            boundaries: self.lockstep.then_some(boundaries),
            host,
        }))
    }

    /// Holds a variant against the bare machine: in strides, or at each boundary.
    fn compare(
        &self,
        reference: &Reference,
        config: vmm::Config,
        goes_on: impl Fn() -> bool,
    ) -> Result<Compared> {
        let make = || Ok((self.machine(reference, None)?, self.machine(reference, Some(config))?));
        if !self.lockstep {
            let (mut bare, mut other) = make()?;
            let divergence =
                lockstep::first_divergence(&mut bare, &mut other, reference.limit, |_| goes_on())?;
            let same = divergence.is_none() && state::same(&bare.machine, &other.machine);
            // Where a run that is cut into pieces goes right, only its boundaries can tell.
            if divergence.as_ref().is_none_or(|d| !d.differences.is_empty()) {
                return Ok(Compared { divergence, same, boundaries: 0 });
            }
        }
        let name = report::name(config.cell, config.without, config.adaptive);
        let mut progress = Progress::new(format!("lockstep {name}"), reference.retired);
        boundary::compare(make, reference.limit, |retired| {
            progress.tell(retired);
            goes_on()
        })
    }

    /// The kernel's name for where `guest` is, if it has names.
    fn symbol_of(&self, guest: &Guest) -> Option<String> {
        let spec = self.spec(None).ok()?;
        crate::load::symbol_at(&spec.plan.symbols, guest.machine.cpu.eip)
    }
}

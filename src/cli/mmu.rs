//! `subring mmu`: guest page tables, shadow page tables and the TLB side by side, at a point of a guest's
//! run; or every change of the shadow as the guest runs.

pub(super) mod event;
mod json;
pub(super) mod session;
mod text;
mod watch;

use super::guest_args::GuestArgs;
use super::monitor::MonitorArgs;
use super::output::{out, tell, tell_notes};
use super::restore::RestoreArgs;
use super::signals::watch_signals;
use crate::bus::Ticks;
use crate::cell::{Mmu, Strategy};
use crate::error::{Error, Result};
use crate::lab::digits::grouped;
use crate::lab::mappings::View;
use crate::load::{Spec, Symbol, symbol_at};
use crate::machine::{Machine, Monitor};
use crate::report::Journal;
use crate::snapshot::recording::Input;
use crate::vmm::Config;
use clap::Args;
use event::Event;
use session::{Ran, Runner, inputs};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Printed below the options.
const HELP: &str = "\
EVENT of --at, the first time or with #N the N-th time:
  10M, 1_000_000       that many instructions are retired
  kernel_main, f+0x10  the instruction at a symbol of the guest's is next
  0x100000             the instruction at an address is next
  exit:CAUSE           an exit of a cause whose name begins so (exit:trace, exit:hidden, exit:any); shown is the state
                       after the instruction
  entry:CHANGE         an entry of the range was filled, refilled, downgraded, synced, flushed, invalidated, evicted
                       or dropped; shown is the state after the instruction
Without --at the end of the run is shown, or where --budget or --time cut it.

Rights are r, w and u (user) or s (supervisor); the guest's bits A(ccessed), D(irty), G(lobal).

Exit status:
  0      the tables are shown, however the guest ended
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option, or what --at names did not happen
  130    interrupted: the state then is shown";

/// The options of `subring mmu`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub(super) struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    start: RestoreArgs,
    /// Where in the run to look; see below
    #[arg(id = "point", long = "at", value_name = "EVENT", allow_hyphen_values = true)]
    event: Option<String>,
    /// Print each change of the shadow as it comes, to the end of the run
    #[arg(long, conflicts_with = "point")]
    watch: bool,
    /// The pages of an address, or from A up to B: hexadecimal after 0x, or symbols [default: all that is
    /// mapped, in runs]
    #[arg(long, value_name = "A[..B]", allow_hyphen_values = true)]
    address: Option<String>,
    /// Print one JSON object, or with --watch one for each change
    #[arg(long)]
    json: bool,
}

/// Bytes behind a symbol that may still be called after it.
const NEAR: u32 = 1 << 16;

/// The guest's names for addresses.
pub(super) struct Names(pub(super) Vec<Symbol>);

impl Names {
    /// The name for `at`. A symbol without a size counts for what is near.
    pub(super) fn of(&self, at: u32) -> Option<String> {
        let before = self.0[..self.0.partition_point(|s| s.value <= at)].last()?;
        if at - before.value < NEAR { symbol_at(&self.0, at) } else { None }
    }
}

/// What is shown.
struct Moment<'a> {
    guest: String,
    /// The machine: `bare`, or `trap shadow/trace`.
    who: String,
    /// How the run came here.
    how: String,
    machine: &'a Machine,
    view: &'a View<'a>,
    names: &'a Names,
    pages: RangeInclusive<u32>,
    /// The user named the pages.
    ranged: bool,
}

impl Command {
    /// Whether the rewriting rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        self.check()?;
        let config = self.config()?;
        let plan = self.spec(None)?.plan;
        let names = Names(plan.symbols);
        let all = 0..=u32::MAX >> crate::addr::PAGE_SHIFT;
        let pages = self.address.as_deref().map_or(Ok(all), |text| event::pages(text, &names.0))?;
        let event = self.event.as_deref().map(|text| Event::parse(text, &names.0)).transpose()?;
        let nested = config.is_some_and(|config| config.cell.mmu() == Mmu::Nested);
        if nested && (self.watch || matches!(event, Some(Event::Entry { .. }))) {
            return Err(Error::Usage(
                "--watch and entry:CHANGE follow the entries of a shadow, and nested paging has none: give --mmu \
                 shadow, or --at exit:ept-violation"
                    .into(),
            ));
        }
        if config.is_none() && (self.watch || event.as_ref().is_some_and(Event::needs_monitor)) {
            return Err(Error::Usage(
                "the bare machine has no monitor, so there are no exits and no shadow to follow: leave --strategy out"
                    .into(),
            ));
        }
        tell_notes(&plan.notes);
        let signal = watch_signals()?;
        let inputs = inputs(&self.guest, || self.spec(None))?;
        let log = self.watch || matches!(event, Some(Event::Entry { .. }));
        let start = || self.runner(config, inputs.clone(), Journal::new(pages.clone(), log), &signal);
        let mut runner = start()?;
        if self.watch {
            let ran = watch::watch(&mut runner, &names, self.json)?;
            let retired = grouped(runner.guest.machine.cpu.retired());
            tell(&format!("subring: {} after {retired} instructions\n", ran.sentence()));
            return Ok(if ran == Ran::Interrupted { 130 } else { 0 });
        }
        let (mut runner, ran) = match (&event, &self.event) {
            (Some(event), Some(text)) => event.reach(text, runner, start)?,
            _ => {
                let ran = runner.run(Ticks::MAX, u64::MAX);
                (runner, ran)
            }
        };
        runner.progress.restart();
        runner.guest.machine.follow();
        let machine = &runner.guest.machine;
        let view = View::of(machine);
        let how = match &self.event {
            Some(text) if ran == Ran::There => format!("at     {text}"),
            _ => format!("at     the end of the run: {}", ran.sentence()),
        };
        let who = match config {
            Some(config) => config.cell.to_string(),
            None => Strategy::Bare.to_string(),
        };
        let ranged = self.address.is_some();
        let moment = Moment {
            guest: self.start.name(&self.guest),
            who,
            how,
            machine,
            view: &view,
            names: &names,
            pages,
            ranged,
        };
        let text = if self.json { json::moment(&moment) } else { text::text(&moment) };
        out(text.as_bytes())?;
        Ok(if ran == Ran::Interrupted { 130 } else { 0 })
    }

    fn check(&self) -> Result<()> {
        if self.start.restore.is_some() && !self.guest.keys.is_empty() {
            return Err(Error::Usage("`mmu` cannot type at a restored machine: leave --keys out".into()));
        }
        Ok(())
    }

    /// The monitor: unless another strategy is named, trap and emulate, and for nested paging hardware assist.
    fn config(&self) -> Result<Option<Config>> {
        let nested = self.guest.monitor.mmu == Some(Mmu::Nested);
        let usual = if nested { Strategy::Hvm } else { Strategy::Trap };
        let strategy = self.guest.monitor.strategy.or(Some(usual));
        let monitor = MonitorArgs { strategy, ..self.guest.monitor.clone() };
        GuestArgs { monitor, ..self.guest.clone() }.monitor_config()
    }

    /// What a machine is built from.
    fn spec(&self, monitor: Option<Config>) -> Result<Spec> {
        let guest = GuestArgs { snapshot: true, ..self.guest.clone() };
        Ok(Spec { monitor, ..self.start.spec(&guest)? })
    }

    fn runner(
        &self,
        config: Option<Config>,
        inputs: Vec<Input>,
        journal: Journal,
        signal: &Arc<AtomicBool>,
    ) -> Result<Runner> {
        let mut machine = self.spec(config)?.build()?;
        if let Some(shadow) = machine.monitor_mut().and_then(Monitor::shadow_mut) {
            shadow.keep_journal(journal);
        }
        Ok(Runner::new(machine, inputs, &self.guest, signal))
    }
}

//! Running the guest of `subring mmu` and `subring vmcs`: in strides, so that a signal ends it and logs stay small. What it
//! prints is dropped.

use crate::bus::Ticks;
use crate::cli::emulator::Emulator;
use crate::cli::guest_args::GuestArgs;
use crate::cli::run_progress::RunProgress;
use crate::cli::session::{Options, drive};
use crate::cli::terminal::{Console, Setup};
use crate::error::Result;
use crate::lab::guest::Guest;
use crate::load::Spec;
use crate::machine::{Machine, Outcome};
use crate::snapshot::recording::Input;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Instructions between two looks at a signal and at logs.
const STRIDE: u64 = 1 << 18;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Ran {
    /// The guest got to where the command stops.
    There,
    /// The guest ended before.
    Ended(Outcome),
    /// `--budget` or `--time` is spent.
    Limit,
    /// A signal came.
    Interrupted,
}

impl Ran {
    /// For people.
    pub(in crate::cli) fn sentence(&self) -> String {
        match self {
            Self::There => "it is there".into(),
            Self::Limit => "the budget is spent".into(),
            Self::Interrupted => "interrupted".into(),
            Self::Ended(outcome) => match outcome {
                Outcome::Exit(status) => format!("the guest ended with status {status}"),
                Outcome::TripleFault(_) => "the guest died of a triple fault".into(),
                Outcome::VmxAbort(why) => format!("the guest's hypervisor died of a VMX abort: {why}"),
                Outcome::HaltedForever | Outcome::Idle(_) => "the guest halted for ever".into(),
                Outcome::PowerOff => "the guest turned the machine off".into(),
                Outcome::Reset => "the guest asked for a reset".into(),
                Outcome::Reached => "the run ended".into(),
            },
        }
    }
}

/// What `--keys` of `args` type, and when: a run of the bare machine `spec` finds out.
pub(in crate::cli) fn inputs(args: &GuestArgs, spec: impl FnOnce() -> Result<Spec>) -> Result<Vec<Input>> {
    if args.keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut pc = Emulator::new(spec()?, None, None)?;
    let mut console = Console::open_with(Setup::silent())?;
    let options = Options { record: true, ..args.session() };
    Ok(drive(&mut pc, &mut console, &options)?.inputs)
}

/// A guest and how far it may run.
pub(in crate::cli) struct Runner {
    pub(in crate::cli) guest: Guest,
    /// Instructions, and guest time.
    pub(in crate::cli) limits: (u64, Ticks),
    pub(in crate::cli) signal: Arc<AtomicBool>,
    /// Tells at a terminal how far the run is.
    pub(in crate::cli) progress: RunProgress,
}

impl Runner {
    /// `machine`, which gets `inputs` and runs as far as `args` say.
    pub(in crate::cli) fn new(
        machine: Machine,
        inputs: Vec<Input>,
        args: &GuestArgs,
        signal: &Arc<AtomicBool>,
    ) -> Self {
        let last = args.time.map_or(Ticks::MAX, |us| machine.clock().micros(us));
        let last = last.min(args.limit.unwrap_or(Ticks::MAX));
        Self {
            guest: Guest::new(machine, inputs),
            limits: (args.budget.unwrap_or(u64::MAX), last),
            signal: Arc::clone(signal),
            progress: RunProgress::new(false),
        }
    }

    /// Runs to a time or an instruction count, or a stop of the debugger's.
    pub(in crate::cli) fn run(&mut self, ticks: Ticks, retired: u64) -> Ran {
        self.strides(ticks, retired, |_| false)
    }

    /// Runs until `look`, which is called now and then, says that it is enough.
    pub(in crate::cli) fn run_watched(&mut self, look: impl FnMut(&mut Machine) -> bool) -> Ran {
        self.strides(Ticks::MAX, u64::MAX, look)
    }

    fn strides(&mut self, ticks: Ticks, retired: u64, mut look: impl FnMut(&mut Machine) -> bool) -> Ran {
        loop {
            if self.signal.load(Ordering::Relaxed) {
                return Ran::Interrupted;
            }
            let next = self.guest.machine.cpu.retired().saturating_add(STRIDE);
            let to = next.min(retired).min(self.limits.0);
            let end = self.guest.run_until(ticks.min(self.limits.1), to);
            let machine = &mut self.guest.machine;
            machine.world.board.take_serial_output(0);
            machine.world.board.take_debug_console();
            machine.world.board.take_bios_console();
            let enough = look(machine);
            let seconds = machine.cpu.now as f64 / machine.clock().hz() as f64;
            self.progress.tell(machine.cpu.retired(), seconds);
            let cpu = &self.guest.machine.cpu;
            if enough || self.guest.machine.stops.hit().is_some() {
                return Ran::There;
            }
            if let Some(outcome) = end {
                return Ran::Ended(outcome);
            }
            if cpu.now >= ticks || cpu.retired() >= retired {
                return Ran::There;
            }
            if cpu.now >= self.limits.1 || cpu.retired() >= self.limits.0 {
                return Ran::Limit;
            }
        }
    }
}

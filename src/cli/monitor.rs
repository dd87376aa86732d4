//! The options that put a guest under a monitor, for every command that runs one.

use super::{args, rules};
use crate::cell::{Cell, Choice, Coherence, Engine, Mmu, Strategy};
use crate::error::{Error, Result};
use crate::translate::RuleId;
use crate::vmm;
use clap::Args;

/// The options.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Strategy")]
pub struct MonitorArgs {
    /// Who runs the guest's sensitive instructions [default: bare]
    #[arg(long, value_enum)]
    pub strategy: Option<Strategy>,
    /// Who translates the guest's addresses [default: direct, under a monitor shadow]
    #[arg(long, value_enum)]
    pub mmu: Option<Mmu>,
    /// How shadow page tables are kept coherent with the guest's [default: trace]
    #[arg(long, value_enum)]
    pub coherence: Option<Coherence>,
    /// How instructions are realised on the host; no guest can tell [default: interp, under bt portable]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Disable adaptive retranslation under bt
    #[arg(long)]
    pub no_adapt: bool,
    /// Memory of the real machine below the monitor [default: what guest and monitor need]
    #[arg(long, value_name = "SIZE", value_parser = args::machine_memory)]
    pub machine_mem: Option<u64>,
    /// Frames for shadow page tables, or for extended ones, at most [default: 4096]
    #[arg(long, value_name = "N")]
    pub shadow_frames: Option<u32>,
    /// Memory for translated code under bt; when it is used up, all translations are thrown away. Any size
    /// will do: with 0 each unit replaces the one before [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    pub fragment_memory: Option<u64>,
    /// Seed for scattering the guest's frames over the machine's memory [default: 1]
    #[arg(long, value_name = "N")]
    pub frame_seed: Option<u64>,
    /// Disable one rewriting rule of bt (see --list-rules), to see what breaks
    #[arg(long, value_name = "NAME", value_parser = rules::named)]
    pub without_rule: Vec<RuleId>,
    /// List the rewriting rules of bt: what each makes of its instructions in each mode, and why
    #[arg(long)]
    pub list_rules: bool,
}

impl MonitorArgs {
    /// The strategy.
    pub fn strategy(&self) -> Strategy {
        self.strategy.unwrap_or(Strategy::Bare)
    }

    /// What is asked for of each axis of the cube.
    pub fn choice(&self) -> Choice {
        Choice { strategy: self.strategy, mmu: self.mmu, coherence: self.coherence, engine: self.engine }
    }

    /// The engine of the bare machine. Under a monitor, and for the machine that a monitor is held against,
    /// the interpreter.
    pub(super) fn bare_engine(&self) -> Engine {
        match self.strategy() {
            Strategy::Bare => self.engine.unwrap_or(Engine::Interp),
            Strategy::Trap | Strategy::Bt | Strategy::Hvm => Engine::Interp,
        }
    }

    /// What a run of `guest` under trap and emulate is told before it starts: instructions go wrong without a
    /// sign.
    pub(super) fn warning(&self, guest: &str) -> Option<String> {
        let guest = match guest {
            "" => String::new(),
            plain if !plain.contains(char::is_whitespace) => format!(" {plain}"),
            other => format!(" '{other}'"),
        };
        (self.strategy() == Strategy::Trap).then(|| {
            format!(
                "trap lets sensitive unprivileged instructions run on the real state, where they go wrong: `subring \
                 compare{guest} --strategy trap`, with this guest's other options, shows where"
            )
        })
    }

    /// What such a run is told at its end.
    pub(super) fn reminder(&self) -> Option<&'static str> {
        const REMINDER: &str =
            "under trap the guest can have gone wrong unseen, whatever it printed and however it ended";
        (self.strategy() == Strategy::Trap).then_some(REMINDER)
    }

    /// The monitor to be put under the guest; none on the bare machine.
    ///
    /// # Errors
    /// [`Error::Usage`] for a combination that means nothing.
    pub fn config(&self) -> Result<Option<vmm::Config>> {
        let cell = self.choice().cell()?;
        if !cell.has_monitor() {
            let monitors = [
                ("--no-adapt", self.no_adapt),
                ("--machine-mem", self.machine_mem.is_some()),
                ("--shadow-frames", self.shadow_frames.is_some()),
                ("--fragment-memory", self.fragment_memory.is_some()),
                ("--frame-seed", self.frame_seed.is_some()),
                ("--without-rule", !self.without_rule.is_empty()),
            ];
            const TRANSLATORS: [&str; 3] = ["--no-adapt", "--fragment-memory", "--without-rule"];
            return match monitors.iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(Error::Usage(format!(
                    "{name} requires a monitor, and the bare machine has none: give --strategy {}",
                    if TRANSLATORS.contains(name) { "bt" } else { "trap, bt or hvm" }
                ))),
                None => Ok(None),
            };
        }
        self.check_rule()?;
        self.check_translated()?;
        Ok(Some(self.monitor(cell)))
    }

    /// Refuses what is about translated code where nothing is translated.
    ///
    /// # Errors
    /// [`Error::Usage`] then.
    pub(super) fn check_translated(&self) -> Result<()> {
        let given = [("--no-adapt", self.no_adapt), ("--fragment-memory", self.fragment_memory.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) if !matches!(self.strategy(), Strategy::Bare | Strategy::Bt) => {
                Err(Error::Usage(format!(
                    "{name} is about translated code, and {} translates none: give --strategy bt",
                    if self.strategy() == Strategy::Trap { "trap-and-emulate" } else { "hardware assist" }
                )))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to take a rule away from trap and emulate, which has none, and to take more than one.
    ///
    /// # Errors
    /// [`Error::Usage`] then.
    pub(super) fn check_rule(&self) -> Result<()> {
        if self.without_rule.len() > 1 {
            return Err(Error::Usage(format!(
                "--without-rule takes one rule away, so that what breaks is its doing, and it is given {} times: give \
                 one, and run again for another",
                self.without_rule.len()
            )));
        }
        if !self.without_rule.is_empty() && matches!(self.strategy(), Strategy::Trap | Strategy::Hvm) {
            return Err(Error::Usage(format!(
                "--without-rule takes a rewriting rule away, and {} rewrites nothing: give --strategy bt",
                self.strategy()
            )));
        }
        Ok(())
    }

    /// How a monitor for `cell` is to be set up.
    pub fn monitor(&self, cell: Cell) -> vmm::Config {
        let default = vmm::Config::default();
        vmm::Config {
            cell,
            adaptive: !self.no_adapt,
            processor: None,
            machine_memory: self.machine_mem,
            shadow_frames: self.shadow_frames.unwrap_or(default.shadow_frames),
            fragment_memory: self
                .fragment_memory
                .map_or(default.fragment_memory, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            seed: self.frame_seed.unwrap_or(default.seed),
            without: self.without_rule.first().copied(),
            audit: false,
        }
    }
}

//! The bare machine's run, which the others are held against.

use super::row::{Outcome, Row};
use super::variant::Variant;
use crate::lab::guest::Guest;
use crate::machine::{self, Machine};
use crate::report::Term;
use crate::snapshot::recording::Input;
use crate::vmm::cost::Costs;
use std::time::{Duration, Instant};

/// The bare machine's run.
#[derive(Clone, Debug)]
pub struct Reference {
    /// How it ended, in words.
    pub ending: String,
    /// Instructions retired.
    pub retired: u64,
    /// What the guest got from outside.
    pub inputs: Vec<Input>,
    /// The last instruction count that other machines run to: one more than the guest's own end, so that
    /// going on shows.
    pub limit: u64,
    /// Host time.
    pub host: Duration,
}

impl Reference {
    /// A run that ended so after `retired` instructions; `cut` if it could have gone on.
    pub fn new(ending: String, retired: u64, cut: bool, inputs: Vec<Input>, host: Duration) -> Self {
        let limit = if cut { retired } else { retired.saturating_add(1) };
        Self { ending, retired, inputs, limit, host }
    }

    /// Runs the bare `machine`, without input, to its end or for `budget` instructions.
    pub fn run(machine: Machine, budget: u64) -> Self {
        let mut guest = Guest::new(machine, Vec::new());
        let start = Instant::now();
        let ended = guest.run_to(budget);
        let host = start.elapsed();
        let ending = super::divergence::ending(&guest.machine, ended);
        let cut = matches!(ended, None | Some(machine::Outcome::Reached));
        Self::new(ending, guest.machine.cpu.retired(), cut, Vec::new(), host)
    }

    /// The row of the bare machine.
    pub fn row(&self, costs: &Costs) -> Row {
        let cycles = self.retired.saturating_mul(costs.instruction);
        Row {
            variant: Variant::BARE,
            outcome: Outcome::Reference(self.ending.clone()),
            retired: self.retired,
            cycles,
            slowdown: costs.slowdown(cycles, self.retired),
            report: None,
            terms: vec![(Term::Direct, self.retired, cycles)],
            boundaries: None,
            host: self.host,
            phases: None,
        }
    }
}

//! A machine with a recorded session's input, which it gets at the same points of its run.

use crate::bus::Ticks;
use crate::machine::{Limits, Machine, Outcome};
use crate::snapshot::recording::{Input, What};

/// A machine, its input to come, and how much of it the machine has got.
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// The machine starts in firmware, so that a reset starts it again.
    reboots: bool,
    inputs: Vec<Input>,
    given: usize,
}

impl Guest {
    /// `machine`, about to run.
    pub fn new(machine: Machine, inputs: Vec<Input>) -> Self {
        let reboots = machine.has_firmware();
        Self { machine, reboots, inputs, given: 0 }
    }

    /// Pieces of input that the machine has got.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Sets how much input the machine has got, after it was put into another state.
    pub fn set_given(&mut self, given: usize) {
        self.given = given;
    }

    fn next_input(&self) -> Ticks {
        self.inputs.get(self.given).map_or(Ticks::MAX, |i| i.at.ticks)
    }

    fn give(&mut self) {
        while let Some(input) = self.inputs.get(self.given)
            && input.at.ticks <= self.machine.cpu.now
        {
            let now = self.machine.cpu.now;
            let world = &mut self.machine.world;
            match &input.what {
                What::Serial(bytes) => world.board.serial_input(0, bytes, now),
                What::Key(event) => world.board.key(&[*event], now),
                What::Mouse(event) => world.board.mouse(*event, now),
            }
            world.settle();
            self.given += 1;
        }
    }

    /// Runs to `retired` instructions since power-on. `None` when it got there, else how it ended before.
    pub fn run_to(&mut self, retired: u64) -> Option<Outcome> {
        self.run_until(Ticks::MAX, retired)
    }

    /// Runs to the monitor's next boundary, or to `retired` instructions. `None` when it got to one of them,
    /// else how it ended before.
    pub fn run_to_boundary(&mut self, retired: u64) -> Option<Outcome> {
        self.give();
        let limits = Limits { ticks: self.next_input(), retired, at_halt: false };
        match self.machine.run_to_boundary(limits) {
            Outcome::Reached => None,
            Outcome::Reset if self.reboots => {
                self.machine.reset();
                None
            }
            outcome => Some(outcome),
        }
    }

    /// Runs to the next sensitive instruction that would run on the real processor, or to `retired`
    /// instructions. `None` when it got to one of them, else how it ended before; and whether it is before
    /// such an instruction.
    pub fn run_to_sensitive(&mut self, retired: u64) -> (Option<Outcome>, bool) {
        loop {
            self.give();
            let limits = Limits { ticks: self.next_input(), retired, at_halt: false };
            match self.machine.run_to_sensitive(limits) {
                (Outcome::Reached, true) => return (None, true),
                (Outcome::Reached, false) if self.machine.cpu.retired() >= retired => return (None, false),
                (Outcome::Reached, false) => {}
                (Outcome::Reset, _) if self.reboots => self.machine.reset(),
                (outcome, _) => return (Some(outcome), false),
            }
        }
    }

    /// Runs to `retired` instructions, or to after the guest's next mark, which is given. `None` when it got to
    /// one of them, else how it ended before.
    pub fn run_to_mark(&mut self, retired: u64) -> (Option<Outcome>, Option<u32>) {
        loop {
            self.give();
            let limits = Limits { ticks: self.next_input(), retired, at_halt: false };
            match self.machine.run_to_mark(limits) {
                (Outcome::Reached, Some(mark)) => return (None, Some(mark)),
                (Outcome::Reached, None) if self.machine.cpu.retired() >= retired => return (None, None),
                (Outcome::Reached, None) => {}
                (Outcome::Reset, _) if self.reboots => self.machine.reset(),
                (outcome, _) => return (Some(outcome), None),
            }
        }
    }

    /// Runs to this point in time, so many instructions since power-on, or a stop of the debugger's. `None`
    /// when it got to one of them, else how it ended before.
    pub fn run_until(&mut self, ticks: Ticks, retired: u64) -> Option<Outcome> {
        loop {
            self.give();
            let limits = Limits { ticks: self.next_input().min(ticks), retired, at_halt: false };
            match self.machine.run(limits) {
                Outcome::Reached
                    if self.machine.cpu.retired() >= retired || self.machine.cpu.now >= ticks =>
                {
                    return None;
                }
                Outcome::Reached if self.machine.stops.hit().is_some() => return None,
                Outcome::Reached => {}
                Outcome::Reset if self.reboots => self.machine.reset(),
                outcome => return Some(outcome),
            }
        }
    }
}

//! Phases: parts of a run that the guest names, with how many operations each was.
//!
//! A guest marks a phase by writing the physical address of a description to port ECh (32 bits wide): the first
//! write begins the phase, the next one of the same address ends it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `PHAS` |
//! | 4 | 4 | operations in the phase; read at its end |
//! | 8 | 24 | name: printable ASCII, filled up with zeros |
//!
//! A phase of no operations is empty: what it took is the marks' own, and is taken from each phase.

use crate::addr::GuestPhys;
use crate::lab::guest::Guest;
use crate::machine::Machine;
use crate::vmm::cost::Costs;
use std::time::{Duration, Instant};

const SIGNATURE: &[u8; 4] = b"PHAS";
const SIZE: usize = 32;
const NAME: usize = 8;
/// Phases with a name of their own, the most: a guest that makes up names without end shall not fill memory.
const MOST: usize = 1000;

/// What part of a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Instructions retired.
    pub instructions: u64,
    /// Exits of all causes.
    pub exits: u64,
    /// Callouts of all rules.
    pub callouts: u64,
    /// Modelled cycles.
    pub cycles: u64,
    /// Host time.
    pub host: Duration,
}

impl Spent {
    /// What `self` took and `other` did not.
    fn beyond(self, other: Self) -> Self {
        Self {
            instructions: self.instructions.saturating_sub(other.instructions),
            exits: self.exits.saturating_sub(other.exits),
            callouts: self.callouts.saturating_sub(other.callouts),
            cycles: self.cycles.saturating_sub(other.cycles),
            host: self.host.saturating_sub(other.host),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            instructions: self.instructions + other.instructions,
            exits: self.exits + other.exits,
            callouts: self.callouts + other.callouts,
            cycles: self.cycles + other.cycles,
            host: self.host + other.host,
        }
    }
}

/// A phase of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The guest's name for it.
    pub name: String,
    /// Operations.
    pub operations: u64,
    /// What all of them took.
    pub spent: Spent,
}

impl Phase {
    /// `n` for each operation.
    pub fn each(&self, n: f64) -> f64 {
        n / self.operations as f64
    }

    /// Exits for each operation.
    pub fn exits(&self) -> f64 {
        self.each(self.spent.exits as f64)
    }

    /// Modelled cycles for each operation.
    pub fn cycles(&self) -> f64 {
        self.each(self.spent.cycles as f64)
    }

    /// Host nanoseconds for each operation.
    pub fn host(&self) -> f64 {
        self.each(self.spent.host.as_nanos() as f64)
    }
}

/// The phases of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// In the order in which they began; phases with the same name are one.
    pub each: Vec<Phase>,
    /// What was in no phase.
    pub outside: Spent,
    /// What was wrong with marks, a sentence each.
    pub notes: Vec<String>,
}

impl Phases {
    /// The phase of this name.
    pub fn named(&self, name: &str) -> Option<&Phase> {
        self.each.iter().find(|phase| phase.name == name)
    }
}

/// A description in the guest's memory.
struct Description {
    name: String,
    operations: u32,
}

/// The description at `at`; `None` if there is none, or its name is no name.
fn read(machine: &Machine, at: u32) -> Option<Description> {
    let mut bytes = [0; SIZE];
    machine.world.map.read(GuestPhys(at), &mut bytes);
    let operations = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let name = bytes[NAME..].split(|&b| b == 0).next().unwrap_or_default();
    let good =
        bytes.starts_with(SIGNATURE) && !name.is_empty() && name.iter().all(|b| (b' '..0x7f).contains(b));
    good.then(|| Description { name: String::from_utf8_lossy(name).into_owned(), operations })
}

/// A phase that has begun.
struct Open {
    at: u32,
    name: String,
    before: Spent,
}

/// Makes phases of marks while a guest runs.
pub(super) struct Recorder<'a> {
    costs: &'a Costs,
    start: Instant,
    /// Host time that went into recording.
    recording: Duration,
    open: Option<Open>,
    each: Vec<Phase>,
    /// What the marks of one phase take.
    marks: Spent,
    notes: Vec<String>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(costs: &'a Costs) -> Self {
        Self {
            costs,
            start: Instant::now(),
            recording: Duration::ZERO,
            open: None,
            each: Vec::new(),
            marks: Spent::default(),
            notes: Vec::new(),
        }
    }

    /// Host time since the run began, without the recorder's own.
    pub(super) fn host(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.recording)
    }

    /// What the run took so far.
    fn spent(&self, machine: &Machine, host: Duration) -> Spent {
        let instructions = machine.cpu.retired();
        let Some(monitor) = machine.monitor() else {
            let cycles = instructions.saturating_mul(self.costs.instruction);
            return Spent { instructions, cycles, host, ..Spent::default() };
        };
        let report = monitor.report();
        let callouts = report.translation.as_ref().map_or(0, |t| t.all_callouts());
        Spent { instructions, exits: report.exits.total(), callouts, cycles: self.costs.total(&report), host }
    }

    /// The guest has written the mark `at`.
    pub(super) fn mark(&mut self, guest: &Guest, at: u32) {
        let arrived = Instant::now();
        let now = self.spent(&guest.machine, self.host());
        match (read(&guest.machine, at), self.open.take()) {
            (Some(found), Some(open)) if open.at == at => self.end(open, &found, now),
            (Some(found), open) => {
                if let Some(open) = open {
                    self.note(format!(
                        "phase `{}` begins within `{}`, which is left out",
                        found.name, open.name
                    ));
                }
                self.open = Some(Open { at, name: found.name, before: now });
            }
            (None, open) => {
                self.note(format!("a mark names {at:08x}, where no phase is described"));
                self.open = open;
            }
        }
        self.recording += arrived.elapsed();
    }

    fn end(&mut self, open: Open, found: &Description, now: Spent) {
        let spent = now.beyond(open.before);
        if found.operations == 0 {
            self.marks = spent;
            return;
        }
        let (spent, operations) = (spent.beyond(self.marks), u64::from(found.operations));
        let full = self.each.len() >= MOST;
        match self.each.iter_mut().find(|phase| phase.name == open.name) {
            Some(phase) => {
                phase.operations += operations;
                phase.spent = phase.spent.and(spent);
            }
            None if !full => self.each.push(Phase { name: open.name, operations, spent }),
            None => {
                self.note(format!("more than {MOST} phases: `{}` and later ones are left out", open.name))
            }
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MOST && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The phases of the run, which has ended.
    pub(super) fn finish(mut self, machine: &Machine) -> Phases {
        if let Some(open) = self.open.take() {
            self.note(format!("phase `{}` does not end, and is left out", open.name));
        }
        let within = self.each.iter().fold(Spent::default(), |sum, phase| sum.and(phase.spent));
        let outside = self.spent(machine, self.host()).beyond(within);
        Phases { each: self.each, outside, notes: self.notes }
    }
}

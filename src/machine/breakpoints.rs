//! Where a debugger stops a run: at instructions, at data accesses, after each step.
//!
//! Stops are the host's. No debug register, no flag and no byte of the guest's is used for them; with stops
//! set, instructions run on the careful path of [`crate::interp`], which ends in the same state as the fast
//! one. A run that stops and goes on is the run that did not stop. The stub for gdb sets and reads them.

use super::Machine;
use super::moment::Moment;
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::exec::event::Event;
use crate::interp::Stop;
use std::collections::BTreeSet;

/// Why a run stopped for the debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The step is done: one instruction, one iteration of a string instruction, or the delivery of one
    /// event.
    Step,
    /// The instruction at this address is next.
    Code(CodeStop),
    /// The instruction that ran last (or the delivery of an event) touched watched data.
    Data(DataStop),
    /// This event is next. It is not delivered: the run ends here.
    Event(Event),
}

/// An instruction to stop before, by its linear address. Debuggers keep two sets of them; they work alike
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodeStop {
    /// What would be a patched instruction elsewhere.
    Software(u32),
    /// What would be a debug register elsewhere.
    Hardware(u32),
}

/// Data that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataStop {
    /// Its first byte.
    pub at: Linear,
    /// Bytes.
    pub len: u32,
    /// Reads stop.
    pub read: bool,
    /// Writes stop.
    pub write: bool,
}

/// An event to end a run before, by its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStop {
    /// An exception.
    Exception(u8),
    /// A hardware interrupt.
    Interrupt(u8),
}

impl EventStop {
    fn is_of(self, event: Event) -> bool {
        match self {
            Self::Exception(vector) => matches!(event, Event::Exception(f) if f.vector() == vector),
            Self::Interrupt(vector) => {
                matches!(event, Event::External(_) | Event::Nmi) && event.vector() == vector
            }
        }
    }
}

/// The data stops, as the memory path sees them.
#[derive(Debug, Default)]
pub(super) struct DataStops {
    watched: Vec<DataStop>,
    hit: Option<DataStop>,
}

impl DataStops {
    pub(super) fn of(watched: &[DataStop]) -> Self {
        Self { watched: watched.to_vec(), hit: None }
    }

    pub(super) fn watched(&self) -> Vec<DataStop> {
        self.watched.clone()
    }

    /// Forgets what was hit.
    pub(super) fn forget(&mut self) {
        self.hit = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// An instruction accessed `bytes` at `at`. The first hit is kept.
    pub(super) fn note(&mut self, at: Linear, bytes: u32, write: bool) {
        let touches = |s: &&DataStop| {
            let wanted = if write { s.write } else { s.read };
            // Distances modulo 4 GiB, so that an access that wraps is seen too.
            wanted && (s.at.0.wrapping_sub(at.0) < bytes || at.0.wrapping_sub(s.at.0) < s.len)
        };
        if self.hit.is_none() {
            self.hit = self.watched.iter().find(touches).copied();
        }
    }
}

/// The debugger's wishes, and what came of them.
#[derive(Debug, Default)]
pub struct Stops {
    code: BTreeSet<CodeStop>,
    events: Vec<EventStop>,
    step: bool,
    hit: Option<Hit>,
    /// When and where a code stop was last reported: going on from there passes it.
    passed: Option<(Ticks, u32)>,
    /// Where to stop in any case.
    until: Option<Moment>,
    /// The place to stop at is reached.
    arrived: bool,
    /// Stops are noted down here, and end nothing.
    scan: Option<Scan>,
}

impl Stops {
    /// Stops before an instruction.
    pub fn add_code(&mut self, stop: CodeStop) {
        self.code.insert(stop);
    }

    /// Removes a code stop; whether there was one.
    pub fn remove_code(&mut self, stop: CodeStop) -> bool {
        self.code.remove(&stop)
    }

    /// Ends the run before an event. A fault met while another is delivered ends it after that delivery.
    pub fn add_event(&mut self, stop: EventStop) {
        self.events.push(stop);
    }

    /// Whether the run ends before `event`.
    pub(super) fn stops_before(&mut self, event: Event) -> bool {
        let stops = self.events.iter().any(|s| s.is_of(event));
        if stops {
            self.hit = Some(Hit::Event(event));
        }
        stops
    }

    /// Stops after each step, or not.
    pub fn set_step(&mut self, on: bool) {
        self.step = on;
    }

    /// Why the run stopped, if a stop is what ended it.
    pub fn hit(&self) -> Option<Hit> {
        self.hit
    }

    /// Takes [`Stops::hit`] away: the run can go on.
    pub fn take_hit(&mut self) -> Option<Hit> {
        self.hit.take()
    }

    /// The instructions to stop before.
    pub(super) fn code(&self) -> BTreeSet<CodeStop> {
        self.code.clone()
    }

    /// Stops before these.
    pub(super) fn at_code(code: &BTreeSet<CodeStop>) -> Self {
        Self { code: code.clone(), ..Self::default() }
    }

    /// Forgets what was met, and keeps what is to be met.
    pub(super) fn forget(&mut self) {
        (self.hit, self.passed) = (None, None);
    }

    /// The stop at this place is reported.
    pub(super) fn pass(&mut self, now: Ticks, at: u32) {
        self.passed = Some((now, at));
    }

    pub(super) fn set_until(&mut self, until: Option<Moment>) {
        (self.until, self.arrived) = (until, false);
    }

    pub(super) fn begin_scan(&mut self, scan: Scan) {
        self.scan = Some(scan);
    }

    /// Whether a run is over for the debugger's sake.
    pub(super) fn end_run(&self) -> bool {
        self.hit.is_some() || self.arrived
    }

    /// Whether a run is over because an event is about to be delivered.
    pub(super) fn holds_event(&self) -> bool {
        matches!(self.hit, Some(Hit::Event(..)))
    }

    /// An event was delivered, whole or up to a fault on the way.
    fn delivered(&mut self, whole: bool) {
        if self.step && whole && self.hit.is_none() {
            self.hit = Some(Hit::Step);
        }
    }

    /// Whether the instruction at `at` is one to stop before.
    fn stops_at(&mut self, now: Ticks, at: u32) -> bool {
        if self.step || self.code.is_empty() || self.passed == Some((now, at)) {
            return false;
        }
        let either = [CodeStop::Software(at), CodeStop::Hardware(at)];
        let Some(stop) = either.into_iter().find(|s| self.code.contains(s)) else { return false };
        if let Some(scan) = &mut self.scan {
            scan.last = Some((scan.step, Hit::Code(stop)));
            return false;
        }
        self.passed = Some((now, at));
        self.hit = Some(Hit::Code(stop));
        true
    }
}

impl Machine {
    /// Watches data for the debugger.
    pub fn add_data_stop(&mut self, stop: DataStop) {
        self.world.data_stops.watched.push(stop);
        self.world.drop_fast();
    }

    /// Removes a data stop; whether there was one.
    pub fn remove_data_stop(&mut self, stop: DataStop) -> bool {
        let watched = &mut self.world.data_stops.watched;
        let Some(n) = watched.iter().position(|s| *s == stop) else { return false };
        watched.remove(n);
        true
    }

    /// Removes all stops: the debugger has left.
    pub fn clear_stops(&mut self) {
        self.stops = Stops::default();
        self.world.data_stops = DataStops::default();
    }

    pub(super) fn looks_for_stops(&self) -> bool {
        let s = &self.stops;
        s.step
            || !s.code.is_empty()
            || !self.world.data_stops.is_empty()
            || s.until.is_some()
            || s.scan.is_some()
    }

    /// Between two steps: what the last one hit, and whether it was the last.
    fn between_steps(&mut self) -> bool {
        let now = self.moment();
        let stops = &mut self.stops;
        if let Some(data) = self.world.data_stops.hit.take() {
            match &mut stops.scan {
                Some(scan) => scan.last = Some((scan.step, Hit::Data(data))),
                None => stops.hit = Some(Hit::Data(data)),
            }
        }
        stops.arrived |= stops.until.is_some_and(|until| now >= until);
        if let Some(scan) = stops.scan.as_mut().filter(|_| !stops.arrived) {
            (scan.step, scan.begun) = (now, true);
        }
        stops.end_run()
    }

    /// An event was delivered, whole or up to a fault on the way.
    pub(super) fn delivered_for_stops(&mut self, whole: bool) {
        self.stops.delivered(whole);
        if whole && (self.stops.scan.is_some() || self.stops.until.is_some_and(|u| self.moment() >= u)) {
            self.between_steps();
        }
    }

    /// What was noted down, also of the last step.
    pub(super) fn end_scan(&mut self) -> Option<Scan> {
        let mut scan = self.stops.scan.take()?;
        if let Some(data) = self.world.data_stops.hit.take() {
            scan.last = Some((scan.step, Hit::Data(data)));
        }
        Some(scan)
    }

    /// As the interpreter's `run`, one instruction at a time, up to the first stop.
    pub(super) fn execute_stopping(&mut self, until: Ticks) -> Stop {
        let reports = self.world.watcher.as_ref().is_some_and(|w| w.wants.insn);
        loop {
            if self.between_steps() {
                return Stop::Budget;
            }
            self.cpu.deadline = until;
            if let Some(stop) = self.boundary() {
                return stop;
            }
            if self.stops.stops_at(self.cpu.now, self.cpu.linear_eip()) {
                return Stop::Budget;
            }
            if reports {
                self.report_next();
            }
            // Each iteration of a string instruction is a step of its own.
            self.cpu.deadline = self.cpu.now + 1;
            if let Err(fault) = self.step() {
                // It did not complete: what it read will be read again.
                self.world.data_stops.hit = None;
                return Stop::Fault(fault);
            }
            if self.stops.step {
                self.stops.hit = Some(Hit::Step);
            }
            // A VM entry asks the run loop to look up: an event to inject comes before the guest's first instruction.
            if self.cpu.deadline == 0 {
                return Stop::Budget;
            }
        }
    }
}

/// What a stretch of history was watched for: the last step that a stop was met at, and the last step at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// The step that is being made.
    pub(super) step: Moment,
    /// Whether a step is being made at all, and the watch did not begin in the middle of a halt.
    pub(super) begun: bool,
    pub(super) last: Option<(Moment, Hit)>,
}

impl Scan {
    pub(super) fn at(moment: Moment) -> Self {
        Self { step: moment, begun: false, last: None }
    }

    /// The last step, and what it hit.
    pub(super) fn last_step(&self) -> (Moment, Hit) {
        match self.last {
            Some((at, hit)) if at == self.step => (at, hit),
            _ => (self.step, Hit::Step),
        }
    }
}

//! Going back in time: a debugger's history of a run.
//!
//! Nothing is undone. The machine is put back to the nearest snapshot before the place to go to (`store`),
//! and runs forward again from there, deterministically: what it got from outside stands in a journal, and is
//! given again at the same moments. To find the last time that something happened, each stretch between two
//! snapshots is run through under watch, the latest first (`reverse`). What runs again neither prints nor
//! traces anything.
//!
//! Made by [`Machine::keep_history`]; the stub for gdb asks for the rest.

mod reverse;
mod store;

use super::moment::Moment;
use super::{Limits, Machine, Outcome};
use crate::addr::GuestPhys;
use crate::bus::Ticks;
use crate::console::keymap::KeyEvent;
use crate::cpu::Cpu;
use crate::device::mouse::MouseEvent;
use crate::media::overlay::Overlay;
pub use reverse::{LastWrite, Sought};
use store::Store;

/// An input to the machine, from the user or the debugger.
#[derive(Clone, Debug)]
pub enum Input {
    /// Bytes for COM1.
    Serial(Vec<u8>),
    /// A key goes down or up.
    Key(KeyEvent),
    /// The mouse is moved or clicked.
    Mouse(MouseEvent),
    /// The debugger wrote registers: all of the processor, as it is then.
    Registers(Box<Cpu>),
    /// The debugger wrote RAM.
    Memory(GuestPhys, Vec<u8>),
    /// The debugger pulled the reset line.
    Reset,
}

impl Input {
    fn is_debuggers(&self) -> bool {
        !matches!(self, Self::Serial(_) | Self::Key(_))
    }
}

/// An input, and when the machine got it.
struct Entry {
    at: Moment,
    /// The machine was let run since the entry before, be it that it got no further.
    after_run: bool,
    what: Input,
}

/// How a history is kept.
pub struct HistoryConfig {
    /// Bytes that its snapshots may take.
    pub cap: usize,
    /// Instructions from one snapshot to the next.
    pub interval: u64,
    /// A reset starts the machine again, and does not end the run.
    pub reboots: bool,
    /// The overlays over the machine's media.
    pub media: Vec<Overlay>,
}

/// A request of the debugger to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Back by one step.
    StepBack,
    /// Back to the last stop.
    RunBack,
}

/// Figures of a history, for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryInfo {
    /// Instructions retired where it begins.
    pub begin: u64,
    /// The beginning was dropped, for want of room.
    pub shortened: bool,
    /// Where the machine stands.
    pub now: u64,
    /// When the machine stands before it: the time of the history's end.
    pub end: Option<Ticks>,
    /// Snapshots.
    pub snapshots: usize,
    /// Bytes that they take, and may take.
    pub bytes: (usize, usize),
    /// Inputs in the journal.
    pub inputs: usize,
}

/// A history.
pub struct Rewind {
    store: Store,
    journal: Vec<Entry>,
    /// Entries of the journal that the machine has got.
    given: usize,
    /// The machine ran since.
    ran: bool,
    /// Where the history ends, while the machine stands before that.
    end: Option<Moment>,
    interval: u64,
    reboots: bool,
    wish: Option<Wish>,
    /// Where a search backwards began, and where it has got to.
    seek: Option<(Moment, Moment)>,
    note: Option<String>,
}

impl Machine {
    /// Keeps a history from now on.
    pub fn keep_history(&mut self, config: HistoryConfig) {
        let store = Store::new(self, config.media, config.cap);
        self.rewind = Some(Box::new(Rewind {
            store,
            journal: Vec::new(),
            given: 0,
            ran: false,
            end: None,
            interval: config.interval,
            reboots: config.reboots,
            wish: None,
            seek: None,
            note: None,
        }));
    }

    /// Whether a history is kept.
    pub fn has_history(&self) -> bool {
        self.rewind.is_some()
    }

    /// Gives the machine something from outside, and notes it down. What a debugger writes in the past begins
    /// another future: the known one is dropped.
    pub fn give(&mut self, what: Input) {
        let at = self.moment();
        if let Some(r) = self.rewind.as_deref_mut() {
            if what.is_debuggers() {
                r.drop_future(at, self.cpu.retired());
            }
            let after_run = std::mem::take(&mut r.ran) && !what.is_debuggers();
            r.journal.push(Entry { at, after_run, what: what.clone() });
            r.given = r.journal.len();
        }
        self.apply(what);
    }

    fn apply(&mut self, what: Input) {
        let now = self.cpu.now;
        match what {
            Input::Serial(bytes) => self.world.board.serial_input(0, &bytes, now),
            Input::Key(event) => self.world.board.key(&[event], now),
            Input::Mouse(event) => self.world.board.mouse(event, now),
            Input::Registers(cpu) => self.cpu = *cpu,
            Input::Memory(at, bytes) => self.world.map.write(at, &bytes),
            Input::Reset => self.reset(),
        }
        self.world.settle();
    }

    /// Takes a snapshot if one is due, before the machine runs on from the present. Gives the tick at which
    /// to ask again.
    pub fn remember(&mut self) -> Ticks {
        let Some(mut r) = self.rewind.take() else { return Ticks::MAX };
        if self.cpu.retired() - r.store.base().retired >= r.interval {
            r.store.capture(self, r.given, false);
        }
        let next = self.cpu.now.saturating_add(r.interval);
        self.rewind = Some(r);
        next
    }

    pub(super) fn note_run(&mut self) {
        if let Some(r) = self.rewind.as_deref_mut() {
            r.ran = true;
        }
    }

    /// Whether the machine stands before the end of its history: then [`Machine::run_past`] runs it, and not
    /// [`Machine::run`].
    pub fn in_the_past(&self) -> bool {
        self.rewind.as_ref().is_some_and(|r| r.end.is_some())
    }

    /// The debugger's request to go back, if there is one.
    pub fn wish(&self) -> Option<Wish> {
        self.rewind.as_ref().and_then(|r| r.wish)
    }

    /// Sets or withdraws the debugger's request to go back.
    pub fn set_wish(&mut self, wish: Option<Wish>) {
        if let Some(r) = self.rewind.as_deref_mut() {
            r.wish = wish;
        }
    }

    /// A sentence for the user about the history, once.
    pub fn take_history_note(&mut self) -> Option<String> {
        self.rewind.as_deref_mut()?.note.take()
    }

    /// The figures of the history, if one is kept.
    pub fn history_info(&self) -> Option<HistoryInfo> {
        let r = self.rewind.as_deref()?;
        let snapshots = r.store.snapshots();
        Some(HistoryInfo {
            begin: snapshots[0].retired,
            shortened: r.store.shortened,
            now: self.cpu.retired(),
            end: r.end.map(|end| end.ticks),
            snapshots: snapshots.len(),
            bytes: (r.store.bytes(), r.store.cap()),
            inputs: r.journal.len(),
        })
    }

    /// Does something with the history and the machine, without printing or tracing.
    fn with_history<T>(&mut self, act: impl FnOnce(&mut Rewind, &mut Self) -> T) -> Option<T> {
        let mut r = self.rewind.take()?;
        let watcher = self.world.watcher.take();
        let done = act(&mut r, self);
        self.discard_output();
        if watcher.is_some() {
            self.watch(watcher);
        }
        self.rewind = Some(r);
        Some(done)
    }

    fn discard_output(&mut self) {
        let board = &mut self.world.board;
        board.take_serial_output(0);
        board.take_debug_console();
        board.take_bios_console();
    }

    /// Does something with the history and the machine while the debugger's stops are disabled.
    fn without_stops<T>(&mut self, act: impl FnOnce(&mut Rewind, &mut Self) -> T) -> Option<T> {
        let mut stops = std::mem::take(&mut self.stops);
        let mut data = std::mem::take(&mut self.world.data_stops);
        let done = self.with_history(act);
        // What was reported at some moment may be reported there again.
        stops.forget();
        data.forget();
        self.stops = stops;
        self.world.data_stops = data;
        self.world.tlb.drop_fast();
        done
    }

    /// Runs on in the past, up to a stop, to what the machine then got next, or to the history's end, and
    /// gives it that. Not far: it is to be called again and again, as long as [`Machine::in_the_past`] holds.
    pub fn run_past(&mut self) -> Outcome {
        self.with_history(|r, m| r.run_on(m)).unwrap_or(Outcome::Reached)
    }
}

impl Rewind {
    fn first(&self) -> Moment {
        self.store.snapshots()[0].at
    }

    fn drop_future(&mut self, now: Moment, retired: u64) {
        let Some(end) = self.end.take() else { return };
        self.store.truncate(now);
        self.journal.truncate(self.given);
        if end > now {
            self.note = Some(format!(
                "gdb changed the machine at instruction {retired}: what came after, to tick {}, is dropped, with its input",
                end.ticks
            ));
        }
    }

    /// Runs to a limit, through resets.
    fn rerun(&self, m: &mut Machine, limits: Limits) -> Outcome {
        loop {
            match m.run(limits) {
                Outcome::Reset if self.reboots => m.reset(),
                outcome => return outcome,
            }
        }
    }

    fn run_on(&mut self, m: &mut Machine) -> Outcome {
        let Some(end) = self.end else { return Outcome::Reached };
        let next = self.journal.get(self.given).map(|e| e.at).filter(|at| *at <= end);
        let stop = next.unwrap_or(end);
        let mut outcome = Outcome::Reached;
        if m.cpu.now + 1 < stop.ticks {
            let near = (stop.ticks - 1).min(m.cpu.now.saturating_add(self.interval));
            outcome = self.rerun(m, Limits::until(near));
        } else if m.moment() < stop {
            outcome = self.run_to(m, stop, u64::MAX);
        }
        self.ran = true;
        self.store.passed(m.moment());
        if m.stops.hit().is_none() && m.moment() >= stop {
            match next {
                Some(_) => self.give_next(m),
                None => self.end = None,
            }
        }
        outcome
    }

    /// The next entry of the journal: the machine stands where it got it.
    fn give_next(&mut self, m: &mut Machine) {
        let Some(entry) = self.journal.get(self.given) else { return };
        if entry.after_run {
            // It had looked up without getting any further.
            self.rerun(m, Limits::until(m.cpu.now));
        }
        m.apply(self.journal[self.given].what.clone());
        self.given += 1;
    }

    /// Runs on to `stop`, to the step, or to so many instructions retired; less far at a stop of the
    /// debugger's.
    fn run_to(&self, m: &mut Machine, stop: Moment, retired: u64) -> Outcome {
        let ticks = stop.ticks.saturating_add(stop.delivered.into());
        m.stops.set_until(Some(stop));
        let outcome = self.rerun(m, Limits { ticks, retired, at_halt: false });
        m.stops.set_until(None);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::breakpoints::Stops;

    #[test]
    fn stops_are_forgotten_not_removed() {
        let mut stops = Stops::default();
        stops.add_code(super::super::CodeStop::Hardware(7));
        stops.forget();
        assert!(stops.remove_code(super::super::CodeStop::Hardware(7)));
    }
}

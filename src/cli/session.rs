//! A session: one machine, driven in slices of guest time until the run ends. Between slices the host is served:
//! terminal, scripted keys, screen, signals.
//!
//! What a batch run does depends on guest time alone:
//! slices end at multiples of 10 ms of guest time, and scripted keys are looked at there and nowhere else.

use super::ending::{End, Ending};
use super::keys::{KeyStep, Typist};
use super::pc::{Hold, Limits, Outcome, Pc};
use super::record_replay::{InputGate, Journal, Replay};
use super::run_progress::RunProgress;
use super::terminal::{self, Action, Console};
use crate::bus::Ticks;
use crate::error::Result;
use crate::snapshot::recording::What;
use std::time::{Duration, Instant};

/// What a session is asked for. The default is a run without limits, input or recording.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// End after this many instructions.
    pub budget: Option<u64>,
    /// End after this many microseconds of guest time.
    pub time: Option<u64>,
    /// Give a post-mortem however the run ends.
    pub post_mortem: bool,
    /// End after this many instructions and halted ticks together.
    pub limit: Option<u64>,
    /// Tell at a terminal how far a run is that shows nothing.
    pub progress: bool,
    /// What to type, and when.
    pub keys: Vec<KeyStep>,
    /// Collect the machine's input in [`End::inputs`].
    pub record: bool,
    /// Write the machine's input to this recording as it comes.
    pub(super) journal: Option<Journal>,
    /// Give the machine the input of this recording, and no other.
    pub replay: Option<Replay>,
}

/// Stdin is not read on while this many bytes wait for the guest.
const BACKLOG: usize = 64 << 10;

/// Ticks between two looks at signals and at stdin, whatever the guest's frequency.
const STRIDE: Ticks = 1 << 19;

/// Serial output is kept for the texts of `--keys` up to this size.
const HEARD: usize = 64 << 10;

/// Whether `heard` contains `text`; what came up to there is then taken out.
fn take_heard(heard: &mut Vec<u8>, text: &str) -> bool {
    let at = heard.windows(text.len()).position(|part| part == text.as_bytes());
    at.inspect(|at| _ = heard.drain(..at + text.len())).is_some()
}

/// Drives `pc` until its run ends.
///
/// # Errors
/// [`crate::error::Error`] for host trouble at the console or with a disk image.
pub fn drive(pc: &mut dyn Pc, console: &mut Console, options: &Options) -> Result<End> {
    let start = Instant::now();
    let mut session = Session::new(pc, console, options);
    let ending = session.run()?;
    let inputs = session.gate.take_inputs();
    let left_untyped = session.typist.left();
    session.progress = None;
    let (serial, serial_cut) = session.console.take_kept();
    session.console.close()?;
    pc.finish_media()?;
    pc.finish_trace()?;
    let wanted = ending.wants_post_mortem() || options.post_mortem;
    let post_mortem = if wanted { pc.post_mortem(options.post_mortem) } else { None };
    Ok(End {
        ending,
        post_mortem,
        retired: pc.retired(),
        ticks: pc.now(),
        hz: pc.clock().hz(),
        host: start.elapsed(),
        stats: pc.stats(),
        screen: pc.screen(),
        registers: pc.state().registers,
        serial,
        serial_cut,
        notes: left_untyped,
        inputs,
    })
}

struct Session<'a> {
    pc: &'a mut dyn Pc,
    console: &'a mut Console,
    typist: Typist,
    gate: InputGate,
    budget: u64,
    /// Where `time` ends the run, and where `limit` does.
    last_tick: Ticks,
    limit: Ticks,
    slice: Ticks,
    next: Ticks,
    /// A debugger holds the machine: no input is taken, so that it comes at the same times as without.
    held: bool,
    /// What COM1 sent and no step of `--keys` has waited for yet.
    heard: Vec<u8>,
    progress: Option<RunProgress>,
}

impl<'a> Session<'a> {
    fn new(pc: &'a mut dyn Pc, console: &'a mut Console, options: &Options) -> Self {
        let clock = pc.clock();
        Self {
            typist: Typist::new(options.keys.clone(), clock),
            gate: InputGate::new(options.record, options.journal.clone(), options.replay.clone()),
            budget: options.budget.unwrap_or(u64::MAX),
            last_tick: options.time.map_or(Ticks::MAX, |us| clock.micros(us)),
            limit: options.limit.unwrap_or(Ticks::MAX),
            progress: options.progress.then(|| RunProgress::new(console.interactive())),
            heard: Vec::new(),
            slice: (clock.hz() / 100).max(1),
            next: 0,
            held: false,
            pc,
            console,
        }
    }

    fn run(&mut self) -> Result<Ending> {
        loop {
            if let Some(ending) = self.between()? {
                return Ok(ending);
            }
            let now = self.pc.now();
            let stride = now.saturating_add(STRIDE);
            let limits = Limits {
                ticks: self.next.min(stride).min(self.last_tick).min(self.limit).min(self.gate.horizon(now)),
                retired: self.budget,
                at_idle: self.console.interactive(),
            };
            let outcome = self.pc.run(limits);
            self.held = outcome == Outcome::Held;
            let waits = self.held || matches!(outcome, Outcome::Idle(_));
            self.tell_progress();
            if !self.show(waits)? {
                return Ok(Ending::OutputClosed);
            }
            // The guest sees an error of its drive. The run is worth nothing from there on: its user hears why.
            if let Some(error) = self.pc.take_host_error() {
                return Err(error);
            }
            if let Some(ending) = self.gate.ended(self.pc, &outcome)? {
                return Ok(ending);
            }
            if let Some(ending) = self.ended(outcome)? {
                if !self.goes_back(&ending) {
                    return Ok(ending);
                }
                self.held = true;
            }
        }
    }

    /// Whether a debugger takes the run back from its end.
    fn goes_back(&mut self, ending: &Ending) -> bool {
        loop {
            match self.pc.hold(ending) {
                Hold::Looks if !self.console.signalled() => {}
                hold => return hold == Hold::Back,
            }
        }
    }

    /// Serves the host between two slices.
    fn between(&mut self) -> Result<Option<Ending>> {
        if self.console.signalled() {
            return Ok(Some(Ending::Interrupted));
        }
        if self.held {
            return Ok(None);
        }
        let now = self.pc.now();
        // In another future than the known one the end of the slice may be far away.
        if now >= self.next || self.next - now > self.slice {
            // Skipped time may pass many slice ends; the next one stays on their grid.
            self.next = (now / self.slice + 1).saturating_mul(self.slice);
            self.type_next(now, false);
        }
        self.gate.play(self.pc)?;
        if self.gate.replays() {
            return Ok(None);
        }
        self.input(Some(Duration::ZERO))
    }

    /// Types what is due. With `stopped` guest time stands still.
    fn type_next(&mut self, now: Ticks, stopped: bool) -> bool {
        let (pc, heard) = (&*self.pc, &mut self.heard);
        let appears = |text: &str| pc.screen().is_some_and(|s| s.shows(text)) || take_heard(heard, text);
        let Some(what) = self.typist.next(now, stopped, appears) else { return false };
        self.gate.give(self.pc, what);
        true
    }

    /// Tells how far the run is, if it takes long.
    fn tell_progress(&mut self) {
        let (pc, slice) = (&*self.pc, self.pc.clock().hz());
        if let Some(progress) = &mut self.progress {
            progress.tell(pc.retired(), pc.now() as f64 / slice as f64);
        }
    }

    /// Reads stdin, waiting up to `wait`, and hands on what it says.
    fn input(&mut self, wait: Option<Duration>) -> Result<Option<Ending>> {
        if self.pc.serial_backlog() > BACKLOG {
            return Ok(None);
        }
        for action in self.console.read(wait)? {
            match action {
                Action::Serial(bytes) => self.gate.give(self.pc, What::Serial(bytes)),
                Action::Key(key) => self.typist.type_now(key),
                Action::Leave => return Ok(Some(Ending::Left)),
                Action::Registers => self.console.say(&self.pc.registers())?,
                Action::Help => self.console.say(terminal::HELP)?,
            }
        }
        Ok(None)
    }

    /// Shows what the guest put out. False when nobody looks any more.
    fn show(&mut self, at_once: bool) -> Result<bool> {
        let debug = self.pc.take_debugcon();
        let bios = self.pc.take_bioscon();
        let serial = self.pc.take_serial_output();
        if !serial.is_empty() {
            self.progress.iter_mut().for_each(RunProgress::restart);
            if self.typist.waits_for_text() {
                self.heard.extend_from_slice(&serial);
                self.heard.drain(..self.heard.len().saturating_sub(HEARD));
            }
        }
        let pc = &*self.pc;
        self.console.show(&serial, &debug, &bios, at_once, || pc.screen())
    }

    fn ended(&mut self, outcome: Outcome) -> Result<Option<Ending>> {
        Ok(match outcome {
            Outcome::Exit(v) => Some(Ending::Exit(v)),
            Outcome::TripleFault(story) => Some(Ending::TripleFault(story)),
            Outcome::VmxAbort(why) => Some(Ending::VmxAbort(why)),
            Outcome::HaltedForever => Some(Ending::HaltedForever),
            Outcome::PowerOff => Some(Ending::PowerOff),
            Outcome::Reset => Some(Ending::Reset),
            Outcome::Held => None,
            Outcome::Stopped(event) => Some(Ending::Stopped(event)),
            Outcome::Killed => Some(Ending::Killed),
            Outcome::Idle(Some(event)) => {
                let span = self.span_to(event);
                self.input(Some(span))?
            }
            Outcome::Idle(None) => self.idle_for_good()?,
            Outcome::Reached if self.pc.retired() >= self.budget => Some(Ending::BudgetSpent),
            Outcome::Reached if self.pc.now() >= self.last_tick => Some(Ending::TimeSpent),
            Outcome::Reached if self.pc.now() >= self.limit => Some(Ending::LimitSpent),
            Outcome::Reached if self.waits_in_vain() => Some(Ending::HaltedForever),
            Outcome::Reached => None,
        })
    }

    /// Whether the guest is halted until input comes, and none is left that could.
    fn waits_in_vain(&self) -> bool {
        let sources = self.console.open() || self.gate.replays() || self.pc.debugged();
        !sources && self.typist.is_idle() && self.pc.waits_for_input()
    }

    /// Host time that guest time from now to `event` stands for; none in a batch run, which waits for nobody.
    fn span_to(&self, event: Ticks) -> Duration {
        if !self.console.interactive() {
            return Duration::ZERO;
        }
        let ticks = event.saturating_sub(self.pc.now());
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.pc.clock().hz());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The guest waits and no device will wake it: only keys and stdin are left.
    fn idle_for_good(&mut self) -> Result<Option<Ending>> {
        if self.type_next(self.pc.now(), true) {
            return Ok(None);
        }
        if !self.console.open() {
            return Ok(Some(Ending::HaltedForever));
        }
        // A debugger that interrupts is looked for now and then.
        self.input(self.pc.debugged().then_some(Duration::from_millis(100)))
    }
}

#[cfg(test)]
mod tests;

//! A session: one machine, driven in slices of guest time until the run ends. Between slices the host is served:
//! terminal, scripted keys, screen, signals.
//!
//! [`Pc`] is all that the command line knows of a machine. What a batch run does depends on guest time alone:
//! slices end at multiples of 10 ms of guest time, and scripted keys are looked at there and nowhere else.

use super::dump::State;
use super::keys::{KeyStep, Typist};
use super::monitored::Monitored;
use super::tap::{Journal, Replay, Tap};
use super::terminal::{Action, Console, Setup};
use crate::bus::{Clock, Ticks};
use crate::debug;
use crate::device::keymap::KeyEvent;
use crate::device::mouse::MouseEvent;
use crate::device::uart::Transmitter;
use crate::error::{Error, Result};
use crate::load::Plan;
use crate::media::Image;
use crate::snapshot::Saved;
use crate::snapshot::recording::{Input, What};
use bitflags::bitflags;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a machine is built from.
pub struct Spec {
    /// Bytes of RAM.
    pub mem: u32,
    /// Ticks per guest second.
    pub hz: u64,
    /// The real-time clock at power-on, in seconds since 1970.
    pub epoch: i64,
    /// Whether there are a local APIC and an I/O APIC.
    pub apic: bool,
    /// Whether there are ACPI's registers and tables.
    pub acpi: bool,
    /// How fast the serial ports send.
    pub transmitter: Transmitter,
    /// The system BIOS, instead of the built-in one.
    pub bios: Option<Vec<u8>>,
    /// The VGA BIOS.
    pub vga_bios: Option<Vec<u8>>,
    /// Hard disks, in order; at most four.
    pub disks: Vec<Drive>,
    /// Floppies, in order; at most two.
    pub floppies: Vec<Drive>,
    /// The CD-ROM. With it there is room for three disks.
    pub cdrom: Option<Drive>,
    /// Whether firmware tries the CD-ROM before disks and floppies.
    pub cdrom_first: bool,
    /// What to trace, and where to.
    pub trace: Option<Trace>,
    /// How to wait for gdb.
    pub gdb: Option<Gdb>,
    /// The monitor between the guest and the processor; none on the bare machine.
    pub monitor: Option<crate::vmm::Config>,
    /// What to store, and how to start.
    pub plan: Plan,
    /// A saved machine to go on from, instead of all that but the disks and the trace.
    pub restore: Option<Saved>,
}

/// What a debugger is offered.
#[derive(Clone, Copy, Debug)]
pub struct Gdb {
    /// The port to wait for it at.
    pub port: u16,
    /// Bytes that the history may take; 0 is none.
    pub history: u64,
}

/// A disk, floppy or CD image.
#[derive(Debug)]
pub struct Drive {
    /// Its name, for messages.
    pub path: PathBuf,
    /// Where its bytes are.
    pub medium: Medium,
    /// Whether writes are kept in memory and the medium stays as it is.
    pub snapshot: bool,
}

/// What an image is on the host.
#[derive(Debug)]
pub enum Medium {
    /// An image file: readable, and writable unless the drive is a snapshot.
    Image(Image),
    /// The bytes of a built-in guest.
    Memory(Vec<u8>),
}

/// Where a trace goes.
pub struct Trace {
    /// Which events.
    pub what: TraceFilter,
    /// One line per event.
    pub to: Box<dyn Write>,
}

bitflags! {
    /// Events that can be traced.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TraceFilter: u8 {
        /// Instructions.
        const INSN = 1;
        /// Faults.
        const FAULT = 2;
        /// Interrupts.
        const INT = 4;
        /// Port accesses.
        const PORT = 8;
        /// Memory accesses.
        const MEM = 16;
        /// Exits to a monitor.
        const EXIT = 32;
    }
}

/// Builds a machine.
pub type Build = dyn Fn(Spec) -> Result<Box<dyn Pc>>;

/// How far a machine runs: to the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To this point in time.
    pub ticks: Ticks,
    /// To this many instructions retired since power-on.
    pub retired: u64,
    /// To the next HLT that finds nothing pending. A run that starts halted first skips to the next event.
    pub at_idle: bool,
}

/// Why a machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A limit is reached.
    Reached,
    /// The guest wrote this byte to port 0xF4.
    Exit(u8),
    /// A fault while delivering a double fault, with its story.
    TripleFault(String),
    /// HLT, and no interrupt can come through: nothing can wake it.
    HaltedForever,
    /// The guest turned the machine off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// Halted and waiting, with the time of the next device event if there is one. Only with
    /// [`Limits::at_idle`], or when there is no such event.
    Idle(Option<Ticks>),
    /// A debugger holds the machine: nothing runs, and guest time stands still.
    Held,
    /// A debugger ended the run.
    Killed,
}

/// What a run counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Exceptions by vector.
    pub exceptions: BTreeMap<u8, u64>,
    /// Hardware interrupts by vector.
    pub interrupts: BTreeMap<u8, u64>,
    /// Software interrupts (INT n) by vector.
    pub software: BTreeMap<u8, u64>,
    /// Reads and writes by port.
    pub ports: BTreeMap<u16, (u64, u64)>,
    /// Instructions that are not built and raised #UD, by name.
    pub unbuilt: BTreeMap<String, u64>,
    /// Further counts by name (traces decoded, TLB misses, …).
    pub other: BTreeMap<String, u64>,
    /// What a monitor counted, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitored>,
}

/// The VGA text screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextScreen {
    /// Cells in a row.
    pub columns: usize,
    /// The cells, row by row: a character and its VGA attribute.
    pub cells: Vec<(char, u8)>,
    /// Column and row of the cursor, if it shows.
    pub cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// The rows as text, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        let row = |cells: &[(char, u8)]| {
            let text: String = cells.iter().map(|c| if c.0 == '\0' { ' ' } else { c.0 }).collect();
            text.trim_end().to_owned()
        };
        self.cells.chunks(self.columns.max(1)).map(row).collect()
    }

    /// Whether some row contains `text`.
    pub fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}

/// A machine, as a session sees it.
pub trait Pc {
    /// Its clock.
    fn clock(&self) -> Clock;
    /// Guest time.
    fn now(&self) -> Ticks;
    /// Instructions retired since power-on.
    fn retired(&self) -> u64;
    /// Runs to the first of the limits.
    fn run(&mut self, limits: Limits) -> Outcome;
    /// Bytes for COM1; the machine queues them.
    fn serial_input(&mut self, bytes: &[u8]);
    /// Bytes that are queued for COM1 and not yet taken.
    fn serial_backlog(&self) -> usize;
    /// What COM1 sent since this was last asked.
    fn take_serial_output(&mut self) -> Vec<u8>;
    /// What port 0xE9 got since this was last asked.
    fn take_debugcon(&mut self) -> Vec<u8>;
    /// What port 0x402, the BIOS's debug console, got since this was last asked.
    fn take_bioscon(&mut self) -> Vec<u8>;
    /// A key goes down or up.
    fn key(&mut self, event: KeyEvent);
    /// The mouse is moved or clicked.
    fn mouse(&mut self, event: MouseEvent);
    /// The text screen; none in a graphics mode.
    fn screen(&self) -> Option<TextScreen>;
    /// The processor's registers, as lines of text.
    fn registers(&self) -> String;
    /// The processor's state, for a dump.
    fn state(&self) -> State;
    /// Reads physical memory, as the processor would; ones where no memory is.
    fn read_memory(&self, at: u32, buf: &mut [u8]);
    /// The whole machine, for a snapshot; none from a machine that cannot be saved.
    fn save(&self) -> Option<Saved> {
        None
    }
    /// A hash of its whole state.
    fn state_hash(&self) -> u64 {
        0
    }
    /// Whether a debugger may be at it.
    fn debugged(&self) -> bool {
        false
    }
    /// The run has come to `ending`: what a debugger does now.
    fn hold(&mut self, ending: &Ending) -> Hold {
        let _ = ending;
        Hold::Over
    }
    /// What was counted.
    fn stats(&self) -> Stats;
    /// Why the guest died, as its last run ended; `None` if it did not.
    fn post_mortem(&self) -> Option<debug::Report> {
        None
    }
    /// What went wrong on the host with a disk or floppy image, if something did since this was last asked.
    fn take_host_error(&mut self) -> Option<Error>;
    /// Writes to the media what was kept back for the time of a debugging session.
    ///
    /// # Errors
    /// When one could not be written.
    fn finish_media(&mut self) -> Result<()> {
        Ok(())
    }
    /// Writes out what a trace still buffers, and says what went wrong with it.
    ///
    /// # Errors
    /// When the trace could not be written.
    fn finish_trace(&mut self) -> Result<()>;
}

/// What a debugger does with a machine whose run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it is over.
    Over,
    /// It looks at what is left, and is to be asked again.
    Looks,
    /// It goes back: the run goes on.
    Back,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "kebab-case")]
pub enum Ending {
    /// The guest's own status.
    Exit(u8),
    /// Triple fault, with its story.
    TripleFault(String),
    /// Nothing can wake the guest.
    HaltedForever,
    /// The guest turned the machine off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The instruction budget is spent.
    BudgetSpent,
    /// The guest time is over.
    TimeSpent,
    /// The user left with Ctrl-A X.
    Left,
    /// A debugger ended it.
    Killed,
    /// A signal came.
    Interrupted,
    /// The recording that is replayed goes no further.
    BrokenOff,
    /// Nobody reads our output any more.
    OutputClosed,
}

impl Ending {
    /// The program's exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exit(v) => *v,
            Self::TripleFault(_) => 120,
            Self::HaltedForever => 121,
            Self::PowerOff => 0,
            Self::Reset => 122,
            Self::BudgetSpent | Self::TimeSpent => 124,
            Self::Left | Self::Killed | Self::Interrupted | Self::BrokenOff => 130,
            Self::OutputClosed => 0,
        }
    }

    /// Whether the guest may have died.
    fn wants_post_mortem(&self) -> bool {
        matches!(self, Self::TripleFault(_) | Self::HaltedForever | Self::BudgetSpent | Self::TimeSpent)
    }

    /// Whether it may be the end of a guest that went wrong: it did not come by itself to one that it meant, or says so.
    pub(super) fn is_doubtful(&self) -> bool {
        match self {
            Self::TripleFault(_) | Self::HaltedForever | Self::Reset => true,
            Self::BudgetSpent | Self::TimeSpent | Self::Left | Self::Interrupted => true,
            Self::Exit(status) => *status != 0,
            Self::PowerOff | Self::Killed | Self::BrokenOff | Self::OutputClosed => false,
        }
    }

    /// The same for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::Exit(v) => format!("the guest ended with status {v}"),
            Self::TripleFault(story) if story.is_empty() => "triple fault".into(),
            Self::TripleFault(story) => format!("triple fault: {story}"),
            Self::HaltedForever => "the guest halted for ever: nothing is left that could wake it".into(),
            Self::PowerOff => "the guest turned the machine off".into(),
            Self::Reset => "the guest asked for a reset".into(),
            Self::BudgetSpent => "the instruction budget is spent".into(),
            Self::TimeSpent => "the guest time is over".into(),
            Self::Left => "left by the user".into(),
            Self::Killed => "ended by gdb".into(),
            Self::Interrupted => "interrupted".into(),
            Self::BrokenOff => "the recording breaks off here".into(),
            Self::OutputClosed => "standard output was closed".into(),
        }
    }
}

/// What a session is asked for.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// End after this many instructions.
    pub budget: Option<u64>,
    /// End after this many microseconds of guest time.
    pub time: Option<u64>,
    /// What to type, and when.
    pub keys: Vec<KeyStep>,
    /// Note down what the machine gets.
    pub record: bool,
    /// Where that goes meanwhile.
    pub(super) journal: Option<Journal>,
    /// Give the machine what this has, and nothing else.
    pub replay: Option<Replay>,
}

/// What a session leaves.
#[derive(Clone, Debug)]
pub struct End {
    /// How it ended.
    pub ending: Ending,
    /// Instructions retired.
    pub retired: u64,
    /// Guest time.
    pub ticks: Ticks,
    /// Ticks per guest second.
    pub hz: u64,
    /// Host time.
    pub host: Duration,
    /// What was counted.
    pub stats: Stats,
    /// The screen at the end.
    pub screen: Option<TextScreen>,
    /// The registers at the end.
    pub registers: String,
    /// All that COM1 sent, when it was kept.
    pub serial: Vec<u8>,
    /// What the loader had to say.
    pub notes: Vec<String>,
    /// What the machine got, if that was to be recorded.
    pub inputs: Vec<Input>,
    /// Why the guest died, if it did.
    pub post_mortem: Option<debug::Report>,
}

/// Stdin is not read on while this many bytes wait for the guest.
const BACKLOG: usize = 64 << 10;

/// Drives `pc` until its run ends.
///
/// # Errors
/// [`Error`] for host trouble at the console or with a disk image.
pub fn drive(pc: &mut dyn Pc, console: &mut Console, wishes: &Wishes) -> Result<End> {
    let start = Instant::now();
    let mut session = Session::new(pc, console, wishes);
    let ending = session.run()?;
    let inputs = session.tap.take_inputs();
    let serial = std::mem::take(&mut session.console.kept);
    session.console.close()?;
    pc.finish_media()?;
    pc.finish_trace()?;
    let post_mortem = if ending.wants_post_mortem() { pc.post_mortem() } else { None };
    Ok(End {
        ending,
        post_mortem,
        retired: pc.retired(),
        ticks: pc.now(),
        hz: pc.clock().hz(),
        host: start.elapsed(),
        stats: pc.stats(),
        screen: pc.screen(),
        registers: pc.registers(),
        serial,
        notes: Vec::new(),
        inputs,
    })
}

/// A console that shows nothing and reads nothing.
pub(super) fn silent() -> Setup {
    Setup { input: false, stream: false, keep: false, live: false, debugcon: None, bioscon: None }
}

struct Session<'a> {
    pc: &'a mut dyn Pc,
    console: &'a mut Console,
    typist: Typist,
    tap: Tap,
    budget: u64,
    last_tick: Ticks,
    slice: Ticks,
    next: Ticks,
    /// A debugger holds the machine: no input is taken, so that it comes at the same times as without.
    held: bool,
}

impl<'a> Session<'a> {
    fn new(pc: &'a mut dyn Pc, console: &'a mut Console, wishes: &Wishes) -> Self {
        let clock = pc.clock();
        Self {
            typist: Typist::new(wishes.keys.clone(), clock),
            tap: Tap::new(wishes.record, wishes.journal.clone(), wishes.replay.clone()),
            budget: wishes.budget.unwrap_or(u64::MAX),
            last_tick: wishes.time.map_or(Ticks::MAX, |us| clock.micros(us)),
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
            let limits = Limits {
                ticks: self.next.min(self.last_tick).min(self.tap.horizon()),
                retired: self.budget,
                at_idle: self.console.interactive(),
            };
            let outcome = self.pc.run(limits);
            self.held = outcome == Outcome::Held;
            let waits = self.held || matches!(outcome, Outcome::Idle(_));
            if !self.show(waits)? {
                return Ok(Ending::OutputClosed);
            }
            // The guest sees an error of its drive. The run is worth nothing from there on: its user hears why.
            if let Some(error) = self.pc.take_host_error() {
                return Err(error);
            }
            if let Some(ending) = self.tap.ended(self.pc, &outcome)? {
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
            let pc = &*self.pc;
            if let Some(what) =
                self.typist.next(now, false, |text| pc.screen().is_some_and(|s| s.shows(text)))
            {
                self.tap.give(self.pc, what);
            }
        }
        self.tap.play(self.pc)?;
        if self.tap.replays() {
            return Ok(None);
        }
        self.input(Some(Duration::ZERO))
    }

    /// Reads stdin, waiting up to `wait`, and hands on what it says.
    fn input(&mut self, wait: Option<Duration>) -> Result<Option<Ending>> {
        if self.pc.serial_backlog() > BACKLOG {
            return Ok(None);
        }
        for action in self.console.read(wait)? {
            match action {
                Action::Serial(bytes) => self.tap.give(self.pc, What::Serial(bytes)),
                Action::Key(key) => self.typist.type_now(key),
                Action::Leave => return Ok(Some(Ending::Left)),
                Action::Registers => self.console.say(&self.pc.registers())?,
                Action::Help => self.console.say(super::terminal::HELP)?,
            }
        }
        Ok(None)
    }

    /// Shows what the guest put out. False when nobody looks any more.
    fn show(&mut self, at_once: bool) -> Result<bool> {
        let debug = self.pc.take_debugcon();
        let bios = self.pc.take_bioscon();
        let serial = self.pc.take_serial_output();
        let pc = &*self.pc;
        self.console.show(&serial, &debug, &bios, at_once, || pc.screen())
    }

    fn ended(&mut self, outcome: Outcome) -> Result<Option<Ending>> {
        Ok(match outcome {
            Outcome::Exit(v) => Some(Ending::Exit(v)),
            Outcome::TripleFault(story) => Some(Ending::TripleFault(story)),
            Outcome::HaltedForever => Some(Ending::HaltedForever),
            Outcome::PowerOff => Some(Ending::PowerOff),
            Outcome::Reset => Some(Ending::Reset),
            Outcome::Held => None,
            Outcome::Killed => Some(Ending::Killed),
            Outcome::Idle(Some(event)) => {
                let span = self.span_to(event);
                self.input(Some(span))?
            }
            Outcome::Idle(None) => self.idle_for_good()?,
            Outcome::Reached if self.pc.retired() >= self.budget => Some(Ending::BudgetSpent),
            Outcome::Reached if self.pc.now() >= self.last_tick => Some(Ending::TimeSpent),
            Outcome::Reached => None,
        })
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
        let pc = &*self.pc;
        let shows = |text: &str| pc.screen().is_some_and(|s| s.shows(text));
        if let Some(what) = self.typist.next(pc.now(), true, shows) {
            self.tap.give(self.pc, what);
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

//! [`Pc`]: all that a session knows of a machine. [`super::emulator`] is the machine behind it.

use super::ending::Ending;
use super::screen::TextScreen;
use super::state::State;
use super::stats::Stats;
use crate::bus::{Clock, Ticks};
use crate::console::keymap::KeyEvent;
use crate::debug;
use crate::device::mouse::MouseEvent;
use crate::error::{Error, Result};
use crate::snapshot::Saved;

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
    /// A VM exit that could not be completed, with the reason.
    VmxAbort(String),
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
    /// The run was to end before an event, in a sentence, which is next.
    Stopped(String),
    /// A debugger ended the run.
    Killed,
}

/// A machine, as a session sees it.
pub trait Pc {
    /// The machine's clock.
    fn clock(&self) -> Clock;
    /// Guest time.
    fn now(&self) -> Ticks;
    /// Instructions retired since power-on.
    fn retired(&self) -> u64;
    /// Runs to the first of the limits.
    fn run(&mut self, limits: Limits) -> Outcome;
    /// Whether the processor is halted and only input could wake it.
    fn waits_for_input(&self) -> bool {
        false
    }
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
    /// Why the guest died, as its last run ended; `None` if it did not, unless a report is wanted `always`.
    fn post_mortem(&self, always: bool) -> Option<debug::Report> {
        let _ = always;
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
    /// No debugger holds the machine: the run is over.
    Over,
    /// The debugger looks at the machine as the run left it, and is asked again.
    Looks,
    /// The debugger went back in time: the run goes on.
    Back,
}

//! How a run ends, and what it leaves.

use super::screen::TextScreen;
use super::stats::Stats;
use crate::bus::Ticks;
use crate::debug;
use crate::snapshot::recording::Input;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "kebab-case")]
pub enum Ending {
    /// The guest's own status.
    Exit(u8),
    /// Triple fault, with its story.
    TripleFault(String),
    /// A VM exit of the guest's hypervisor that could not be completed, with the reason.
    VmxAbort(String),
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
    /// An event that the run was to end before is next; the event, in a sentence.
    Stopped(String),
    /// The limit on instructions and halted ticks is spent.
    LimitSpent,
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
            Self::TripleFault(_) | Self::VmxAbort(_) => 120,
            Self::HaltedForever => 121,
            Self::PowerOff => 0,
            Self::Reset => 122,
            Self::BudgetSpent | Self::TimeSpent | Self::LimitSpent | Self::Stopped(_) => 124,
            Self::Left | Self::Killed | Self::Interrupted | Self::BrokenOff => 130,
            Self::OutputClosed => 0,
        }
    }

    /// Whether `--budget`, `--time` or `--limit` cut the run.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::BudgetSpent | Self::TimeSpent | Self::LimitSpent)
    }

    /// Whether the guest may have died.
    pub(super) fn wants_post_mortem(&self) -> bool {
        match self {
            Self::TripleFault(_)
            | Self::VmxAbort(_)
            | Self::HaltedForever
            | Self::Stopped(_)
            | Self::Reset => true,
            Self::Exit(status) => *status != 0,
            cut => cut.is_cut(),
        }
    }

    /// How the run ended, in a sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Exit(v) => format!("the guest ended with status {v}"),
            Self::TripleFault(story) if story.is_empty() => "triple fault".into(),
            Self::TripleFault(story) => format!("triple fault: {story}"),
            Self::VmxAbort(why) => format!("VMX abort: {why}"),
            Self::HaltedForever => "the guest halted for ever: nothing is left that could wake it".into(),
            Self::PowerOff => "the guest turned the machine off".into(),
            Self::Reset => "the guest asked for a reset".into(),
            Self::BudgetSpent => "the instruction budget is spent".into(),
            Self::TimeSpent => "the guest time is over".into(),
            Self::Stopped(event) => format!("stopped before {event}"),
            Self::LimitSpent => "the limit on instructions and halted ticks is spent".into(),
            Self::Left => "left by the user".into(),
            Self::Killed => "ended by gdb".into(),
            Self::Interrupted => "interrupted".into(),
            Self::BrokenOff => "the recording breaks off here".into(),
            Self::OutputClosed => "standard output was closed".into(),
        }
    }
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
    /// The registers at the end, by name.
    pub registers: BTreeMap<&'static str, String>,
    /// What COM1 sent, when it was kept.
    pub serial: Vec<u8>,
    /// Bytes that COM1 sent after those, for which there was no room.
    pub serial_cut: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the machine got, if that was to be recorded.
    pub inputs: Vec<Input>,
    /// Why the guest died, if it did.
    pub post_mortem: Option<debug::Report>,
}

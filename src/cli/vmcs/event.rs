//! `--at EVENT` of `subring vmcs`: what the words mean, and running a guest to an event.

use crate::bus::Ticks;
use crate::cli::mmu::event::{Event as Point, missed, numbered};
use crate::cli::mmu::session::{Ran, Runner};
use crate::clock::When;
use crate::cpu::vmx::Reason;
use crate::error::{Error, Result};
use crate::event::{Event as Observed, Sink};
use crate::load::Symbol;
use crate::machine::{Wants, Watcher};
use std::cell::Cell;
use std::rc::Rc;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An instruction count, or a place in the guest.
    Point(Point),
    /// The n-th VM exit with one of these reasons, or with any.
    Exit { reasons: Vec<&'static str>, nth: u64 },
    /// The n-th VM entry that was refused.
    Refused { nth: u64 },
}

impl Event {
    /// The event that `text` names.
    pub(super) fn parse(text: &str, symbols: &[Symbol]) -> Result<Self> {
        let (name, nth) = numbered(text)?;
        if name == "refused" {
            return Ok(Self::Refused { nth });
        }
        if name == "exit" {
            return Ok(Self::Exit { reasons: reasons("")?, nth });
        }
        if let Some(name) = name.strip_prefix("exit:") {
            return Ok(Self::Exit { reasons: reasons(name)?, nth });
        }
        let point = Point::point(text, (name, nth), symbols, "exit#N, exit:REASON#N, refused#N")?;
        Ok(Self::Point(point))
    }

    /// Runs `runner` to the event; another one for a second run comes from `again`.
    pub(super) fn reach(
        &self,
        text: &str,
        mut runner: Runner,
        again: impl FnOnce() -> Result<Runner>,
    ) -> Result<(Runner, Ran)> {
        if let Self::Point(point) = self {
            return point.reach(text, runner, again);
        }
        let (found, how, met) = self.find(&mut runner);
        match found {
            Some(now) => {
                let mut second = again()?;
                let how = second.run(now + 1, u64::MAX);
                Ok((second, if how == Ran::Interrupted { how } else { Ran::There }))
            }
            None if how == Ran::Interrupted => Ok((runner, how)),
            None => {
                let retired = runner.guest.machine.cpu.retired();
                Err(Error::Usage(missed(text, &how, retired, met)))
            }
        }
    }

    /// When the event happens, in a run that goes a little beyond it; else how the run ended, and how often
    /// it happened.
    fn find(&self, runner: &mut Runner) -> (Option<Ticks>, Ran, u64) {
        let seen = Rc::new(Seen::default());
        let counter = Counter { event: self.clone(), seen: Rc::clone(&seen) };
        let wants = Wants { exit: true, ..Wants::default() };
        runner.guest.machine.watch(Some(Watcher { wants, sink: Box::new(counter) }));
        let how = runner.run_watched(|_| seen.found.get().is_some());
        (seen.found.get(), how, seen.met.get())
    }
}

/// The names of the reasons that begin with `name`, in any case.
fn reasons(name: &str) -> Result<Vec<&'static str>> {
    let wanted = name.to_lowercase().replace('-', " ");
    let plain = |reason: &str| reason.to_lowercase().replace('-', " ");
    let names: Vec<&str> =
        Reason::ALL.iter().map(|r| r.name()).filter(|n| plain(n).starts_with(&wanted)).collect();
    if names.is_empty() {
        let all = Reason::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("no exit reason begins with `{name}`; they are {all}")));
    }
    Ok(names)
}

/// What a [`Counter`] has seen.
#[derive(Debug, Default)]
struct Seen {
    met: Cell<u64>,
    found: Cell<Option<Ticks>>,
}

/// Counts the event, and notes when its time comes.
struct Counter {
    event: Event,
    seen: Rc<Seen>,
}

impl Sink for Counter {
    fn record(&mut self, when: When, event: &Observed<'_>) {
        let (is, nth) = match (&self.event, event) {
            (Event::Exit { reasons, nth }, Observed::Exit { cause, .. }) => (reasons.contains(cause), *nth),
            (Event::Refused { nth }, Observed::EntryRefused { .. }) => (true, *nth),
            _ => return,
        };
        if is {
            self.seen.met.set(self.seen.met.get() + 1);
            if self.seen.met.get() == nth {
                self.seen.found.set(Some(when.ticks));
            }
        }
    }
}

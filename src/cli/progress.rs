//! A line on standard error that tells how far a long comparison is: at a terminal only, so that what goes into a file or a
//! pipe stays the same. It goes when the work is done.

use super::tell;
use crate::bus::{Clock, Ticks};
use crate::event::{Event, Sink};
use crate::lab::guest::Guest;
use crate::machine::{Wants, Watcher};
use std::cell::Cell;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Host time before the first line, and between two.
const PAUSE: Duration = Duration::from_millis(250);

/// Back to the line's beginning, and the line away.
const CLEAR: &str = "\r\x1b[K";

/// How far a machine is, in guest time: exits to its monitor, interrupts and accesses to ports tell.
pub(super) struct Progress {
    what: String,
    clock: Clock,
    /// Where the run ends.
    end: Ticks,
    now: Rc<Cell<Ticks>>,
    /// When the line was written last, or the work began; none if nobody looks.
    told: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Of `what`, which comes to its end at tick `end`.
    pub(super) fn new(what: String, clock: Clock, end: Ticks) -> Self {
        let told = std::io::stderr().is_terminal().then(Instant::now);
        Self { what, clock, end, now: Rc::default(), told, shown: false }
    }

    /// Follows a machine under a monitor.
    pub(super) fn follow(&self, guest: &mut Guest) {
        if self.told.is_some() {
            let wants = Wants { exit: true, interrupt: true, port: true, ..Wants::default() };
            let sink = Box::new(Follow(Rc::clone(&self.now)));
            guest.machine.watch(Some(Watcher { wants, sink }));
        }
    }

    /// Writes the line, if it is time.
    pub(super) fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() >= PAUSE) {
            tell(&format!("{CLEAR}{}", self.line()));
            (self.told, self.shown) = (Some(Instant::now()), true);
        }
    }

    fn line(&self) -> String {
        let millis = |ticks: Ticks| u128::from(ticks) * 1000 / u128::from(self.clock.hz().max(1));
        let (now, end) = (millis(self.now.get()), millis(self.end));
        format!("{}: {now} of {end} ms of guest time", self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            tell(CLEAR);
        }
    }
}

/// Notes when something last happened.
struct Follow(Rc<Cell<Ticks>>);

impl Sink for Follow {
    fn record(&mut self, now: u64, _: &Event<'_>) {
        self.0.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_in_guest_time() {
        let clock = Clock::default();
        let progress = Progress::new("lockstep".into(), clock, clock.micros(200_000));
        Follow(Rc::clone(&progress.now))
            .record(clock.micros(3000), &Event::Exit { cause: "", cs: 0, eip: 0 });
        assert_eq!(progress.line(), "lockstep: 3 of 200 ms of guest time");
    }
}

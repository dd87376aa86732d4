//! A line on standard error that tells how far a run is whose guest shows nothing: at a terminal only.

use super::output::tell;
use crate::lab::digits::grouped;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Host time before the first line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Host time between two lines.
const PAUSE: Duration = Duration::from_millis(250);
/// Back to the line's beginning, and the line away.
const CLEAR: &str = "\r\x1b[K";

/// The line of a run. Dropping it takes the line away.
pub(super) struct RunProgress {
    /// Whether Ctrl-A X leaves the run.
    leave: bool,
    /// When something was shown last, or the run began; none if nobody looks.
    shown_at: Option<Instant>,
    shown: bool,
}

impl RunProgress {
    /// A run begins; `leave` says that Ctrl-A X leaves it.
    pub(super) fn new(leave: bool) -> Self {
        let shown_at = std::io::stderr().is_terminal().then(Instant::now);
        Self { leave, shown_at, shown: false }
    }

    /// The run has come to `retired` instructions and `seconds` of guest time: writes the line, if it is time.
    pub(super) fn tell(&mut self, retired: u64, seconds: f64) {
        let pause = if self.shown { PAUSE } else { PATIENCE };
        if self.shown_at.is_some_and(|at| at.elapsed() >= pause) {
            tell(&format!("{CLEAR}{}", self.line(retired, seconds)));
            (self.shown_at, self.shown) = (Some(Instant::now()), true);
        }
    }

    fn line(&self, retired: u64, seconds: f64) -> String {
        let leave = if self.leave { " (Ctrl-A X leaves)" } else { "" };
        format!("running: {} instructions, {seconds:.1} s of guest time{leave}", grouped(retired))
    }

    /// Takes the line away, because something else is shown.
    pub(super) fn restart(&mut self) {
        if std::mem::take(&mut self.shown) {
            tell(CLEAR);
        }
        self.shown_at = self.shown_at.map(|_| Instant::now());
    }
}

impl Drop for RunProgress {
    fn drop(&mut self) {
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_the_run_is_and_how_to_leave() {
        let progress = RunProgress::new(true);
        assert_eq!(
            progress.line(3000, 0.25),
            "running: 3,000 instructions, 0.2 s of guest time (Ctrl-A X leaves)"
        );
    }
}

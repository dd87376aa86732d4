//! A line on standard error that tells how far a long comparison is: at a terminal only, so that what goes into a file or a
//! pipe stays the same. It goes when the work is done.

use super::digits::grouped;
use super::output::tell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Host time before the first line, and between two.
const PAUSE: Duration = Duration::from_millis(250);

/// Back to the line's beginning, and the line away.
const CLEAR: &str = "\r\x1b[K";

/// How far a guest is, in retired instructions.
pub(super) struct Progress {
    what: String,
    /// Where the run ends.
    end: u64,
    /// When the line was written last, or the work began; none if nobody looks.
    told: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Of `what`, which comes to its end after `end` instructions.
    pub(super) fn new(what: String, end: u64) -> Self {
        let told = std::io::stderr().is_terminal().then(Instant::now);
        Self { what, end, told, shown: false }
    }

    /// It has come so far: writes the line, if it is time.
    pub(super) fn tell(&mut self, retired: u64) {
        if self.told.is_some_and(|told| told.elapsed() >= PAUSE) {
            tell(&format!("{CLEAR}{}", self.line(retired)));
            (self.told, self.shown) = (Some(Instant::now()), true);
        }
    }

    fn line(&self, retired: u64) -> String {
        format!("{}: {} of {} instructions", self.what, grouped(retired), grouped(self.end))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            tell(CLEAR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_how_far_it_goes() {
        let progress = Progress::new("lockstep".into(), 20_000_000);
        assert_eq!(progress.line(3000), "lockstep: 3,000 of 20,000,000 instructions");
    }
}

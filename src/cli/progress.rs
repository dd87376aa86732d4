//! A line on standard error that tells how far a long comparison is: at a terminal only, so that what goes
//! into a file or a pipe stays the same. The line goes when the work is done.

use super::output::tell;
use crate::lab::digits::grouped;
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Host time before the first line.
const PATIENCE: Duration = Duration::from_secs(1);
/// Host time between two lines.
const PAUSE: Duration = Duration::from_millis(250);

/// Back to the line's beginning, and the line away.
const CLEAR: &str = "\r\x1b[K";

/// The line, drawn by a thread of its own: also while nothing reports.
pub(super) struct Progress {
    /// What is being done, to the thread; nothing if nobody looks.
    drawn: Option<(Sender<String>, JoinHandle<()>)>,
    /// When something was reported last.
    told: Instant,
}

impl Progress {
    /// A line about nothing yet.
    pub(super) fn new() -> Self {
        Self { drawn: std::io::stderr().is_terminal().then(start), told: Instant::now() }
    }

    /// Work of unknown length begins.
    pub(super) fn begin(&mut self, what: &str) {
        self.send(what.to_owned());
    }

    /// `what` has come to `retired` instructions, of `end` if that is known.
    pub(super) fn tell(&mut self, what: &str, retired: u64, end: Option<u64>) {
        if self.drawn.is_some() && self.told.elapsed() >= PAUSE {
            self.told = Instant::now();
            self.send(line(what, retired, end));
        }
    }

    fn send(&self, text: String) {
        if let Some((to, _)) = &self.drawn {
            // The thread listens until this end is gone.
            let _ = to.send(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((to, thread)) = self.drawn.take() {
            drop(to);
            // A panic of the thread has been told on standard error.
            let _ = thread.join();
        }
    }
}

fn line(what: &str, retired: u64, end: Option<u64>) -> String {
    let of = end.map_or(String::new(), |end| format!(" of {}", grouped(end)));
    format!("{what}: {}{of} instructions", grouped(retired))
}

/// The thread that draws, and the way to it.
fn start() -> (Sender<String>, JoinHandle<()>) {
    let (to, from) = channel::<String>();
    let draw = move || {
        let begun = Instant::now();
        let (mut text, mut shown) = (String::new(), false);
        loop {
            match from.recv_timeout(PAUSE) {
                Ok(next) => text = next,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if begun.elapsed() >= PATIENCE && !text.is_empty() {
                tell(&format!("{CLEAR}{text}, {} s", begun.elapsed().as_secs()));
                shown = true;
            }
        }
        if shown {
            tell(CLEAR);
        }
    };
    (to, std::thread::spawn(draw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_how_far_it_goes() {
        let end = Some(20_000_000);
        assert_eq!(line("lockstep", 3000, end), "lockstep: 3,000 of 20,000,000 instructions");
        assert_eq!(line("running bare direct", 3000, None), "running bare direct: 3,000 instructions");
    }
}

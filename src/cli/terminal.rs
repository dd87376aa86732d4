//! The host's side of the console: stdin and stdout, raw mode, the Ctrl-A commands, signals.
//!
//! The terminal is put back on every way out: when the console is closed or dropped, and by a panic hook.

use super::output::tell;
use super::screen::{Live, TextScreen};
use crate::console::keymap::{Stroke, from_terminal};
use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::stdin;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGABRT, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// What Ctrl-A H shows.
pub(super) const HELP: &str = "Ctrl-A X  leave\nCtrl-A C  show the processor's registers\nCtrl-A A  send Ctrl-A to the guest\nCtrl-A H  this help\n";
const CTRL_A: u8 = 1;
/// Serial output is kept for `--json` up to this size.
const KEPT: usize = 16 << 20;

/// What stdin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes for the serial port.
    Serial(Vec<u8>),
    /// A key for the keyboard.
    Key(Stroke),
    /// End the run.
    Leave,
    /// Show the registers.
    Registers,
    /// Show the commands.
    Help,
}

/// Where the guest's output goes and its input comes from.
pub struct Setup {
    /// Read stdin at all.
    pub input: bool,
    /// Write serial output to stdout as it comes.
    pub stream: bool,
    /// Keep serial output.
    pub keep: bool,
    /// Show the VGA text screen live; stdin then is the keyboard.
    pub live: bool,
    /// Where port 0xE9 goes.
    pub debugcon: Option<Box<dyn Write>>,
    /// Where port 0x402 goes.
    pub bioscon: Option<Box<dyn Write>>,
}

impl Setup {
    /// A console that shows nothing and reads nothing.
    pub(super) fn silent() -> Self {
        Self { input: false, stream: false, keep: false, live: false, debugcon: None, bioscon: None }
    }
}

/// The open console.
pub struct Console {
    setup: Setup,
    raw: bool,
    open: bool,
    prefix: bool,
    live: Option<Live>,
    signal: Arc<AtomicBool>,
    /// Serial output, when it is kept, and how many bytes had no room.
    kept: Vec<u8>,
    cut: u64,
    /// Signals that stop the program and let it go on.
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Console {
    /// Opens the console; stdin goes to raw mode when it is a terminal and is read.
    ///
    /// # Errors
    /// [`Error::Host`] when the terminal or the signals cannot be set up.
    pub fn open_with(setup: Setup) -> Result<Self> {
        let signal = flag(&ENDING)?;
        let raw = setup.input && isatty(stdin());
        // Without raw mode there is nothing to put back when the program is stopped.
        let (stop, go_on) = if raw { (flag(&[SIGTSTP])?, flag(&[SIGCONT])?) } else { Default::default() };
        if raw {
            enter_raw()?;
            if std::io::stderr().is_terminal() && !setup.live {
                tell("subring: Ctrl-A X leaves, Ctrl-A H helps\n");
            }
        }
        let live = if setup.live { Some(Live::open()?) } else { None };
        Ok(Self {
            open: setup.input,
            setup,
            raw,
            prefix: false,
            live,
            signal,
            kept: Vec::new(),
            cut: 0,
            stop,
            go_on,
        })
    }

    /// Whether a person is at stdin.
    pub fn interactive(&self) -> bool {
        self.raw && self.open
    }

    /// Whether stdin may still say something.
    pub fn open(&self) -> bool {
        self.open
    }

    /// Whether a signal asked us to end.
    pub fn signalled(&self) -> bool {
        self.signal.load(Ordering::Relaxed)
    }

    /// Serial output that was kept, and how many bytes had no room.
    pub fn take_kept(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.kept), self.cut)
    }

    /// Stops the program if SIGTSTP came, with the terminal as it was before; sets the terminal up again when the
    /// program goes on, also after a SIGSTOP.
    fn stop_and_go_on(&self) -> Result<()> {
        if self.stop.swap(false, Ordering::Relaxed) {
            restore();
            let stopped = signal_hook::low_level::emulate_default_handler(SIGTSTP);
            stopped.map_err(|source| Error::Host { action: "stop the program", source })?;
            self.go_on.store(true, Ordering::Relaxed);
        }
        if self.go_on.swap(false, Ordering::Relaxed) {
            enter_raw()?;
        }
        Ok(())
    }

    /// Reads what stdin has, waiting up to `wait` (for ever without one) for something to come.
    ///
    /// # Errors
    /// [`Error::Host`] when stdin cannot be waited for.
    pub fn read(&mut self, wait: Option<Duration>) -> Result<Vec<Action>> {
        self.stop_and_go_on()?;
        if !self.open || !self.ready(wait)? {
            return Ok(Vec::new());
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => return Ok(self.actions(&buffer[..n])),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // A stdin that cannot be read (closed, or a terminal that went away) has ended.
            Err(_) => self.open = false,
        }
        Ok(Vec::new())
    }

    /// Whether stdin has something before `wait` is over or a signal comes.
    fn ready(&self, wait: Option<Duration>) -> Result<bool> {
        // A signal may come just before poll() sleeps, so no single sleep is long.
        const NAP: Duration = Duration::from_millis(200);
        let start = Instant::now();
        loop {
            let left = wait.map_or(NAP, |w| w.saturating_sub(start.elapsed()).min(NAP));
            let nap = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            let input = stdin();
            let mut fds = [PollFd::new(&input, PollFlags::IN)];
            match poll(&mut fds, Some(&nap)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(Error::Host { action: "wait for standard input", source: e.into() }),
            }
            let stops = [&self.stop, &self.go_on].into_iter().any(|flag| flag.load(Ordering::Relaxed));
            if stops || self.signalled() || wait.is_some_and(|w| start.elapsed() >= w) {
                return Ok(false);
            }
        }
    }

    /// Takes the Ctrl-A commands out of what a person typed.
    fn actions(&mut self, bytes: &[u8]) -> Vec<Action> {
        if !self.raw {
            return vec![Action::Serial(bytes.to_vec())];
        }
        let mut out = Vec::new();
        let mut plain = Vec::new();
        for &byte in bytes {
            if !std::mem::take(&mut self.prefix) {
                if byte == CTRL_A {
                    self.prefix = true
                } else {
                    plain.push(byte)
                }
                continue;
            }
            let command = match byte.to_ascii_lowercase() {
                b'x' => Action::Leave,
                b'c' => Action::Registers,
                b'h' | b'?' => Action::Help,
                b'a' | CTRL_A => {
                    plain.push(CTRL_A);
                    continue;
                }
                _ => continue,
            };
            out.extend(self.typed(&std::mem::take(&mut plain)));
            out.push(command);
        }
        out.extend(self.typed(&plain));
        out
    }

    /// What a person typed, for the keyboard or for the serial port.
    fn typed(&self, bytes: &[u8]) -> Vec<Action> {
        if bytes.is_empty() {
            Vec::new()
        } else if self.setup.live {
            from_terminal(bytes).into_iter().map(Action::Key).collect()
        } else {
            vec![Action::Serial(bytes.to_vec())]
        }
    }

    /// Shows what the guest put out; the screen `at_once` when the guest is about to wait. False when stdout has no
    /// reader any more.
    ///
    /// # Errors
    /// [`Error::Host`] when stdout or a debug console's file cannot be written.
    pub fn show(
        &mut self,
        serial: &[u8],
        debug: &[u8],
        bios: &[u8],
        at_once: bool,
        screen: impl FnOnce() -> Option<TextScreen>,
    ) -> Result<bool> {
        if self.setup.keep {
            let room = KEPT.saturating_sub(self.kept.len()).min(serial.len());
            self.kept.extend_from_slice(&serial[..room]);
            self.cut += (serial.len() - room) as u64;
        }
        for (to, bytes) in [(&mut self.setup.debugcon, debug), (&mut self.setup.bioscon, bios)] {
            let Some(to) = to.as_mut().filter(|_| !bytes.is_empty()) else { continue };
            let written = to.write_all(bytes).and_then(|()| to.flush());
            if !delivered(written, "write a debug console's output")? {
                return Ok(false);
            }
        }
        if let Some(live) = &mut self.live {
            return delivered(live.draw(at_once, screen), "draw the screen");
        }
        if !self.setup.stream || serial.is_empty() {
            return Ok(true);
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(serial).and_then(|()| stdout.flush());
        delivered(written, "write to standard output")
    }

    /// Tells the user something, apart from the guest's output.
    ///
    /// # Errors
    /// [`Error::Host`] when the terminal cannot be written.
    pub fn say(&mut self, text: &str) -> Result<()> {
        match &mut self.live {
            Some(live) => live.say(text),
            None => {
                tell(&format!("\n{text}\n"));
                Ok(())
            }
        }
    }

    /// Puts the terminal back.
    ///
    /// # Errors
    /// None at present; closing is where a late write error would show.
    pub fn close(&mut self) -> Result<()> {
        self.live = None;
        if std::mem::take(&mut self.raw) {
            restore();
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.raw {
            restore();
        }
    }
}

/// Signals that end a run; the terminal is put back first.
const ENDING: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT];

/// A flag that each of these signals sets.
fn flag(signals: &[i32]) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for &number in signals {
        signal_hook::flag::register(number, Arc::clone(&flag))
            .map_err(|source| Error::Host { action: "watch for signals", source })?;
    }
    Ok(flag)
}

/// Whether a write reached its reader; a reader that left is no error.
fn delivered(result: std::io::Result<()>, action: &'static str) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::Host { action, source }),
    }
}

/// The terminal's modes before we changed them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Stdin without echo, line editing and signals; output processing stays, so that a bare line feed still starts
/// a new line.
fn enter_raw() -> Result<()> {
    let host = |e: rustix::io::Errno| Error::Host { action: "set up the terminal", source: e.into() };
    let before = tcgetattr(stdin()).map_err(host)?;
    let mut raw = before.clone();
    raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
    raw.input_modes -= InputModes::IXON | InputModes::ICRNL | InputModes::INLCR | InputModes::ISTRIP;
    raw.control_modes |= ControlModes::CS8;
    // After a stop the modes may still be our own: what was before stays what it is.
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(before);
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
    });
    tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(host)
}

/// Puts the terminal's modes back, if they were changed.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
        if std::io::stdout().is_terminal() {
            let _ = std::io::stdout().write_all(b"\x1b[0m\x1b[?25h");
            let _ = std::io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(live: bool) -> Console {
        let setup =
            Setup { input: false, stream: false, keep: true, live: false, debugcon: None, bioscon: None };
        let mut console = Console::open_with(setup).unwrap();
        console.setup.live = live;
        console.raw = true;
        console
    }

    #[test]
    fn commands_are_taken_out_of_what_is_typed() {
        let mut c = console(false);
        assert_eq!(c.actions(b"ab\x01"), [Action::Serial(b"ab".to_vec())]);
        assert_eq!(c.actions(b"cd"), [Action::Registers, Action::Serial(b"d".to_vec())]);
        assert_eq!(c.actions(b"\x01a\x01\x01"), [Action::Serial(b"\x01\x01".to_vec())]);
        assert_eq!(c.actions(b"\x01q\x01X"), [Action::Leave]);
        c.raw = false;
        assert_eq!(c.actions(b"\x01x"), [Action::Serial(b"\x01x".to_vec())]);
    }

    #[test]
    fn a_live_screen_takes_keys() {
        let mut c = console(true);
        assert_eq!(c.actions(b"a"), [Action::Key(Stroke::of_char('a').unwrap())]);
        c.raw = false;
    }
}

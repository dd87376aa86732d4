//! A machine under test: the one that `subring run` builds, driven to points of its transcript.

use std::path::{Path, PathBuf};
use subring::cli::emulator::Emulator;
use subring::cli::keys::{self, Typist};
use subring::cli::pc::{Limits, Outcome, Pc};
use subring::console::keymap::KeyEvent;
use subring::cpu::Model;
use subring::device::mouse::MouseEvent;
use subring::load::{self, Around, Drive, Medium, Plan, Spec};
use subring::media::image;
use subring::snapshot::recording::What;
use subring::vmm;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a machine has.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Bytes of RAM.
    pub(crate) mem: u32,
    /// Instructions per guest second. A small number makes waiting cheap.
    pub(crate) hz: u64,
    /// The processor.
    pub(crate) cpu: Model,
    /// SeaBIOS and its VGA BIOS, instead of the built-in BIOS.
    pub(crate) bios: Option<(PathBuf, PathBuf)>,
    /// Hard disk images; what is written to them is thrown away.
    pub(crate) disks: Vec<PathBuf>,
    /// Floppy images, likewise.
    pub(crate) floppies: Vec<PathBuf>,
    /// A CD image, booted first.
    pub(crate) cdrom: Option<PathBuf>,
    /// A Multiboot or Linux kernel, instead of firmware.
    pub(crate) kernel: Option<PathBuf>,
    /// Its command line.
    pub(crate) cmdline: Option<String>,
    /// Its initial RAM disk.
    pub(crate) initrd: Option<Vec<u8>>,
    /// What runs it; the bare machine by default.
    pub(crate) monitor: Monitor,
}

/// A monitor between the guest and the processor, or none.
pub(crate) type Monitor = Option<vmm::Config>;

impl Default for Parts {
    fn default() -> Self {
        Self {
            mem: 32 << 20,
            hz: 2_000_000,
            cpu: Model::default(),
            bios: None,
            disks: vec![],
            floppies: vec![],
            cdrom: None,
            kernel: None,
            cmdline: None,
            initrd: None,
            monitor: None,
        }
    }
}

/// A running machine and what it has put out.
pub(crate) struct Lab {
    pc: Emulator,
    /// What COM1 sent.
    pub(crate) serial: String,
    /// What SeaBIOS wrote to port 402h.
    pub(crate) log: String,
    /// What was waited for, and the instruction count at which it was there: the transcript.
    pub(crate) marks: Vec<(String, u64)>,
    /// Bytes of RAM.
    mem: u32,
    /// All that COM1 and port 402h got.
    said: Xxh3,
}

/// What two runs must have in common.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndState {
    /// The transcript.
    marks: Vec<(String, u64)>,
    /// Instructions.
    retired: u64,
    registers: String,
    screen: String,
    /// A hash of RAM.
    memory: u64,
    /// A hash of what was sent.
    said: u64,
}

impl Lab {
    /// Powers it on.
    pub(crate) fn new(parts: Parts) -> Self {
        let drives = |images: Vec<PathBuf>| images.iter().map(|p| drive(p)).collect();
        let plan = plan(&parts);
        let spec = Spec {
            mem: parts.mem,
            hz: parts.hz,
            cpu: parts.cpu,
            bios: parts.bios.as_ref().map(|(bios, _)| std::fs::read(bios).unwrap()),
            vga_bios: parts.bios.as_ref().map(|(_, vga)| std::fs::read(vga).unwrap()),
            disks: drives(parts.disks),
            floppies: drives(parts.floppies),
            cdrom_first: parts.cdrom.is_some(),
            cdrom: parts.cdrom.as_deref().map(drive),
            monitor: parts.monitor,
            plan,
            ..Spec::default()
        };
        let pc = Emulator::new(spec, None, None).unwrap();
        Self {
            pc,
            serial: String::new(),
            log: String::new(),
            marks: Vec::new(),
            mem: parts.mem,
            said: Xxh3::new(),
        }
    }

    /// Runs for 10 ms of guest time.
    fn slice(&mut self) -> Outcome {
        let ticks = self.pc.now() + self.pc.clock().hz() / 100;
        let outcome = self.pc.run(Limits { ticks, retired: u64::MAX, at_idle: false });
        let (serial, log) = (self.pc.take_serial_output(), self.pc.take_bioscon());
        self.said.update(&serial);
        self.said.update(&log);
        self.serial += &String::from_utf8_lossy(&serial);
        self.log += &String::from_utf8_lossy(&log);
        outcome
    }

    /// Runs until the screen shows `text`, for at most `seconds` of guest time.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str, seconds: u64) {
        let end = self.pc.now() + seconds * self.pc.clock().hz();
        while !self.shows(text) {
            let outcome = self.slice();
            let left = self.pc.now() < end && outcome == Outcome::Reached;
            assert!(left, "{outcome:?} without `{text}` on the screen:\n{}", self.text());
        }
        self.marks.push((text.to_owned(), self.pc.retired()));
    }

    /// Runs until COM1 has sent `text` since the last such wait, for at most `seconds` of guest time; returns what came
    /// before it.
    #[track_caller]
    pub(crate) fn until_serial(&mut self, text: &str, seconds: u64) -> String {
        let end = self.pc.now() + seconds * self.pc.clock().hz();
        loop {
            if let Some(at) = self.serial.find(text) {
                let before = self.serial[..at].to_owned();
                self.serial.drain(..at + text.len());
                self.marks.push((text.to_owned(), self.pc.retired()));
                return before;
            }
            let outcome = self.slice();
            let left = self.pc.now() < end && outcome == Outcome::Reached;
            assert!(left, "{outcome:?} without `{text}` on the serial line:\n{}", self.serial);
        }
    }

    /// Sends bytes to COM1.
    pub(crate) fn send(&mut self, text: &str) {
        self.pc.serial_input(text.as_bytes());
    }

    /// Runs for some guest time.
    #[track_caller]
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            assert_eq!(self.slice(), Outcome::Reached, "{}", self.text());
        }
    }

    /// Runs until the machine stops by itself, for at most `seconds`.
    #[track_caller]
    pub(crate) fn until_stop(&mut self, seconds: u64) -> Outcome {
        let end = self.pc.now() + seconds * self.pc.clock().hz();
        loop {
            let outcome = self.slice();
            if outcome != Outcome::Reached {
                self.marks.push((format!("{outcome:?}"), self.pc.retired()));
                return outcome;
            }
            assert!(self.pc.now() < end, "still running:\n{}", self.text());
        }
    }

    /// Types, in the notation of `--keys`: one key down or up every 10 ms.
    #[track_caller]
    pub(crate) fn keys(&mut self, script: &str) {
        let mut typist = Typist::new(keys::parse(script).unwrap(), self.pc.clock());
        while let Some(what) = typist.next(self.pc.now(), true, |_| true) {
            match what {
                What::Key(event) => self.pc.key(event),
                What::Mouse(event) => self.pc.mouse(event),
                What::Serial(_) => unreachable!("a typist has no serial line"),
            }
            self.wait_ms(10);
        }
    }

    /// Moves or clicks the mouse.
    pub(crate) fn mouse(&mut self, event: MouseEvent) {
        self.pc.mouse(event);
    }

    /// Holds the key with this scan code (set 1, behind E0) down for some guest time.
    #[track_caller]
    pub(crate) fn hold(&mut self, code: u8, ms: u64) {
        self.pc.key(KeyEvent { code, extended: true, down: true });
        self.wait_ms(ms);
        self.pc.key(KeyEvent { code, extended: true, down: false });
        self.wait_ms(50);
    }

    /// The screen's rows.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.pc.screen().map(|screen| screen.lines()).unwrap_or_default()
    }

    /// The screen as one text.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Whether a row contains `text`.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.pc.screen().is_some_and(|screen| screen.shows(text))
    }

    /// Asserts that each of `lines` is a row of the screen, in this order.
    #[track_caller]
    pub(crate) fn has_rows(&self, lines: &[&str]) {
        let screen = self.lines();
        let mut rows = screen.iter();
        for line in lines {
            assert!(rows.any(|row| row == line), "no row `{line}`, or not in order:\n{}", self.text());
        }
    }

    /// VM entries so far.
    pub(crate) fn vm_entries(&self) -> u64 {
        self.pc.stats().other.get("VM entries").copied().unwrap_or(0)
    }

    /// What two runs must have in common.
    pub(crate) fn end_state(&self) -> EndState {
        let mut memory = vec![0; self.mem as usize];
        self.pc.read_memory(0, &mut memory);
        EndState {
            marks: self.marks.clone(),
            retired: self.pc.retired(),
            registers: self.pc.registers(),
            screen: self.text(),
            memory: xxh3_64(&memory),
            said: self.said.digest(),
        }
    }
}

fn drive(path: &Path) -> Drive {
    let image = image::open(path, None, false).unwrap();
    Drive { path: path.to_owned(), medium: Medium::Image(image), snapshot: true }
}

fn plan(parts: &Parts) -> Plan {
    let Some(kernel) = parts.kernel.as_deref() else { return Plan::firmware() };
    let bytes = std::fs::read(kernel).unwrap();
    let head = &bytes[..bytes.len().min(load::HEAD)];
    let guest = load::identify(kernel, head, bytes.len() as u64, load::Format::Auto).unwrap();
    let (cmdline, initrd) = (parts.cmdline.clone(), parts.initrd.clone());
    load::plan(kernel, &bytes, guest, &Around { mem: parts.mem, cmdline, initrd, ..Around::default() })
        .unwrap()
}

/// Asserts that each of `parts` occurs in `text`, in this order.
#[track_caller]
pub(crate) fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no `{part}`, or not in order:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

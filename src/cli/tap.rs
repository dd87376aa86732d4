//! The single tap of a machine's input: `--record` notes down what goes through it, `--replay` lets come out of it what
//! was noted down. The session gives the machine nothing by another way.
//!
//! A point of a run is named by its tick. The machine stops at a tick before anything else happens there, so an input
//! that is given at the same tick as in the recording meets the machine in the same state, however the runs between
//! were cut into slices.

use super::session::{Drive, End, Ending, Limits, Medium, Outcome, Pc, Spec};
use crate::bus::Ticks;
use crate::error::{Error, Result};
use crate::snapshot::container::{self, Kind};
use crate::snapshot::recording::{Frame, Input, MONITOR, Point, Recorder, Stop, What};
use crate::snapshot::{Recording, hash_bytes, hash_files};
use crate::vmm::bt::rules;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A recording to be replayed, and its file.
#[derive(Clone, Debug)]
pub struct Replay {
    path: PathBuf,
    recording: Recording,
}

impl Replay {
    fn lost(&self, now: Point) -> Error {
        let reason = format!(
            "the replay went another way than the recording, by instruction {}: it was recorded by another version of this program",
            now.retired
        );
        Error::image(&self.path, reason)
    }
}

/// A recording that grows with its session.
pub(super) type Journal = Rc<RefCell<Recorder>>;

/// What goes into the machine.
pub(super) struct Tap {
    record: bool,
    journal: Option<Journal>,
    /// Where the journal last said that the machine had got to.
    alive: Ticks,
    replay: Option<Replay>,
    /// What was recorded; or of the replay, how much was given.
    inputs: Vec<Input>,
    given: usize,
    /// The machine ran since it last got something.
    ran: bool,
}

fn point(pc: &dyn Pc) -> Point {
    Point { ticks: pc.now(), retired: pc.retired() }
}

fn hand(pc: &mut dyn Pc, what: &What) {
    match what {
        What::Serial(bytes) => pc.serial_input(bytes),
        What::Key(event) => pc.key(*event),
        What::Mouse(event) => pc.mouse(*event),
    }
}

impl Tap {
    /// A tap that records, replays, or just lets through.
    pub(super) fn new(record: bool, journal: Option<Journal>, replay: Option<Replay>) -> Self {
        Self { record, journal, alive: 0, replay, inputs: Vec::new(), given: 0, ran: false }
    }

    /// Gives the machine something now.
    pub(super) fn give(&mut self, pc: &mut dyn Pc, what: What) {
        hand(pc, &what);
        let after_run = std::mem::take(&mut self.ran);
        let input = Input { at: point(pc), after_run, what };
        if let Some(journal) = &self.journal {
            journal.borrow_mut().note(&Frame::Input(input.clone()));
        }
        if self.record {
            self.inputs.push(input);
        }
    }

    /// Gives the machine what the recording has for this point.
    ///
    /// # Errors
    /// When the machine is not where it was then.
    pub(super) fn play(&mut self, pc: &mut dyn Pc) -> Result<()> {
        let Some(replay) = &self.replay else { return Ok(()) };
        let first = self.given;
        while let Some(input) = replay.recording.inputs.get(self.given) {
            let now = point(pc);
            if now.ticks < input.at.ticks {
                break;
            }
            if now != input.at {
                return Err(replay.lost(now));
            }
            if input.after_run && self.given > first {
                // It had looked up without getting any further.
                pc.run(Limits { ticks: now.ticks, retired: u64::MAX, at_idle: false });
            }
            hand(pc, &input.what);
            self.given += 1;
        }
        Ok(())
    }

    /// The tick up to which the machine may run until it is to get something, or is to end.
    pub(super) fn horizon(&self) -> Ticks {
        let Some(Replay { recording, .. }) = &self.replay else { return Ticks::MAX };
        match recording.inputs.get(self.given) {
            Some(input) => input.at.ticks,
            // A guest that ends by itself is let go on to where it does.
            None if recording.stop == Stop::Guest => recording.end.ticks.saturating_add(1),
            None => recording.end.ticks,
        }
    }

    /// After the machine ran: how a replay ends, if this is its end.
    ///
    /// # Errors
    /// When the machine goes on where it then ended, or stopped where it then went on.
    pub(super) fn ended(&mut self, pc: &dyn Pc, outcome: &Outcome) -> Result<Option<Ending>> {
        self.ran = true;
        self.note_life(pc);
        let Some(replay) = &self.replay else { return Ok(None) };
        let (now, recording) = (point(pc), &replay.recording);
        let all_given = self.given == recording.inputs.len();
        if !matches!(outcome, Outcome::Reached | Outcome::Idle(_)) {
            return if all_given && now == recording.end { Ok(None) } else { Err(replay.lost(now)) };
        }
        if !all_given {
            let due = recording.inputs[self.given].at.ticks == now.ticks;
            return if due || *outcome == Outcome::Reached { Ok(None) } else { Err(replay.lost(now)) };
        }
        match recording.stop {
            _ if now.ticks > recording.end.ticks => Err(replay.lost(now)),
            Stop::Guest if *outcome == Outcome::Idle(None) => Ok(Some(Ending::HaltedForever)),
            _ if now.ticks < recording.end.ticks => Ok(None),
            Stop::Guest => Ok(None),
            Stop::Budget => Ok(Some(Ending::BudgetSpent)),
            Stop::Time => Ok(Some(Ending::TimeSpent)),
            Stop::User => Ok(Some(Ending::Left)),
            Stop::Broken => Ok(Some(Ending::BrokenOff)),
        }
    }

    /// Notes down how far the machine got, each guest second.
    fn note_life(&mut self, pc: &dyn Pc) {
        if let Some(journal) = &self.journal
            && pc.now() - self.alive >= pc.clock().hz()
        {
            self.alive = pc.now();
            journal.borrow_mut().note(&Frame::Alive(point(pc)));
        }
    }

    /// Whether a recording is replayed.
    pub(super) fn replays(&self) -> bool {
        self.replay.is_some()
    }

    /// What was recorded.
    pub(super) fn take_inputs(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.inputs)
    }
}

/// The file of `--record` or `--replay`.
pub(super) enum Tape {
    /// Neither.
    None,
    /// The file to write, and what the session starts from.
    ToRecord(PathBuf, Vec<(String, u128)>),
    /// The file that is being written.
    Record(Journal),
    /// What was read.
    Replay(Replay),
}

impl Tape {
    /// Opens the file that is asked for, for a session that starts from `spec`.
    ///
    /// # Errors
    /// When a recording cannot be read, or is of another guest or machine.
    pub(super) fn open(record: Option<&Path>, replay: Option<&Path>, spec: &Spec) -> Result<Self> {
        if let Some(path) = record {
            return Ok(Self::ToRecord(path.to_owned(), parts(spec)?));
        }
        let Some(path) = replay else { return Ok(Self::None) };
        let recording = Recording::read(path)?;
        recording.check_start(path, &parts(spec)?)?;
        if recording.stop == Stop::Broken {
            let at = super::report::grouped(recording.end.retired);
            super::tell(&format!(
                "subring: note: {}: the recording breaks off after {at} instructions and has no state to compare with: the program was killed while it recorded\n",
                path.display()
            ));
        }
        Ok(Self::Replay(Replay { path: path.to_owned(), recording }))
    }

    /// Begins the recording, if there is to be one.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub(super) fn begin(self) -> Result<Self> {
        match self {
            Self::ToRecord(path, start) => {
                Ok(Self::Record(Rc::new(RefCell::new(Recorder::create(&path, &start)?))))
            }
            other => Ok(other),
        }
    }

    /// The recording that is being made.
    pub(super) fn journal(&self) -> Option<Journal> {
        match self {
            Self::Record(journal) => Some(Rc::clone(journal)),
            _ => None,
        }
    }

    /// The recording to replay.
    pub(super) fn replay(&self) -> Option<Replay> {
        match self {
            Self::Replay(replay) => Some(replay.clone()),
            _ => None,
        }
    }

    /// At the end of the session: ends the recording, or holds that the replay came to the same end.
    ///
    /// # Errors
    /// When it cannot be written, or did not.
    pub(super) fn close(self, pc: &dyn Pc, end: &End) -> Result<()> {
        let state_hash = || pc.state_hash();
        match self {
            Self::None | Self::ToRecord(..) => Ok(()),
            Self::Record(journal) => journal.borrow_mut().finish(point(pc), stop(&end.ending), state_hash()),
            Self::Replay(replay) => {
                let interrupted = matches!(end.ending, Ending::Interrupted | Ending::OutputClosed);
                let same = point(pc) == replay.recording.end
                    && replay.recording.state_hash.is_none_or(|hash| hash == state_hash());
                if same || interrupted { Ok(()) } else { Err(replay.lost(point(pc))) }
            }
        }
    }
}

fn stop(ending: &Ending) -> Stop {
    match ending {
        Ending::Exit(_)
        | Ending::TripleFault(_)
        | Ending::HaltedForever
        | Ending::PowerOff
        | Ending::Reset => Stop::Guest,
        Ending::BudgetSpent => Stop::Budget,
        Ending::TimeSpent => Stop::Time,
        Ending::Left | Ending::Killed | Ending::Interrupted | Ending::OutputClosed | Ending::BrokenOff => {
            Stop::User
        }
    }
}

/// All that a run depends on besides its input, by name.
fn parts(spec: &Spec) -> Result<Vec<(String, u128)>> {
    let bytes = |rom: &Option<Vec<u8>>| rom.as_deref().map_or(0, hash_bytes);
    let mut parts = vec![
        ("memory size (--mem)".to_owned(), spec.mem.into()),
        ("frequency (--hz)".to_owned(), spec.hz.into()),
        ("date (--epoch)".to_owned(), spec.epoch as u128),
        ("interrupt controller (--no-apic)".to_owned(), spec.apic.into()),
        ("power management (--no-acpi)".to_owned(), spec.acpi.into()),
        ("pace of the serial ports (--uart-pace)".to_owned(), (spec.transmitter as u8).into()),
        ("BIOS (--bios)".to_owned(), bytes(&spec.bios)),
        ("VGA BIOS (--vgabios)".to_owned(), bytes(&spec.vga_bios)),
        ("guest".to_owned(), plan(spec)),
    ];
    if let Some(monitor) = &spec.monitor {
        parts.push((MONITOR.to_owned(), hash_bytes(monitor.cell.strategy().to_string().as_bytes())));
        if let Some(rule) = monitor.without {
            parts.push((
                "set of rules (--without-rule)".to_owned(),
                hash_bytes(rules::by_id(rule).name.as_bytes()),
            ));
        }
    }
    if let Some(saved) = &spec.restore {
        parts.push((
            "snapshot (--restore)".to_owned(),
            hash_bytes(&container::encode(Kind::Snapshot, saved)?),
        ));
    }
    for (kind, drives) in [("disk", &spec.disks), ("floppy", &spec.floppies)] {
        for (n, drive) in drives.iter().enumerate() {
            parts.push((format!("content of {kind} {n}"), content(drive)?));
        }
    }
    if let Some(drive) = &spec.cdrom {
        parts.push(("content of the CD-ROM".to_owned(), content(drive)?));
        parts.push(("boot order".to_owned(), spec.cdrom_first.into()));
    }
    Ok(parts)
}

fn content(drive: &Drive) -> Result<u128> {
    match &drive.medium {
        Medium::Image(image) => hash_files(&image.files),
        Medium::Memory(bytes) => Ok(hash_bytes(bytes)),
    }
}

/// The image in memory, and how it starts.
fn plan(spec: &Spec) -> u128 {
    let mut text = format!("{:?}", spec.plan.entry).into_bytes();
    for (at, bytes) in &spec.plan.writes {
        text.extend(at.0.to_le_bytes());
        text.extend(hash_bytes(bytes).to_le_bytes());
    }
    hash_bytes(&text)
}

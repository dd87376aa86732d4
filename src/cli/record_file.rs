//! The file of `--record` or `--replay`, and what a recording starts from.

use super::ending::{End, Ending};
use super::output::tell;
use super::pc::Pc;
use super::record_replay::{Journal, Replay, point};
use crate::error::Result;
use crate::lab::digits::grouped;
use crate::load::{Drive, Medium, Spec};
use crate::snapshot::container::{self, Kind};
use crate::snapshot::recording::{MONITOR, Recorder, Stop};
use crate::snapshot::{Recording, hash_bytes, hash_files};
use crate::vmm::bt::rules;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The file of `--record` or `--replay`.
pub(super) enum RecordFile {
    /// Neither.
    None,
    /// The file to write, and what the session starts from.
    ToRecord(PathBuf, Vec<(String, u128)>),
    /// The file that is being written.
    Record(Journal),
    /// What was read.
    Replay(Replay),
}

impl RecordFile {
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
            let at = grouped(recording.end.retired);
            tell(&format!(
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
        | Ending::VmxAbort(_)
        | Ending::HaltedForever
        | Ending::PowerOff
        | Ending::Reset => Stop::Guest,
        Ending::BudgetSpent => Stop::Budget,
        Ending::TimeSpent | Ending::LimitSpent => Stop::Time,
        Ending::Left
        | Ending::Killed
        | Ending::Stopped(_)
        | Ending::Interrupted
        | Ending::OutputClosed
        | Ending::BrokenOff => Stop::User,
    }
}

/// All that a run depends on besides its input, by name.
fn parts(spec: &Spec) -> Result<Vec<(String, u128)>> {
    let bytes = |rom: &Option<Vec<u8>>| rom.as_deref().map_or(0, hash_bytes);
    let mut parts = vec![
        ("processor (--cpu)".to_owned(), hash_bytes(spec.cpu.name().as_bytes())),
        ("memory size (--mem)".to_owned(), spec.mem.into()),
        ("frequency (--hz)".to_owned(), spec.hz.into()),
        ("date (--epoch)".to_owned(), spec.epoch as u128),
        ("interrupt controller (--no-apic)".to_owned(), spec.apic.into()),
        ("power management (--no-acpi)".to_owned(), spec.acpi.into()),
        ("pace of the serial ports (--uart-pace)".to_owned(), (spec.transmitter as u8).into()),
        ("test device (--testdev)".to_owned(), spec.testdev.into()),
        ("end at a reset (--end-at-reset)".to_owned(), spec.ends_at_reset.into()),
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
    let mut text = format!("{:?} {:?}", spec.plan.entry, spec.plan.loader).into_bytes();
    for (at, bytes) in &spec.plan.writes {
        text.extend(at.0.to_le_bytes());
        text.extend(hash_bytes(bytes).to_le_bytes());
    }
    hash_bytes(&text)
}

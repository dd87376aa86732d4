//! A session's input, with the points in guest time at which the machine got it: together with what the
//! session started from, all that its run depended on.
//!
//! The file grows with the session, so that it is of use when the program is killed. Behind a container with
//! what the session started from stand frames: length (4 bytes), check of the length (4), the payload, its
//! hash (8). Each check is seeded with the hash before it, so that no frame can be missing. A file whose last
//! frame is not [`Frame::End`], or is cut short, was broken off; one with a wrong check is damaged.

use super::container::{self, Kind};
use crate::bus::Ticks;
use crate::console::keymap::KeyEvent;
use crate::device::mouse::MouseEvent;
use crate::error::{Error, Result};
use crate::host::{NewFile, open_regular};
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The name of the strategy among the parts that a session starts from.
pub const MONITOR: &str = "monitor (--strategy)";

/// The content of a recording file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The parts that the session started from: each one's name, and a hash of it.
    pub start: Vec<(String, u128)>,
    /// The session's input, in order.
    pub inputs: Vec<Input>,
    /// Where the session ended; of one that was broken off, the last point that is known.
    pub end: Point,
    /// Why it ended.
    pub stop: Stop,
    /// The hash of the machine's state there; none if it was broken off.
    pub state_hash: Option<u64>,
}

/// A record behind the start, in the order of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// The machine got something.
    Input(Input),
    /// The machine got this far.
    Alive(Point),
    /// The session ended: where, why, and the hash of the machine's state.
    End(Point, Stop, u64),
}

/// A point of a run, between two instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Guest time.
    pub ticks: Ticks,
    /// Instructions retired.
    pub retired: u64,
}

/// Something that the machine got from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The point at which the machine got it.
    pub at: Point,
    /// Whether the machine was let run since the input before this one, be it that it got no further.
    pub after_run: bool,
    /// The input itself.
    pub what: What,
}

/// The kinds of input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Bytes for COM1.
    Serial(#[serde(with = "crate::saved::bytes")] Vec<u8>),
    /// A key goes down or up.
    Key(KeyEvent),
    /// The mouse is moved or clicked.
    Mouse(MouseEvent),
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// The guest: it ends there by itself.
    Guest,
    /// The instruction budget was spent.
    Budget,
    /// The guest time was over.
    Time,
    /// The user, by key or by signal, or who read the output.
    User,
    /// Nobody: the recording breaks off.
    Broken,
}

/// A recording that is being made. An older file of its name stays until the first frame is there.
#[derive(Debug)]
pub struct Recorder {
    file: NewFile,
    path: PathBuf,
    /// The hash of the last frame.
    hash: u64,
    /// The first error; nothing is written after it.
    failed: Option<Error>,
}

impl Recorder {
    /// Begins the file at `path`, of a session that starts from `start`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written, [`Error::Image`] when `path` is no place for a file.
    pub fn create(path: &Path, start: &[(String, u128)]) -> Result<Self> {
        let head = container::encode(Kind::Recording, &start)?;
        let mut file = NewFile::create(path)?;
        file.write_all(&head).map_err(|e| Error::file("write", path, e))?;
        Ok(Self { file, path: path.to_owned(), hash: xxh3_64(&head), failed: None })
    }

    /// Adds a frame, whole and at once. Trouble is told by [`Recorder::finish`].
    pub fn note(&mut self, frame: &Frame) {
        if self.failed.is_some() {
            return;
        }
        // What a frame is made of has a form.
        let payload = postcard::to_stdvec(frame).unwrap_or_default();
        let length = (payload.len() as u32).to_le_bytes();
        let hash = xxh3_64_with_seed(&payload, self.hash);
        let check = length_check(length, self.hash);
        let bytes = [&length[..], &check, &payload, &hash.to_le_bytes()].concat();
        self.hash = hash;
        let written = self.file.write_all(&bytes).map_err(|e| Error::file("write", &self.path, e));
        self.failed = written.and_then(|()| self.file.place()).err();
    }

    /// Adds the end.
    ///
    /// # Errors
    /// [`Error::File`] when something could not be written, now or before.
    pub fn finish(&mut self, end: Point, stop: Stop, state_hash: u64) -> Result<()> {
        self.note(&Frame::End(end, stop, state_hash));
        self.failed.take().map_or_else(|| self.file.sync(), Err)
    }
}

fn length_check(length: [u8; 4], hash: u64) -> [u8; 4] {
    (xxh3_64_with_seed(&length, hash) as u32).to_le_bytes()
}

/// Bytes of a frame at most: far more than a session is given at once.
const LONGEST_FRAME: u32 = 64 << 20;

/// The frames that `file` goes on with, behind what has `hash`; as far as they are whole.
///
/// # Errors
/// [`Error::Image`], or [`Error::File`] when it cannot be read.
fn frames(path: &Path, file: &mut impl Read, mut hash: u64) -> Result<Vec<Frame>> {
    let damaged = |why| Error::image(path, format!("the recording is damaged: {why}"));
    let failed = |e| Error::file("read", path, e);
    let mut frames = Vec::new();
    loop {
        let mut part = |len: u64| {
            let mut bytes = Vec::new();
            file.take(len).read_to_end(&mut bytes).map_err(failed)?;
            Ok::<_, Error>(Some(bytes).filter(|bytes| bytes.len() as u64 == len))
        };
        let (Some(length), Some(check)) = (part(4)?, part(4)?) else { break };
        let length = [length[0], length[1], length[2], length[3]];
        if check != length_check(length, hash) {
            return Err(damaged("its checksum does not fit"));
        }
        let length = u32::from_le_bytes(length);
        if length > LONGEST_FRAME {
            return Err(damaged("its content makes no sense"));
        }
        let (Some(payload), Some(sum)) = (part(length.into())?, part(8)?) else { break };
        hash = xxh3_64_with_seed(&payload, hash);
        if sum != hash.to_le_bytes() {
            return Err(damaged("its checksum does not fit"));
        }
        frames.push(postcard::from_bytes(&payload).map_err(|_| damaged("its content makes no sense"))?);
        if matches!(frames.last(), Some(Frame::End(..))) && part(1)?.is_some() {
            return Err(damaged("something follows its end"));
        }
    }
    Ok(frames)
}

impl Recording {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Image`] when it is no recording of this version, or
    /// damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, size) = open_regular(path)?;
        let (start, head) = container::read(Kind::Recording, path, (&mut file, size), false)?;
        let mut recording = Self {
            start,
            inputs: Vec::new(),
            end: Point { ticks: 0, retired: 0 },
            stop: Stop::Broken,
            state_hash: None,
        };
        for frame in frames(path, &mut BufReader::new(file), xxh3_64(&head))? {
            recording.add(frame);
        }
        Ok(recording)
    }

    fn add(&mut self, frame: Frame) {
        match frame {
            Frame::Input(input) => {
                self.end = input.at;
                self.inputs.push(input);
            }
            Frame::Alive(at) => self.end = at,
            Frame::End(end, stop, hash) => {
                (self.end, self.stop, self.state_hash) = (end, stop, Some(hash));
            }
        }
    }

    /// Holds that a session that starts from `start` is one that the recording at `path` can be replayed to.
    ///
    /// # Errors
    /// [`Error::Image`] with what differs.
    pub fn check_start(&self, path: &Path, start: &[(String, u128)]) -> Result<()> {
        let differs = |name: &str| {
            Error::image(
                path,
                match name {
                    MONITOR => "this recording was made under another strategy, and a replay is held to the whole state at its end, the \
                                processor's TLB included: give the --strategy that it was made with, and use `subring compare` to hold \
                                strategies against each other"
                        .to_owned(),
                    _ => format!("this recording was made with another {name}: give the same guest and options"),
                },
            )
        };
        for (name, hash) in &self.start {
            if !start.iter().any(|(n, h)| n == name && h == hash) {
                return Err(differs(name));
            }
        }
        match start.iter().find(|(name, _)| !self.start.iter().any(|(n, _)| n == name)) {
            Some((name, _)) => Err(differs(name)),
            None => Ok(()),
        }
    }
}

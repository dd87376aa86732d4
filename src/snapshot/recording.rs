//! A session's input, with the points in guest time at which the machine got it: together with what the session
//! started from, all that its run depended on.

use super::container::{self, Kind};
use crate::bus::Ticks;
use crate::device::keymap::KeyEvent;
use crate::device::mouse::MouseEvent;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a recording file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// What the session started from: each part's name, and a hash of it.
    pub start: Vec<(String, u128)>,
    /// What came in, in order.
    pub inputs: Vec<Input>,
    /// Where the session ended.
    pub end: Point,
    /// Why it ended.
    pub stop: Stop,
    /// The hash of the machine's state there.
    pub state_hash: u64,
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
    /// When.
    pub at: Point,
    /// Whether the machine was let run since the input before this one, be it that it got no further.
    pub after_run: bool,
    /// What.
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
    /// Its instruction budget.
    Budget,
    /// Its time.
    Time,
    /// The user, by key or by signal, or who read the output.
    User,
}

impl Recording {
    /// The file's bytes.
    ///
    /// # Errors
    /// None that a recording can meet.
    pub fn encode(&self) -> Result<Vec<u8>> {
        container::encode(Kind::Recording, self)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Image`] when it is not a whole recording of this version.
    pub fn read(path: &Path) -> Result<Self> {
        container::decode(Kind::Recording, path, &super::read(path)?)
    }

    /// Holds that a session that starts from `start` is one that the recording at `path` can be replayed to.
    ///
    /// # Errors
    /// [`Error::Image`] with what differs.
    pub fn check_start(&self, path: &Path, start: &[(String, u128)]) -> Result<()> {
        let differs = |name: &str| {
            Error::image(
                path,
                format!("this recording was made with another {name}: give the same guest and options"),
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

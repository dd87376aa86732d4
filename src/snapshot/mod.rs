//! Files that hold a machine at a point of its run, and files that hold the input of a session.
//!
//! The machine's own state comes from [`Machine::save`](crate::machine::Machine::save); here stand what a
//! file needs besides (which disk images it goes with), and the form of the files. The command line writes
//! and reads them.

pub mod container;
pub mod recording;

use crate::error::{Error, Result};
use crate::host::open_regular;
use crate::machine::State;
use crate::media::ImageFormat;
use container::Kind;
pub use recording::Recording;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// A machine, apart from its disk images.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    /// Processor, memory, chips.
    pub state: State,
    /// Whether a reset starts firmware again.
    pub reboots: bool,
}

/// The content of a snapshot file.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    /// The machine.
    pub machine: Saved,
    /// The machine's disks, in order.
    pub disks: Vec<Drive>,
    /// The machine's floppies, in order.
    pub floppies: Vec<Drive>,
    /// The machine's CD-ROM.
    pub cdrom: Option<Drive>,
}

/// A disk, floppy or CD-ROM that a saved machine had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// The image's name.
    pub path: PathBuf,
    /// The size of the disk in bytes.
    pub bytes: u64,
    /// The image's format.
    pub format: ImageFormat,
    /// Whether the image's content told the format, and not the user: a raw one then stays guarded against a
    /// guest that makes it look like another format.
    pub detected: bool,
    /// The hash of the image's files; none for a disk in memory, whose content is in the machine's state.
    pub hash: Option<u128>,
    /// Whether writes stayed in memory: they are in the machine's state.
    pub overlay: bool,
}

impl Snapshot {
    /// The file's bytes.
    ///
    /// # Errors
    /// [`Error::Usage`] when an image's path has no form in a file.
    pub fn encode(&self) -> Result<Vec<u8>> {
        container::encode(Kind::Snapshot, self)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Image`] when it is not a whole snapshot of this
    /// version.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, size) = open_regular(path)?;
        Ok(container::read(Kind::Snapshot, path, (&mut file, size), true)?.0)
    }
}

impl Drive {
    /// Holds that the image, whose content now comes from `files`, is as it was.
    ///
    /// # Errors
    /// [`Error::Image`] when it is not, [`Error::File`] when one cannot be read.
    pub fn check(&self, files: &[PathBuf]) -> Result<()> {
        match self.hash {
            Some(hash) if hash != hash_files(files)? => {
                Err(Error::image(&files[0], "the disk image has changed since the snapshot was made"))
            }
            _ => Ok(()),
        }
    }
}

/// The hash of what the files of an image hold: the image's own, and those that it stands on.
///
/// # Errors
/// [`Error::File`] when one cannot be read.
pub fn hash_files(files: &[PathBuf]) -> Result<u128> {
    if let [file] = files {
        return hash_file(file);
    }
    let hashes: Vec<u128> = files.iter().map(|file| hash_file(file)).collect::<Result<_>>()?;
    Ok(hash_bytes(&hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect::<Vec<u8>>()))
}

/// The hash of a file's content.
///
/// # Errors
/// [`Error::File`] when it cannot be read.
pub fn hash_file(path: &Path) -> Result<u128> {
    let (mut file, _) = open_regular(path)?;
    let (mut hash, mut buf) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok(hash.digest128()),
            Ok(n) => hash.update(&buf[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file("read", path, e)),
        }
    }
}

/// The hash of bytes.
pub fn hash_bytes(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

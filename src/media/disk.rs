//! The seam between a drive and its medium: [`Disk`], and what of a medium is saved with the machine.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::hash::{Hash, Hasher};
use std::io;

/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// A medium of 512-byte sectors. Buffers are whole sectors.
pub trait Disk: Send {
    /// The size of the medium in sectors.
    fn sectors(&self) -> u64;
    /// Reads sectors from `lba` on.
    ///
    /// # Errors
    /// The host's error, or that the range is outside the medium.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes sectors from `lba` on.
    ///
    /// # Errors
    /// The errors of [`Disk::read`], or that the medium refuses the write.
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()>;
    /// Checks that the medium would take a write of `data` at `lba`, for a layer above that writes later.
    ///
    /// # Errors
    /// The error that the write would give.
    fn admits(&mut self, _lba: u64, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }
    /// Brings earlier writes to the host's disk.
    ///
    /// # Errors
    /// The host's error.
    fn flush(&mut self) -> io::Result<()>;
    /// Whether the medium is write protected.
    fn read_only(&self) -> bool {
        false
    }
    /// The part of the medium's content that lives in this process.
    fn save(&self) -> Content;
    /// Takes back what [`Disk::save`] gave. False when that was another kind or size of medium.
    #[must_use]
    fn restore(&mut self, content: &Content) -> bool;
}

/// The part of a medium's content that lives in this process, and would end with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: a file of the host has the content.
    Host,
    /// The whole content.
    Memory(#[serde(with = "crate::saved::bytes")] Vec<u8>),
    /// Sectors written over another medium, after the content of that medium.
    Snapshot(Box<Content>, Vec<(u64, Sector)>),
}

/// A sector of a saved snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sector(#[serde(with = "crate::saved::array")] pub(super) [u8; SECTOR]);

/// A medium hashes as its size: the content is the host's, and no part of a chip's state.
impl Hash for dyn Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sectors().hash(state);
    }
}

/// In a chip's saved state, a medium stands as its size.
impl Serialize for dyn Disk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sectors().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Box<dyn Disk> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Box::new(SizeOnly(u64::deserialize(deserializer)?)))
    }
}

/// The stand-in for `disk` in a chip's saved state.
pub fn size_of(disk: &dyn Disk) -> Box<dyn Disk> {
    Box::new(SizeOnly(disk.sectors()))
}

/// The place of a medium in a saved state: its size, with no content to read.
struct SizeOnly(u64);

impl SizeOnly {
    fn absent<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::NotFound, "a saved state holds no medium"))
    }
}

impl Disk for SizeOnly {
    fn sectors(&self) -> u64 {
        self.0
    }
    fn read(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Self::absent()
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Self::absent()
    }
    fn flush(&mut self) -> io::Result<()> {
        Self::absent()
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, _: &Content) -> bool {
        false
    }
}

pub(super) fn check_range(disk: &impl Disk, lba: u64, len: usize) -> io::Result<()> {
    let end = lba.checked_add(len.div_ceil(SECTOR) as u64);
    if end.is_some_and(|end| end <= disk.sectors()) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the sector lies outside the medium"))
    }
}

/// The error of a write to a read-only medium. The drive refuses such writes before they come here.
pub(super) fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the image is only read"))
}

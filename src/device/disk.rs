//! What a drive's medium is on the host: memory, an image file (a raw one here, the others in [`image`]), or a snapshot
//! that keeps either untouched.

mod host;
pub mod image;
mod qcow2;
mod unpack;
mod vhd;
mod vmdk;

use image::ImageFormat;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// A medium of 512-byte sectors. Buffers are whole sectors.
pub trait Disk: Send {
    /// Its size in sectors.
    fn sectors(&self) -> u64;
    /// Reads sectors from `lba` on.
    ///
    /// # Errors
    /// What the host said, or that the range is outside the medium.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes sectors from `lba` on.
    ///
    /// # Errors
    /// As [`Disk::read`].
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()>;
    /// Makes earlier writes last.
    ///
    /// # Errors
    /// What the host said.
    fn flush(&mut self) -> io::Result<()>;
    /// Whether the medium is write protected.
    fn read_only(&self) -> bool {
        false
    }
    /// What of its content lives in this process.
    fn save(&self) -> Content;
    /// Takes that content back. False when it is of another kind or size of medium.
    #[must_use]
    fn restore(&mut self, content: &Content) -> bool;
}

/// The part of a medium's content that lives in this process, and would end with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: the host has it.
    Host,
    /// All of it.
    Memory(#[serde(with = "crate::saved::bytes")] Vec<u8>),
    /// What is written over another medium: that one's content, and the sectors.
    Snapshot(Box<Content>, Vec<(u64, Sector)>),
}

/// A sector of a saved snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sector(#[serde(with = "crate::saved::array")] [u8; SECTOR]);

/// By its size: the content is the host's, and no part of a chip's state.
impl Hash for dyn Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sectors().hash(state);
    }
}

/// The same in a saved state of a chip.
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

/// What a chip's saved state has for `disk`.
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

fn check_range(disk: &impl Disk, lba: u64, len: usize) -> io::Result<()> {
    let end = lba.checked_add(len.div_ceil(SECTOR) as u64);
    if end.is_some_and(|end| end <= disk.sectors()) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the sector lies outside the medium"))
    }
}

/// What a write to a medium that is only read comes to; the drive has refused it before.
fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the image is only read"))
}

/// Reads `buf` from sector `lba` on, piece by piece: none reaches beyond the unit of `unit` sectors that it starts in.
/// `read` gets the unit's number, the piece's first sector in it, and the piece.
fn by_units<F>(lba: u64, buf: &mut [u8], unit: u64, mut read: F) -> io::Result<()>
where
    F: FnMut(u64, u64, &mut [u8]) -> io::Result<()>,
{
    let (mut lba, mut buf) = (lba, buf);
    while !buf.is_empty() {
        let within = lba % unit;
        let here = ((unit - within) as usize).min(buf.len() / SECTOR);
        let (piece, rest) = buf.split_at_mut(here * SECTOR);
        read(lba / unit, within, piece)?;
        (lba, buf) = (lba + here as u64, rest);
    }
    Ok(())
}

/// An image file that is only read: what it has to say for itself.
trait Image: Send {
    /// Its size in sectors.
    fn sectors(&self) -> u64;
    /// Reads sectors from `lba` on, all of them within its size.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// A medium that such a file holds. The host has all of its content.
struct ReadOnly<T>(T);

impl<T: Image> Disk for ReadOnly<T> {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        self.0.read(lba, buf)
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        read_only()
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn read_only(&self) -> bool {
        true
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, content: &Content) -> bool {
        *content == Content::Host
    }
}

/// A medium in memory.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// A medium of `bytes`, filled up with zeros to a whole sector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Self { bytes }
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        let at = lba as usize * SECTOR;
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        let at = lba as usize * SECTOR;
        self.bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&self) -> Content {
        Content::Memory(self.bytes.clone())
    }
    fn restore(&mut self, content: &Content) -> bool {
        match content {
            Content::Memory(bytes) if bytes.len() == self.bytes.len() => {
                self.bytes.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

/// A raw image file. An incomplete last sector reads filled up with zeros.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    path: PathBuf,
    sectors: u64,
    read_only: bool,
    guarded: bool,
}

impl FileDisk {
    /// The medium in `file`, whose size counts from now on. Errors name it by `path`.
    ///
    /// # Errors
    /// When the host does not tell the size.
    pub fn new(mut file: File, path: &Path, read_only: bool) -> io::Result<Self> {
        let bytes = file.seek(SeekFrom::End(0))?;
        let sectors = bytes.div_ceil(SECTOR as u64);
        Ok(Self { file, path: path.to_owned(), sectors, read_only, guarded: false })
    }

    /// The same medium, refusing writes that would make the file look like an image of another format; [`image`] says
    /// why.
    #[must_use]
    pub fn guard(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// Refuses a write of `data` at `lba` if a guarded medium cannot take it.
    fn check_disguise(&self, lba: u64, data: &[u8]) -> io::Result<()> {
        let end = lba + (data.len() / SECTOR) as u64;
        let head = if lba == 0 { ImageFormat::of_head(data) } else { ImageFormat::Raw };
        let tail = if end == self.sectors { data.rchunks(SECTOR).next() } else { None };
        let tail = tail.map_or(ImageFormat::Raw, ImageFormat::of_tail);
        let looks = if head == ImageFormat::Raw { tail } else { head };
        if self.guarded && looks != ImageFormat::Raw {
            let text = format!(
                "the guest would make this raw disk look like a {} image; if it may, name the disk's format: --disk FILE,format=raw",
                looks.name()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(())
    }

    /// An error that says which file it is about: a machine has several.
    fn named(&self, e: io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}", self.path.display()))
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(lba * SECTOR as u64))?;
        let got = self.fill(buf)?;
        let last_sector = lba + (buf.len() / SECTOR) as u64 == self.sectors && buf.len() - got < SECTOR;
        if got < buf.len() && !last_sector {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image became shorter than it was"));
        }
        buf[got..].fill(0);
        Ok(())
    }

    /// Reads until `buf` is full or the file ends.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            match self.file.read(&mut buf[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }
}

impl Disk for FileDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        self.read_sectors(lba, buf).map_err(|e| self.named(e))
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        self.check_disguise(lba, data).map_err(|e| self.named(e))?;
        let sought = self.file.seek(SeekFrom::Start(lba * SECTOR as u64));
        sought.and_then(|_| self.file.write_all(data)).map_err(|e| self.named(e))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| self.named(e))
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, content: &Content) -> bool {
        *content == Content::Host
    }
}

/// A medium whose writes stay in memory.
pub struct Snapshot {
    base: Box<dyn Disk>,
    written: BTreeMap<u64, [u8; SECTOR]>,
}

impl Snapshot {
    /// A snapshot over `base`, which is only read from now on.
    pub fn new(base: Box<dyn Disk>) -> Self {
        Self { base, written: BTreeMap::new() }
    }

    /// Sectors that differ from the base.
    pub fn written(&self) -> usize {
        self.written.len()
    }
}

impl Disk for Snapshot {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = lba.saturating_add((buf.len() / SECTOR) as u64);
        self.base.read(lba, buf)?;
        for (at, sector) in self.written.range(lba..end) {
            let offset = (at - lba) as usize * SECTOR;
            buf[offset..offset + SECTOR].copy_from_slice(sector);
        }
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        for (i, chunk) in data.chunks_exact(SECTOR).enumerate() {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(chunk);
            self.written.insert(lba + i as u64, sector);
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&self) -> Content {
        let sectors = self.written.iter().map(|(&at, bytes)| (at, Sector(*bytes)));
        Content::Snapshot(Box::new(self.base.save()), sectors.collect())
    }
    fn restore(&mut self, content: &Content) -> bool {
        let Content::Snapshot(base, written) = content else {
            // Saved before there was a snapshot over it.
            let restored = self.base.restore(content);
            if restored {
                self.written.clear();
            }
            return restored;
        };
        self.written = written.iter().map(|(at, sector)| (*at, sector.0)).collect();
        let last = self.written.last_key_value();
        last.is_none_or(|(&at, _)| at < self.sectors()) && self.base.restore(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_its_own_writes_over_the_base() {
        let mut disk = Snapshot::new(Box::new(MemoryDisk::new(vec![1; 3 * SECTOR])));
        disk.write(1, &[2; SECTOR]).unwrap();
        let mut buf = [0; 3 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        assert_eq!([buf[0], buf[SECTOR], buf[2 * SECTOR]], [1, 2, 1]);
        assert_eq!(disk.written(), 1);
    }

    #[test]
    fn a_snapshot_takes_back_what_a_medium_without_one_saved() {
        let saved = MemoryDisk::new(vec![1; 2 * SECTOR]).save();
        let mut disk = Snapshot::new(Box::new(MemoryDisk::new(vec![0; 2 * SECTOR])));
        disk.write(1, &[2; SECTOR]).unwrap();
        assert!(disk.restore(&saved) && disk.written() == 0);
        let mut buf = [0; 2 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        assert_eq!(buf, [1; 2 * SECTOR]);
        assert!(!disk.restore(&Content::Host), "of another kind");
    }

    #[test]
    fn beyond_the_end_is_an_error() {
        let mut disk = MemoryDisk::new(vec![0; 700]);
        assert_eq!(disk.sectors(), 2);
        assert!(disk.read(2, &mut [0; SECTOR]).is_err());
        assert!(disk.write(u64::MAX, &[0; SECTOR]).is_err());
    }
}

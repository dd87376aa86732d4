//! Image files that are only read: what a format implements, and the medium made of it.

use super::disk::{Content, Disk, SECTOR, check_range, read_only};
use std::io;

/// Reads `buf` from sector `lba` on, piece by piece: none reaches beyond the unit of `unit` sectors that it
/// starts in. `read` gets the unit's number, the piece's first sector in it, and the piece.
pub(super) fn by_units<F>(lba: u64, buf: &mut [u8], unit: u64, mut read: F) -> io::Result<()>
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

/// An image file that is only read.
pub(super) trait Image: Send {
    /// The size of the disk in sectors.
    fn sectors(&self) -> u64;
    /// Reads sectors from `lba` on; the caller has checked that all of them lie within the disk.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// The medium in a read-only image file.
pub(super) struct ReadOnly<T>(pub(super) T);

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

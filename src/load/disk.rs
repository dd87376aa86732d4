//! Disk, floppy and CD images: only what they are. They are attached to the machine, and firmware boots them.

use crate::error::{Error, Result};
use std::path::Path;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
/// Bytes in a block of a CD.
const BLOCK: u64 = 2048;
/// Where the first volume descriptor of a CD image says what it is (ECMA-119, 8.1).
const IDENTIFIER: usize = 0x8001;
/// Sectors that LBA28 can address.
const LBA28: u64 = 1 << 28;

/// The sizes of PC floppy formats, 160 KiB to 2.88 MiB.
const FLOPPY_SIZES: [u64; 9] =
    [160 << 10, 180 << 10, 320 << 10, 360 << 10, 720 << 10, 1200 << 10, 1440 << 10, 1680 << 10, 2880 << 10];

/// Whether `size` is that of a floppy format.
pub fn is_floppy_size(size: u64) -> bool {
    FLOPPY_SIZES.contains(&size)
}

/// Whether the first sector ends in the boot signature 55 AA.
pub fn has_signature(head: &[u8]) -> bool {
    head.get(510..512) == Some(&[0x55, 0xaa])
}

/// Checks that a file of `size` bytes can be a hard disk.
///
/// # Errors
/// [`Error::Image`] when it is empty, not a whole number of sectors, or beyond LBA28.
pub fn check(path: &Path, size: u64) -> Result<()> {
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(Error::image(
            path,
            format!("{size} bytes are not a whole number of 512-byte sectors: pad the disk image"),
        ));
    }
    if size / SECTOR > LBA28 {
        return Err(Error::image(path, "the disk is larger than 128 GiB, the most that LBA28 can address"));
    }
    Ok(())
}

/// The largest floppy.
const FLOPPY_MAX: u64 = 2880 << 10;

/// Whether `size` bytes fit on a floppy.
pub fn fits_floppy(size: u64) -> bool {
    (1..=FLOPPY_MAX).contains(&size)
}

/// Checks that a file of `size` bytes can be a floppy. An incomplete last sector is padded with zeros.
///
/// # Errors
/// [`Error::Image`] when it is empty or larger than 2.88 MB.
pub fn check_floppy(path: &Path, size: u64) -> Result<()> {
    if !fits_floppy(size) {
        return Err(Error::image(
            path,
            format!(
                "{size} bytes cannot be a floppy: give up to {FLOPPY_MAX} bytes (1474560 for a common one)"
            ),
        ));
    }
    Ok(())
}

/// A note about a floppy of `size` bytes that does not end with a sector.
pub fn padding_note(path: &Path, size: u64) -> Option<String> {
    let sectors = size.div_ceil(SECTOR);
    (!size.is_multiple_of(SECTOR))
        .then(|| format!("{}: {size} bytes are padded with zeros to {sectors} sectors", path.display()))
}

/// Whether `head` is that of an image with the file system of a CD (ISO 9660).
pub fn is_cdrom(head: &[u8]) -> bool {
    head.get(IDENTIFIER..).is_some_and(|h| h.starts_with(b"CD001"))
}

/// Checks that a file of `size` bytes can be a CD.
///
/// # Errors
/// [`Error::Image`] when it is not a whole number of blocks, or beyond the 32 bits of a block's number.
pub fn check_cdrom(path: &Path, size: u64) -> Result<()> {
    if size == 0 || !size.is_multiple_of(BLOCK) {
        return Err(Error::image(
            path,
            format!(
                "{size} bytes are not a whole number of 2048-byte CD blocks: pad the image, as with `truncate -s %2048 FILE`"
            ),
        ));
    }
    if size / BLOCK > u32::MAX.into() {
        return Err(Error::image(path, "the CD is larger than its block numbers reach"));
    }
    Ok(())
}

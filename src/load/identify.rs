//! What a file is, by its first 64 KiB. What cannot run is named, with what to do instead.

use super::guest::{Format, Guest};
use super::{bzimage, disk, elf, multiboot};
use crate::error::{Error, Result};
use crate::media::ImageFormat;
use std::path::Path;

/// Bytes of a file's head that [`identify`] wants to see.
pub const HEAD: usize = 64 << 10;

/// Says what the file of `size` bytes that starts with `head` is.
///
/// # Errors
/// [`Error::Image`] for a file that is recognised and cannot be run, or is not what `format` says.
pub fn identify(path: &Path, head: &[u8], size: u64, format: Format) -> Result<Guest> {
    if size == 0 {
        return Err(Error::image(path, "the file is empty"));
    }
    match format {
        Format::Flat => Ok(Guest::Flat),
        Format::Elf => Ok(Guest::Elf),
        Format::Multiboot => multiboot::find(head)
            .map(Guest::Multiboot)
            .ok_or_else(|| Error::image(path, multiboot::why_not(head))),
        Format::Disk => disk::check(path, size).map(|()| Guest::Disk),
        Format::Floppy => disk::check_floppy(path, size).map(|()| Guest::Floppy),
        Format::Cdrom => disk::check_cdrom(path, size).map(|()| Guest::Cdrom),
        Format::Auto => auto(path, head, size),
    }
}

fn auto(path: &Path, head: &[u8], size: u64) -> Result<Guest> {
    // A kernel with an EFI stub looks like a PE file too.
    if bzimage::is_linux(head) {
        return Ok(Guest::Linux);
    }
    // What is inside is told by whoever opens it.
    if ImageFormat::of_head(head) != ImageFormat::Raw {
        return Ok(Guest::Disk);
    }
    if let Some(reason) = refusal(head) {
        return Err(Error::image(path, reason));
    }
    // A hybrid image has a boot sector too, and is a hard disk with --format disk.
    if disk::is_cdrom(head) {
        return disk::check_cdrom(path, size).map(|()| Guest::Cdrom);
    }
    if disk::is_floppy_size(size) && !elf::is_elf(head) {
        return Ok(Guest::Floppy);
    }
    if disk::has_signature(head) && size.is_multiple_of(512) {
        return Ok(Guest::Disk);
    }
    if let Some(at) = multiboot::find(head) {
        return Ok(Guest::Multiboot(at));
    }
    if multiboot::is_multiboot2(head) {
        return Err(Error::image(
            path,
            "it is a Multiboot 2 kernel, and only Multiboot 1 is spoken: add a Multiboot 1 header, or start it as a plain executable with --format elf",
        ));
    }
    if elf::is_elf(head) {
        return Ok(Guest::Elf);
    }
    if disk::has_signature(head) && disk::fits_floppy(size) {
        // Its last sector is not complete.
        return Ok(Guest::Floppy);
    }
    if head.iter().all(|&byte| byte == 0) {
        let reason = "it begins with nothing but zeros: a blank disk boots nothing (attach it with --disk), and code \
                      that begins so needs --format flat";
        return Err(Error::image(path, reason));
    }
    Ok(Guest::Flat)
}

/// Why a recognised file cannot run, if that is so.
fn refusal(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
    if at(0, &[0x1f, 0x8b]) {
        return Some("it is compressed with gzip: unpack it first, as in `zcat FILE > kernel`");
    }
    if at(0, b"#!") {
        return Some("it is a script for the host's shell: give the kernel or disk image that it starts");
    }
    if at(0, &[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        return Some("it is compressed with xz: unpack it first, as in `xzcat FILE > kernel`");
    }
    if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) {
        return Some("it is compressed with zstd: unpack it first, as in `zstdcat FILE > kernel`");
    }
    if let Some(pe) = head.get(0x3c..0x40)
        && at(0, b"MZ")
        && at(u32::from_le_bytes([pe[0], pe[1], pe[2], pe[3]]) as usize, b"PE\0\0")
    {
        return Some(
            "it is a Windows or EFI executable (PE): build the kernel as 32-bit ELF or as a flat binary",
        );
    }
    if at(0, b"MZ") {
        return Some("it is a DOS executable (MZ): run it in DOS, from a disk or floppy image");
    }
    let text = head.len() >= 16 && head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    if text {
        return Some(
            "it is a text file: give a kernel or a disk image (--format flat runs its bytes as code)",
        );
    }
    None
}

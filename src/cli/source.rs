//! The guest of a command: a built-in one, or a file, and what kind of guest it is.

use super::guest_args::GuestArgs;
use crate::error::{Error, Result};
use crate::host::open_regular;
use crate::load::builtin::{self, Builtin};
use crate::load::{self, Format, Guest};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read as a kernel; disks are not read but attached.
const MAX_KERNEL: u64 = 1 << 30;

/// A guest's content and kind.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Guest,
    pub(super) builtin: Option<&'static Builtin>,
}

impl GuestArgs {
    /// The guest: built in, or a file. A disk's content stays in its file.
    pub(super) fn source(&self) -> Result<Option<Source>> {
        let Some(path) = &self.guest else { return Ok(None) };
        if let Some(b) = path.to_str().and_then(builtin::find) {
            let head = &b.bytes[..b.bytes.len().min(load::HEAD)];
            let kind = load::identify(path, head, b.bytes.len() as u64, self.format())?;
            self.check_flat(path, head, b.bytes.len() as u64)?;
            return Ok(Some(Source { path: path.clone(), bytes: b.bytes.to_vec(), kind, builtin: Some(b) }));
        }
        if path.components().count() == 1 && !path.exists() {
            let near = builtin::nearest(&path.to_string_lossy());
            let hint = near.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            return Err(Error::image(
                path,
                format!(
                    "there is no such file, and no built-in guest of this name (`subring guests` lists them){hint}"
                ),
            ));
        }
        let (mut file, size) = open_regular(path)?;
        let mut bytes = Vec::new();
        read_up_to(&mut file, path, load::HEAD as u64, &mut bytes)?;
        let kind = load::identify(path, &bytes, size, self.format())?;
        self.check_flat(path, &bytes, size)?;
        if !matches!(kind, Guest::Disk | Guest::Floppy | Guest::Cdrom) {
            self.check_size(path, kind, size)?;
            read_up_to(&mut file, path, MAX_KERNEL, &mut bytes)?;
        }
        Ok(Some(Source { path: path.clone(), bytes, kind, builtin: None }))
    }

    /// Refuses the options of a flat binary for a file that begins as a kernel with a header, unless it is said to be flat.
    fn check_flat(&self, path: &Path, head: &[u8], size: u64) -> Result<()> {
        let told = match (self.load_at, self.mode) {
            _ if self.format != Format::Auto => return Ok(()),
            (Some(_), _) => "an address to load it at",
            (None, Some(_)) => "--mode",
            (None, None) => return Ok(()),
        };
        let what = match load::identify(path, head, size, Format::Auto) {
            Ok(Guest::Elf) => "an ELF executable",
            Ok(Guest::Multiboot(_)) => "a Multiboot kernel",
            Ok(Guest::Linux) => "a Linux kernel",
            _ => return Ok(()),
        };
        Err(Error::Usage(format!(
            "{} is {what}, which says itself where and how it starts, and {told} is for a flat binary: leave that out, or give \
             --format flat, too, if the file's bytes are meant as they are",
            path.display()
        )))
    }

    /// Refuses a file too large for what it is, before it is read.
    fn check_size(&self, path: &Path, kind: Guest, size: u64) -> Result<()> {
        if kind == Guest::Flat && size > u64::from(self.mem) {
            let reason = format!(
                "{size} bytes do not fit into {} bytes of memory: give a larger --mem, or --format disk if it is a disk image",
                self.mem
            );
            return Err(Error::image(path, reason));
        }
        if size > MAX_KERNEL {
            return Err(Error::image(
                path,
                "a kernel of more than 1 GiB is not loaded: strip it, or give --format disk if it is a disk image",
            ));
        }
        Ok(())
    }
}

/// Reads on until `bytes` has up to `limit` bytes.
pub(super) fn read_up_to(file: &mut File, path: &Path, limit: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let left = limit.saturating_sub(bytes.len() as u64);
    file.take(left).read_to_end(bytes).map_err(|e| Error::file("read", path, e))?;
    Ok(())
}

//! A file on the host that holds an image or a part of one: reads and writes by position, each error with the
//! file's name. Used by every format of this folder.

use crate::error::{Error, Result};
use crate::host::{self, InUse};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open file, and how long it is.
#[derive(Debug)]
pub(super) struct HostFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl HostFile {
    /// Opens the regular file at `path` and locks it: for this run alone to write, or together with others to
    /// read.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Image`] when it is no regular file or is in use.
    pub(super) fn open(path: &Path, write: bool) -> Result<Self> {
        let opened = if write { host::open_to_write(path) } else { host::open_regular(path) };
        let (file, len) = opened.map_err(|e| match e {
            Error::File { source, .. } if write && is_denied(&source) => {
                Error::image(path, "the image cannot be written: give --snapshot to leave the file as it is")
            }
            other => other,
        })?;
        host::lock(&file, write).map_err(|by| Error::image(path, in_use(by, write)))?;
        Ok(Self { file, path: path.to_owned(), len })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
    pub(super) fn len(&self) -> u64 {
        self.len
    }
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// An error of the host with the file's name: a machine has several.
    fn named(&self, e: &io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}", self.path.display()))
    }

    /// The error of an image that contradicts itself.
    pub(super) fn damaged(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: the image is damaged: {what}", self.path.display()),
        )
    }

    /// Fills `buf` from `at` on. Bytes behind the end of the file read as zeros, if the first one lies within
    /// it.
    ///
    /// # Errors
    /// The host's error, or that the image is damaged because `at` lies behind the end.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        if at >= self.len && !buf.is_empty() {
            return Err(self.damaged("it is cut short"));
        }
        let mut got = 0;
        while got < buf.len() {
            match self.file.read_at(&mut buf[got..], at + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.named(&e)),
            }
        }
        buf[got..].fill(0);
        Ok(())
    }

    /// Up to `limit` bytes from `at` on: what there is of them. The caller's limit is small, whatever the
    /// image says: a file may be as long as it likes without holding anything.
    ///
    /// # Errors
    /// [`Error::File`] with the host's error.
    pub(super) fn part(&self, at: u64, limit: u64) -> Result<Vec<u8>> {
        let len = self.len.saturating_sub(at).min(limit);
        let mut bytes = vec![0; len as usize];
        self.read(at, &mut bytes).map_err(|e| Error::file("read", &self.path, e))?;
        Ok(bytes)
    }

    /// Whether all of `len` bytes from `at` on lie within the file.
    pub(super) fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Stores `bytes` at `at`.
    ///
    /// # Errors
    /// The host's error.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(|e| self.named(&e))?;
        self.len = self.len.max(at + bytes.len() as u64);
        Ok(())
    }

    /// Makes the file at least `len` bytes long, with zeros.
    ///
    /// # Errors
    /// The host's error.
    pub(super) fn extend(&mut self, len: u64) -> io::Result<()> {
        if len > self.len {
            self.file.set_len(len).map_err(|e| self.named(&e))?;
            self.len = len;
        }
        Ok(())
    }

    /// Brings earlier writes to the host's disk.
    ///
    /// # Errors
    /// The host's error.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| self.named(&e))
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The sentence for an image that cannot be locked.
fn in_use(by: InUse, write: bool) -> &'static str {
    match (by, write) {
        (InUse::Here, true) => {
            "the image is in use by another run or drive: end that one, or give --snapshot to all of them"
        }
        (InUse::Here, false) => "another run or drive writes to the image: end that one first",
        (InUse::Elsewhere, true) => {
            "the image is in use by another program, such as QEMU: end that one, or give --snapshot if it only reads"
        }
        (InUse::Elsewhere, false) => {
            "another program, such as QEMU, writes to the image or keeps it to itself: end that one first"
        }
    }
}

/// `N` bytes of `bytes` at `at`, which the caller has checked to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// A big-endian number of 32 bits of a table.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}
/// A big-endian number of 64 bits of a table.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}
/// A little-endian number of 32 bits of a table.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
/// A little-endian number of 64 bits of a table.
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

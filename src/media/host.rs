//! A file on the host that holds an image or a part of one: reads and writes by position, each error with the file's
//! name, and the advisory lock that keeps two runs apart. Used by every format of this folder.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
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
    /// Opens the regular file at `path` and locks it: for this run alone to write, or together with others to read.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Image`] when it is no regular file or another run has it.
    pub(super) fn open(path: &Path, write: bool) -> Result<Self> {
        // Asked before it is opened: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(path).map_err(|e| Error::file("open", path, e))?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "it is a directory" } else { "it is no regular file" };
            return Err(Error::image(path, format!("{what}: give an image file")));
        }
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(|e| {
            let denied =
                matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
            if denied && write {
                Error::image(path, "the image cannot be written: give --snapshot to leave the file as it is")
            } else {
                Error::file("open", path, e)
            }
        })?;
        lock(&file, path, write)?;
        let len = file.metadata().map_err(|e| Error::file("read", path, e))?.len();
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

    /// That the image contradicts itself.
    pub(super) fn damaged(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: the image is damaged: {what}", self.path.display()),
        )
    }

    /// Fills `buf` from `at` on. What lies behind the end of the file reads as zeros, as long as its begin does not.
    ///
    /// # Errors
    /// What the host said, or that the image is damaged: `at` lies behind the end.
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

    /// Up to `limit` bytes from `at` on: what there is of them.
    ///
    /// # Errors
    /// As an [`Error::File`], what the host said.
    pub(super) fn part(&self, at: u64, limit: u64) -> Result<Vec<u8>> {
        let len = self.len.saturating_sub(at).min(limit);
        let mut bytes = vec![0; len as usize];
        self.read(at, &mut bytes).map_err(|e| Error::file("read", &self.path, e))?;
        Ok(bytes)
    }

    /// Stores `bytes` at `at`.
    ///
    /// # Errors
    /// What the host said.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at).map_err(|e| self.named(&e))?;
        self.len = self.len.max(at + bytes.len() as u64);
        Ok(())
    }

    /// Makes the file at least `len` bytes long, with zeros.
    ///
    /// # Errors
    /// What the host said.
    pub(super) fn extend(&mut self, len: u64) -> io::Result<()> {
        if len > self.len {
            self.file.set_len(len).map_err(|e| self.named(&e))?;
            self.len = len;
        }
        Ok(())
    }

    /// Makes earlier writes last.
    ///
    /// # Errors
    /// What the host said.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| self.named(&e))
    }
}

/// The lock ends with the process, however that ends. A file system without locks is let through.
fn lock(file: &File, path: &Path, write: bool) -> Result<()> {
    let how =
        if write { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
    match flock(file, how) {
        Err(rustix::io::Errno::WOULDBLOCK) if write => Err(Error::image(
            path,
            "the image is in use by another run or drive: end that one, or give --snapshot to all of them",
        )),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::image(path, "another run or drive writes to the image: end that one first"))
        }
        _ => Ok(()),
    }
}

/// `N` bytes of `bytes` at `at`, which the caller has checked to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Big-endian numbers of a table.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}
/// As [`be32`].
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}
/// Little-endian numbers of a table.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
/// As [`le32`].
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

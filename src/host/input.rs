//! Opening files that the user, or an image, names. A FIFO, a device or a directory is refused with a
//! sentence, and none of them makes the program wait.

use crate::error::{Error, Result};
use rustix::fs::OFlags;
use std::fs::{File, FileType, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens the regular file at `path` to read; gives its size, too.
///
/// # Errors
/// [`Error::File`] when it cannot be opened, [`Error::Image`] when it is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    open(path, false)
}

/// Opens the regular file at `path` to read and write; gives its size, too.
///
/// # Errors
/// The errors of [`open_regular`].
pub fn open_to_write(path: &Path) -> Result<(File, u64)> {
    open(path, true)
}

fn open(path: &Path, write: bool) -> Result<(File, u64)> {
    let failed = |e| Error::file("open", path, e);
    // Asked by name first, because opening a device may set it going; and of the open file again, because the
    // name may stand for another file by then. O_NONBLOCK lets a FIFO be opened without a writer.
    regular(path, std::fs::metadata(path).map_err(failed)?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    regular(path, metadata.file_type())?;
    Ok((file, metadata.len()))
}

fn regular(path: &Path, kind: FileType) -> Result<()> {
    match what(kind) {
        None => Ok(()),
        Some(what) => {
            Err(Error::image(path, format!("this is {what} and no regular file: give the name of a file")))
        }
    }
}

/// The name of the kind of a file that is no regular one.
pub(super) fn what(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        k if k.is_file() => return None,
        k if k.is_dir() => "a directory",
        k if k.is_fifo() => "a FIFO",
        k if k.is_socket() => "a socket",
        k if k.is_block_device() => "a block device",
        _ => "a character device",
    })
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn a_fifo_without_a_writer_is_refused_at_once() {
        let dir = Scratch::new("fifo");
        let path = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        let said = open_regular(&path).unwrap_err().to_string();
        assert!(said.contains("a FIFO and no regular file"), "{said}");
        assert!(open_to_write(dir.path()).unwrap_err().to_string().contains("a directory"));
        assert!(open_regular(Path::new("/dev/zero")).unwrap_err().to_string().contains("a character device"));
    }
}

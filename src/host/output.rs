//! Files that the program writes.
//!
//! | for | what happens to an older file |
//! |---|---|
//! | [`NewFile`]: snapshots, recordings | replaced by a whole new one at the end, or it stays; only regular files |
//! | [`Output`]: dumps at the end of a run | the same; a device or a FIFO is written to as it is |
//! | [`stream`]: traces, debug consoles | written over from the start, as a shell's `>` does; likewise a device or a FIFO |
//!
//! A new file is made under a name that no other file has, in the folder of the one that it replaces, and
//! moved over that when all of it is on the disk: whenever the program or the host stops, one of the two is
//! there, whole.

use super::input::what;
use crate::error::{Error, Result};
use rustix::fs::{Access, OFlags, access, fcntl_getfl, fcntl_setfl};
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Attempts to find a name that no file has.
const ATTEMPTS: usize = 16;

/// A file that replaces an older one, or none, when it is whole. Dropped before, it leaves no trace.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// Where it will be, with symbolic links followed.
    target: PathBuf,
    /// Where it is until then; none once it has been moved.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// Begins the file that will be at `path`.
    ///
    /// # Errors
    /// [`Error::Image`] when something other than a regular file is there, [`Error::File`] when the folder
    /// takes none.
    pub fn create(path: &Path) -> Result<Self> {
        let target = target(path)?;
        let failed = |e| Error::file("create", path, e);
        let older = std::fs::metadata(&target).ok();
        let (file, temporary) = exclusive(&target).map_err(failed)?;
        let new = Self { file, target, temporary: Some(temporary) };
        if let Some(older) = older {
            new.file.set_permissions(older.permissions()).map_err(failed)?;
        }
        Ok(new)
    }

    /// Puts the file in its place, with what has been written so far on the disk. More may be written after
    /// it.
    ///
    /// # Errors
    /// [`Error::File`] with what the host said.
    pub fn place(&mut self) -> Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        let moved = self.file.sync_all().and_then(|()| std::fs::rename(temporary, &self.target));
        moved.map_err(|e| Error::file("write", &self.target, e))?;
        self.temporary = None;
        sync_folder(&self.target);
        Ok(())
    }

    /// Brings all that was written to the disk.
    ///
    /// # Errors
    /// The errors of [`NewFile::place`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::file("write", &self.target, e))
    }

    /// Ends the file: all of it is on the disk, and in its place.
    ///
    /// # Errors
    /// The errors of [`NewFile::place`].
    pub fn finish(mut self) -> Result<()> {
        self.place()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// The file that a new one at `path` replaces: a regular one, or none.
fn target(path: &Path) -> Result<PathBuf> {
    let refuse = |what: &str| {
        Err(Error::image(
            path,
            format!("this is {what}, and a file cannot take its place: give another name"),
        ))
    };
    match std::fs::metadata(path) {
        Ok(there) => match what(there.file_type()) {
            Some(what) => refuse(what),
            // The file behind a link is replaced, not the link. A folder would let a write-protected file be replaced.
            None => access(path, Access::WRITE_OK)
                .map_err(io::Error::from)
                .and_then(|()| path.canonicalize())
                .map_err(|e| Error::file("create", path, e)),
        },
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("create", path, e)),
        Err(_) if path.is_symlink() => refuse("a symbolic link to nothing"),
        Err(_) => Ok(path.to_owned()),
    }
}

/// Creates a file beside `target` that was not there before.
fn exclusive(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    for _ in 0..ATTEMPTS {
        // A hasher's keys are the host's random numbers: nobody can have put a file or a link in the way.
        let random = RandomState::new().build_hasher().finish();
        let temporary = target.with_file_name(format!(".subring-{random:016x}.partial"));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

/// Brings a folder's entry for `path` to the disk, where the file system lets folders be synced.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// The place for what is written at the end of a run: a new file, or a device or FIFO as it is.
#[derive(Debug)]
pub enum Output {
    /// A file that appears whole.
    File(NewFile),
    /// A stream.
    Stream(File),
}

impl Output {
    /// Opens the output at `path`.
    ///
    /// # Errors
    /// The errors of [`NewFile::create`] and [`stream`].
    pub fn create(path: &Path) -> Result<Self> {
        let streams = |there: Metadata| what(there.file_type()).is_some() && !there.is_dir();
        if std::fs::metadata(path).is_ok_and(streams) {
            return Ok(Self::Stream(stream(path)?));
        }
        Ok(Self::File(NewFile::create(path)?))
    }

    /// Ends the output.
    ///
    /// # Errors
    /// The errors of [`NewFile::finish`].
    pub fn finish(self) -> Result<()> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(file) => file.flush(),
        }
    }
}

/// Opens `path` to write as the run goes on: a regular file from its start, a character device or a FIFO as
/// it is.
///
/// # Errors
/// [`Error::Image`] for a FIFO that nobody reads, which would make the program wait, and for what is no
/// stream.
pub fn stream(path: &Path) -> Result<File> {
    let failed = |e| Error::file("create", path, e);
    if let Ok(there) = std::fs::metadata(path) {
        let kind = there.file_type();
        if !(kind.is_file() || kind.is_fifo() || kind.is_char_device()) {
            let what = what(kind).unwrap_or_default();
            return Err(Error::image(
                path,
                format!("this is {what}, and nothing can be written to it: give a file"),
            ));
        }
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    let file = opened.map_err(|e| match e.raw_os_error() {
        Some(libc::ENXIO) => Error::image(path, "nobody reads from this FIFO: start its reader first"),
        _ => failed(e),
    })?;
    // From here on the program may wait for a slow reader.
    let flags = fcntl_getfl(&file).map_err(|e| failed(e.into()))?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::fs;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_older_file_stays_until_the_new_one_is_whole() {
        let dir = Scratch::new("older");
        let (path, bystander) = (dir.path().join("f"), dir.path().join("f.partial"));
        fs::write(&path, "old").unwrap();
        fs::write(&bystander, "bystander").unwrap();
        let mut new = NewFile::create(&path).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(new);
        assert_eq!(
            (names(dir.path()), fs::read(&path).unwrap()),
            (vec!["f".into(), "f.partial".into()], b"old".to_vec())
        );
        let mut new = NewFile::create(&path).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&bystander).unwrap()),
            (b"new".to_vec(), b"bystander".to_vec())
        );
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = Scratch::new("links");
        let (file, link, nothing) = (dir.path().join("f"), dir.path().join("l"), dir.path().join("n"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("none"), &nothing).unwrap();
        let mut new = NewFile::create(&link).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert!(link.is_symlink() && fs::read(&file).unwrap() == b"new");
        assert!(NewFile::create(&nothing).unwrap_err().to_string().contains("symbolic link to nothing"));
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let dir = Scratch::new("special");
        let fifo = dir.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        for path in [&fifo, dir.path()] {
            assert!(NewFile::create(path).unwrap_err().to_string().contains("cannot take its place"));
            assert!(Output::create(path).is_err() && stream(path).is_err());
        }
        let said = stream(&fifo).unwrap_err().to_string();
        assert!(said.contains("nobody reads"), "{said}");
        let reader =
            OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&fifo).unwrap();
        let mut output = Output::create(&fifo).unwrap();
        output.write_all(b"state").unwrap();
        output.finish().unwrap();
        let mut read = String::new();
        io::Read::read_to_string(&mut &reader, &mut read).unwrap();
        assert_eq!(read, "state");
    }
}

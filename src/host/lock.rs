//! Locks on image files, so that neither another run nor QEMU writes to an image in use.
//!
//! Two kinds are taken. `flock` tells runs of this program from each other, on file systems that have it.
//! QEMU knows nothing of it: QEMU locks single bytes with open-file-description locks (fcntl(2),
//! `F_OFD_SETLK`), which say what a program does with an image and what it cannot bear others to do. For each
//! permission of the table that a program uses, a read lock lies on byte 100 + n; for each that others must
//! not use, one on byte 200 + n. A program takes its own locks first; then it looks for those of others that
//! contradict them. The bytes need not exist in the file.
//!
//! | n | permission |
//! |---|---|
//! | 0 | to read content that is consistent |
//! | 1 | to write |
//! | 2 | to write what does not change the content |
//! | 3 | to change the size |

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const USED: i64 = 100;
const DENIED: i64 = 200;
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// The holder of a lock that keeps others out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// Another run or drive of this program.
    Here,
    /// Another program that locks as QEMU does.
    Elsewhere,
}

/// Locks `file`: for this opening alone to write, or together with others to read. The lock ends when the
/// file is closed, at the latest with the process. A file system without locks is let through.
///
/// # Errors
/// The holder of the lock that is in the way.
pub fn lock(file: &File, write: bool) -> Result<(), InUse> {
    let how =
        if write { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
    if flock(file, how) == Err(Errno::WOULDBLOCK) {
        return Err(InUse::Here);
    }
    let used: &[i64] = if write { &[READ, WRITE, RESIZE] } else { &[READ] };
    let denied = [WRITE, RESIZE];
    let own = used.iter().map(|n| USED + n).chain(denied.map(|n| DENIED + n));
    for byte in own {
        match set(file, byte) {
            Err(e) if held(&e) => return Err(InUse::Elsewhere),
            // The file system has no such locks.
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
    }
    let others = used.iter().map(|n| DENIED + n).chain(denied.map(|n| USED + n));
    if others.into_iter().any(|byte| is_locked(file, byte)) { Err(InUse::Elsewhere) } else { Ok(()) }
}

/// Whether an error says that somebody has a lock.
fn held(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

/// Takes a read lock on a byte.
fn set(file: &File, byte: i64) -> io::Result<()> {
    command(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte).map(|_| ())
}

/// Whether anybody else has a lock on a byte.
fn is_locked(file: &File, byte: i64) -> bool {
    let free = libc::F_UNLCK as libc::c_short;
    command(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte).is_ok_and(|found| found != free)
}

/// Gives the kernel a lock command about one byte. What comes back is the kind of lock that stands there.
fn command(file: &File, command: libc::c_int, kind: libc::c_int, byte: i64) -> io::Result<libc::c_short> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and both commands take a pointer to a
    // `flock`, which lives on this stack until the call returns.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(lock.l_type) }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn files(name: &str) -> (Scratch, impl Fn() -> File) {
        let dir = Scratch::new(name);
        let path = dir.path().join("image");
        std::fs::write(&path, [0; 512]).unwrap();
        (dir, move || File::options().read(true).write(true).open(&path).unwrap())
    }

    #[test]
    fn one_writes_or_many_read() {
        let (_dir, open) = files("runs");
        let (a, b, c) = (open(), open(), open());
        assert_eq!(lock(&a, true), Ok(()));
        assert_eq!((lock(&b, true), lock(&c, false)), (Err(InUse::Here), Err(InUse::Here)));
        drop((a, b, c));
        let (a, b, c) = (open(), open(), open());
        assert_eq!((lock(&a, false), lock(&b, false)), (Ok(()), Ok(())));
        assert_eq!(lock(&c, true), Err(InUse::Here));
    }

    #[test]
    fn byte_locks_of_another_program_count() {
        let (_dir, open) = files("bytes");
        let qemu = open();
        // A guest's disk in QEMU: it reads and writes, and bears no other writer.
        for byte in [USED + READ, USED + WRITE, DENIED + WRITE, DENIED + RESIZE] {
            set(&qemu, byte).unwrap();
        }
        assert_eq!(lock(&open(), true), Err(InUse::Elsewhere));
        assert_eq!(lock(&open(), false), Err(InUse::Elsewhere));
        drop(qemu);
        let reader = open();
        set(&reader, USED + READ).unwrap();
        set(&reader, DENIED + WRITE).unwrap();
        assert_eq!(lock(&open(), true), Err(InUse::Elsewhere));
        assert_eq!(lock(&open(), false), Ok(()));
    }
}

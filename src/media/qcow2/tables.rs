//! Tables of a cluster each that were used lately: L2 tables and blocks of refcounts. A change goes to the
//! file at once; the copies here are only there to be read.

use super::super::file::HostFile;
use std::io;

/// Bytes that the copies of an image may take; those of an image below another take half as much as the
/// other's. One table has room always.
const ROOM: usize = 8 << 20;
const MOST: usize = 64;

/// The copies, the one used last at the front.
pub(super) struct Tables {
    cluster: usize,
    /// Copies at most.
    most: usize,
    copies: Vec<(u64, Vec<u8>)>,
}

impl Tables {
    /// For tables of `cluster` bytes, of an image that lies under `above` others.
    pub(super) fn new(cluster: usize, above: usize) -> Self {
        let room = ROOM >> above.min(8);
        Self { cluster, most: (room / cluster).clamp(1, MOST), copies: Vec::new() }
    }

    /// The table at `at`.
    ///
    /// # Errors
    /// The host's error, or that the image is damaged.
    pub(super) fn get(&mut self, file: &HostFile, at: u64) -> io::Result<&mut Vec<u8>> {
        match self.copies.iter().position(|(a, _)| *a == at) {
            Some(0) => {}
            Some(n) => self.copies[..=n].rotate_right(1),
            None => {
                if !at.is_multiple_of(self.cluster as u64) {
                    return Err(file.damaged("a table does not begin with a cluster"));
                }
                let mut bytes = vec![0; self.cluster];
                file.read(at, &mut bytes)?;
                self.copies.truncate(self.most - 1);
                self.copies.insert(0, (at, bytes));
            }
        }
        Ok(&mut self.copies[0].1)
    }

    /// Stores `bytes` at offset `within` of the table at `at`, in the file and in the copy.
    ///
    /// # Errors
    /// The errors of [`Tables::get`].
    pub(super) fn set(
        &mut self,
        file: &mut HostFile,
        at: u64,
        within: usize,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.get(file, at)?;
        file.write(at + within as u64, bytes)?;
        self.copies[0].1[within..within + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Forgets the copy of a cluster that is no table any more.
    pub(super) fn forget(&mut self, at: u64) {
        self.copies.retain(|(a, _)| *a != at);
    }
}

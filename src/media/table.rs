//! The tables of an image that are as long as the disk is large: a qcow2 image's L1 table, a VMDK file's
//! grain directory, a VHD's block table. One page at a time is in memory. So an image that claims a table of
//! gigabytes takes none.

use super::file::HostFile;
use std::io;

/// Bytes of a page.
const PAGE: u64 = 16 << 10;

/// A table of `N`-byte entries in a file.
pub(super) struct Table<const N: usize> {
    at: u64,
    len: u64,
    /// The number of the page that is in memory, and its bytes.
    page: Option<(u64, Vec<u8>)>,
}

impl<const N: usize> Table<N> {
    /// The table of `len` entries at `at`; none when it does not lie within `file`.
    pub(super) fn new(file: &HostFile, at: u64, len: u64) -> Option<Self> {
        let bytes = len.checked_mul(N as u64)?;
        file.holds(at, bytes).then_some(Self { at, len, page: None })
    }

    /// The entries.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Entry `n`; zeros behind the end.
    ///
    /// # Errors
    /// What the host said.
    pub(super) fn get(&mut self, file: &HostFile, n: u64) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        if n < self.len {
            let (page, within) = (n * N as u64 / PAGE, (n * N as u64 % PAGE) as usize);
            entry.copy_from_slice(&self.load(file, page)?[within..within + N]);
        }
        Ok(entry)
    }

    /// Stores entry `n`, in the file and in memory.
    ///
    /// # Errors
    /// What the host said.
    pub(super) fn set(&mut self, file: &mut HostFile, n: u64, entry: [u8; N]) -> io::Result<()> {
        file.write(self.at + n * N as u64, &entry)?;
        if let Some((page, bytes)) = &mut self.page
            && *page == n * N as u64 / PAGE
        {
            let within = (n * N as u64 % PAGE) as usize;
            bytes[within..within + N].copy_from_slice(&entry);
        }
        Ok(())
    }

    /// Gives the page in memory back.
    pub(super) fn forget(&mut self) {
        self.page = None;
    }

    fn load(&mut self, file: &HostFile, page: u64) -> io::Result<&[u8]> {
        if self.page.as_ref().is_none_or(|(there, _)| *there != page) {
            let start = page * PAGE;
            let mut bytes = vec![0; PAGE.min(self.len * N as u64 - start) as usize];
            file.read(self.at + start, &mut bytes)?;
            self.page = Some((page, bytes));
        }
        Ok(self.page.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}

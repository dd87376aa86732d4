//! The window: 4 GiB of host address space in which guest-linear addresses are offsets. Pages of guest RAM are mapped into it
//! from RAM's object, so the host's own page tables shadow the guest's. All else in it faults, and so do 2 GiB before and
//! behind it: an address that leaves the window by a displacement meets nothing there.
//!
//! Called by the backend, between runs of translated code.

use crate::addr::{Linear, MachineAddr, PAGE_SIZE};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Error as HostError;
use std::os::fd::AsRawFd;

/// Bytes of the window.
const SIZE: usize = 4 << 30;
/// Bytes before it and behind it: as far as a displacement reaches.
const GUARD: usize = 2 << 30;
/// All that is reserved; an access at the last address of all may be some bytes long.
const RESERVED: usize = GUARD + SIZE + GUARD + PAGE_SIZE as usize;

/// The reserved region.
pub(super) struct Window {
    region: *mut libc::c_void,
}

fn refused(action: &'static str) -> Error {
    Error::Host { action, source: HostError::last_os_error() }
}

impl Window {
    /// An empty window.
    ///
    /// # Errors
    /// [`Error::Host`] when the host has no room for it.
    pub(super) fn reserve() -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping where the host likes; nothing that exists is touched.
        let region = unsafe { libc::mmap(std::ptr::null_mut(), RESERVED, libc::PROT_NONE, flags, -1, 0) };
        if region == libc::MAP_FAILED {
            return Err(refused("reserve the window"));
        }
        Ok(Self { region })
    }

    /// The host address of guest-linear address 0.
    pub(super) fn base(&self) -> u64 {
        self.region as u64 + GUARD as u64
    }

    /// The guest-linear address of a host address, if it is within the window.
    pub(super) fn linear(&self, host: u64) -> Option<Linear> {
        u32::try_from(host.wrapping_sub(self.base())).ok().map(Linear)
    }

    /// Maps the page of `at` to the page of `object` at `frame`.
    ///
    /// # Errors
    /// [`Error::Host`] when the host has no more mappings.
    pub(super) fn map(
        &mut self,
        at: Linear,
        object: &File,
        frame: MachineAddr,
        writable: bool,
    ) -> Result<()> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let offset = i64::from(frame.page().0);
        // SAFETY: the page lies within the region, which is ours and which no reference points into; only translated code
        // goes there, and none runs now.
        let mapped = unsafe {
            let page = self.region.byte_add(GUARD + at.page().0 as usize);
            libc::mmap(page, PAGE_SIZE as usize, protection, flags, object.as_raw_fd(), offset)
        };
        if mapped == libc::MAP_FAILED { Err(refused("map a page into the window")) } else { Ok(()) }
    }

    /// Takes the page of `at` away.
    ///
    /// # Errors
    /// [`Error::Host`] when the host has no more mappings.
    pub(super) fn unmap(&mut self, at: Linear) -> Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: as in `map`.
        let mapped = unsafe {
            let page = self.region.byte_add(GUARD + at.page().0 as usize);
            libc::mmap(page, PAGE_SIZE as usize, libc::PROT_NONE, flags, -1, 0)
        };
        if mapped == libc::MAP_FAILED { Err(refused("take a page from the window")) } else { Ok(()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the region was mapped by `reserve`, is ours alone, and nobody runs in it or points into it any more.
        unsafe { libc::munmap(self.region, RESERVED) };
    }
}

//! The parts of an image, and the checks of where they are loaded.

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use std::path::Path;

/// Where the small stack of a 32-bit start ends, in a machine with all of its low memory.
const STACK_TOP: u32 = 0x9_f000;
/// The VGA window and the firmware region: no place for an image.
pub(super) const LEGACY: std::ops::Range<u64> = 0xa_0000..0x10_0000;

/// A part of an image: where it goes, how much memory it takes, and which bytes of the file it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) at: u32,
    pub(super) mem: u32,
    pub(super) bytes: &'a [u8],
}

impl Part<'_> {
    pub(super) fn end(&self) -> u64 {
        u64::from(self.at) + u64::from(self.mem)
    }
    pub(super) fn holds(&self, at: u32) -> bool {
        at >= self.at && u64::from(at) < self.end()
    }
}

/// Sorts `parts` by address and checks that they lie in RAM, off the legacy regions, and apart from each other.
pub(super) fn check_parts(path: &Path, parts: &mut [Part<'_>], mem: u32) -> Result<()> {
    parts.sort_by_key(|p| p.at);
    for p in parts.iter() {
        check_range(path, p.at, u64::from(p.mem), mem)?;
    }
    for pair in parts.windows(2) {
        if pair[0].end() > u64::from(pair[1].at) {
            return Err(Error::image(
                path,
                format!(
                    "two of its segments overlap, at {:#x} and {:#x}: check the linker script's addresses",
                    pair[0].at, pair[1].at
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that `len` bytes at `at` can be loaded into a machine with `mem` bytes of RAM.
pub(super) fn check_range(path: &Path, at: u32, len: u64, mem: u32) -> Result<()> {
    let end = u64::from(at) + len;
    if end > 1 << 32 {
        return Err(Error::image(path, format!("{len:#x} bytes at {at:#x} would reach beyond 4 GiB")));
    }
    if end > u64::from(mem) {
        let reason = format!(
            "{len:#x} bytes at {at:#x} do not fit into {} of memory: give at least --mem {}K",
            kib(mem),
            end.div_ceil(4096) * 4
        );
        return Err(Error::image(path, reason));
    }
    if u64::from(at) < LEGACY.end && end > LEGACY.start {
        return Err(Error::image(
            path,
            format!(
                "{len:#x} bytes at {at:#x} would cover the VGA window or firmware at A0000-FFFFF: link it lower, or at 1 MiB and up"
            ),
        ));
    }
    Ok(())
}

/// A memory size for a message.
pub(super) fn kib(mem: u32) -> String {
    if mem.is_multiple_of(1 << 20) { format!("{} MiB", mem >> 20) } else { format!("{} KiB", mem >> 10) }
}

/// The stores of `parts`.
pub(super) fn writes_of(parts: &[Part<'_>]) -> Vec<(GuestPhys, Vec<u8>)> {
    parts.iter().filter(|p| !p.bytes.is_empty()).map(|p| (GuestPhys(p.at), p.bytes.to_vec())).collect()
}

/// Top of the stack that a 32-bit start gets. In a small memory the end is kept free for the loader's GDT.
pub(super) fn stack_top(mem: u32) -> u32 {
    STACK_TOP.min(mem - 0x20) & !0xf
}

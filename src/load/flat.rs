//! Flat binaries: bytes without a header, loaded at one address and started at their first byte.
//!
//! The default is what a kernel linked with `-Ttext 0x100000 --oformat binary` wants: 32-bit protected mode at
//! 1 MiB. `--mode real` starts in real mode, at 0000:7C00 by default, as a boot sector would.

use super::guest::{Around, Mode};
use super::part::{Part, check_parts, stack_top, writes_of};
use super::plan::{Entry, Plan};
use crate::error::{Error, Result};
use std::path::Path;

const DEFAULT_FLAT: u32 = 0x10_0000;
const DEFAULT_REAL: u32 = 0x7c00;

/// Plans the start of a flat binary.
///
/// # Errors
/// [`Error::Image`] when it does not fit where it is to go.
pub fn plan(path: &Path, bytes: &[u8], around: &Around) -> Result<Plan> {
    let mode = around.mode.unwrap_or(Mode::Flat);
    let at = around.at.unwrap_or(match mode {
        Mode::Real => DEFAULT_REAL,
        Mode::Flat => DEFAULT_FLAT,
    });
    let len = u32::try_from(bytes.len()).map_err(|_| Error::image(path, "the file is larger than 4 GiB"))?;
    let mut parts = [Part { at, mem: len, bytes }];
    check_parts(path, &mut parts, around.mem)?;
    let entry = match mode {
        Mode::Real => real(path, at)?,
        Mode::Flat => Entry::Flat { eip: at, eax: 0, ebx: 0, esp: stack_top(around.mem) },
    };
    let mut plan = Plan::new(entry, writes_of(&parts));
    if mode == Mode::Flat {
        plan = plan.with_loader(around, &parts);
    }
    if !around.named && around.at.is_none() && around.mode.is_none() {
        plan.notes.push(format!(
            "{} has no header that is known here: it runs as flat 32-bit code from {at:#x} on (--format says otherwise)",
            path.display()
        ));
    }
    Ok(plan)
}

/// `0000:at` within the first 64 KiB, else the segment that starts at the paragraph of `at`.
fn real(path: &Path, at: u32) -> Result<Entry> {
    if let Ok(ip) = u16::try_from(at) {
        return Ok(Entry::Real { cs: 0, ip });
    }
    let cs = u16::try_from(at >> 4).map_err(|_| {
        Error::image(path, format!("real mode cannot start at {at:#x}: give --load-at below 1 MiB"))
    })?;
    Ok(Entry::Real { cs, ip: (at & 0xf) as u16 })
}

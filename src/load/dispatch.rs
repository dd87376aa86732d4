//! Plans the start of a guest, whatever kind it is of.

use super::guest::{Around, Guest};
use super::plan::Plan;
use super::{bzimage, elf, flat, multiboot};
use crate::error::{Error, Result};
use std::path::Path;

/// Plans the start of `guest`, whose file content is `bytes` (empty for a disk, floppy or CD: those are attached).
///
/// # Errors
/// [`Error::Image`] when the image cannot be loaded, [`Error::Usage`] when an option does not go with it.
pub fn plan(path: &Path, bytes: &[u8], guest: Guest, around: &Around) -> Result<Plan> {
    check_options(guest, around)?;
    if matches!(guest, Guest::Flat | Guest::Elf) && !around.named {
        multiboot::refuse_out_of_reach(path, bytes)?;
    }
    match guest {
        Guest::Flat => flat::plan(path, bytes, around),
        Guest::Elf => elf::plan(path, bytes, around),
        Guest::Multiboot(at) => multiboot::plan(path, bytes, at, around),
        Guest::Linux => bzimage::plan(path, bytes, around),
        Guest::Disk | Guest::Floppy | Guest::Cdrom => Ok(Plan::firmware()),
    }
}

/// Refuses options that would do nothing for this kind of guest.
fn check_options(guest: Guest, around: &Around) -> Result<()> {
    let multiboot = matches!(guest, Guest::Multiboot(_));
    let what = guest.describe();
    let refuse = |option: &str, for_what: &str| {
        Err(Error::Usage(format!("{option} is for {for_what}, and this guest is {what}")))
    };
    if around.cmdline.is_some() && !multiboot && guest != Guest::Linux {
        return refuse("--append", "a Multiboot or Linux kernel");
    }
    if around.initrd.is_some() && guest != Guest::Linux {
        return refuse("--initrd", "a Linux kernel");
    }
    if !around.modules.is_empty() && !multiboot {
        return refuse("--module", "a Multiboot kernel");
    }
    if around.at.is_some() && guest != Guest::Flat {
        return refuse("--load-at", "a flat binary");
    }
    if around.mode.is_some() && guest != Guest::Flat {
        return refuse("--mode", "a flat binary");
    }
    Ok(())
}

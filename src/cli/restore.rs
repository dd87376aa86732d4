//! `--restore`: a machine that goes on from a snapshot.

use super::args::ImageArg;
use super::guest_args::GuestArgs;
use crate::error::{Error, Result};
use crate::load::{Drive, Medium, Spec};
use crate::media::image;
use crate::snapshot::{self, Snapshot};
use clap::Args;
use std::path::{Path, PathBuf};

/// The option that starts from a snapshot instead of a guest.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Go on from a snapshot of `subring snapshot`; its disk images must be as they were, and --disk or --floppy say
    /// where they are now
    #[arg(long, value_name = "FILE", help_heading = "Guest", conflicts_with_all = ["guest", "append", "initrd",
          "module", "format", "load_at", "mode", "mem", "cdrom", "snapshot", "bios", "vgabios", "hz", "epoch",
          "no_apic", "no_acpi", "uart_pace"])]
    pub restore: Option<PathBuf>,
}

impl RestoreArgs {
    /// The machine of `guest`, or the saved one.
    pub(super) fn spec(&self, guest: &GuestArgs) -> Result<Spec> {
        match &self.restore {
            Some(path) => spec(path, &guest.disk, &guest.floppy, guest.snapshot),
            None => guest.spec(),
        }
    }

    /// What the guest is called in a report.
    pub(super) fn name(&self, guest: &GuestArgs) -> String {
        self.restore.as_deref().map_or_else(|| guest.name(), |path| path.to_string_lossy().into_owned())
    }
}

/// What a machine is built from that goes on from the snapshot at `path`. Its images are where the options say, in
/// order, and the rest where they were; what it writes to them is kept in memory if it was so before, or if `keep` says so.
fn spec(path: &Path, disks_now: &[ImageArg], floppies_now: &[ImageArg], keep: bool) -> Result<Spec> {
    let Snapshot { machine, disks, floppies, cdrom } = Snapshot::read(path)?;
    let open = |drives: &[snapshot::Drive], now: &[ImageArg], option: &str| {
        if now.len() > drives.len() {
            return Err(Error::Usage(format!(
                "the saved machine has {} of what {option} names, and it is given {} times",
                drives.len(),
                now.len()
            )));
        }
        let now = now.iter().map(Some).chain(std::iter::repeat(None));
        drives.iter().zip(now).map(|(drive, now)| reopen(drive, now, keep)).collect::<Result<Vec<_>>>()
    };
    Ok(Spec {
        mem: machine.state.ram_size(),
        hz: machine.state.clock().hz(),
        epoch: 0,
        apic: false,
        acpi: false,
        disks: open(&disks, disks_now, "--disk")?,
        floppies: open(&floppies, floppies_now, "--floppy")?,
        cdrom: cdrom.as_ref().map(|drive| reopen(drive, None, keep)).transpose()?,
        restore: Some(machine),
        ..Spec::default()
    })
}

/// The medium of a saved machine: its image as it was then, or room for what is in the machine's state.
fn reopen(drive: &snapshot::Drive, now: Option<&ImageArg>, keep: bool) -> Result<Drive> {
    let overlay = drive.overlay || keep;
    let path = now.map_or(&drive.path, |now| &now.path).clone();
    if drive.hash.is_none() {
        if now.is_some() {
            return Err(Error::Usage(format!(
                "the saved machine's disk `{}` is in the snapshot itself, and no other can take its place",
                drive.path.display()
            )));
        }
        let medium = Medium::Memory(vec![0; drive.bytes.min(MAX_IN_MEMORY) as usize]);
        return Ok(Drive { path, medium, snapshot: overlay });
    }
    let format = now.and_then(|now| now.format).unwrap_or(drive.format);
    let image = image::open(&path, Some(format), !overlay)?;
    drive.check(&image.files)?;
    Ok(Drive { path, medium: Medium::Image(image), snapshot: overlay })
}

/// More than any built-in guest's disk has.
const MAX_IN_MEMORY: u64 = 1 << 30;

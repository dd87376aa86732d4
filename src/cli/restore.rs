//! `--restore`: a machine that goes on from a snapshot.

use super::args::ImageArg;
use super::guest_args::GuestArgs;
use super::symbol_file;
use crate::error::{Error, Result};
use crate::load::{Drive, Medium, Plan, Spec};
use crate::media::Allowed;
use crate::media::image::{self, Format};
use crate::snapshot::{self, Snapshot};
use clap::Args;
use std::path::{Path, PathBuf};

/// The option that starts from a snapshot instead of a guest.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Go on from a snapshot of `subring snapshot`; its disk images must be as they were, and --disk or
    /// --floppy say where they are now
    #[arg(long, value_name = "FILE", help_heading = "Guest", conflicts_with_all = ["guest", "append", "initrd",
          "module", "strict", "format", "load_at", "mode", "cpu", "mem", "cdrom", "snapshot", "bios", "vgabios", "hz",
          "epoch", "no_apic", "no_acpi", "uart_pace", "testdev", "end_at_reset"])]
    pub restore: Option<PathBuf>,
}

impl RestoreArgs {
    /// The machine of `guest`, or the saved one.
    pub(super) fn spec(&self, guest: &GuestArgs) -> Result<Spec> {
        match &self.restore {
            Some(path) => {
                let allowed = guest.allowed()?;
                let mut spec = spec(path, [&guest.disk, &guest.floppy], guest.snapshot, &allowed)?;
                symbol_file::add(&guest.symbols, &mut spec.plan)?;
                spec.engine = guest.monitor.bare_engine();
                Ok(spec)
            }
            None => guest.spec(),
        }
    }

    /// The guest's name in a report.
    pub(super) fn name(&self, guest: &GuestArgs) -> String {
        self.restore.as_deref().map_or_else(|| guest.name(), |path| path.to_string_lossy().into_owned())
    }
}

/// The machine that goes on from the snapshot at `path`. Its disks and floppies are the images that the
/// options name, in order; the rest are opened where they were. Writes to them are kept in memory if they
/// were before, or if `keep` says so.
///
/// A snapshot from a stranger may name any file of the user's, to be written to. So a disk that no option
/// names is opened only in the snapshot's folder or an allowed one, under the very name that it had, and when
/// its content is what it was.
fn spec(
    path: &Path,
    [disks_now, floppies_now]: [&[ImageArg]; 2],
    keep: bool,
    allowed: &Allowed,
) -> Result<Spec> {
    let Snapshot { machine, disks, floppies, cdrom } = Snapshot::read(path)?;
    let reopening = Reopening { snapshot: path, keep, allowed, named: allowed.with_folder_of(path)? };
    let open = |drives: &[snapshot::Drive], now: &[ImageArg], option: &str| {
        if now.len() > drives.len() {
            return Err(Error::Usage(format!(
                "the saved machine has {} of what {option} names, and it is given {} times",
                drives.len(),
                now.len()
            )));
        }
        let now = now.iter().map(Some).chain(std::iter::repeat(None));
        drives.iter().zip(now).map(|(drive, now)| reopening.open(drive, now)).collect::<Result<Vec<_>>>()
    };
    let disks = open(&disks, disks_now, "--disk")?;
    let floppies = open(&floppies, floppies_now, "--floppy")?;
    let cdrom = cdrom.as_ref().map(|drive| reopening.open(drive, None)).transpose()?;
    let notes = notes(&disks[disks_now.len()..], &floppies[floppies_now.len()..]);
    Ok(Spec {
        mem: machine.state.ram_size(),
        hz: machine.state.clock().hz(),
        epoch: 0,
        apic: false,
        acpi: false,
        disks,
        floppies,
        cdrom,
        plan: Plan { notes, ..Plan::firmware() },
        restore: Some(machine),
        ..Spec::default()
    })
}

/// Notes for the user: the files that a snapshot has the program open to write, and those that these stand
/// on.
fn notes(disks: &[Drive], floppies: &[Drive]) -> Vec<String> {
    let mut notes = Vec::new();
    for drive in disks.iter().chain(floppies) {
        if matches!(drive.medium, Medium::Image(_)) && !drive.snapshot {
            notes.push(format!("the snapshot's disk {} is opened to be written to", drive.path.display()));
        }
        notes.extend(drive.stands_on());
    }
    notes
}

/// How the media of a saved machine are opened again.
struct Reopening<'a> {
    snapshot: &'a Path,
    keep: bool,
    /// The folders whose files an image may name.
    allowed: &'a Allowed,
    /// The folders whose files the snapshot may name.
    named: Allowed,
}

impl Reopening<'_> {
    /// The medium of a saved machine: its image as it was then, or room for what is in the machine's state.
    fn open(&self, drive: &snapshot::Drive, now: Option<&ImageArg>) -> Result<Drive> {
        let overlay = drive.overlay || self.keep;
        if drive.hash.is_none() {
            return in_state(drive, now, overlay);
        }
        let path = match now {
            Some(now) => now.path.clone(),
            None => self.where_it_was(&drive.path)?,
        };
        let format = match now.and_then(|now| now.format) {
            Some(named) => Format::Named(named),
            None if drive.detected => Format::Detected(drive.format),
            None => Format::Named(drive.format),
        };
        let image = image::open_with(&path, format, !overlay, self.allowed)?;
        drive.check(&image.files)?;
        Ok(Drive { path, medium: Medium::Image(image), snapshot: overlay })
    }

    /// The file that the snapshot names, if it may be opened and is no link by now.
    fn where_it_was(&self, path: &Path) -> Result<PathBuf> {
        let found = self.named.resolve(self.snapshot, path).map_err(|e| match e {
            Error::Image { path, reason } => {
                Error::image(path, format!("{reason}; or name the disk itself, with --disk or --floppy"))
            }
            other => other,
        })?;
        if found == *path {
            return Ok(found);
        }
        Err(Error::image(
            self.snapshot,
            format!(
                "its disk {} was a file of that name and is a link or lies behind one now: name it, with --disk or --floppy",
                path.display()
            ),
        ))
    }
}

/// A medium whose content is in the machine's state.
fn in_state(drive: &snapshot::Drive, now: Option<&ImageArg>, overlay: bool) -> Result<Drive> {
    if now.is_some() {
        return Err(Error::Usage(format!(
            "the saved machine's disk `{}` is in the snapshot itself, and no other can take its place",
            drive.path.display()
        )));
    }
    let medium = Medium::Memory(vec![0; drive.bytes.min(MAX_IN_MEMORY) as usize]);
    Ok(Drive { path: drive.path.clone(), medium, snapshot: overlay })
}

/// More than any built-in guest's disk has.
const MAX_IN_MEMORY: u64 = 16 << 20;

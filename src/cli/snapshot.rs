//! `subring snapshot`: runs a guest to a point and saves the machine; and `subring run --restore`, which goes on from
//! there.

use super::args::{self, ImageArg};
use super::create;
use super::report;
use super::run::Run;
use super::session::{Build, Drive, End, Ending, Medium, Pc, Spec};
use crate::device::uart::Transmitter;
use crate::error::{Error, Result};
use crate::load::Plan;
use crate::media::{ImageFormat, SECTOR, image};
use crate::snapshot::{self, Snapshot, hash_files};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The options of `subring snapshot`.
#[derive(Args, Clone, Debug)]
pub struct Command {
    #[command(flatten)]
    run: Run,
    /// Save the machine after N instructions since power-on (1_000_000, 10M, 2G)
    #[arg(long, value_name = "N", value_parser = args::count, conflicts_with = "budget", required_unless_present = "at_time")]
    at_instruction: Option<u64>,
    /// Save the machine at this guest time (2s, 300ms, 1m)
    #[arg(long, value_name = "TIME", value_parser = args::micros, conflicts_with_all = ["time", "at_instruction"])]
    at_time: Option<u64>,
    /// The file to save it to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Command {
    /// Whether the rewriting rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.run.monitor.list_rules
    }

    /// The command. Gives the program's exit status.
    pub(super) fn run(&self, build: &Build) -> Result<u8> {
        self.check()?;
        let mut run = self.run.clone();
        run.budget = self.at_instruction.or(run.budget);
        run.time = self.at_time.or(run.time);
        let point = if self.at_time.is_some() { Ending::TimeSpent } else { Ending::BudgetSpent };
        let save = |pc: &mut dyn Pc, end: &End, media: &Media| {
            if end.ending != point {
                let reason = format!("the run ended before the point to save: {}", end.ending.sentence());
                return Err(Error::Usage(reason));
            }
            media.save(pc, &self.out)
        };
        let end = run.drive_then(build, save)?;
        let retired = report::grouped(end.retired);
        super::tell(&format!(
            "subring: the machine is saved to {} after {retired} instructions\n",
            self.out.display()
        ));
        Ok(0)
    }

    /// Refuses what only `run` prints at the end.
    fn check(&self) -> Result<()> {
        let run = &self.run;
        let unfit = [("--stats", run.stats), ("--json", run.json), ("--dump-screen", run.dump_screen)];
        match unfit.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::Usage(format!(
                "`snapshot` saves the machine and says nothing more of its run, so {name} has no use: leave it out"
            ))),
            None => Ok(()),
        }
    }
}

/// The disks, floppies and CD-ROM of a run, as its snapshot names them.
pub(super) struct Media {
    disks: Vec<Described>,
    floppies: Vec<Described>,
    cdrom: Vec<Described>,
}

/// A drive without its hash, and the files that its content comes from.
type Described = (snapshot::Drive, Vec<PathBuf>);

impl Media {
    /// Those of `spec`.
    pub(super) fn of(spec: &Spec) -> Result<Self> {
        let all = |drives: &[Drive]| drives.iter().map(describe).collect::<Result<_>>();
        Ok(Self {
            disks: all(&spec.disks)?,
            floppies: all(&spec.floppies)?,
            cdrom: spec.cdrom.iter().map(describe).collect::<Result<_>>()?,
        })
    }

    /// Writes a snapshot of `pc` to `out`. The images are looked at now: until now the guest could write to them.
    fn save(&self, pc: &dyn Pc, out: &Path) -> Result<()> {
        let Some(machine) = pc.save() else {
            return Err(Error::Usage("this machine cannot be saved".into()));
        };
        let hashed = |drives: &[Described]| {
            drives
                .iter()
                .map(|(drive, files)| {
                    let hash = drive.hash.map(|_| hash_files(files)).transpose()?;
                    Ok(snapshot::Drive { hash, ..drive.clone() })
                })
                .collect::<Result<Vec<_>>>()
        };
        let (disks, floppies) = (hashed(&self.disks)?, hashed(&self.floppies)?);
        let cdrom = hashed(&self.cdrom)?.pop();
        let snapshot = Snapshot { machine, disks, floppies, cdrom };
        write_file(out, &snapshot.encode()?)
    }
}

fn describe(drive: &Drive) -> Result<Described> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::file("find", path, e));
    let overlay = drive.snapshot;
    Ok(match &drive.medium {
        // The content is hashed when the machine is saved.
        Medium::Image(image) => {
            let (path, bytes) = (absolute(&drive.path)?, image.disk.sectors() * SECTOR as u64);
            (
                snapshot::Drive { path, bytes, format: image.format, hash: Some(0), overlay },
                image.files.clone(),
            )
        }
        Medium::Memory(bytes) => {
            let (path, bytes) = (drive.path.clone(), bytes.len() as u64);
            (snapshot::Drive { path, bytes, format: ImageFormat::Raw, hash: None, overlay }, Vec::new())
        }
    })
}

/// Writes a whole file: under another name first, so that an older one is replaced by a complete one or stays.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = create(&partial)?.write_all(bytes).map_err(|e| Error::file("write", &partial, e));
    let moved =
        written.and_then(|()| std::fs::rename(&partial, path).map_err(|e| Error::file("write", path, e)));
    if moved.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    moved
}

/// What a machine is built from that goes on from the snapshot at `path`. Its images are where the options say, in
/// order, and the rest where they were; what it writes to them is kept in memory if it was so before, or if `keep` says so.
pub(super) fn spec(
    path: &Path,
    disks_now: &[ImageArg],
    floppies_now: &[ImageArg],
    keep: bool,
) -> Result<Spec> {
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
        transmitter: Transmitter::default(),
        bios: None,
        vga_bios: None,
        disks: open(&disks, disks_now, "--disk")?,
        floppies: open(&floppies, floppies_now, "--floppy")?,
        cdrom: cdrom.as_ref().map(|drive| reopen(drive, None, keep)).transpose()?,
        cdrom_first: false,
        trace: None,
        gdb: None,
        monitor: None,
        plan: Plan::firmware(),
        restore: Some(machine),
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

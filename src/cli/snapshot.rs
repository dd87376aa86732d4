//! `subring snapshot`: runs a guest to a point and saves the machine; and `subring run --restore`, which goes on from
//! there.

use super::create;
use super::run::Run;
use super::session::{Build, Drive, End, Ending, Medium, Pc, Spec};
use super::{args, report};
use crate::error::{Error, Result};
use crate::load::Plan;
use crate::snapshot::{self, Snapshot, hash_file};
use clap::Args;
use std::fs::{File, OpenOptions};
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
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self, build: &Build) -> Result<u8> {
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
}

/// The disks and floppies of a run, as its snapshot names them.
pub(super) struct Media {
    disks: Vec<snapshot::Drive>,
    floppies: Vec<snapshot::Drive>,
}

impl Media {
    /// Those of `spec`.
    pub(super) fn of(spec: &Spec) -> Result<Self> {
        let all = |drives: &[Drive]| drives.iter().map(describe).collect::<Result<_>>();
        Ok(Self { disks: all(&spec.disks)?, floppies: all(&spec.floppies)? })
    }

    /// Writes a snapshot of `pc` to `out`. The images are looked at now: until now the guest could write to them.
    fn save(&self, pc: &dyn Pc, out: &Path) -> Result<()> {
        let Some(machine) = pc.save() else {
            return Err(Error::Usage("this machine cannot be saved".into()));
        };
        let hashed = |drives: &[snapshot::Drive]| {
            drives
                .iter()
                .map(|d| {
                    Ok(snapshot::Drive { hash: d.hash.map(|_| hash_file(&d.path)).transpose()?, ..d.clone() })
                })
                .collect::<Result<Vec<_>>>()
        };
        let snapshot = Snapshot { machine, disks: hashed(&self.disks)?, floppies: hashed(&self.floppies)? };
        write_file(out, &snapshot.encode()?)
    }
}

fn describe(drive: &Drive) -> Result<snapshot::Drive> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::file("find", path, e));
    let (path, bytes, hash) = match &drive.medium {
        // The content is hashed when the machine is saved.
        Medium::File(file) => (absolute(&drive.path)?, size(file, &drive.path)?, Some(0)),
        Medium::Memory(bytes) => (drive.path.clone(), bytes.len() as u64, None),
    };
    Ok(snapshot::Drive { path, bytes, hash, overlay: drive.snapshot })
}

fn size(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(|e| Error::file("read", path, e))?.len())
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

/// What a machine is built from that goes on from the snapshot at `path`.
pub(super) fn spec(path: &Path) -> Result<Spec> {
    let Snapshot { machine, disks, floppies } = Snapshot::read(path)?;
    let open = |drives: &[snapshot::Drive]| drives.iter().map(reopen).collect::<Result<Vec<_>>>();
    Ok(Spec {
        mem: machine.state.ram_size(),
        hz: machine.state.clock().hz(),
        epoch: 0,
        apic: false,
        acpi: false,
        bios: None,
        vga_bios: None,
        disks: open(&disks)?,
        floppies: open(&floppies)?,
        trace: None,
        gdb: None,
        monitor: None,
        plan: Plan::firmware(),
        restore: Some(machine),
    })
}

/// The medium of a saved machine: its image file as it was then, or room for what is in the machine's state.
fn reopen(drive: &snapshot::Drive) -> Result<Drive> {
    drive.check()?;
    let medium = match drive.hash {
        Some(_) => {
            let file = OpenOptions::new().read(true).write(!drive.overlay).open(&drive.path);
            Medium::File(file.map_err(|e| Error::file("open", &drive.path, e))?)
        }
        None => Medium::Memory(vec![0; drive.bytes.min(MAX_IN_MEMORY) as usize]),
    };
    Ok(Drive { path: drive.path.clone(), medium, snapshot: drive.overlay })
}

/// More than any built-in guest's disk has.
const MAX_IN_MEMORY: u64 = 1 << 30;

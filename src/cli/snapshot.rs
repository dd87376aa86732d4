//! `subring snapshot`: runs a guest to a point and saves the machine, for `subring run --restore`.

use super::args;
use super::emulator::Emulator;
use super::ending::Ending;
use super::guest_args::GuestArgs;
use super::output::{tell, tell_notes};
use super::pc::Pc;
use super::restore::RestoreArgs;
use super::session;
use super::terminal::{Console, Setup};
use crate::error::{Error, Result};
use crate::host::NewFile;
use crate::lab::digits::grouped;
use crate::load::{Drive, Medium, Spec};
use crate::media::{ImageFormat, SECTOR};
use crate::snapshot::{self, Snapshot, hash_files};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The options of `subring snapshot`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("load_at", |arg| arg.alias("at")))]
pub struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    start: RestoreArgs,
    /// Save the machine after N instructions since power-on (1_000_000, 10M, 2G)
    #[arg(long, value_name = "N", value_parser = args::count, conflicts_with = "budget",
          required_unless_present_any = ["at_time", "list_rules"])]
    at_instruction: Option<u64>,
    /// Save the machine at this guest time (2s, 300ms, 1m)
    #[arg(long, value_name = "TIME", value_parser = args::micros, conflicts_with_all = ["time", "at_instruction"])]
    at_time: Option<u64>,
    /// The file to save it to
    #[arg(long, value_name = "FILE", required_unless_present = "list_rules")]
    out: Option<PathBuf>,
}

impl Command {
    /// Whether the rewriting rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        // Clap has seen to it that there is one.
        let to = self.out.as_deref().unwrap_or(Path::new(""));
        let spec = Spec { monitor: self.guest.monitor_config()?, ..self.start.spec(&self.guest)? };
        tell_notes(&spec.plan.notes);
        let media = Media::of(&spec)?;
        let mut pc = Emulator::new(spec, None, None)?;
        let mut console = Console::open_with(Setup { input: true, stream: true, ..Setup::silent() })?;
        let options = session::Options {
            budget: self.at_instruction.or(self.guest.budget),
            time: self.at_time.or(self.guest.time),
            progress: true,
            ..self.guest.session()
        };
        let end = session::drive(&mut pc, &mut console, &options)?;
        let point = if self.at_time.is_some() { Ending::TimeSpent } else { Ending::BudgetSpent };
        if end.ending != point {
            let reason = format!("the run ended before the point to save: {}", end.ending.sentence());
            return Err(Error::Usage(reason));
        }
        tell_notes(&end.notes);
        media.save(&pc, to)?;
        let retired = grouped(end.retired);
        tell(&format!("subring: the machine is saved to {} after {retired} instructions\n", to.display()));
        Ok(0)
    }
}

/// The disks, floppies and CD-ROM of a run, as its snapshot names them.
struct Media {
    disks: Vec<Described>,
    floppies: Vec<Described>,
    cdrom: Vec<Described>,
}

/// A drive without its hash, and the files that its content comes from.
type Described = (snapshot::Drive, Vec<PathBuf>);

impl Media {
    /// The media of `spec`.
    fn of(spec: &Spec) -> Result<Self> {
        let all = |drives: &[Drive]| drives.iter().map(describe).collect::<Result<_>>();
        Ok(Self {
            disks: all(&spec.disks)?,
            floppies: all(&spec.floppies)?,
            cdrom: spec.cdrom.iter().map(describe).collect::<Result<_>>()?,
        })
    }

    /// Writes a snapshot of `pc` to `out`. The images are looked at now: until now the guest could write to
    /// them.
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
        let mut file = NewFile::create(out)?;
        file.write_all(&snapshot.encode()?).map_err(|e| Error::file("write", out, e))?;
        file.finish()
    }
}

fn describe(drive: &Drive) -> Result<Described> {
    // With links followed: what is opened again is the file, whatever a link then leads to.
    let absolute = |path: &Path| path.canonicalize().map_err(|e| Error::file("find", path, e));
    let overlay = drive.snapshot;
    Ok(match &drive.medium {
        // The content is hashed when the machine is saved.
        Medium::Image(image) => {
            let (path, bytes) = (absolute(&drive.path)?, image.disk.sectors() * SECTOR as u64);
            (
                snapshot::Drive {
                    path,
                    bytes,
                    format: image.format,
                    detected: image.detected,
                    hash: Some(0),
                    overlay,
                },
                image.files.clone(),
            )
        }
        Medium::Memory(bytes) => {
            let (path, bytes) = (drive.path.clone(), bytes.len() as u64);
            (
                snapshot::Drive {
                    path,
                    bytes,
                    format: ImageFormat::Raw,
                    detected: false,
                    hash: None,
                    overlay,
                },
                Vec::new(),
            )
        }
    })
}

//! From the options of a guest to the [`Spec`] of its machine: reads files, opens images, checks what goes
//! together.

use super::args::ImageArg;
use super::guest_args::GuestArgs;
use super::session;
use super::source::{Source, read_up_to};
use super::symbol_file;
use crate::device::uart::Transmitter;
use crate::error::{Error, Result};
use crate::host::open_regular;
use crate::load::{self, Around, Drive, Format, Guest, Medium, Module, Plan, Spec};
use crate::media::image::{self, Format as Told};
use crate::media::{Allowed, ImageFormat, SECTOR};
use crate::vmm;
use std::path::Path;

/// The largest firmware image.
const MAX_ROM: u64 = 16 << 20;
const MAX_DISKS: usize = 4;
const MAX_FLOPPIES: usize = 2;

impl GuestArgs {
    /// The machine with its guest, and notes for the user in [`Plan::notes`].
    pub(super) fn spec(&self) -> Result<Spec> {
        if self.guest.is_none()
            && self.disk.is_empty()
            && self.floppy.is_empty()
            && self.cdrom.is_none()
            && self.bios.is_none()
        {
            return Err(Error::Usage(
                "there is no guest: give a GUEST (`subring guests` lists the built-in ones), or a disk, floppy or CD image"
                    .into(),
            ));
        }
        let source = self.source()?;
        let plan = self.plan(source.as_ref())?;
        let mut spec = self.spec_of(plan, source.as_ref())?;
        symbol_file::add(&self.symbols, &mut spec.plan)?;
        spec.engine = self.monitor.bare_engine();
        Ok(spec)
    }

    /// What a session is asked for: how far the run goes, and what is typed.
    pub(super) fn session(&self) -> session::Options {
        session::Options {
            budget: self.budget,
            time: self.time,
            limit: self.limit,
            keys: self.key_steps(),
            ..session::Options::default()
        }
    }

    /// The machine under `monitor` for a run that is only watched: nothing is written to its images, so that
    /// another run finds them as they are.
    pub(super) fn spec_unseen(&self, monitor: Option<vmm::Config>) -> Result<Spec> {
        let guest = Self { snapshot: true, ..self.clone() };
        Ok(Spec { monitor, ..guest.spec()? })
    }

    fn plan(&self, source: Option<&Source>) -> Result<Plan> {
        let Some(source) = source else {
            if self.append.is_some()
                || self.initrd.is_some()
                || !self.module.is_empty()
                || self.load_at.is_some()
                || self.mode.is_some()
            {
                return Err(Error::Usage(
                    "--append, --initrd, --module, --load-at and --mode need a GUEST that is a kernel".into(),
                ));
            }
            return Ok(Plan::firmware());
        };
        let around = Around {
            mem: self.mem,
            cmdline: self.append.clone().or_else(|| source.builtin?.cmdline.map(str::to_owned)),
            initrd: self.initrd.as_deref().map(|path| self.read_for_memory(path)).transpose()?,
            modules: self.module.iter().map(|m| self.module_of(m)).collect::<Result<_>>()?,
            at: self.load_at,
            mode: self.mode,
            strict: self.strict,
            has_disk: !self.disk.is_empty(),
            named: self.format() != Format::Auto,
        };
        let mut plan = load::plan(&source.path, &source.bytes, source.kind, &around)?;
        if self.bios.is_some() && plan.entry != load::Entry::Firmware {
            plan.notes.push("the BIOS is in its place and does not run: this guest starts without it".into());
        }
        Ok(plan)
    }

    /// `FILE[,ARGS]`.
    fn module_of(&self, text: &str) -> Result<Module> {
        let (file, args) = text.split_once(',').map_or((text, None), |(f, a)| (f, Some(a)));
        let path = Path::new(file);
        let bytes = self.read_for_memory(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let string = args.map_or(name.clone().into_owned(), |args| format!("{name} {args}"));
        Ok(Module { string, bytes })
    }

    /// Reads a file that is handed to the guest whole.
    fn read_for_memory(&self, path: &Path) -> Result<Vec<u8>> {
        let (mut opened, size) = open_regular(path)?;
        if size > u64::from(self.mem) {
            return Err(Error::image(
                path,
                format!("{size} bytes do not fit into memory: give a larger --mem"),
            ));
        }
        let mut bytes = Vec::new();
        read_up_to(&mut opened, path, u64::from(self.mem), &mut bytes)?;
        Ok(bytes)
    }

    fn spec_of(&self, mut plan: Plan, source: Option<&Source>) -> Result<Spec> {
        plan.notes.extend(self.padding_notes(source)?);
        let disks = self.drives(source, Guest::Disk, &self.disk, load::disk::check)?;
        let floppies = self.drives(source, Guest::Floppy, &self.floppy, load::disk::check_floppy)?;
        if disks.len() > MAX_DISKS || floppies.len() > MAX_FLOPPIES {
            return Err(Error::Usage(format!(
                "the machine takes {MAX_DISKS} disks and {MAX_FLOPPIES} floppies at most"
            )));
        }
        let cdrom = self.cdrom(source)?;
        if cdrom.is_some() && disks.len() == MAX_DISKS {
            return Err(Error::Usage(
                "with a CD-ROM the machine takes 3 disks at most: its drive has the place of one".into(),
            ));
        }
        for drive in disks.iter().chain(&floppies).chain(&cdrom) {
            plan.notes.extend(drive.stands_on());
        }
        let vga_bios = self.vgabios.as_deref().map(rom).transpose()?;
        if vga_bios.as_ref().is_some_and(|rom| !rom.starts_with(&[0x55, 0xaa])) {
            plan.notes.push(
                "the VGA BIOS does not begin as an option ROM (55 AA): no firmware will start it".into(),
            );
        }
        Ok(Spec {
            cpu: self.model(),
            mem: self.mem,
            hz: self.hz,
            epoch: self.epoch,
            apic: !self.no_apic,
            acpi: !self.no_acpi,
            testdev: self.testdev,
            ends_at_reset: self.end_at_reset,
            transmitter: if self.uart_pace { Transmitter::Paced } else { Transmitter::Immediate },
            bios: self.bios.as_deref().map(rom).transpose()?,
            vga_bios,
            disks,
            floppies,
            cdrom,
            cdrom_first: source.is_some_and(|s| s.kind == Guest::Cdrom),
            plan,
            ..Spec::default()
        })
    }

    /// Notes about raw floppy images that do not end with a sector.
    fn padding_notes(&self, source: Option<&Source>) -> Result<Vec<String>> {
        let guest = source.filter(|s| s.kind == Guest::Floppy && s.builtin.is_none()).map(|s| &s.path);
        let raw = |image: &&ImageArg| image.format.is_none_or(|format| format == ImageFormat::Raw);
        let images = self.floppy.iter().filter(raw).map(|image| &image.path);
        let mut notes = Vec::new();
        for path in guest.into_iter().chain(images) {
            notes.extend(load::disk::padding_note(path, open_regular(path)?.1));
        }
        Ok(notes)
    }

    /// The guest, if it is one of this `kind`, then the images of the options.
    fn drives(
        &self,
        source: Option<&Source>,
        kind: Guest,
        images: &[ImageArg],
        check: impl Fn(&Path, u64) -> Result<()>,
    ) -> Result<Vec<Drive>> {
        let mut drives = Vec::new();
        if let Some(s) = source.filter(|s| s.kind == kind) {
            drives.push(match s.builtin {
                Some(b) => {
                    Drive { path: s.path.clone(), medium: Medium::Memory(b.bytes.to_vec()), snapshot: false }
                }
                None => {
                    // Who names the kind of the guest means a raw image, and does not name a format for later
                    // runs: the disk stays guarded. Otherwise the content tells the format.
                    let format = match self.format() {
                        Format::Auto => Told::Detect,
                        _ => Told::Detected(ImageFormat::Raw),
                    };
                    self.drive_of(&s.path, format, &check, self.snapshot)?
                }
            });
        }
        for image in images {
            drives.push(self.drive_of(&image.path, image.format.into(), &check, self.snapshot)?);
        }
        Ok(drives)
    }

    /// The CD-ROM: the guest or the option's.
    fn cdrom(&self, source: Option<&Source>) -> Result<Option<Drive>> {
        let guest = source.filter(|s| s.kind == Guest::Cdrom).map(|s| &s.path);
        if guest.is_some() && self.cdrom.is_some() {
            return Err(Error::Usage(
                "the machine has one CD-ROM drive, and both GUEST and --cdrom are CD images: give one of them".into(),
            ));
        }
        let path = guest.or(self.cdrom.as_ref());
        path.map(|path| self.drive_of(path, Told::Named(ImageFormat::Raw), load::disk::check_cdrom, true))
            .transpose()
    }

    /// The folders whose files an image may name.
    pub(super) fn allowed(&self) -> Result<Allowed> {
        Allowed::new(&self.allow_path)
    }

    /// Opens an image. What is written to a `snapshot` stays in memory.
    fn drive_of(
        &self,
        path: &Path,
        format: Told,
        check: impl Fn(&Path, u64) -> Result<()>,
        snapshot: bool,
    ) -> Result<Drive> {
        let image = image::open_with(path, format, !snapshot, &self.allowed()?)?;
        let size = match image.format {
            // A raw file that ends within a sector is seen only by its length.
            ImageFormat::Raw => open_regular(path)?.1,
            _ => image.disk.sectors() * SECTOR as u64,
        };
        check(path, size)?;
        Ok(Drive { path: path.to_owned(), medium: Medium::Image(image), snapshot })
    }
}

/// A firmware image.
fn rom(path: &Path) -> Result<Vec<u8>> {
    let (mut file, size) = open_regular(path)?;
    if size == 0 || size > MAX_ROM {
        return Err(Error::image(
            path,
            format!("{size} bytes are no firmware image: give one of up to 16 MiB"),
        ));
    }
    let mut bytes = Vec::new();
    read_up_to(&mut file, path, MAX_ROM, &mut bytes)?;
    Ok(bytes)
}

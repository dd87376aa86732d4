//! The specification of a machine with a guest in it, and the machine that is built from it: memory, clock,
//! firmware, disks, the guest's [`Plan`], a monitor. The commands, tests, benches and experiments build their
//! machines here.

use super::builtin::Builtin;
use super::dispatch::plan;
use super::guest::{Around, Format, Guest};
use super::identify::identify;
use super::plan::{Entry, Plan};
use crate::bus::Clock;
use crate::cell::Engine;
use crate::cpu::Model;
use crate::device::fw_cfg::FwCfgConfig;
use crate::device::uart::Transmitter;
use crate::error::{Error, Result};
use crate::firmware::{self, Wanted};
use crate::machine::board::BoardConfig;
use crate::machine::{Config, Machine};
use crate::media::Image;
use crate::media::overlay::Overlay;
use crate::media::{Disk, MemoryDisk, Snapshot};
use crate::snapshot::Saved;
use crate::vmm;
use std::path::{Path, PathBuf};

/// RAM of a machine when nothing else is asked for.
pub const DEFAULT_MEM: u32 = 32 << 20;
/// The real-time clock at power-on when nothing else is asked for: 2000-01-01T00:00:00Z.
pub const DEFAULT_EPOCH: i64 = 946_684_800;
/// A BIOS reports 639 KiB of conventional memory, and shadows itself below 1 MiB.
const FIRMWARE_NEEDS: u32 = 1 << 20;
/// The boot order CD-ROM, disk, floppy, as [`BoardConfig::boot_order`] has it.
const CDROM_FIRST: u16 = 0x123;

/// What a machine is built from.
pub struct Spec {
    /// The processor.
    pub cpu: Model,
    /// Bytes of RAM.
    pub mem: u32,
    /// Ticks per guest second.
    pub hz: u64,
    /// The real-time clock at power-on, in seconds since 1970.
    pub epoch: i64,
    /// Whether there are a local APIC and an I/O APIC.
    pub apic: bool,
    /// Whether there are ACPI's registers and tables.
    pub acpi: bool,
    /// How fast the serial ports send.
    pub transmitter: Transmitter,
    /// Whether there is the test device of QEMU's PC.
    pub testdev: bool,
    /// Whether every reset of a kernel without firmware ends the run.
    pub ends_at_reset: bool,
    /// The system BIOS, instead of the built-in one.
    pub bios: Option<Vec<u8>>,
    /// The VGA BIOS.
    pub vga_bios: Option<Vec<u8>>,
    /// Hard disks, in order; at most four.
    pub disks: Vec<Drive>,
    /// Floppies, in order; at most two.
    pub floppies: Vec<Drive>,
    /// The CD-ROM. With it there is room for three disks.
    pub cdrom: Option<Drive>,
    /// Whether firmware tries the CD-ROM before disks and floppies.
    pub cdrom_first: bool,
    /// Whether the processor is without what monitors hide also on the bare machine.
    pub plain: bool,
    /// The monitor between the guest and the processor; none on the bare machine.
    pub monitor: Option<vmm::Config>,
    /// What realises the instructions of the bare machine; a monitor's cell names its own engine.
    pub engine: Engine,
    /// What to store, and how to start.
    pub plan: Plan,
    /// A saved machine to go on from. Of the fields above only the drives, the monitor and the engine count
    /// then.
    pub restore: Option<Saved>,
}

/// A disk, floppy or CD image.
#[derive(Debug)]
pub struct Drive {
    /// The image's name, for messages.
    pub path: PathBuf,
    /// Where the image's bytes are.
    pub medium: Medium,
    /// Whether writes are kept in memory and the medium stays as it is.
    pub snapshot: bool,
}

/// What an image is on the host.
#[derive(Debug)]
pub enum Medium {
    /// An image file: readable, and writable unless the drive is a snapshot.
    Image(Image),
    /// Bytes in memory.
    Memory(Vec<u8>),
}

impl Default for Spec {
    /// The machine of `subring run` without options, with nothing in its drives.
    fn default() -> Self {
        Self {
            cpu: Model::default(),
            mem: DEFAULT_MEM,
            hz: Clock::DEFAULT_HZ,
            epoch: DEFAULT_EPOCH,
            apic: true,
            acpi: true,
            transmitter: Transmitter::default(),
            testdev: false,
            ends_at_reset: false,
            bios: None,
            vga_bios: None,
            disks: Vec::new(),
            floppies: Vec::new(),
            cdrom: None,
            cdrom_first: false,
            plain: false,
            monitor: None,
            engine: Engine::Interp,
            plan: Plan::firmware(),
            restore: None,
        }
    }
}

impl Spec {
    /// A machine with `mem` bytes of RAM and a built-in guest, which is given `cmdline` or else its own
    /// command line.
    ///
    /// # Errors
    /// [`Error`] when the guest does not fit into memory, or takes no command line.
    pub fn builtin(guest: &Builtin, mem: u32, cmdline: Option<&str>) -> Result<Self> {
        let path = Path::new(guest.name);
        let kind = identify(path, guest.bytes, guest.bytes.len() as u64, Format::Auto)?;
        let cmdline = cmdline.or(guest.cmdline).map(str::to_owned);
        let plan = plan(path, guest.bytes, kind, &Around { mem, cmdline, ..Around::default() })?;
        let drive = || Drive::in_memory(path, guest.bytes);
        let disks = if kind == Guest::Disk { vec![drive()] } else { Vec::new() };
        let floppies = if kind == Guest::Floppy { vec![drive()] } else { Vec::new() };
        Ok(Self { mem, plan, disks, floppies, ..Self::default() })
    }

    /// Whether a reset starts the guest again: firmware does, and a kernel that was loaded directly cannot be
    /// started twice.
    pub fn reboots(&self) -> bool {
        match &self.restore {
            Some(saved) => saved.reboots,
            None => self.plan.entry == Entry::Firmware,
        }
    }

    /// Builds the machine.
    ///
    /// # Errors
    /// [`Error`] when it cannot be built as asked.
    pub fn build(self) -> Result<Machine> {
        self.build_with(&mut None)
    }

    /// Builds the machine with an [`Overlay`] over each disk and floppy, so that what the guest writes can be
    /// taken back.
    ///
    /// # Errors
    /// [`Error`] when it cannot be built as asked.
    pub fn build_with_overlays(self) -> Result<(Machine, Vec<Overlay>)> {
        let mut overlays = Some(Vec::new());
        let machine = self.build_with(&mut overlays)?;
        Ok((machine, overlays.unwrap_or_default()))
    }

    fn build_with(mut self, overlays: &mut Option<Vec<Overlay>>) -> Result<Machine> {
        let (monitor, engine, plain) = (self.monitor.take(), self.engine, self.plain);
        let mut machine = match self.restore.take() {
            Some(saved) => {
                let (disks, floppies, cdrom) = self.fit_media(overlays);
                Machine::from_state(&saved.state, disks, floppies, cdrom)?
            }
            None => self.power_on(overlays)?,
        };
        if plain {
            machine.hide_as_monitors_do();
        }
        match monitor {
            Some(config) => vmm::install(&mut machine, &config)?,
            None if engine == Engine::Portable && machine.cpu.vmx.is_some() => {
                return Err(Error::Usage(format!(
                    "--engine portable does not run VMX, which --cpu {} has: give --engine interp, or another \
                     --cpu",
                    machine.cpu.model
                )));
            }
            None => machine.set_engine(engine),
        }
        Ok(machine)
    }

    /// A new machine with its guest loaded.
    fn power_on(mut self, overlays: &mut Option<Vec<Overlay>>) -> Result<Machine> {
        let firmware = self.plan.entry == Entry::Firmware;
        if firmware && self.mem < FIRMWARE_NEEDS {
            return Err(Error::Usage(
                "firmware needs 1 MiB of memory to boot a disk: give at least --mem 1M".into(),
            ));
        }
        let tables = Wanted { acpi: self.acpi, apic: self.apic, cpu: self.cpu };
        let (disks, floppies, cdrom) = self.fit_media(overlays);
        let board = BoardConfig {
            cpu: self.cpu,
            clock: Clock::new(self.hz),
            ram_size: self.mem,
            epoch: self.epoch,
            disks,
            cdrom,
            floppies,
            boot_order: if self.cdrom_first { CDROM_FIRST } else { 0 },
            firmware,
            apic: self.apic,
            acpi: self.acpi,
            transmitter: self.transmitter,
            testdev: self.testdev,
            ends_at_reset: self.ends_at_reset,
            fw_cfg: self.fw_cfg(tables),
        };
        let built_in = || firmware::built_in_bios(tables);
        let bios = firmware.then(|| self.bios.take().unwrap_or_else(built_in));
        let config = Config { ram_size: self.mem, board, bios, vga_bios: self.vga_bios.take() };
        let mut machine = Machine::new(config)?;
        if !firmware {
            firmware::for_kernel(tables).iter().for_each(|(at, bytes)| machine.store(*at, bytes));
        }
        self.plan.carry_out(&mut machine);
        Ok(machine)
    }

    /// The files that firmware gets. SeaBIOS takes the ROM of a VGA that is no PCI device from one of them.
    fn fw_cfg(&self, tables: Wanted) -> FwCfgConfig {
        let rom = self.vga_bios.iter().map(|rom| ("vgaroms/vgabios.bin".to_owned(), rom.clone()));
        let files = rom.chain(firmware::fw_cfg_files(tables)).collect();
        FwCfgConfig { files, ..FwCfgConfig::default() }
    }

    /// The disks at their places, the floppies, and the CD-ROM, which has the third disk's place: with it a
    /// third disk has the fourth.
    fn fit_media(&mut self, overlays: &mut Option<Vec<Overlay>>) -> FittedMedia {
        let disks = fit(std::mem::take(&mut self.disks), overlays);
        let floppies = fit(std::mem::take(&mut self.floppies), overlays);
        let Some(cdrom) = self.cdrom.take() else { return (disks, floppies, None) };
        let [first, second, third, _] = disks;
        ([first, second, None, third], floppies, Some(cdrom.open()))
    }
}

/// Disks, floppies and CD-ROM as a board takes them.
type FittedMedia = ([Option<Box<dyn Disk>>; 4], [Option<Box<dyn Disk>>; 2], Option<Box<dyn Disk>>);

/// The media of `drives`, each under an [`Overlay`] if those are collected.
fn fit<const N: usize>(
    drives: Vec<Drive>,
    overlays: &mut Option<Vec<Overlay>>,
) -> [Option<Box<dyn Disk>>; N] {
    let mut slots = [const { None }; N];
    for (slot, drive) in slots.iter_mut().zip(drives) {
        let disk = drive.open();
        *slot = Some(match overlays {
            Some(overlays) => {
                let overlay = Overlay::new(disk);
                overlays.push(overlay.clone());
                Box::new(overlay)
            }
            None => disk,
        });
    }
    slots
}

impl Drive {
    /// A drive with a copy of `bytes` in it, which is called `path` in messages.
    pub fn in_memory(path: &Path, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), medium: Medium::Memory(bytes.to_vec()), snapshot: false }
    }

    /// The files that the image names, as a note for the user, if it names any.
    pub fn stands_on(&self) -> Option<String> {
        let Medium::Image(image) = &self.medium else { return None };
        let others: Vec<_> = image.files.iter().skip(1).map(|path| path.display().to_string()).collect();
        (!others.is_empty()).then(|| format!("{} also reads {}", self.path.display(), others.join(", ")))
    }

    /// The drive's content as a disk.
    fn open(self) -> Box<dyn Disk> {
        let disk = match self.medium {
            Medium::Memory(bytes) => Box::new(MemoryDisk::new(bytes)),
            Medium::Image(image) => image.disk,
        };
        if self.snapshot { Box::new(Snapshot::new(disk)) } else { disk }
    }
}

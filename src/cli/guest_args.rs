//! [`GuestArgs`]: the options that every command with a guest takes. The guest, its machine, how far it runs, what is
//! typed, and the monitor.

use super::args::{self, ImageArg};
use super::keys::{self, KeyStep};
use super::monitor::MonitorArgs;
use super::symbol_file::{self, SymbolFile};
use crate::cell::Cell;
use crate::cpu::Model;
use crate::error::Error;
use crate::load::{Format, Mode};
use crate::vmm;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser};
use std::path::{Path, PathBuf};

/// The guest, its machine, its input and its monitor.
#[derive(Args, Clone, Debug)]
pub struct GuestArgs {
    /// A built-in guest's name, or a file: a flat binary, an ELF or Multiboot kernel, a disk, floppy or CD image
    pub guest: Option<PathBuf>,

    /// Command line of a Multiboot kernel (after its name) or of a Linux kernel
    #[arg(long, value_name = "STRING", allow_hyphen_values = true, help_heading = "Guest")]
    pub append: Option<String>,
    /// Initial RAM disk of a Linux kernel
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub initrd: Option<PathBuf>,
    /// Boot module of a Multiboot kernel, with its arguments after a comma (repeatable)
    #[arg(long, value_name = "FILE[,ARGS]", help_heading = "Guest")]
    pub module: Vec<String>,
    /// Start the guest in just the state that its boot protocol promises, without what boot loaders leave
    /// beyond that: a GDT in memory, an initialised FPU
    #[arg(long, help_heading = "Guest")]
    pub strict: bool,
    /// What the guest file is
    #[arg(long, value_enum, default_value_t = Format::Auto, help_heading = "Guest")]
    pub format: Format,
    /// Where a flat binary is loaded and started [default: 0x100000, in real mode 0x7c00]
    #[arg(long, value_name = "ADDR", value_parser = args::address, help_heading = "Guest")]
    pub load_at: Option<u32>,
    /// Mode in which a flat binary starts [default: flat]
    #[arg(long, value_enum, help_heading = "Guest")]
    pub mode: Option<Mode>,

    /// Processor model; under hvm also that of the machine below, which needs VMX [default: pentium-ii, and
    /// below hvm yonah or for nested paging yonah-ept]
    #[arg(long, value_enum, help_heading = "Machine")]
    pub cpu: Option<Model>,
    /// Size of memory: 64K to 3G
    #[arg(long, value_name = "SIZE", value_parser = args::memory, default_value = "32M", help_heading = "Machine")]
    pub mem: u32,
    /// Hard disk image (up to 4, in order): raw or qcow2; with --snapshot also VHD or VMDK
    #[arg(long, value_name = "FILE[,format=F]", value_parser = images(), help_heading = "Machine")]
    pub disk: Vec<ImageArg>,
    /// Floppy image (up to 2, in order), in the formats of --disk
    #[arg(long, value_name = "FILE[,format=F]", value_parser = images(), help_heading = "Machine")]
    pub floppy: Vec<ImageArg>,
    /// CD image (ISO 9660, 2048-byte blocks), read only; leaves room for three disks
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub cdrom: Option<PathBuf>,
    /// Keep what the guest writes to disks and floppies in memory, and leave the files as they are
    #[arg(long, help_heading = "Machine")]
    pub snapshot: bool,
    /// Let images and snapshots name files below DIR, besides those in their own folder (repeatable)
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    pub allow_path: Vec<PathBuf>,
    /// System BIOS (for example SeaBIOS's bios.bin) instead of the built-in one
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub bios: Option<PathBuf>,
    /// VGA BIOS
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub vgabios: Option<PathBuf>,
    /// Build the machine without APICs: interrupts come through the two 8259As alone
    #[arg(long, help_heading = "Machine")]
    pub no_apic: bool,
    /// Build the machine without ACPI: no power management, no tables
    #[arg(long, help_heading = "Machine")]
    pub no_acpi: bool,
    /// Send on the serial ports at the divisor's baud rate, as real hardware does, instead of at once
    #[arg(long, help_heading = "Machine")]
    pub uart_pace: bool,
    /// Add the test device of QEMU's PC (pc-testdev): ports E0h-EBh, F1h and 2000h-2017h, memory at FF000000h
    #[arg(long, help_heading = "Machine")]
    pub testdev: bool,
    /// End the run at every reset of a directly loaded kernel, instead of going on by the pointer at 40:67h where
    /// the shutdown code in CMOS (05h, 0Ah) asks for that
    #[arg(long, help_heading = "Machine")]
    pub end_at_reset: bool,
    /// Nominal frequency: instructions per guest second
    #[arg(long, value_name = "N", value_parser = args::hertz, default_value = "100M", help_heading = "Machine")]
    pub hz: u64,
    /// Real-time clock at power-on: seconds since 1970, or a UTC date like 2026-01-31T12:30:00
    #[arg(long, value_name = "DATE", value_parser = args::epoch, default_value = "2000-01-01",
          allow_hyphen_values = true, help_heading = "Machine")]
    pub epoch: i64,

    /// End after N instructions (1_000_000, 10M, 2G)
    #[arg(long, value_name = "N", value_parser = args::count, help_heading = "Run")]
    pub budget: Option<u64>,
    /// End after this much guest time (2s, 300ms, 1m)
    #[arg(long, value_name = "TIME", value_parser = args::micros, help_heading = "Run")]
    pub time: Option<u64>,
    /// End after N instructions and halted ticks together: bounds a run that waits in HLT, too
    #[arg(long, value_name = "N", value_parser = args::count, help_heading = "Run")]
    pub limit: Option<u64>,
    /// Type on the keyboard: `@1.5s:text<Enter>` (at a time), `@+2s:text` (after the step before),
    /// `@"grub>":text` (once the guest shows a text); --help has the syntax
    #[arg(long, value_name = "STRING", value_parser = keys::parse, allow_hyphen_values = true,
          long_help = keys::HELP, help_heading = "Run")]
    pub keys: Vec<Vec<KeyStep>>,

    /// Name addresses by the symbols and source lines of this ELF file, too: the kernel of a disk image.
    /// OFFSET is added to its addresses (repeatable)
    #[arg(long, value_name = "FILE[,OFFSET]", value_parser = symbol_file::parse, allow_hyphen_values = true,
          help_heading = "Guest")]
    pub symbols: Vec<SymbolFile>,

    /// The monitor.
    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// What reads an image's name: one that need not be Unicode.
fn images() -> impl TypedValueParser<Value = ImageArg> {
    OsStringValueParser::new().try_map(args::image)
}

/// A command line with nothing but a guest's options.
#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    guest: GuestArgs,
}

impl GuestArgs {
    /// The options of a command line that has just these `words`.
    ///
    /// # Errors
    /// When the words are no such options.
    pub fn parse_from<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        let words = std::iter::once("subring").chain(words);
        Ok(Alone::try_parse_from(words)?.guest)
    }

    /// The processor model that the guest sees.
    pub fn model(&self) -> Model {
        self.cpu.unwrap_or_default()
    }

    /// The monitor to be put under the guest; none on the bare machine.
    ///
    /// # Errors
    /// [`Error::Usage`] for a combination that means nothing.
    pub fn monitor_config(&self) -> Result<Option<vmm::Config>, Error> {
        let config = self.monitor.config()?.map(|config| vmm::Config { processor: self.cpu, ..config });
        config.iter().try_for_each(vmm::can_run)?;
        Ok(config)
    }

    /// How a monitor for `cell` is to be set up.
    pub fn monitor_for(&self, cell: Cell) -> vmm::Config {
        vmm::Config { processor: self.cpu, ..self.monitor.monitor(cell) }
    }

    /// What the guest is called in a report.
    pub(super) fn name(&self) -> String {
        self.guest.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned()
    }

    /// The guest's name, or that of the medium that it boots from.
    pub(super) fn name_or_medium(&self) -> String {
        let image = self.disk.iter().chain(&self.floppy).map(|image| &image.path);
        let named = self.guest.iter().chain(image).chain(&self.cdrom).chain(&self.bios);
        named.map(|path| path.display().to_string()).next().unwrap_or_default()
    }

    /// The steps of all `--keys`, in order.
    pub(super) fn key_steps(&self) -> Vec<KeyStep> {
        self.keys.concat()
    }

    /// What the user says the guest file is. An option for flat binaries says it, too.
    pub(super) fn format(&self) -> Format {
        match self.format {
            Format::Auto if self.load_at.is_some() || self.mode.is_some() => Format::Flat,
            format => format,
        }
    }
}

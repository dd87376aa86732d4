//! `subring run`: boots a guest and shows its console.

use super::args::{self, ImageArg};
use super::keys::{self, KeyStep};
use super::monitor::MonitorArgs;
use super::session::{self, Build, Drive, End, Gdb, Medium, Pc, Spec, Trace, TraceFilter, Wishes};
use super::snapshot::{self, Media};
use super::source::{Source, open, read_up_to};
use super::tap::Tape;
use super::terminal::{Console, Setup};
use super::{create, dump, out, report, screen, tell};
use crate::bus::Clock;
use crate::cell::Strategy;
use crate::debug;
use crate::device::uart::Transmitter;
use crate::error::{Error, Result};
use crate::load::{self, Around, Format, Guest, Mode, Module, Plan};
use crate::media::{ImageFormat, SECTOR, image};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// 2000-01-01T00:00:00Z.
const DEFAULT_EPOCH: i64 = 946_684_800;
const DEFAULT_MEM: u32 = 32 << 20;
const DEFAULT_HISTORY: u64 = 512 << 20;
/// The largest firmware image.
const MAX_ROM: u64 = 16 << 20;
const MAX_DISKS: usize = 4;
const MAX_FLOPPIES: usize = 2;

/// The options of `subring run`.
#[derive(Args, Clone, Debug)]
#[command(after_help = super::STATUS_HELP)]
pub struct Run {
    /// A built-in guest's name, or a file: a flat binary, an ELF or Multiboot kernel, a disk, floppy or CD image
    #[arg(required_unless_present_any = ["disk", "floppy", "cdrom", "bios", "restore", "list_rules"])]
    pub guest: Option<PathBuf>,

    /// The command line of a Multiboot kernel (after its name) or of a Linux kernel
    #[arg(long, value_name = "STRING", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// The initial RAM disk of a Linux kernel
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// A boot module of a Multiboot kernel, with its arguments after a comma (repeatable)
    #[arg(long, value_name = "FILE[,ARGS]")]
    pub module: Vec<String>,
    /// What the guest file is
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    pub format: FormatArg,
    /// Where a flat binary is loaded and started [default: 0x100000, in real mode 0x7c00]
    #[arg(long, value_name = "ADDR", value_parser = args::address)]
    pub at: Option<u32>,
    /// The mode a flat binary starts in: 16-bit real mode, or flat 32-bit protected mode [default: flat]
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,

    /// Size of memory: 64K to 3G
    #[arg(long, value_name = "SIZE", value_parser = args::memory, default_value = "32M")]
    pub mem: u32,
    /// A hard disk image (up to 4, in order): raw, qcow2, or with --snapshot VHD or VMDK; beside --restore, where a
    /// disk of the saved machine is now
    #[arg(long, value_name = "FILE[,format=F]", value_parser = images())]
    pub disk: Vec<ImageArg>,
    /// A floppy image (up to 2, in order), as --disk has them
    #[arg(long, value_name = "FILE[,format=F]", value_parser = images())]
    pub floppy: Vec<ImageArg>,
    /// A CD image (ISO 9660, 2048-byte blocks), read only; with it there is room for three disks
    #[arg(long, value_name = "FILE")]
    pub cdrom: Option<PathBuf>,
    /// Keep what the guest writes to disks and floppies in memory; the files stay as they are
    #[arg(long)]
    pub snapshot: bool,
    /// The system BIOS (SeaBIOS's bios.bin, say), instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub bios: Option<PathBuf>,
    /// The VGA BIOS
    #[arg(long, value_name = "FILE")]
    pub vgabios: Option<PathBuf>,

    /// Go on from a snapshot (`subring snapshot` makes one); its disk images must be as they were
    #[arg(long, value_name = "FILE", conflicts_with_all = ["guest", "append", "initrd", "module", "format", "at", "mode", "mem", "cdrom", "snapshot", "bios", "vgabios", "hz", "epoch", "no_apic", "no_acpi", "uart_pace"])]
    pub restore: Option<PathBuf>,
    /// Record what the guest gets from the keyboard and the serial line
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Give the guest what was recorded, at the same points of its run, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "budget", "time"])]
    pub replay: Option<PathBuf>,

    /// End after N instructions (1_000_000, 10M, 2G)
    #[arg(long, value_name = "N", value_parser = args::count)]
    pub budget: Option<u64>,
    /// End after this much guest time (2s, 300ms, 1m)
    #[arg(long, value_name = "TIME", value_parser = args::micros)]
    pub time: Option<u64>,
    /// Nominal frequency: instructions per guest second
    #[arg(long, value_name = "N", value_parser = args::hertz, default_value = "100M")]
    pub hz: u64,
    /// The real-time clock at power-on: seconds since 1970, or a UTC date like 2026-01-31T12:30:00
    #[arg(long, value_name = "DATE", value_parser = args::epoch, default_value = "2000-01-01", allow_hyphen_values = true)]
    pub epoch: i64,
    /// A machine without APIC: the interrupts come through the two 8259A alone
    #[arg(long)]
    pub no_apic: bool,
    /// A machine without ACPI: no power management, no tables
    #[arg(long)]
    pub no_acpi: bool,
    /// Send on the serial ports at the divisor's baud rate, as real hardware does; by default a byte is gone at once
    #[arg(long)]
    pub uart_pace: bool,

    /// Type on the keyboard: steps `@1.5s:text<Enter>` (at a time), `@+2s:text` (after the step before),
    /// `@"grub>":text` (once the screen shows a text)
    #[arg(long, value_name = "STRING", value_parser = keys::parse, allow_hyphen_values = true, long_help = keys::HELP)]
    pub keys: Vec<Vec<KeyStep>>,
    /// Show the VGA text screen live in the terminal; stdin then is the keyboard, not the serial port
    #[arg(long, value_enum, default_value_t = Display::None)]
    pub display: Display,
    /// Print the VGA text screen at the end
    #[arg(long)]
    pub dump_screen: bool,
    /// Where port 0xE9 (the debug console) goes; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub debugcon: Option<PathBuf>,
    /// Where port 0x402 (SeaBIOS's log) goes; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub bioscon: Option<PathBuf>,

    /// Trace events to standard error: a comma-separated list of insn, fault, int, port, mem; under a monitor also exit
    #[arg(long, value_name = "FILTER", value_parser = trace_filter)]
    pub trace: Option<TraceFilter>,
    /// Trace to a file instead
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub trace_file: Option<PathBuf>,
    /// Wait for gdb on this port of 127.0.0.1 (`target remote :PORT`) before the first instruction; 0 is any free
    /// one
    #[arg(long, value_name = "PORT", conflicts_with_all = ["record", "replay"])]
    pub gdb: Option<u16>,
    /// Memory for gdb's way back in time (`reverse-continue`): its snapshots take so much at most; 0 switches it off
    /// [default: 512M, and twice --mem at least]
    #[arg(long, value_name = "SIZE", value_parser = args::size, requires = "gdb")]
    pub gdb_history: Option<u64>,
    /// Who stands between the guest and the processor.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Print what the run counted, on standard error
    #[arg(long)]
    pub stats: bool,
    /// Print one JSON object about the run, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the processor's state at the end as JSON: registers, segments with their hidden parts, tables, x87;
    /// `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub dump_state: Option<PathBuf>,
    /// Write LEN bytes of physical memory from START at the end: `0x100000:64K=FILE` (repeatable)
    #[arg(long, value_name = "START:LEN=FILE", value_parser = dump::range)]
    pub dump_memory: Vec<dump::Range>,

    /// Leave stdin alone.
    #[arg(skip)]
    pub no_input: bool,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Find out from the file
    Auto,
    /// Bytes without a header
    Flat,
    /// An ELF executable, started as it is
    Elf,
    /// A Multiboot 1 kernel
    Multiboot,
    /// A raw hard disk image
    Disk,
    /// A raw floppy image
    Floppy,
    /// A CD image
    Cdrom,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// 16-bit real mode
    Real,
    /// 32-bit protected mode with flat segments
    Flat,
}

/// `--display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// No screen
    None,
    /// The VGA text screen
    Vga,
}

/// What reads an image's name: one that need not be Unicode.
fn images() -> impl TypedValueParser<Value = ImageArg> {
    OsStringValueParser::new().try_map(args::image)
}

fn trace_filter(text: &str) -> std::result::Result<TraceFilter, String> {
    let one = |name: &str| match name.trim() {
        "insn" => Ok(TraceFilter::INSN),
        "fault" => Ok(TraceFilter::FAULT),
        "int" => Ok(TraceFilter::INT),
        "port" => Ok(TraceFilter::PORT),
        "mem" => Ok(TraceFilter::MEM),
        "exit" => Ok(TraceFilter::EXIT),
        other => Err(format!("`{other}` is none of insn, fault, int, port, mem, exit")),
    };
    text.split(',').try_fold(TraceFilter::empty(), |all, name| Ok(all | one(name)?))
}

impl Run {
    /// The options that run a built-in guest as it comes, without input.
    pub fn builtin(name: &str) -> Self {
        Self {
            guest: Some(name.into()),
            append: None,
            initrd: None,
            module: Vec::new(),
            format: FormatArg::Auto,
            at: None,
            mode: None,
            mem: DEFAULT_MEM,
            disk: Vec::new(),
            floppy: Vec::new(),
            cdrom: None,
            snapshot: false,
            bios: None,
            vgabios: None,
            restore: None,
            record: None,
            replay: None,
            budget: None,
            time: None,
            hz: Clock::DEFAULT_HZ,
            epoch: DEFAULT_EPOCH,
            no_apic: false,
            no_acpi: false,
            uart_pace: false,
            keys: Vec::new(),
            display: Display::None,
            dump_screen: false,
            debugcon: None,
            bioscon: None,
            trace: None,
            trace_file: None,
            gdb: None,
            monitor: MonitorArgs::default(),
            gdb_history: None,
            stats: false,
            json: false,
            dump_state: None,
            dump_memory: Vec::new(),
            no_input: true,
        }
    }

    /// The command: runs, and reports as asked. Gives the program's exit status.
    pub(super) fn run(&self, build: &Build) -> Result<u8> {
        let end = self.drive(build)?;
        let status = end.ending.status();
        if end.ending == session::Ending::OutputClosed {
            return Ok(status);
        }
        if self.json {
            out((report::json(&self.name(), &end) + "\n").as_bytes())?;
            return Ok(status);
        }
        if self.display == Display::Vga {
            out(&end.serial)?;
        }
        if (self.dump_screen || self.display == Display::Vga)
            && let Some(text) = &end.screen
        {
            out(screen::dump(text).as_bytes())?;
        }
        tell(&format!("subring: {}\n", report::line(&end)));
        if let Some(report) = &end.post_mortem {
            tell(&debug::explain(report));
        }
        let comparable = self.restore.is_none() && self.replay.is_none();
        if comparable
            && end.ending.is_doubtful()
            && let Some(hint) = self.monitor.hint(&self.name())
        {
            tell(&format!("subring: note: {hint}\n"));
        }
        if self.stats {
            tell(&report::table(&end));
        }
        Ok(status)
    }

    /// Builds the machine and drives it to its end.
    pub(super) fn drive(&self, build: &Build) -> Result<End> {
        self.drive_then(build, |_, _, _| Ok(()))
    }

    /// The same, with something to be done with the machine at its end.
    pub(super) fn drive_then(
        &self,
        build: &Build,
        then: impl FnOnce(&mut dyn Pc, &End, &Media) -> Result<()>,
    ) -> Result<End> {
        self.check()?;
        let (spec, notes) = self.spec()?;
        if !self.json {
            super::tell_notes(&notes);
        }
        let dumps = dump::Files::create(self.dump_state.as_deref(), &self.dump_memory)?;
        let media = Media::of(&spec)?;
        let tape = Tape::open(self.record.as_deref(), self.replay.as_deref(), &spec)?;
        let mut pc = build(spec)?;
        let tape = tape.begin()?;
        let mut console = Console::open_with(self.setup()?)?;
        let wishes = Wishes {
            budget: self.budget,
            time: self.time,
            keys: self.keys.concat(),
            record: false,
            journal: tape.journal(),
            replay: tape.replay(),
        };
        let mut end = session::drive(&mut *pc, &mut console, &wishes)?;
        end.notes = notes;
        dumps.write(&*pc)?;
        tape.close(&*pc, &end)?;
        then(&mut *pc, &end, &media)?;
        Ok(end)
    }

    /// What the bare machine is built from where guests run unseen, and what there is to say of it: nothing is read from the console, and
    /// nothing is written to an image, which another run must find as it is.
    pub(super) fn unseen_spec(&self) -> Result<(Spec, Vec<String>)> {
        Self { snapshot: true, no_input: true, monitor: MonitorArgs::default(), ..self.clone() }.spec()
    }

    /// What the machine is built from, and what there is to say of it.
    pub(super) fn spec(&self) -> Result<(Spec, Vec<String>)> {
        if let Some(path) = &self.restore {
            let trace = self.trace.map(|what| self.trace_to(what)).transpose()?;
            let spec = snapshot::spec(path, &self.disk, &self.floppy, self.snapshot)?;
            let (gdb, monitor) = (self.gdb(spec.mem)?, self.monitor.config()?);
            return Ok((Spec { trace, gdb, monitor, ..spec }, Vec::new()));
        }
        let source = self.source()?;
        let plan = self.plan(source.as_ref())?;
        let spec = self.spec_of(plan, source.as_ref())?;
        let notes = spec.plan.notes.clone();
        Ok((spec, notes))
    }

    /// What gdb is offered, for a machine with so much memory.
    fn gdb(&self, mem: u32) -> Result<Option<Gdb>> {
        if self.monitor.strategy() != Strategy::Bare {
            return match (self.gdb, self.gdb_history) {
                (_, Some(1..)) => Err(Error::Usage(
                    "--gdb-history is for the bare machine: under a monitor gdb cannot go back in time yet"
                        .into(),
                )),
                (gdb, _) => Ok(gdb.map(|port| Gdb { port, history: 0 })),
            };
        }
        let mem = u64::from(mem);
        let history = self.gdb_history.unwrap_or(DEFAULT_HISTORY.max(2 * mem));
        if history != 0 && history < mem {
            return Err(Error::Usage(format!(
                "--gdb-history must hold the guest's memory at least once: give {} MiB or more, or 0 for no history",
                mem.div_ceil(1 << 20)
            )));
        }
        Ok(self.gdb.map(|port| Gdb { port, history }))
    }

    /// What the guest is called in a report.
    pub(super) fn name(&self) -> String {
        self.guest
            .as_deref()
            .or(self.restore.as_deref())
            .unwrap_or(Path::new(""))
            .to_string_lossy()
            .into_owned()
    }

    /// Combinations of options that mean nothing.
    fn check(&self) -> Result<()> {
        let usage = |text: &str| Err(Error::Usage(text.into()));
        let exits = self.trace.is_some_and(|what| what.contains(TraceFilter::EXIT));
        if exits && self.monitor.strategy() == Strategy::Bare {
            return usage(
                "--trace exit shows exits to a monitor, and the bare machine has none: give --strategy trap or bt",
            );
        }
        if self.display == Display::Vga && !std::io::stdout().is_terminal() {
            return usage(
                "--display vga needs standard output to be a terminal: --dump-screen prints the screen at the end",
            );
        }
        if self.display == Display::Vga && self.json {
            return usage("--display vga and --json both want standard output: give one of them");
        }
        let to_stdout = |to: &Option<PathBuf>| to.as_deref() == Some(Path::new("-"));
        if self.json && to_stdout(&self.debugcon) {
            return usage("--debugcon - and --json both want standard output: give a file to --debugcon");
        }
        if self.json && to_stdout(&self.dump_state) {
            return usage("--dump-state - and --json both want standard output: give a file to --dump-state");
        }
        if self.json && to_stdout(&self.bioscon) {
            return usage("--bioscon - and --json both want standard output: give a file to --bioscon");
        }
        Ok(())
    }

    fn plan(&self, source: Option<&Source>) -> Result<Plan> {
        let Some(source) = source else {
            if self.append.is_some()
                || self.initrd.is_some()
                || !self.module.is_empty()
                || self.at.is_some()
                || self.mode.is_some()
            {
                return Err(Error::Usage(
                    "--append, --initrd, --module, --at and --mode need a GUEST that is a kernel".into(),
                ));
            }
            return Ok(Plan::firmware());
        };
        let around = Around {
            mem: self.mem,
            cmdline: self.append.clone().or_else(|| source.builtin?.cmdline.map(str::to_owned)),
            initrd: self.initrd.as_deref().map(|path| self.read_for_memory(path)).transpose()?,
            modules: self.module.iter().map(|m| self.module_of(m)).collect::<Result<_>>()?,
            at: self.at,
            mode: self.mode.map(|m| if m == ModeArg::Real { Mode::Real } else { Mode::Flat }),
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
        let (mut opened, size) = open(path)?;
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
        let vga_bios = self.vgabios.as_deref().map(rom).transpose()?;
        if vga_bios.as_ref().is_some_and(|rom| !rom.starts_with(&[0x55, 0xaa])) {
            plan.notes.push(
                "the VGA BIOS does not begin as an option ROM (55 AA): no firmware will start it".into(),
            );
        }
        Ok(Spec {
            mem: self.mem,
            hz: self.hz,
            epoch: self.epoch,
            apic: !self.no_apic,
            acpi: !self.no_acpi,
            transmitter: if self.uart_pace { Transmitter::Paced } else { Transmitter::Immediate },
            bios: self.bios.as_deref().map(rom).transpose()?,
            vga_bios,
            disks,
            floppies,
            cdrom,
            cdrom_first: source.is_some_and(|s| s.kind == Guest::Cdrom),
            trace: self.trace.map(|what| self.trace_to(what)).transpose()?,
            gdb: self.gdb(self.mem)?,
            monitor: self.monitor.config()?,
            plan,
            restore: None,
        })
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
                    // Who names the kind of the guest means a raw image; otherwise its format is found.
                    let format = (self.format() != Format::Auto).then_some(ImageFormat::Raw);
                    self.drive_of(&s.path, format, &check, self.snapshot)?
                }
            });
        }
        for image in images {
            drives.push(self.drive_of(&image.path, image.format, &check, self.snapshot)?);
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
        path.map(|path| self.drive_of(path, Some(ImageFormat::Raw), load::disk::check_cdrom, true))
            .transpose()
    }

    /// Opens an image. What is written to a `snapshot` stays in memory.
    fn drive_of(
        &self,
        path: &Path,
        format: Option<ImageFormat>,
        check: impl Fn(&Path, u64) -> Result<()>,
        snapshot: bool,
    ) -> Result<Drive> {
        let image = image::open(path, format, !snapshot)?;
        let size = match image.format {
            // A raw file that ends within a sector is seen only by its length.
            ImageFormat::Raw => open(path)?.1,
            _ => image.disk.sectors() * SECTOR as u64,
        };
        check(path, size)?;
        Ok(Drive { path: path.to_owned(), medium: Medium::Image(image), snapshot })
    }

    fn trace_to(&self, what: TraceFilter) -> Result<Trace> {
        let to: Box<dyn Write> = match &self.trace_file {
            Some(path) => Box::new(BufWriter::new(create(path)?)),
            None => Box::new(BufWriter::new(std::io::stderr())),
        };
        Ok(Trace { what, to })
    }

    fn setup(&self) -> Result<Setup> {
        let live = self.display == Display::Vga;
        Ok(Setup {
            input: !(self.no_input || self.replay.is_some() || self.json && std::io::stdin().is_terminal()),
            stream: !self.json && !live,
            keep: self.json || live,
            live,
            debugcon: self.debugcon.as_deref().map(sink).transpose()?,
            bioscon: self.bioscon.as_deref().map(sink).transpose()?,
        })
    }
}

/// Where a debug console goes: a file, or standard output for `-`.
fn sink(path: &Path) -> Result<Box<dyn Write>> {
    if path == Path::new("-") { Ok(Box::new(std::io::stdout())) } else { Ok(Box::new(create(path)?)) }
}

/// A firmware image.
fn rom(path: &Path) -> Result<Vec<u8>> {
    let (mut file, size) = open(path)?;
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

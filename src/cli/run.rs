//! `subring run`: boots a guest and shows its console.

use super::emulator::{Emulator, Gdb};
use super::ending::{End, Ending};
use super::guest_args::GuestArgs;
use super::output::{out, tell, tell_notes};
use super::record_file::RecordFile;
use super::restore::RestoreArgs;
use super::terminal::{Console, Setup};
use super::trace::{self, Prices, Trace, TraceFilter};
use super::{args, dump, report, screen, session, stop_on};
use crate::cell::Strategy;
use crate::debug;
use crate::error::{Error, Result};
use crate::host::stream;
use crate::load::Spec;
use crate::machine::EventStop;
use crate::symbols::Symbols;
use crate::vmm::cost::{Costs, Generation};
use clap::{Args, ValueEnum};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

const DEFAULT_HISTORY: u64 = 512 << 20;

/// The options of `subring run`.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("load_at", |arg| arg.alias("at")), after_help = super::status::HELP)]
pub struct Run {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    start: RestoreArgs,

    /// Record what the guest gets from the keyboard and the serial line
    #[arg(long, value_name = "FILE", conflicts_with = "replay", help_heading = "Run")]
    record: Option<PathBuf>,
    /// Replay a recording: the guest gets its input at the same points of its run, and no other
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "budget", "time", "limit"], help_heading = "Run")]
    replay: Option<PathBuf>,

    /// Show the VGA text screen live in the terminal; stdin then is the keyboard, not the serial port
    #[arg(long, value_enum, default_value_t = Display::None, help_heading = "Output")]
    display: Display,
    /// Print the VGA text screen at the end
    #[arg(long, help_heading = "Output")]
    dump_screen: bool,
    /// Where the debug console (port 0xE9) goes; `-` is standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    debugcon: Option<PathBuf>,
    /// Where SeaBIOS's log (port 0x402) goes; `-` is standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    bioscon: Option<PathBuf>,
    /// Print what the run counted, on standard error
    #[arg(long, help_heading = "Output")]
    stats: bool,
    /// Price VM exits under hvm as this generation of processors takes them, in the modelled cycles of --stats,
    /// --json and --trace exit [default: prescott]
    #[arg(long, value_enum, help_heading = "Output")]
    generation: Option<Generation>,
    /// Print one JSON object about the run, and nothing else, on standard output
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write the processor's state at the end as JSON: registers, segments with their hidden parts, tables, x87;
    /// `-` is standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    dump_state: Option<PathBuf>,
    /// Write LEN bytes of physical memory from START at the end: `0x100000:64K=FILE` (repeatable)
    #[arg(long, value_name = "START:LEN=FILE", value_parser = dump::range, help_heading = "Output")]
    dump_memory: Vec<dump::Range>,

    /// Trace events to standard error: a comma-separated list of insn, fault, int, port, mem; under a monitor, or
    /// with a hypervisor as the guest, also exit
    #[arg(long, value_name = "FILTER", value_parser = trace::filter, help_heading = "Debugging")]
    trace: Option<TraceFilter>,
    /// Trace to a file instead
    #[arg(long, value_name = "FILE", requires = "trace", help_heading = "Debugging")]
    trace_file: Option<PathBuf>,
    /// Trace only what the instructions at these addresses do: START-END or a symbol (`0x100000-0x100fff`,
    /// `main-main+64`, `main`)
    #[arg(long, value_name = "RANGE", requires = "trace", help_heading = "Debugging")]
    trace_range: Option<String>,
    /// Trace only the last N events, written at the end
    #[arg(long, value_name = "N", value_parser = args::count, requires = "trace", help_heading = "Debugging")]
    trace_last: Option<u64>,
    /// End before an event and say what led there: fault:NAME (fault:GP), fault:VECTOR or int:VECTOR, a
    /// hardware interrupt (repeatable)
    #[arg(long, value_name = "EVENT", value_parser = stop_on::parse, conflicts_with_all = ["gdb", "record"],
          help_heading = "Debugging")]
    stop_on: Vec<EventStop>,
    /// Print the post-mortem however the run ends; by default only if the guest died
    #[arg(long, help_heading = "Debugging")]
    post_mortem: bool,
    /// Wait for gdb on this port of 127.0.0.1 (`target remote :PORT`) before the first instruction; 0 is any free
    /// port
    #[arg(long, value_name = "PORT", help_heading = "Debugging")]
    gdb: Option<u16>,
    /// Memory for gdb's way back in time (`reverse-continue`); 0 switches it off
    /// [default: 512M, and twice --mem at least]
    #[arg(long, value_name = "SIZE", value_parser = args::size, requires = "gdb", help_heading = "Debugging")]
    gdb_history: Option<u64>,
}

/// `--display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// No screen
    None,
    /// The VGA text screen
    Vga,
}

impl Run {
    /// Whether the rewriting rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        let end = self.drive()?;
        let status = end.ending.status();
        if end.ending == Ending::OutputClosed {
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
        if let Some(reminder) = self.guest.monitor.reminder() {
            tell(&format!("subring: note: {reminder}\n"));
        }
        if self.stats {
            tell(&report::table(&end));
        }
        Ok(status)
    }

    /// Says before a run that its strategy goes wrong, where `compare` can show how.
    fn warn(&self) {
        let comparable = self.start.restore.is_none() && self.replay.is_none();
        if comparable && let Some(warning) = self.guest.monitor.warning(&self.name()) {
            tell(&format!("subring: note: {warning}\n"));
        }
    }

    /// Builds the machine and drives it to its end.
    fn drive(&self) -> Result<End> {
        self.check()?;
        let spec = self.spec()?;
        let mut notes = spec.plan.notes.clone();
        notes.extend(dump::beyond_ram(&self.dump_memory, spec.mem));
        if !self.json {
            tell_notes(&notes);
        }
        let dumps = dump::Files::create(self.dump_state.as_deref(), &self.dump_memory)?;
        let recording = RecordFile::open(self.record.as_deref(), self.replay.as_deref(), &spec)?;
        let trace = self.trace.map(|what| self.trace_to(what, &spec)).transpose()?;
        let gdb = self.gdb(spec.mem)?;
        let mut pc = Emulator::new(spec, trace, gdb)?;
        pc.costs = self.costs();
        if !self.json {
            self.warn();
        }
        self.stop_on.iter().for_each(|stop| pc.machine.stops.add_event(*stop));
        let recording = recording.begin()?;
        let mut console = Console::open_with(self.setup()?)?;
        let options = session::Options {
            post_mortem: self.post_mortem,
            journal: recording.journal(),
            replay: recording.replay(),
            progress: self.display == Display::None && self.trace_file.is_none() && self.trace.is_none(),
            ..self.guest.session()
        };
        let mut end = session::drive(&mut pc, &mut console, &options)?;
        end.notes.extend(pc.loader_note());
        dumps.write(&pc)?;
        if !self.json {
            tell_notes(&end.notes);
        }
        end.notes.splice(0..0, notes);
        recording.close(&pc, &end)?;
        Ok(end)
    }

    /// What the machine is built from.
    fn spec(&self) -> Result<Spec> {
        Ok(Spec { monitor: self.guest.monitor_config()?, ..self.start.spec(&self.guest)? })
    }

    /// What gdb is offered, for a machine with so much memory.
    fn gdb(&self, mem: u32) -> Result<Option<Gdb>> {
        if self.guest.monitor.strategy() != Strategy::Bare {
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
    fn name(&self) -> String {
        self.start.name(&self.guest)
    }

    /// Combinations of options that mean nothing.
    fn check(&self) -> Result<()> {
        let usage = |text: &str| Err(Error::Usage(text.into()));
        let exits = self.trace.is_some_and(|what| what.contains(TraceFilter::EXIT));
        let hypervisors = self.guest.model().vmx().is_some();
        if exits && self.guest.monitor.strategy() == Strategy::Bare && !hypervisors {
            return usage(
                "--trace exit shows exits to a monitor, and the bare machine has none: give --strategy trap, bt or \
                 hvm, or for a guest with a hypervisor of its own --cpu yonah",
            );
        }
        let strategy = self.guest.monitor.strategy();
        if self.generation.is_some() && strategy != Strategy::Hvm {
            return Err(Error::Usage(format!(
                "--generation prices the VM exits of hvm, and --strategy {strategy} has none: give --strategy hvm, or leave \
                 it out"
            )));
        }
        if self.gdb.is_some() && (self.record.is_some() || self.replay.is_some()) {
            return usage(
                "--gdb can go back in time and change the machine, which no recording could follow: leave --record or \
                 --replay out",
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

    /// What a monitor's exits cost.
    fn costs(&self) -> Costs {
        Costs::default().of_generation(self.generation.unwrap_or_default())
    }

    fn trace_to(&self, what: TraceFilter, spec: &Spec) -> Result<Trace> {
        let symbols = Symbols::new(spec.plan.symbols.clone());
        let range = self.trace_range.as_deref().map(|text| {
            symbols.range(text).map_err(|why| Error::Usage(format!("--trace-range {text}: {why}")))
        });
        let range = range.transpose()?;
        let last = self.trace_last.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let to: Box<dyn Write> = match &self.trace_file {
            Some(path) => Box::new(BufWriter::new(stream(path)?)),
            None => Box::new(BufWriter::new(std::io::stderr())),
        };
        let hvm = self.guest.monitor.strategy() == Strategy::Hvm;
        Ok(Trace { what, to, range, last, prices: Prices { costs: self.costs(), hvm } })
    }

    fn setup(&self) -> Result<Setup> {
        let live = self.display == Display::Vga;
        Ok(Setup {
            input: !(self.replay.is_some() || self.json && std::io::stdin().is_terminal()),
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
    if path == Path::new("-") { Ok(Box::new(std::io::stdout())) } else { Ok(Box::new(stream(path)?)) }
}

//! `--trace`: which events are traced, and each as a line of text.

use crate::clock::When;
use crate::debug::source::{Place, Source};
use crate::decode::disassemble;
use crate::error::{Error, Result};
use crate::event::{Event, Sink};
use crate::load::{Symbol, symbol_at};
use crate::report::Cause;
use crate::vmm::cost::Costs;
use bitflags::bitflags;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

/// Where a trace goes.
pub struct Trace {
    /// Which events.
    pub what: TraceFilter,
    /// One line per event.
    pub to: Box<dyn Write>,
}

bitflags! {
    /// Events that can be traced.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TraceFilter: u8 {
        /// Instructions.
        const INSN = 1;
        /// Faults.
        const FAULT = 2;
        /// Interrupts.
        const INT = 4;
        /// Port accesses.
        const PORT = 8;
        /// Memory accesses.
        const MEM = 16;
        /// Exits to a monitor.
        const EXIT = 32;
    }
}

/// A comma-separated list of events.
///
/// # Errors
/// A sentence.
pub fn filter(text: &str) -> std::result::Result<TraceFilter, String> {
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

/// Writes one line per event.
pub struct TraceWriter {
    to: io::BufWriter<Box<dyn Write>>,
    line: String,
    /// Where source lines are looked up, and the last one.
    source: Option<Rc<Source>>,
    place: Option<Place>,
    /// The kernel's names, for exits, and what those cost.
    symbols: Vec<Symbol>,
    costs: Costs,
    /// What went wrong first; nothing is written after it.
    failed: Option<io::Error>,
}

impl TraceWriter {
    /// A writer to `to`. With `source`, an instruction that is of another source line than the one before names it.
    /// `symbols` are named where a monitor is entered.
    pub fn new(to: Box<dyn Write>, source: Option<Rc<Source>>, symbols: Vec<Symbol>) -> Self {
        let to = io::BufWriter::new(to);
        let costs = Costs::default();
        Self { to, line: String::new(), source, place: None, symbols, costs, failed: None }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// What went wrong while the trace was written, now or before. A closed pipe is no error.
    pub fn finish(&mut self) -> Result<()> {
        let flushed = self.to.flush();
        match self.failed.take().or(flushed.err()) {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::Host { action: "write the trace", source: e })
            }
            _ => Ok(()),
        }
    }

    /// Adds the source line of an instruction. Kernels with debug information have segments with base 0.
    fn name_place(&mut self, event: &Event<'_>) {
        let (Some(source), Event::Insn { eip, code32: true, .. }) = (&self.source, event) else { return };
        let place = source.place(*eip);
        if place != self.place
            && let Some(place) = &place
        {
            self.line.truncate(self.line.trim_end().len());
            let text = source.text(place).unwrap_or_default();
            let named = format!("{:<72}  ; {place}  {}", self.line, text.trim());
            self.line = named.trim_end().to_owned() + "\n";
        }
        self.place = place;
    }

    /// Adds what an exit costs, and the kernel's name for where it came from.
    fn name_exit(&mut self, event: &Event<'_>) {
        let Event::Exit { cause, eip, .. } = event else { return };
        let cost = Cause::ALL.iter().find(|c| c.name() == *cause).map_or(0, |c| self.costs.of(*c));
        self.line.truncate(self.line.trim_end().len());
        let symbol = symbol_at(&self.symbols, *eip).unwrap_or_default();
        let named = format!("{:<46} {cost:>5} cycles  {symbol}", self.line);
        self.line = named.trim_end().to_owned() + "\n";
    }

    fn put(&mut self) {
        if self.failed.is_none()
            && let Err(e) = self.to.write_all(self.line.as_bytes())
        {
            self.failed = Some(e);
        }
    }
}

impl Sink for Rc<RefCell<TraceWriter>> {
    fn record(&mut self, when: When, event: &Event<'_>) {
        if matches!(event, Event::Insn { within: true, .. }) {
            // It has its line: how a run is cut into pieces, and by whom, is not to show.
            return;
        }
        let mut writer = self.borrow_mut();
        writer.line.clear();
        // Writing to a string cannot fail.
        let _ = describe(&mut writer.line, when, event);
        writer.name_place(event);
        writer.name_exit(event);
        writer.put();
    }
}

/// One line: how many instructions had retired, and the event. An interrupt also has its tick, where halted time has
/// made the two counts differ.
fn describe(line: &mut String, when: When, event: &Event<'_>) -> std::fmt::Result {
    write!(line, "{:>12} ", when.instructions)?;
    match *event {
        Event::Insn { cs, eip, bytes, code32, .. } => {
            let text = if bytes.is_empty() { "(not mapped)".into() } else { disassemble(bytes, code32, eip) };
            writeln!(line, "insn  {cs:04x}:{eip:08x}  {text}")
        }
        Event::Fault { vector, code, address, cs, eip } => {
            write!(line, "fault {cs:04x}:{eip:08x}  {}", crate::cpu::fault::vector_name(vector))?;
            if let Some(code) = code {
                write!(line, " code {code:04x}")?;
            }
            if let Some(at) = address {
                write!(line, " at {at:08x}")?;
            }
            writeln!(line)
        }
        Event::Interrupt { vector, cs, eip } => {
            write!(line, "int   {cs:04x}:{eip:08x}  vector {vector:02x}")?;
            if when.ticks != when.instructions {
                write!(line, "  tick {}", when.ticks)?;
            }
            writeln!(line)
        }
        Event::Exit { cause, cs, eip } => writeln!(line, "exit  {cs:04x}:{eip:08x}  {cause}"),
        Event::Port { port, width, value, write } => {
            let (arrow, digits) = (if write { "<-" } else { "->" }, 2 * width as usize);
            writeln!(line, "port  {port:04x} {arrow} {value:0digits$x}")
        }
        Event::Memory { at, phys, width, value, write } => {
            let (arrow, digits) = (if write { "<-" } else { "->" }, 2 * width as usize);
            writeln!(line, "mem   {:08x} ({:08x}) {arrow} {value:0digits$x}", at.0, phys.0)
        }
    }
}

//! `--trace`: which events are traced, and each as a line of text.

use crate::clock::When;
use crate::debug::source::{Place, Source};
use crate::decode::disassemble;
use crate::error::{Error, Result};
use crate::event::{Event, Sink};
use crate::report::Cause;
use crate::symbols::Symbols;
use crate::vmm::cost::Costs;
use bitflags::bitflags;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Where a trace goes.
pub struct Trace {
    /// Which events.
    pub what: TraceFilter,
    /// One line per event.
    pub to: Box<dyn Write>,
    /// Only instructions at these linear addresses, and what they do.
    pub range: Option<RangeInclusive<u32>>,
    /// Only so many events, the last ones, written at the end.
    pub last: Option<usize>,
    /// What exits cost.
    pub prices: Prices,
}

/// The price of each exit of a trace.
#[derive(Clone, Debug)]
pub struct Prices {
    /// All costs.
    pub costs: Costs,
    /// Exits are VM exits, those for page faults, too.
    pub hvm: bool,
}

impl Prices {
    fn of(&self, cause: Cause) -> u64 {
        if self.hvm { self.costs.of_vm_exit(cause) } else { self.costs.of(cause) }
    }
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
    what: TraceFilter,
    range: Option<RangeInclusive<u32>>,
    /// The linear address of the instruction that was reported last, and its EIP.
    at: (u32, u32),
    /// The last events, the oldest first, if only these are written; and how many.
    ring: VecDeque<String>,
    last: Option<usize>,
    /// Where source lines are looked up, and the last one.
    source: Option<Rc<Source>>,
    place: Option<Place>,
    /// The kernel's names, for exits, and what those cost.
    symbols: Symbols,
    prices: Prices,
    /// What went wrong first; nothing is written after it.
    failed: Option<io::Error>,
}

impl TraceWriter {
    /// A writer of `trace`. With `source`, an instruction that is of another source line than the one before
    /// names it. `symbols` are named where a monitor is entered.
    pub fn new(trace: Trace, source: Option<Rc<Source>>, symbols: Symbols) -> Self {
        let Trace { what, to, range, last, prices } = trace;
        let to = io::BufWriter::new(to);
        Self {
            to,
            line: String::new(),
            what,
            range,
            at: (0, 0),
            ring: VecDeque::new(),
            last,
            source,
            place: None,
            symbols,
            prices,
            failed: None,
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// What went wrong while the trace was written, now or before. A closed pipe is no error.
    pub fn finish(&mut self) -> Result<()> {
        for line in std::mem::take(&mut self.ring) {
            self.write(&line);
        }
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
        let (cause, eip) = match event {
            Event::Exit { cause, detail: None, eip, .. } => (Some(cause), eip),
            // The exits of a guest's own hypervisor have no modelled cost.
            Event::Exit { eip, .. } | Event::EntryRefused { eip, .. } => (None, eip),
            _ => return,
        };
        let known = cause.and_then(|cause| Cause::all().find(|c| c.name() == *cause));
        let cost = known.map_or_else(String::new, |c| format!("{:>5} cycles  ", self.prices.of(c)));
        self.line.truncate(self.line.trim_end().len());
        let symbol = self.symbols.name(*eip).unwrap_or_default();
        let named = format!("{:<46} {cost}{symbol}", self.line);
        self.line = named.trim_end().to_owned() + "\n";
    }

    /// Whether `event` is of an instruction in the range, and of a kind that was asked for. Ports and memory
    /// are those of the instruction that was reported last; an interrupt comes between two instructions of
    /// the same segment.
    fn wants(&mut self, event: &Event<'_>) -> bool {
        if let Event::Insn { at, eip, .. } = event {
            self.at = (at.0, *eip);
        }
        let Some(range) = &self.range else { return true };
        let (linear, last_eip) = self.at;
        let at = match event {
            Event::Interrupt { eip, .. } => linear.wrapping_sub(last_eip).wrapping_add(*eip),
            _ => linear,
        };
        let kind = !matches!(event, Event::Insn { .. }) || self.what.contains(TraceFilter::INSN);
        kind && range.contains(&at)
    }

    fn put(&mut self) {
        let line = std::mem::take(&mut self.line);
        match self.last {
            None => self.write(&line),
            Some(0) => {}
            Some(most) => {
                if self.ring.len() == most {
                    // The oldest line's memory is the next one's.
                    self.line = self.ring.pop_front().unwrap_or_default();
                }
                self.ring.push_back(line);
                return;
            }
        }
        self.line = line;
    }

    fn write(&mut self, line: &str) {
        if self.failed.is_none()
            && let Err(e) = self.to.write_all(line.as_bytes())
        {
            self.failed = Some(e);
        }
    }
}

impl Sink for Rc<RefCell<TraceWriter>> {
    fn record(&mut self, when: When, event: &Event<'_>) {
        if matches!(event, Event::Insn { within: true, .. }) {
            // The string instruction has its line: how a run is cut into pieces does not show.
            return;
        }
        let mut writer = self.borrow_mut();
        if !writer.wants(event) {
            return;
        }
        writer.line.clear();
        // Writing to a string cannot fail.
        let _ = describe(&mut writer.line, when, event);
        writer.name_place(event);
        writer.name_exit(event);
        writer.put();
    }
}

/// One line: how many instructions had retired, and the event. An interrupt also has its tick, where halted
/// time has made the two counts differ.
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
        Event::Exit { cause, detail, cs, eip } => {
            let detail = detail.filter(|text| !text.is_empty());
            let more = detail.map_or(String::new(), |text| format!(": {text}"));
            writeln!(line, "exit  {cs:04x}:{eip:08x}  {cause}{more}")
        }
        Event::EntryRefused { why, cs, eip } => writeln!(line, "entry {cs:04x}:{eip:08x}  {why}"),
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

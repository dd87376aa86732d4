//! The machine behind the seam [`Pc`], with its debugger and its trace.

use super::ending::Ending;
use super::monitored::Monitored;
use super::output::tell;
use super::pc::{Hold, Limits, Outcome, Pc};
use super::screen::TextScreen;
use super::state::State;
use super::stats::Stats;
use super::trace::{Trace, TraceFilter, TraceWriter};
use crate::addr::GuestPhys;
use crate::bus::{Clock, Ticks};
use crate::console::cp437;
use crate::console::keymap::KeyEvent;
use crate::debug;
use crate::debug::gdb::{Mourning, Over, Server, Turn};
use crate::debug::source::Source;
use crate::device::mouse::MouseEvent;
use crate::error::{Error, Result};
use crate::load::{DebugSections, LoaderState, Spec};
use crate::machine::{
    HistoryConfig, Hit, Input, Limits as MachineLimits, Machine, Outcome as MachineOutcome, Wants, Watcher,
};
use crate::media::overlay::Overlay;
use crate::snapshot::Saved;
use crate::symbols::Symbols;
use crate::vmm::cost::Costs;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Instructions between two snapshots of a debugger's history.
const HISTORY_INTERVAL: u64 = 5_000_000;
/// How gdb is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Gdb {
    /// The TCP port of 127.0.0.1; 0 is any free one.
    pub port: u16,
    /// Bytes that the history may take; 0 is none.
    pub history: u64,
}

/// A machine, and what looks at it from outside.
pub struct Emulator {
    pub(super) machine: Machine,
    /// What a monitor's exits cost.
    pub(super) costs: Costs,
    trace: Option<Rc<RefCell<TraceWriter>>>,
    gdb: Option<Server>,
    /// What the guest wrote to its media and is not there yet.
    media: Vec<Overlay>,
    /// Whether a reset starts the guest again.
    reboots: bool,
    /// The kernel's names for its addresses.
    symbols: Symbols,
    /// The kernel's debug information, and that information read, if a trace has asked for it.
    debug: Option<DebugSections>,
    source: Option<Rc<Source>>,
    /// How the last run ended.
    died: debug::Ending,
    /// What a loader left for the guest.
    loader: Option<LoaderState>,
}

impl Emulator {
    /// Builds the machine of `spec`, and attaches what looks at it.
    ///
    /// # Errors
    /// [`Error`] when the machine cannot be built as asked, or the port for gdb cannot be had.
    pub fn new(mut spec: Spec, trace: Option<Trace>, gdb: Option<Gdb>) -> Result<Self> {
        let reboots = spec.reboots();
        let loader = spec.plan.loader;
        let symbols = Symbols::new(std::mem::take(&mut spec.plan.symbols));
        let debug = spec.plan.debug.take();
        let history = gdb.and_then(|gdb| usize::try_from(gdb.history).ok()).filter(|&cap| cap != 0);
        let (mut machine, media) = match history {
            Some(_) => spec.build_with_overlays()?,
            None => (spec.build()?, Vec::new()),
        };
        machine.symbols = symbols.clone();
        let source = source_of(trace.as_ref(), debug.as_ref());
        let trace = trace.map(|t| watch(&mut machine, t, source.clone(), symbols.clone()));
        if let Some(cap) = history {
            let media = media.clone();
            machine.keep_history(HistoryConfig { cap, interval: HISTORY_INTERVAL, reboots, media });
        }
        let gdb = gdb.map(|gdb| listen(gdb.port)).transpose()?;
        let died = debug::Ending::Limit;
        let costs = Costs::default();
        Ok(Self { machine, costs, trace, gdb, media, reboots, symbols, debug, source, died, loader })
    }
}

impl Emulator {
    /// A note if the guest leaned on what boot loaders leave.
    pub(super) fn loader_note(&self) -> Option<String> {
        self.loader?.note(|at, bytes| self.read_memory(at, bytes))
    }
}

/// The source lines for a trace of instructions. Debug information that cannot be read is told.
fn source_of(trace: Option<&Trace>, debug: Option<&DebugSections>) -> Option<Rc<Source>> {
    let traced = trace.is_some_and(|t| t.what.contains(TraceFilter::INSN));
    let source = debug.filter(|_| traced).map(|debug| Rc::new(Source::new(debug)))?;
    if let Some(trouble) = source.trouble() {
        tell(&format!("subring: note: debug information unusable: {trouble}\n"));
    }
    Some(source)
}

/// The server for gdb at `port`; says where it is.
fn listen(port: u16) -> Result<Server> {
    let server = Server::listen(port)?;
    tell(&format!("subring: waiting for gdb: target remote 127.0.0.1:{}\n", server.port()));
    Ok(server)
}

/// Traces the events of `machine`.
fn watch(
    machine: &mut Machine,
    trace: Trace,
    source: Option<Rc<Source>>,
    symbols: Symbols,
) -> Rc<RefCell<TraceWriter>> {
    let wants = Wants {
        // A range is one of instructions: what they do is found by them.
        insn: trace.what.contains(TraceFilter::INSN) || trace.range.is_some(),
        fault: trace.what.contains(TraceFilter::FAULT),
        interrupt: trace.what.contains(TraceFilter::INT),
        port: trace.what.contains(TraceFilter::PORT),
        memory: trace.what.contains(TraceFilter::MEM),
        exit: trace.what.contains(TraceFilter::EXIT),
    };
    let writer = Rc::new(RefCell::new(TraceWriter::new(trace, source, symbols)));
    machine.watch(Some(Watcher { wants, sink: Box::new(Rc::clone(&writer)) }));
    writer
}

impl Pc for Emulator {
    fn clock(&self) -> Clock {
        self.machine.clock()
    }
    fn now(&self) -> Ticks {
        self.machine.cpu.now
    }
    fn retired(&self) -> u64 {
        self.machine.cpu.retired()
    }

    fn run(&mut self, limits: Limits) -> Outcome {
        let turn = self.gdb.as_mut().map_or(Turn::Run, |gdb| gdb.before(&mut self.machine));
        if let Some(note) = self.machine.take_history_note() {
            tell(&format!("subring: {note}\n"));
        }
        match turn {
            Turn::Run => {}
            Turn::Wait => return Outcome::Held,
            Turn::Kill => return Outcome::Killed,
        }
        let past = self.machine.in_the_past();
        let ticks = limits.ticks.min(if past { limits.ticks } else { self.machine.remember() });
        let limits = MachineLimits { ticks, retired: limits.retired, at_halt: limits.at_idle };
        loop {
            let outcome = if past { self.machine.run_past() } else { self.machine.run(limits) };
            let stopped = match self.machine.stops.hit() {
                Some(Hit::Event(event)) => Some(event),
                _ => None,
            };
            self.died = match outcome {
                _ if stopped.is_some() => debug::Ending::Event,
                MachineOutcome::TripleFault(t) => debug::Ending::TripleFault(t),
                MachineOutcome::HaltedForever | MachineOutcome::Idle(None) => debug::Ending::HaltedForever,
                MachineOutcome::Exit(status) => debug::Ending::Exit(status),
                MachineOutcome::VmxAbort(why) => debug::Ending::VmxAbort(why),
                MachineOutcome::PowerOff | MachineOutcome::Reset => debug::Ending::Other,
                _ => debug::Ending::Limit,
            };
            if self.gdb.as_mut().is_some_and(|gdb| gdb.after(&mut self.machine)) {
                return Outcome::Held;
            }
            if let Some(event) = stopped {
                return Outcome::Stopped(self.machine.explain_event(event));
            }
            return match outcome {
                // What comes from outside is in the history, and not to be taken anew.
                MachineOutcome::Reached | MachineOutcome::Idle(_) if past => Outcome::Held,
                MachineOutcome::Reached => Outcome::Reached,
                MachineOutcome::Exit(status) => Outcome::Exit(status),
                MachineOutcome::TripleFault(t) => Outcome::TripleFault(self.machine.explain(&t)),
                MachineOutcome::VmxAbort(why) => Outcome::VmxAbort(why.to_string()),
                MachineOutcome::HaltedForever => Outcome::HaltedForever,
                MachineOutcome::PowerOff => Outcome::PowerOff,
                MachineOutcome::Reset if self.reboots => {
                    self.machine.reset();
                    continue;
                }
                MachineOutcome::Reset => Outcome::Reset,
                MachineOutcome::Idle(next) => Outcome::Idle(next),
            };
        }
    }

    fn waits_for_input(&self) -> bool {
        self.machine.waits_for_input() && self.serial_backlog() == 0
    }
    fn serial_input(&mut self, bytes: &[u8]) {
        self.machine.give(Input::Serial(bytes.to_vec()));
    }
    fn serial_backlog(&self) -> usize {
        self.machine.world.board.serial_backlog(0)
    }
    fn take_serial_output(&mut self) -> Vec<u8> {
        self.machine.world.board.take_serial_output(0)
    }
    fn take_debugcon(&mut self) -> Vec<u8> {
        self.machine.world.board.take_debug_console()
    }
    fn take_bioscon(&mut self) -> Vec<u8> {
        self.machine.world.board.take_bios_console()
    }

    fn key(&mut self, event: KeyEvent) {
        self.machine.give(Input::Key(event));
    }

    fn mouse(&mut self, event: MouseEvent) {
        self.machine.give(Input::Mouse(event));
    }

    fn screen(&self) -> Option<TextScreen> {
        let screen = self.machine.world.board.screen()?;
        Some(TextScreen {
            columns: screen.rows.first().map_or(0, Vec::len),
            cells: screen.rows.iter().flatten().map(|c| (cp437::to_char(c.code), c.attribute)).collect(),
            cursor: screen.cursor.map(|(row, column)| (column, row)),
        })
    }

    fn registers(&self) -> String {
        self.machine.registers()
    }

    fn state(&self) -> State {
        State::from(&self.machine.cpu)
    }
    fn read_memory(&self, at: u32, buf: &mut [u8]) {
        self.machine.world.map.read(GuestPhys(at), buf);
    }

    fn save(&self) -> Option<Saved> {
        Some(Saved { state: self.machine.save(), reboots: self.reboots })
    }
    fn state_hash(&self) -> u64 {
        self.machine.state_hash()
    }

    fn debugged(&self) -> bool {
        self.gdb.is_some()
    }
    fn hold(&mut self, ending: &Ending) -> Hold {
        let over = match ending {
            Ending::Exit(status) => Over::Exit(*status),
            Ending::TripleFault(_) | Ending::VmxAbort(_) => Over::TripleFault,
            Ending::PowerOff => Over::Exit(0),
            Ending::HaltedForever | Ending::Reset => Over::Other,
            Ending::BudgetSpent | Ending::TimeSpent | Ending::LimitSpent => Over::Other,
            Ending::Left
            | Ending::Killed
            | Ending::Stopped(_)
            | Ending::Interrupted
            | Ending::OutputClosed
            | Ending::BrokenOff => return Hold::Over,
        };
        match self.gdb.as_mut().map_or(Mourning::Over, |gdb| gdb.hold(&mut self.machine, over)) {
            Mourning::Over => Hold::Over,
            Mourning::Looks => Hold::Looks,
            Mourning::Back => Hold::Back,
        }
    }
    fn stats(&self) -> Stats {
        let m = &self.machine;
        let by_vector = |counts: &[u64]| {
            (0..=u8::MAX)
                .zip(counts)
                .filter(|(_, n)| **n != 0)
                .map(|(v, n)| (v, *n))
                .collect::<BTreeMap<_, _>>()
        };
        let (traces, flushes) = m.decode_counts();
        let other = [
            ("traces decoded", traces),
            ("trace cache flushes", flushes),
            ("TLB fills", m.world.running_tlb().fills),
            ("TLB flushes", m.world.running_tlb().flushes),
            ("ticks halted", m.cpu.idle),
        ];
        let of_vmx = m.cpu.vmx.as_ref().filter(|vmx| vmx.entries > 0).map(|vmx| {
            [
                ("VM entries", vmx.entries),
                ("VM exits", vmx.exits),
                ("nested walks", m.world.nested.walks),
                ("references", m.world.nested.references),
            ]
        });
        Stats {
            exceptions: by_vector(&m.counts.exceptions),
            software: by_vector(&m.world.software_interrupts),
            interrupts: m.counts.interrupts.clone(),
            ports: (0u16..=0xffff)
                .zip(&m.world.ports)
                .filter(|(_, n)| **n != [0, 0])
                .map(|(port, n)| (port, (n[0], n[1])))
                .collect(),
            unbuilt: m.counts.unbuilt.clone(),
            other: other
                .into_iter()
                .chain(of_vmx.into_iter().flatten())
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
            monitor: m.monitor().map(|monitor| Monitored::of(&monitor.report(), &self.costs)),
        }
    }

    fn post_mortem(&self, always: bool) -> Option<debug::Report> {
        let read = || Some(Rc::new(Source::new(self.debug.as_ref()?)));
        let source = self.source.clone().or_else(read);
        let (machine, died, source) = (&self.machine, &self.died, source.as_deref());
        if always {
            return Some(debug::any_report(machine, died, &self.symbols, source));
        }
        debug::post_mortem(machine, died, &self.symbols, source)
    }

    fn take_host_error(&mut self) -> Option<Error> {
        self.machine.world.board.take_host_error()
    }

    fn finish_media(&mut self) -> Result<()> {
        let finished = self.media.iter().try_for_each(Overlay::finish);
        finished.map_err(|source| Error::Host { action: "write what the guest wrote to its disks", source })
    }

    fn finish_trace(&mut self) -> Result<()> {
        match &self.trace {
            Some(writer) => writer.borrow_mut().finish(),
            None => Ok(()),
        }
    }
}

//! The bare machine: processor, memory and board, and running them.

pub mod board;
mod breakpoints;
mod describe;
mod exits;
pub mod history;
mod moment;
pub mod monitor;
mod nested;
mod observe;
pub mod rewind;
mod save;
mod space;
mod start;
mod switch;
pub mod tables;
mod walks;
pub mod world;

use crate::bus::phys::PhysMap;
use crate::bus::{Clock, Ticks};
use crate::cell::Engine;
use crate::cpu::control::APIC_BASE_RESET;
use crate::cpu::vmx::Abort;
use crate::cpu::{Activity, Cpu, Fault, Model, Special};
use crate::decode::op::Family;
use crate::decode::{Decoded, Op, SegReg, decode, lower};
use crate::error::Result;
use crate::event;
use crate::exec::event::{Event, Raised, TripleFault, raise};
use crate::exec::{Env, vmx};
use crate::interp::{Exit, Interp, Stop};
use crate::mem::Ram;
use crate::symbols::Symbols;
use crate::translate::plan::Identity;
use crate::translate::{self, Left, TranslatedCode};
use board::{Board, BoardConfig};
pub use breakpoints::{CodeStop, DataStop, EventStop, Hit, Stops};
use history::History;
pub use moment::Moment;
pub use monitor::{Image, Monitor, NestedView, ProcessorView, ShadowView, TranslationView};
use rewind::Rewind;
pub use rewind::{HistoryConfig, HistoryInfo, Input, LastWrite, Sought, Wish};
pub use save::State;
use serde::{Deserialize, Serialize};
pub use space::{Flushes, Space};
use std::collections::BTreeMap;
pub use walks::Walked;
pub use world::{Wants, Watcher, World};

/// What a machine is built from.
pub struct Config {
    /// Bytes of RAM.
    pub ram_size: u32,
    /// The chips.
    pub board: BoardConfig,
    /// The system BIOS image, if the machine starts in one.
    pub bios: Option<Vec<u8>>,
    /// A VGA BIOS, to be put at C0000.
    pub vga_bios: Option<Vec<u8>>,
}

/// How far a run goes: to the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To this point in time.
    pub ticks: Ticks,
    /// To this many instructions retired since power-on.
    pub retired: u64,
    /// To the next HLT.
    pub at_halt: bool,
}

impl Limits {
    /// To `ticks`, whatever happens.
    pub fn until(ticks: Ticks) -> Self {
        Self { ticks, retired: u64::MAX, at_halt: false }
    }
    /// To `retired` instructions.
    pub fn instructions(retired: u64) -> Self {
        Self { ticks: Ticks::MAX, retired, at_halt: false }
    }
}

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A limit is reached, or a debugger's stop; [`Machine::stops`] knows.
    Reached,
    /// The guest wrote its status to port F4.
    Exit(u8),
    /// The processor shut down.
    TripleFault(TripleFault),
    /// A VM exit could not be completed: the processor shut down.
    VmxAbort(Abort),
    /// HLT, and no interrupt can come through: nothing can wake it.
    HaltedForever,
    /// The guest turned the machine off.
    PowerOff,
    /// A chip asked for a reset.
    Reset,
    /// Halted, with the time of the next chip event if there is one.
    Idle(Option<Ticks>),
}

/// What a run counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Exceptions by vector.
    pub exceptions: [u64; 32],
    /// Hardware interrupts by vector.
    pub interrupts: BTreeMap<u8, u64>,
    /// Instructions that are not built, by name.
    pub unbuilt: BTreeMap<String, u64>,
}

/// The machine.
pub struct Machine {
    /// The processor.
    pub cpu: Cpu,
    /// Memory and chips.
    pub world: World,
    /// What was counted.
    pub counts: Counts,
    /// The last events.
    pub history: History,
    interp: Interp<World>,
    /// The engine that runs the guest's code in the place of the interpreter; none under a monitor, which has an engine
    /// of its own.
    translated: Option<Box<dyn TranslatedCode<World>>>,
    clock: Clock,
    firmware: bool,
    /// When the last event was delivered. No two share a tick: an event right after another one, with no
    /// instruction in between, takes a tick of its own, so that a handler which cannot even start does not
    /// stop time.
    delivered: Option<Ticks>,
    /// A fault met while delivering another, which is still to be delivered; see [`raise`].
    pending: Option<Fault>,
    /// The guest's names for addresses, for debuggers. Nothing in a run depends on them.
    pub symbols: Symbols,
    /// Where a debugger stops a run.
    pub stops: Stops,
    /// The run comes back where the monitor looks up.
    by_boundary: bool,
    /// The run comes back after a mark of the guest's.
    by_mark: bool,
    /// The run came back before a sensitive instruction.
    before_sensitive: bool,
    /// Who runs the guest's instructions in the place of the bare processor.
    monitor: Option<Box<dyn Monitor>>,
    /// The processor is without what monitors hide, though there may be none.
    plain: bool,
    /// The way back, for a debugger.
    rewind: Option<Box<Rewind>>,
}

impl Machine {
    /// A machine after power-on.
    ///
    /// # Errors
    /// When RAM cannot be had, or a firmware image does not fit.
    pub fn new(config: Config) -> Result<Self> {
        let mut map = PhysMap::new(Ram::new(config.ram_size)?);
        if let Some(image) = &config.bios {
            map.install_bios(image)?;
        }
        if let Some(image) = &config.vga_bios {
            map.install_rom(0xc_0000, image)?;
        }
        let (clock, model) = (config.board.clock, config.board.cpu);
        let firmware = config.bios.is_some();
        let mut board = Board::new(config.board);
        board.reset(&mut map);
        let mut world = World::new(map, board);
        let cpu = power_on(model, &world.board);
        world.place_apic(&cpu);
        Ok(Self {
            cpu,
            world,
            counts: Counts { exceptions: [0; 32], interrupts: BTreeMap::new(), unbuilt: BTreeMap::new() },
            history: History::default(),
            interp: Interp::default(),
            translated: None,
            clock,
            firmware,
            delivered: None,
            pending: None,
            symbols: Symbols::default(),
            stops: Stops::default(),
            by_boundary: false,
            by_mark: false,
            before_sensitive: false,
            monitor: None,
            plain: false,
            rewind: None,
        })
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether the machine starts in firmware, so that a reset starts it again.
    pub fn has_firmware(&self) -> bool {
        self.firmware
    }

    /// Traces decoded, and whole-cache flushes.
    pub fn decode_counts(&self) -> (u64, u64) {
        self.interp().decode_counts()
    }

    /// Sets who looks on, and at what. What is run does not change.
    pub fn watch(&mut self, watcher: Option<Watcher>) {
        self.world.watcher = watcher;
        self.world.drop_fast();
    }

    /// Empties the TLB, and under a monitor what stands for it: a processor is free to at any time (SDM vol.
    /// 3, 4.10.4.1).
    pub fn flush_tlb(&mut self) {
        self.world.flush_tlb(true);
    }

    /// The reset line: the processor and the chips start again, RAM and time stay.
    pub fn reset(&mut self) {
        let Cpu { now, idle, model, features, .. } = self.cpu;
        self.cpu = Cpu { now, idle, features, ..power_on(model, &self.world.board) };
        self.hide_extensions();
        self.pending = None;
        self.world.refused_entry = None;
        self.world.map.block_a20(false);
        self.world.board.reset(&mut self.world.map);
        self.world.place_apic(&self.cpu);
        self.world.tlb.flush(true);
        self.tell_monitor();
    }

    /// Runs to the first of `limits`.
    pub fn run(&mut self, mut limits: Limits) -> Outcome {
        self.note_run();
        if let Some(outcome) = self.is_shut_down() {
            return outcome;
        }
        let mut rested = self.cpu.activity != Activity::Running;
        loop {
            let before = self.cpu.now;
            if let Some(outcome) = self.look_up(&limits) {
                return outcome;
            }
            if self.cpu.now != before {
                // An event right after another took a tick: chips may be due, and the run may end here.
                continue;
            }
            if let Some(outcome) = self.is_shut_down() {
                return outcome;
            }
            if self.cpu.activity != Activity::Running && self.pending.is_none() {
                match self.rest(&limits, std::mem::take(&mut rested)) {
                    Some(outcome) => return outcome,
                    None => {
                        if self.by_boundary {
                            // What wakes the processor is delivered after the boundary, as on the bare
                            // machine.
                            limits.ticks = limits.ticks.min(self.cpu.now);
                        }
                        continue;
                    }
                }
            }
            rested = false;
            let stop = match self.pending.take() {
                Some(fault) => Stop::Fault(fault),
                None => {
                    let stop = self.execute(self.horizon(&limits));
                    if stop == Stop::Exit(Exit::Sensitive) {
                        limits.ticks = limits.ticks.min(self.cpu.now);
                        self.before_sensitive = true;
                    }
                    if self.by_boundary {
                        limits.ticks = limits.ticks.min(self.cpu.now);
                        // A trap belongs to the instruction that ran, and is delivered with it.
                        if let Stop::Fault(fault) = stop
                            && self.cpu.now == before
                        {
                            self.pending = Some(fault);
                            continue;
                        }
                    }
                    stop
                }
            };
            if stop == Stop::Fault(Fault::VM_EXIT) {
                self.vm_exit();
                continue;
            }
            if let Stop::Fault(fault) = stop
                && let Err(triple) = self.deliver(Event::Exception(fault))
            {
                return Outcome::TripleFault(triple);
            }
        }
    }

    /// The end of a run of a processor that only a reset wakes. A guest in non-root operation rests in its
    /// shutdown, and may be left.
    fn is_shut_down(&self) -> Option<Outcome> {
        let shut_down = self.cpu.activity == Activity::Shutdown && vmx::guest(&self.cpu).is_none();
        let aborted = self.cpu.vmx.as_ref().and_then(|vmx| vmx.aborted);
        shut_down.then(|| aborted.map_or(Outcome::HaltedForever, Outcome::VmxAbort))
    }

    /// Between instructions: chips that are due, endings, interrupts.
    fn look_up(&mut self, limits: &Limits) -> Option<Outcome> {
        if self.world.board.next_event().is_some_and(|t| t <= self.cpu.now) {
            self.world.board.advance(self.cpu.now, &mut self.world.map);
            self.world.settle();
        }
        if self.stops.end_run() || self.by_mark && self.world.board.has_mark() {
            return Some(Outcome::Reached);
        }
        if let Some(status) = self.world.board.exit_code() {
            return Some(Outcome::Exit(status));
        }
        if self.world.board.is_off() {
            return Some(Outcome::PowerOff);
        }
        if self.world.board.reset_requested() {
            if !self.world.board.starts_warm() {
                return Some(Outcome::Reset);
            }
            self.warm_start();
        }
        if self.cpu.now >= limits.ticks || self.cpu.retired() >= limits.retired {
            return Some(Outcome::Reached);
        }
        if vmx::guest(&self.cpu).is_some()
            && let Some(outcome) = self.look_up_guest()
        {
            return Some(outcome);
        }
        let died = self.nmi().or_else(|| self.interrupt()).map(Outcome::TripleFault);
        // An event that a stop holds back ends the run here; one that was delivered may have taken a tick, in
        // which chips are due.
        died.or_else(|| self.stops.holds_event().then_some(Outcome::Reached))
    }

    /// What of non-root operation comes before interrupts: the event that the entry injects, exits by the
    /// timer and by open windows.
    fn look_up_guest(&mut self) -> Option<Outcome> {
        if let Some(event) = vmx::event::take_injected(&mut self.cpu) {
            return self.deliver(event).err().map(Outcome::TripleFault);
        }
        if self.pending.is_none()
            && let Some(exit) = vmx::due_before_instruction(&self.cpu)
        {
            vmx::request(&mut self.cpu, exit);
            self.vm_exit();
        }
        None
    }

    /// Takes an NMI, unless one is being served or the last instruction holds it off.
    fn nmi(&mut self) -> Option<TripleFault> {
        if !self.world.board.nmi_requested() {
            return None;
        }
        let held_off = self.cpu.special.intersects(Special::HOLDS_INTERRUPTS);
        let deaf = self.cpu.activity == Activity::WaitForSipi;
        if self.cpu.nmi_blocked || held_off || deaf || self.pending.is_some() {
            return None;
        }
        self.world.board.take_nmi();
        if vmx::event::nmi_exits(&self.cpu) {
            vmx::event::nmi(&mut self.cpu);
            self.vm_exit();
            return None;
        }
        *self.counts.interrupts.entry(Event::Nmi.vector()).or_default() += 1;
        self.deliver(Event::Nmi).err()
    }

    /// Takes a requested interrupt, if the processor is open to it.
    fn interrupt(&mut self) -> Option<TripleFault> {
        let shadowed = self.cpu.special.intersects(Special::HOLDS_INTERRUPTS);
        let open = vmx::event::takes_interrupts(&self.cpu) && !shadowed;
        if !open || self.pending.is_some() || !self.world.board.interrupt_requested() {
            return None;
        }
        if vmx::event::external_exits(&self.cpu) {
            let board = &mut self.world.board;
            vmx::event::external(&mut self.cpu, || board.acknowledge());
            self.world.settle();
            self.vm_exit();
            return None;
        }
        let vector = self.world.board.acknowledge();
        self.world.settle();
        *self.counts.interrupts.entry(vector).or_default() += 1;
        if let Some(monitor) = &mut self.monitor {
            monitor.interrupted(&self.cpu, &mut self.world);
        }
        self.deliver(Event::External(vector)).err()
    }

    /// Whether the processor is halted and only input from the host could wake it.
    pub fn waits_for_input(&self) -> bool {
        let open = vmx::event::takes_interrupts(&self.cpu);
        self.cpu.activity == Activity::Halted
            && self.pending.is_none()
            && open
            && !self.world.board.interrupt_requested()
            && !self.world.board.nmi_requested()
            && vmx::timer(&self.cpu).is_none()
            && !self.world.board.can_wake_without_input()
    }

    /// Halted, or a guest in shutdown: skips to the next chip event.
    fn rest(&mut self, limits: &Limits, skip_at_once: bool) -> Option<Outcome> {
        // The VMX-preemption timer counts, and exits, in the HLT state and in shutdown, too (SDM vol. 3, 25.5.1).
        let timer = vmx::timer(&self.cpu);
        let next = self.world.board.next_event().into_iter().chain(timer).min();
        let (open, board) = (vmx::event::takes_interrupts(&self.cpu), &self.world.board);
        if timer.is_none() && (!open && !board.makes_nmis() || open && !board.can_wake()) {
            return Some(Outcome::HaltedForever);
        }
        let Some(next) = next else { return Some(Outcome::Idle(None)) };
        if limits.at_halt && !skip_at_once {
            return Some(Outcome::Idle(Some(next)));
        }
        let to = next.max(self.cpu.now + 1).min(limits.ticks);
        self.cpu.idle += to - self.cpu.now;
        self.cpu.now = to;
        None
    }

    /// The tick up to which nothing outside the processor happens by itself.
    fn horizon(&self, limits: &Limits) -> Ticks {
        let budget = limits.retired - self.cpu.retired();
        // A chip faster than the clock gets one look in each tick.
        // An NMI that could not be taken here is looked at again after the next instruction.
        let event = if self.world.board.nmi_requested() { Some(0) } else { self.world.board.next_event() };
        let next = event.unwrap_or(Ticks::MAX).min(self.guest_horizon()).max(self.cpu.now + 1);
        limits.ticks.min(next).min(self.cpu.now.saturating_add(budget))
    }

    /// The tick up to which nothing of non-root operation is due. An interrupt that is held off for one
    /// instruction, and causes an exit whatever IF is, is looked at again after that instruction.
    fn guest_horizon(&self) -> Ticks {
        let waits = vmx::event::external_exits(&self.cpu) && self.world.board.interrupt_requested();
        let look = if waits { Some(self.cpu.now + 1) } else { vmx::next_look(&self.cpu) };
        look.unwrap_or(Ticks::MAX)
    }

    fn execute(&mut self, until: Ticks) -> Stop {
        if self.looks_for_stops() {
            self.execute_stopping(until)
        } else if self.world.watcher.as_ref().is_some_and(|w| w.wants.insn) {
            self.execute_observed(until)
        } else {
            match &mut self.monitor {
                Some(monitor) => monitor.run(&mut self.cpu, &mut self.world, until),
                None => self.execute_bare(until),
            }
        }
    }

    fn execute_bare(&mut self, until: Ticks) -> Stop {
        let Some(translated) = &mut self.translated else {
            return self.interp.run(&mut self.cpu, &mut self.world, until);
        };
        loop {
            // With nothing rewritten no callout is made, and nobody has to look up.
            if let Left::Stop(stop) = translated.run(&mut self.cpu, &mut self.world, &mut Identity, until) {
                return stop;
            }
        }
    }

    /// Runs the bare machine's code by `engine` from now on. The guest cannot tell.
    pub fn set_engine(&mut self, engine: Engine) {
        let mut translated = translate::lookup(engine);
        if let Some(translated) = &mut translated {
            *translated.interp_mut() = std::mem::take(self.interp_mut());
        } else if self.translated.is_some() {
            self.interp = std::mem::take(self.interp_mut());
        }
        self.translated = translated;
    }

    /// The interpreter: of single instructions, where another engine runs the rest.
    fn interp(&self) -> &Interp<World> {
        self.translated.as_ref().map_or(&self.interp, |translated| translated.interp())
    }

    fn interp_mut(&mut self) -> &mut Interp<World> {
        match &mut self.translated {
            Some(translated) => translated.interp_mut(),
            None => &mut self.interp,
        }
    }

    /// Looks between two instructions for what comes before the next one: an interrupt, a trap, the deadline.
    fn boundary(&mut self) -> Option<Stop> {
        let interp = match &mut self.translated {
            Some(translated) => translated.interp_mut(),
            None => &mut self.interp,
        };
        interp.boundary(&mut self.cpu, &mut self.world)
    }

    /// Runs one instruction, or one iteration of a string instruction, on the careful path.
    fn step(&mut self) -> std::result::Result<(), Fault> {
        match &mut self.monitor {
            Some(monitor) => {
                let until = self.cpu.now + 1;
                match monitor.run(&mut self.cpu, &mut self.world, until) {
                    Stop::Fault(fault) => Err(fault),
                    Stop::Budget | Stop::Exit(_) => Ok(()),
                }
            }
            None => match &mut self.translated {
                Some(translated) => translated.interp_mut().step(&mut self.cpu, &mut self.world),
                None => self.interp.step(&mut self.cpu, &mut self.world),
            },
        }
    }

    /// Completes the VM exit that is due: the guest's hypervisor goes on. An abort leaves the processor in
    /// shutdown.
    fn vm_exit(&mut self) {
        let (cs, eip) = (self.cpu.seg(SegReg::Cs).selector.0, self.cpu.eip);
        if vmx::leave::complete(&mut self.cpu, &mut self.world).is_ok() {
            self.world.tell_vm_exit(&self.cpu, (cs, eip));
        }
        self.world.clear_break_hits();
    }

    /// Delivers `event`, counting and reporting what is tried.
    fn deliver(&mut self, event: Event) -> std::result::Result<(), TripleFault> {
        if event == Event::Exception(Fault::UD) {
            self.note_unbuilt();
        }
        if self.stops.stops_before(event) {
            self.history.note(&self.cpu, event, false);
            return Ok(());
        }
        if self.delivered == Some(self.cpu.now) {
            self.cpu.now += 1;
        }
        self.delivered = Some(self.cpu.now);
        if self.monitor.is_some() {
            // As when it emulates, a monitor sees the guest's tables as they are.
            self.world.tlb.flush(true);
        }
        let mut tried = Vec::new();
        let history = &mut self.history;
        let result = raise(&mut self.cpu, &mut self.world, event, |cpu, event| {
            history.note(cpu, event, !tried.is_empty());
            tried.push((event, cpu.seg(SegReg::Cs).selector.0, cpu.eip));
        });
        for (n, (event, cs, eip)) in tried.into_iter().enumerate() {
            if n > 0 {
                self.stops.stops_before(event);
            }
            self.report(event, cs, eip);
        }
        self.world.clear_break_hits();
        let raised = result?;
        self.pending = None;
        match raised {
            Raised::Delivered => {}
            Raised::Again(fault) => self.pending = Some(fault),
            Raised::VmExit => self.vm_exit(),
        }
        self.delivered_for_stops(self.pending.is_none());
        Ok(())
    }

    fn report(&mut self, event: Event, cs: u16, eip: u32) {
        if let Event::Exception(fault) = event {
            self.counts.exceptions[usize::from(fault.vector()) & 31] += 1;
        }
        let Some(w) = self.world.watcher.as_mut() else { return };
        match event {
            Event::External(vector) if w.wants.interrupt => {
                w.sink.record(self.cpu.when(), &event::Event::Interrupt { vector, cs, eip });
            }
            Event::Exception(fault) if w.wants.fault => {
                let (vector, code, address) = (fault.vector(), fault.code(), fault.address());
                w.sink.record(self.cpu.when(), &event::Event::Fault { vector, code, address, cs, eip });
            }
            _ => {}
        }
    }

    /// Counts the instruction at CS:EIP by name, if it is one that later processors have and this one has
    /// not.
    fn note_unbuilt(&mut self) {
        let bytes = self.code_ahead();
        let code32 = self.cpu.code32();
        if let Decoded::Insn(insn) = decode(&bytes, code32)
            && (insn.op == Op::Unbuilt || insn.op.facts().family == Family::Vmx && self.cpu.vmx.is_none())
        {
            *self.counts.unbuilt.entry(lower::mnemonic(&bytes, code32)).or_default() += 1;
        }
    }
}

/// The processor after power-on, with a local APIC if the board has the I/O APIC to it.
fn power_on(model: Model, board: &Board) -> Cpu {
    let mut cpu = Cpu::of(model);
    cpu.msrs.apic_base = if board.has_apic() { APIC_BASE_RESET } else { 0 };
    cpu
}

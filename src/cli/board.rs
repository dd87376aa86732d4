//! Hooks [`crate::machine`] up to [`super::session::Pc`].

use super::dump::State;
use super::monitored::Monitored;
use super::session::{
    Drive, Ending, Gdb, Hold, Limits, Medium, Outcome, Pc, Spec, Stats, TextScreen, Trace, TraceFilter,
};
use super::trace::TraceWriter;
use crate::addr::GuestPhys;
use crate::bus::{Clock, Ticks};
use crate::debug;
use crate::debug::gdb::{Mourning, Over, Server, Turn};
use crate::debug::source::Source;
use crate::device::cp437;
use crate::device::fw_cfg::FwCfgConfig;
use crate::device::keymap::KeyEvent;
use crate::device::mouse::MouseEvent;
use crate::error::{Error, Result};
use crate::load::acpi::{self, Wanted};
use crate::load::{DebugSections, Entry, Symbol};
use crate::machine::board::BoardConfig;
use crate::machine::{
    Config, HistoryConfig, Input, Limits as MachineLimits, Machine, Outcome as MachineOutcome, Wants, Watcher,
};
use crate::media::overlay::Overlay;
use crate::media::{Disk, MemoryDisk, Snapshot};
use crate::snapshot::Saved;
use crate::vmm;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A BIOS reports 639 KiB of conventional memory, and shadows itself below 1 MiB.
const FIRMWARE_NEEDS: u32 = 1 << 20;
/// Instructions between two snapshots of a debugger's history.
const HISTORY_INTERVAL: u64 = 5_000_000;
/// Boot devices as [`BoardConfig::boot_order`] has them: CD-ROM, disk, floppy.
const CDROM_FIRST: u16 = 0x123;
/// The project's own BIOS; see guest-programs/bios.
const OWN_BIOS: &[u8] = include_bytes!("../../guest-programs/bios/bios.bin");

/// Builds the machine of a `run`.
///
/// # Errors
/// [`Error`] when it cannot be built as asked.
pub fn build(spec: Spec) -> Result<Box<dyn Pc>> {
    Ok(Box::new(bare(spec)?))
}

/// The same, with the machine at hand.
pub(super) fn bare(spec: Spec) -> Result<Bare> {
    match spec.restore {
        Some(saved) => {
            let mut over = over(&spec.gdb);
            let cdrom = spec.cdrom.map(disk);
            let disks = place(drives(spec.disks, &mut over), cdrom.is_some());
            let floppies = drives(spec.floppies, &mut over);
            let mut machine = Machine::from_state(&saved.state, disks, floppies, cdrom)?;
            virtualize(&mut machine, spec.monitor)?;
            pc(machine, spec.trace, spec.gdb, over, saved.reboots, Vec::new(), None)
        }
        None => build_new(spec),
    }
}

fn pc(
    mut machine: Machine,
    trace: Option<Trace>,
    gdb: Option<Gdb>,
    over: Option<Vec<Overlay>>,
    reboots: bool,
    symbols: Vec<Symbol>,
    debug: Option<DebugSections>,
) -> Result<Bare> {
    let traced = trace.as_ref().is_some_and(|t| t.what.contains(TraceFilter::INSN));
    let source = debug.as_ref().filter(|_| traced).map(|debug| Rc::new(Source::new(debug)));
    if let Some(trouble) = source.as_ref().and_then(|s| s.trouble()) {
        super::tell(&format!("subring: note: debug information unusable: {trouble}\n"));
    }
    let trace = trace.map(|t| watch(&mut machine, t, source.clone(), symbols.clone()));
    let media = over.clone().unwrap_or_default();
    if let Some(history) = over.zip(gdb.and_then(|g| usize::try_from(g.history).ok())) {
        let (media, cap) = history;
        machine.keep_history(HistoryConfig { cap, interval: HISTORY_INTERVAL, reboots, media });
    }
    let gdb = listen(gdb.map(|g| g.port))?;
    Ok(Bare { machine, trace, gdb, media, reboots, symbols, debug, source, died: debug::Ending::Limit })
}

/// Where to collect what is put over the media, when a history is kept.
fn over(gdb: &Option<Gdb>) -> Option<Vec<Overlay>> {
    gdb.is_some_and(|g| g.history != 0).then(Vec::new)
}

/// The server for gdb at `port`, if one is asked for; says where it is.
fn listen(port: Option<u16>) -> Result<Option<Server>> {
    let server = port.map(Server::listen).transpose()?;
    if let Some(server) = &server {
        super::tell(&format!("subring: waiting for gdb: target remote 127.0.0.1:{}\n", server.port()));
    }
    Ok(server)
}

fn build_new(spec: Spec) -> Result<Bare> {
    let firmware = spec.plan.entry == Entry::Firmware;
    if firmware && spec.mem < FIRMWARE_NEEDS {
        return Err(Error::Usage(
            "firmware needs 1 MiB of memory to boot a disk: give at least --mem 1M".into(),
        ));
    }
    // SeaBIOS takes the ROM of a VGA that is no PCI device from this file.
    let rom = |rom: &Vec<u8>| ("vgaroms/vgabios.bin".to_owned(), rom.clone());
    let wanted = Wanted { acpi: spec.acpi, apic: spec.apic };
    let files = spec.vga_bios.iter().map(rom).chain(acpi::fw_cfg_files(wanted)).collect();
    let fw_cfg = FwCfgConfig { files, ..FwCfgConfig::default() };
    let mut over = over(&spec.gdb);
    let cdrom = spec.cdrom.map(disk);
    let board = BoardConfig {
        clock: Clock::new(spec.hz),
        ram_size: spec.mem,
        epoch: spec.epoch,
        disks: place(drives(spec.disks, &mut over), cdrom.is_some()),
        cdrom,
        floppies: drives(spec.floppies, &mut over),
        boot_order: if spec.cdrom_first { CDROM_FIRST } else { 0 },
        firmware,
        apic: spec.apic,
        acpi: spec.acpi,
        transmitter: spec.transmitter,
        fw_cfg,
    };
    let bios = firmware.then(|| spec.bios.unwrap_or_else(|| own_bios(wanted)));
    let mut machine = Machine::new(Config { ram_size: spec.mem, board, bios, vga_bios: spec.vga_bios })?;
    if !firmware {
        acpi::for_kernel(wanted).iter().for_each(|(at, bytes)| machine.store(*at, bytes));
    }
    spec.plan.carry_out(&mut machine);
    virtualize(&mut machine, spec.monitor)?;
    pc(machine, spec.trace, spec.gdb, over, firmware, spec.plan.symbols, spec.plan.debug)
}

/// Puts the machine under the monitor that is asked for.
fn virtualize(machine: &mut Machine, monitor: Option<vmm::Config>) -> Result<()> {
    monitor.map_or(Ok(()), |config| vmm::install(machine, &config))
}

/// Our BIOS, with the tables of the machine in the part of the ROM that it leaves free.
fn own_bios(wanted: Wanted) -> Vec<u8> {
    let mut image = OWN_BIOS.to_vec();
    acpi::into_rom(&mut image, wanted);
    image
}

/// The media, each with an [`Overlay`] over it if those are collected.
fn drives<const N: usize>(drives: Vec<Drive>, over: &mut Option<Vec<Overlay>>) -> [Option<Box<dyn Disk>>; N] {
    let mut out = [const { None }; N];
    for (slot, drive) in out.iter_mut().zip(drives) {
        let disk = disk(drive);
        *slot = Some(match over {
            Some(over) => {
                let overlay = Overlay::new(disk);
                over.push(overlay.clone());
                Box::new(overlay)
            }
            None => disk,
        });
    }
    out
}

fn disk(drive: Drive) -> Box<dyn Disk> {
    let snapshot = drive.snapshot;
    let disk = medium(drive);
    if snapshot { Box::new(Snapshot::new(disk)) } else { disk }
}

/// Where the disks go: the CD-ROM has the third place, so a third disk has the fourth.
fn place(disks: [Option<Box<dyn Disk>>; 4], cdrom: bool) -> [Option<Box<dyn Disk>>; 4] {
    let [first, second, third, fourth] = disks;
    if cdrom { [first, second, None, third] } else { [first, second, third, fourth] }
}

fn medium(drive: Drive) -> Box<dyn Disk> {
    match drive.medium {
        Medium::Memory(bytes) => Box::new(MemoryDisk::new(bytes)),
        Medium::Image(image) => image.disk,
    }
}

fn watch(
    machine: &mut Machine,
    trace: Trace,
    source: Option<Rc<Source>>,
    symbols: Vec<Symbol>,
) -> Rc<RefCell<TraceWriter>> {
    let wants = Wants {
        insn: trace.what.contains(TraceFilter::INSN),
        fault: trace.what.contains(TraceFilter::FAULT),
        interrupt: trace.what.contains(TraceFilter::INT),
        port: trace.what.contains(TraceFilter::PORT),
        memory: trace.what.contains(TraceFilter::MEM),
        exit: trace.what.contains(TraceFilter::EXIT),
    };
    let writer = Rc::new(RefCell::new(TraceWriter::new(trace.to, source, symbols)));
    machine.watch(Some(Watcher { wants, sink: Box::new(Rc::clone(&writer)) }));
    writer
}

/// The bare machine behind the session's seam.
pub(super) struct Bare {
    pub(super) machine: Machine,
    trace: Option<Rc<RefCell<TraceWriter>>>,
    gdb: Option<Server>,
    /// What the guest wrote to its media and is not there yet.
    media: Vec<Overlay>,
    /// A reset starts the firmware again; a kernel that was loaded without one cannot be started twice.
    reboots: bool,
    /// The kernel's names for its addresses.
    symbols: Vec<Symbol>,
    /// Its debug information, and that read, if a trace has asked for it.
    debug: Option<DebugSections>,
    source: Option<Rc<Source>>,
    /// How the last run ended.
    died: debug::Ending,
}

impl Pc for Bare {
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
            super::tell(&format!("subring: {note}\n"));
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
            self.died = match outcome {
                MachineOutcome::TripleFault(t) => debug::Ending::TripleFault(t),
                MachineOutcome::HaltedForever | MachineOutcome::Idle(None) => debug::Ending::HaltedForever,
                _ => debug::Ending::Limit,
            };
            if self.gdb.as_mut().is_some_and(|gdb| gdb.after(&mut self.machine)) {
                return Outcome::Held;
            }
            return match outcome {
                // What comes from outside is in the history, and not to be taken anew.
                MachineOutcome::Reached | MachineOutcome::Idle(_) if past => Outcome::Held,
                MachineOutcome::Reached => Outcome::Reached,
                MachineOutcome::Exit(status) => Outcome::Exit(status),
                MachineOutcome::TripleFault(t) => Outcome::TripleFault(self.machine.explain(&t)),
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
            Ending::TripleFault(_) => Over::TripleFault,
            Ending::PowerOff => Over::Exit(0),
            Ending::HaltedForever | Ending::Reset | Ending::BudgetSpent | Ending::TimeSpent => Over::Other,
            Ending::Left
            | Ending::Killed
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
            other: other.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            monitor: m.monitor().map(|monitor| Monitored::of(&monitor.report())),
        }
    }

    fn post_mortem(&self) -> Option<debug::Report> {
        let read = || Some(Rc::new(Source::new(self.debug.as_ref()?)));
        let source = self.source.clone().or_else(read);
        debug::post_mortem(&self.machine, &self.died, &self.symbols, source.as_deref())
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

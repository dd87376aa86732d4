//! Trap and emulate, by ring compression (Popek and Goldberg, CACM 1974; Robin and Irvine, USENIX Security 2000, on why it
//! fails on IA-32). The guest runs on the real processor, its kernel in ring 1; what faults there is emulated on the
//! virtual processor by the same semantics that the bare machine runs, or is the guest's own and is reflected.
//!
//! Sensitive instructions that do not fault run on the real state, and go wrong. That is not repaired here.

use super::audit::{self, Before};
use super::bt::{self, Translation};
use super::bug::{self, Bug};
use super::descriptors::Descriptors;
use super::layout;
use super::memory::{Resolution, ShadowMmu};
use super::seal;
use super::vcpu::{Mode, V};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cell::Cell;
use crate::cpu::control::{DR6_BS, DR6_BT, Dr7, Watch};
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Cr0, Eflags, Fault, Vector};
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, Op, SegReg, decode};
use crate::interp::{self, CodeEnv, Interp, Stop};
use crate::machine::{Monitor, ProcessorView, ShadowView, TranslationView, Walked, World};
use crate::mmu::paging::Access;
use crate::report::{Audit, Cause, Counts, Exit, Exits, Obstacle, Origin, Reason, Report, ShadowFigures};

/// How it comes back at a boundary.
const BOUNDARY: Stop = Stop::Exit(interp::Exit::Boundary);

/// The monitor.
pub struct Trap {
    cell: Cell,
    /// The shadow MMU.
    pub mmu: ShadowMmu,
    /// The real descriptor tables.
    pub descriptors: Descriptors,
    /// Exits so far.
    pub exits: Exits,
    /// How instructions ran.
    pub counts: Counts,
    /// The exits as they come, if somebody wants them.
    pub log: Option<Vec<Exit>>,
    /// The translator of what must not run by itself; without one it does, and goes wrong.
    pub translation: Option<Box<Translation>>,
    /// Looks whether the guest gets at what is the monitor's, if somebody wants to know.
    pub audit: Option<Audit>,
    pub(super) v: V,
    pub(super) real: Cpu,
    /// Runs the real processor.
    direct: Interp<World>,
    /// Runs the virtual one, an instruction at a time.
    emulator: Interp<World>,
    map_epoch: Option<u32>,
    /// Comes back at each exit, and at the end of each unit of translated code.
    by_boundary: bool,
    /// The guest's time when it last came back at one.
    looked_up: Ticks,
    /// RF as the real processor left it at its last fault.
    resume_left: bool,
    /// The instruction that was emulated last wrote to a traced frame, which has not been looked at yet.
    wrote: bool,
    cut_short: Option<CutShort>,
}

/// A repeated string instruction whose emulation the deadline cut short. It goes on where it stopped, and is no new exit or callout:
/// what cuts a run must not show.
struct CutShort {
    eip: u32,
    /// If it is an access that was adapted: where it is, and whether it met anything so far.
    adapted: Option<(Linear, bool)>,
}

impl Trap {
    /// A monitor with these tables, about to run a guest for the first time.
    pub fn new(cell: Cell, mmu: ShadowMmu, descriptors: Descriptors) -> Self {
        Self {
            cell,
            mmu,
            descriptors,
            exits: Exits::default(),
            counts: Counts::default(),
            log: None,
            translation: None,
            audit: None,
            v: V::default(),
            real: Cpu::new(),
            direct: Interp::default(),
            emulator: Interp::default(),
            map_epoch: None,
            by_boundary: false,
            looked_up: 0,
            resume_left: false,
            wrote: false,
            cut_short: None,
        }
    }

    fn count(&mut self, world: &mut World, cause: Cause, at: Place) {
        self.exits.count(cause, at.linear);
        world.tell_exit(at.now, cause.name(), at.cs, at.eip);
        if let Some(log) = &mut self.log {
            log.push(Exit { now: at.now, cause, cs: at.cs, eip: at.eip });
        }
    }

    /// Brings shadows up to what the guest and its chips did since the guest last ran.
    fn sync(&mut self, guest: &Cpu, world: &mut World) {
        if self.map_epoch != Some(world.map.epoch()) {
            self.map_epoch = Some(world.map.epoch());
            self.mmu.forget(&mut world.map);
            self.descriptors.forget(world, &mut self.mmu.shadow);
            _ = world.take_flushes();
            _ = world.map.traces.take_hits();
        }
        self.take_traces(guest, world);
        let flushed = world.has_flushes();
        if flushed {
            let flushes = world.take_flushes();
            self.mmu.flushed(&mut world.map, &flushes);
        }
        self.mmu.enter(guest, &mut world.map);
        if guest.selectors() {
            if flushed || self.descriptors.outdated(guest, &world.map) {
                self.descriptors.refresh(guest, world, &mut self.mmu.shadow);
            }
            let mode = Mode::of(guest).unwrap_or(Mode::Kernel);
            self.descriptors.set_ring(&mut world.map.ram, mode.ring());
        }
    }

    /// Writes to traced frames that did not fault: emulated ones, and those of bus masters.
    fn take_traces(&mut self, guest: &Cpu, world: &mut World) {
        if !world.map.traces.is_hit() {
            return;
        }
        if !std::mem::take(&mut self.wrote) {
            self.note_origin(guest, world, true);
        }
        for (at, len) in world.map.traces.take_hits() {
            let why = self.mmu.shadow.traced(at);
            if why.contains(Reason::PAGE_TABLE) {
                self.mmu.written(&mut world.map, at, len);
            }
            if why.contains(Reason::DESCRIPTORS) {
                self.descriptors.written(world, at, len);
            }
        }
    }

    /// Tells the journal, if there is one, whose changes come next.
    fn note_origin(&mut self, guest: &Cpu, world: &World, outside: bool) {
        if let Some(journal) = &mut self.mmu.shadow.journal {
            let bytes = world.peek(guest, Linear(guest.linear_eip()), MAX_INSN_LEN);
            journal.set_origin(Origin::of(guest, bytes, outside));
        }
    }

    /// The real TLB forgets what the shadow no longer says.
    pub(super) fn drop_stale(&mut self, world: &mut World) {
        let stale = self.mmu.shadow.target.take_stale();
        let tlb = world.machine_tlb();
        if bug::on(Bug::StaleTlb) {
            return;
        }
        if stale.all {
            tlb.flush(true);
        } else {
            stale.pages.into_iter().for_each(|at| tlb.invalidate(at));
        }
    }

    /// The guest is about to run.
    pub(super) fn audit_before(&mut self, world: &World) -> Option<Before> {
        let (tables, descriptors) = (&self.mmu.shadow.target, &self.descriptors);
        self.audit.as_mut().map(|audit| audit::before(audit, &self.real, &world.map.ram, tables, descriptors))
    }

    /// It stopped.
    pub(super) fn audit_after(&mut self, world: &World, before: Option<&Before>) {
        if let (Some(audit), Some(before)) = (&mut self.audit, before) {
            let (tables, descriptors) = (&self.mmu.shadow.target, &self.descriptors);
            audit::after(audit, before, &self.real, &world.map.ram, tables, descriptors);
        }
    }

    /// Runs the guest on the real processor until something stops it. `None`: it can go on.
    fn run_direct(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Option<Stop> {
        self.drop_stale(world);
        let start = guest.now;
        let sealed = seal::take(&world.map.ram, &self.mmu.shadow.target, &self.descriptors);
        let before = self.audit_before(world);
        world.enter_machine();
        let stop = self.direct.run(&mut self.real, world, until);
        world.leave_machine();
        seal::check(sealed, &world.map.ram, &self.mmu.shadow.target, &self.descriptors);
        self.audit_after(world, before.as_ref());
        self.v.decompose(&self.real, &self.descriptors, guest);
        self.counts.entries += 1;
        self.counts.direct += guest.now - start;
        self.stopped(guest, world, stop, self.direct.resumed())
    }

    /// The real processor stopped, and its state is the guest's again; an instruction that faulted had begun with RF or not. `None`: the
    /// guest can go on.
    pub(super) fn stopped(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        stop: Stop,
        resumed: bool,
    ) -> Option<Stop> {
        match stop {
            Stop::Budget => Some(Stop::Budget),
            Stop::Exit(_) => None,
            // Before anything is done about the fault, which comes again: resolving it may set accessed bits, which on the bare
            // machine nobody sees before the instruction has run. A debug trap is of the instruction that ran, and does not come again.
            Stop::Fault(fault) if self.owes_boundary(guest) && !is_debug_trap(guest, fault) => {
                if resumed {
                    set_resume(guest, true);
                }
                Some(self.look_up(guest))
            }
            Stop::Fault(fault) => {
                // A hidden fault must leave RF to the instruction, whose code breakpoints are still to be ignored. A fault of
                // the guest's own leaves it as the processor does.
                let left = guest.system_flags.contains(Eflags::RF);
                if resumed {
                    set_resume(guest, true);
                }
                self.resume_left = left;
                self.fault(guest, world, fault)
            }
        }
    }

    /// Whether something ran, or an event was delivered, that is to be seen before more is done.
    pub(super) fn owes_boundary(&self, guest: &Cpu) -> bool {
        self.by_boundary && guest.now != self.looked_up
    }

    /// Comes back at a boundary.
    pub(super) fn look_up(&mut self, guest: &Cpu) -> Stop {
        self.looked_up = guest.now;
        BOUNDARY
    }

    /// A fault of the real processor.
    fn fault(&mut self, guest: &mut Cpu, world: &mut World, fault: Fault) -> Option<Stop> {
        if let Some(at) = fault.address() {
            return self.page_fault(guest, world, Linear(at), fault);
        }
        const EMULATED: [Vector; 6] =
            [Vector::Gp, Vector::Np, Vector::Ss, Vector::Ts, Vector::Ud, Vector::Mf];
        if EMULATED.iter().any(|v| fault.is(*v)) {
            // An x87 exception is the guest's own, also where it comes to it by way of the board.
            let cause = if fault.is(Vector::Mf) { Cause::Reflected } else { self.cause(guest, world) };
            return self.emulate(guest, world, cause);
        }
        self.count(world, Cause::Reflected, place(guest));
        Some(self.reflect(guest, fault))
    }

    /// The fault is the guest's own.
    fn reflect(&self, guest: &mut Cpu, fault: Fault) -> Stop {
        set_resume(guest, self.resume_left);
        Stop::Fault(fault)
    }

    /// What the instruction that faulted is about.
    fn cause(&mut self, guest: &Cpu, world: &mut World) -> Cause {
        self.emulator.peek(guest, world).map_or(Cause::Truncated, |insn| Cause::of(&insn))
    }

    fn page_fault(&mut self, guest: &mut Cpu, world: &mut World, at: Linear, fault: Fault) -> Option<Stop> {
        if layout::is_nowhere(at) && fault.code().is_none_or(|code| code & pf::USER == 0) {
            // The descriptor tables are concealed from the guest's user code.
            let cause = self.cause(guest, world);
            return self.emulate(guest, world, cause);
        }
        self.note_origin(guest, world, false);
        let write = fault.code().is_some_and(|code| code & pf::WRITE != 0);
        let access = Access { user: guest.user, write };
        let rereads = |world: &World, walked: &Walked| rereads(guest, world, (at, access), walked);
        match self.mmu.resolve(guest, world, at, access, rereads) {
            Resolution::Marks => self.emulate_access(guest, world),
            Resolution::Filled => {
                if bug::on(Bug::EmulateFilled) {
                    return self.emulate(guest, world, Cause::HiddenPageFault);
                }
                self.count(world, Cause::HiddenPageFault, place(guest));
                None
            }
            Resolution::Guest(_) if writes_before_faults(guest, world) => {
                self.emulate(guest, world, Cause::TruePageFault)
            }
            Resolution::Guest(fault) => {
                self.count(world, Cause::TruePageFault, place(guest));
                Some(self.reflect(guest, fault))
            }
            Resolution::Traced(why) => {
                let table = why.contains(Reason::PAGE_TABLE);
                let cause = if table { Cause::TracePageTable } else { Cause::TraceDescriptors };
                self.emulate(guest, world, cause)
            }
            Resolution::Mmio => self.emulate(guest, world, Cause::Mmio),
        }
    }

    /// Runs the instruction at CS:EIP, of a repeated one an iteration, on the virtual processor for the sake of its accesses'
    /// order. What it touched is mapped when it is touched again.
    fn emulate_access(&mut self, guest: &mut Cpu, world: &mut World) -> Option<Stop> {
        let deadline = std::mem::replace(&mut guest.deadline, guest.now + 1);
        let stop = self.emulate(guest, world, Cause::HiddenPageFault);
        guest.deadline = deadline;
        // The rest of a repeated one runs by itself.
        self.cut_short = None;
        stop
    }

    /// Runs the instruction at CS:EIP on the virtual processor: the semantics of the bare machine on the guest's state.
    fn emulate(&mut self, guest: &mut Cpu, world: &mut World, cause: Cause) -> Option<Stop> {
        let at = place(guest);
        let translated = !bt::is_safe(guest, self.v.mode());
        let (retired, stop) = self.step(guest, world);
        let cause = match stop {
            Some(Stop::Fault(fault)) if retired == 0 => own(cause, fault),
            _ => cause,
        };
        if let Some(translation) = &mut self.translation
            && translated
        {
            translation.exited(Linear(at.linear), cause);
        }
        self.count(world, cause, at);
        self.counts.emulated += retired;
        if bug::on(Bug::OverBudget) || (bug::on(Bug::CostlyLog) && self.log.is_some()) {
            guest.now += 2;
        }
        stop
    }

    /// One instruction on the virtual processor: how many ticks it took, and its fault if it raised one.
    fn step(&mut self, guest: &mut Cpu, world: &mut World) -> (Ticks, Option<Stop>) {
        let (start, eip) = (guest.now, guest.eip);
        // Anything else ends it after each iteration by itself.
        let free = !guest.steps_iterations();
        // It sees the guest's tables as they are: fresher than it must, and so no staler than the shadow.
        world.tlb.flush(true);
        self.note_origin(guest, world, false);
        let result = self.emulator.step(guest, world);
        self.wrote = world.map.traces.is_hit();
        let stands = guest.mid_string && guest.eip == eip;
        let cut = free && stands && !guest.leave.get() && guest.now >= guest.deadline;
        self.cut_short = cut.then_some(CutShort { eip, adapted: None });
        (guest.now - start, result.err().map(Stop::Fault))
    }

    /// Goes on with what was cut short.
    fn go_on(&mut self, guest: &mut Cpu, world: &mut World, cut: &CutShort) -> Option<Stop> {
        _ = world.take_reached_chip();
        let stop = self.call_out(guest, world);
        if let Some((at, met)) = cut.adapted {
            self.adapted_ran(world, at, met);
        }
        stop
    }

    /// The adapted access at `at` ran, or a part of it, before which it had met something or not.
    pub(super) fn adapted_ran(&mut self, world: &mut World, at: Linear, met: bool) {
        let met = world.take_reached_chip() || world.map.traces.is_hit() || met;
        match &mut self.cut_short {
            Some(cut) => cut.adapted = Some((at, met)),
            None => self.judge(at, met),
        }
    }

    /// The adapted access at `at` ran; whether it met anything.
    fn judge(&mut self, at: Linear, met: bool) {
        if let Some(translation) = &mut self.translation {
            translation.called_out(at, met);
        }
    }

    /// Runs the instruction at CS:EIP on the virtual processor because translated code says so, or because that began already.
    pub(super) fn call_out(&mut self, guest: &mut Cpu, world: &mut World) -> Option<Stop> {
        let (retired, stop) = self.step(guest, world);
        self.counts.emulated += retired;
        stop
    }

    /// Runs one instruction on the virtual processor because its state has no image.
    fn interpret(&mut self, guest: &mut Cpu, world: &mut World, why: Obstacle) -> Option<Stop> {
        let (retired, stop) = self.step(guest, world);
        *self.counts.interpreted.entry(why).or_default() += retired;
        // There is a reason again.
        self.cut_short = None;
        stop
    }

    /// An interrupt waits, and only a one-instruction shadow holds it off.
    fn window_opens(guest: &Cpu, world: &World) -> bool {
        world.interrupt_requested() && guest.system_flags.contains(Eflags::IF)
    }

    fn compose(&mut self, guest: &Cpu, world: &World) -> Result<(), Obstacle> {
        if world.board.numeric_error_waits() && !guest.cr0.contains(Cr0::NE) {
            return Err(Obstacle::X87Error);
        }
        let Some(root) = self.mmu.shadow.target.directory() else { return Err(Obstacle::NoShadow) };
        self.v.compose(guest, &self.descriptors, root, &mut self.real)?;
        if self.translation.is_some() && self.v.mode().is_users() {
            bt::conceal(guest, &mut self.real);
        }
        Ok(())
    }

    /// Runs the guest, whose image is composed.
    fn run_image(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Option<Stop> {
        if self.translation.is_some() && !bt::is_safe(guest, self.v.mode()) {
            self.run_translated(guest, world, until)
        } else {
            self.run_direct(guest, world, until)
        }
    }
}

fn set_resume(guest: &mut Cpu, on: bool) {
    guest.system_flags.set(Eflags::RF, on);
    guest.refresh();
}

/// Whether it is a trap, after an instruction, and not a code breakpoint, before one.
fn is_debug_trap(guest: &Cpu, fault: Fault) -> bool {
    let (dr6, dr7) = (fault.dr6(), Dr7(guest.dr[7]));
    let data = |n: usize| dr6 & (1 << n) != 0 && dr7.watch(n) != Watch::Code;
    dr6 & (DR6_BS | DR6_BT) != 0 || (0..4).any(data)
}

/// Where the guest is.
#[derive(Clone, Copy)]
struct Place {
    now: Ticks,
    cs: u16,
    eip: u32,
    linear: u32,
}

fn place(guest: &Cpu) -> Place {
    let cs = guest.seg(SegReg::Cs).selector.0;
    Place { now: guest.now, cs, eip: guest.eip, linear: guest.linear_eip() }
}

/// The instruction at CS:EIP, as far as it is mapped and is one.
fn insn_at(guest: &Cpu, world: &World) -> Option<Insn> {
    let code = world.peek(guest, Linear(guest.linear_eip()), MAX_INSN_LEN);
    match decode(&code, guest.code32()) {
        Decoded::Insn(insn) => Some(insn),
        _ => None,
    }
}

/// Whether the instruction at CS:EIP, for whose access at `at` a walk would mark entries, may have read them before: as its own code,
/// or as data.
fn rereads(guest: &Cpu, world: &World, (at, access): (Linear, Access), walked: &Walked) -> bool {
    let start = Linear(guest.linear_eip());
    if at == start && !access.write {
        // Its first byte is fetched.
        return false;
    }
    let insn = insn_at(guest, world);
    let len = insn.map_or(MAX_INSN_LEN as u32, |insn| insn.len.into());
    // The rest of its code is, in the next page. (A read of data there cannot fault any more once code was fetched from it.)
    let fetches = !access.write && at == start.offset(len - 1).page();
    let mut code = (0..len).filter_map(|n| world.peek_address(guest, start.offset(n)));
    code.any(|byte| walked.marks_byte(byte)) || (!fetches && insn.is_some_and(|i| i.touches_after_reading()))
}

/// Whether the instruction at CS:EIP writes several times, and so may have before its fault: the real processor has found that
/// first ([`Env::restarts`]), the virtual one leaves what the bare machine leaves.
///
/// [`Env::restarts`]: crate::exec::Env::restarts
fn writes_before_faults(guest: &Cpu, world: &World) -> bool {
    insn_at(guest, world).is_some_and(|insn| matches!(insn.op, Op::Enter | Op::Pusha))
}

/// The cause of an exit whose emulation found this fault, the guest's own.
fn own(cause: Cause, fault: Fault) -> Cause {
    match cause {
        Cause::TruePageFault if fault.address().is_none() => Cause::Reflected,
        Cause::HiddenPageFault if fault.address().is_some() => Cause::TruePageFault,
        Cause::TracePageTable | Cause::TraceDescriptors | Cause::Mmio => cause,
        Cause::SoftwareInterrupt | Cause::TruePageFault => cause,
        _ => Cause::Reflected,
    }
}

impl Monitor for Trap {
    fn cell(&self) -> Cell {
        self.cell
    }

    fn report(&self) -> Report {
        Report {
            cell: self.cell,
            counts: self.counts.clone(),
            exits: self.exits.clone(),
            shadow: Some(ShadowFigures {
                counts: self.mmu.shadow.counts.clone(),
                most_tables: self.mmu.shadow.target.frames().1,
            }),
            translation: self.translation.as_ref().map(|translation| translation.figures()),
            audit: self.audit.clone(),
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn exits(&self) -> &Exits {
        &self.exits
    }

    fn log_exits(&mut self, on: bool) {
        self.log = on.then(Vec::new);
    }

    fn take_log(&mut self) -> Vec<Exit> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn processor(&self) -> Option<&dyn ProcessorView> {
        Some(self)
    }

    fn shadow(&self) -> Option<&dyn ShadowView> {
        Some(&self.mmu)
    }

    fn shadow_mut(&mut self) -> Option<&mut dyn ShadowView> {
        Some(&mut self.mmu)
    }

    fn translation(&self) -> Option<&dyn TranslationView> {
        self.translation.as_deref().map(|translation| translation as &dyn TranslationView)
    }

    fn translation_mut(&mut self) -> Option<&mut dyn TranslationView> {
        self.translation.as_deref_mut().map(|translation| translation as &mut dyn TranslationView)
    }

    fn run(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Stop {
        // Nothing looks up in the midst of code that runs by itself, and there it goes wrong and heals.
        let alone = self.by_boundary && self.translation.is_none();
        let until = if alone { until.min(guest.now + 1) } else { until };
        guest.deadline = until;
        loop {
            if let Some(stop) = self.emulator.boundary(guest, world) {
                return stop;
            }
            self.sync(guest, world);
            let (going, gone) = match self.cut_short.take() {
                Some(cut) if guest.mid_string && cut.eip == guest.eip => (Some(cut), None),
                cut => (None, cut),
            };
            if let Some((at, met)) = gone.and_then(|cut| cut.adapted) {
                self.judge(at, met);
            }
            let stop = if let Some(cut) = going {
                self.go_on(guest, world, &cut)
            } else if Self::window_opens(guest, world) {
                self.emulate(guest, world, Cause::InterruptWindow)
            } else {
                match self.compose(guest, world) {
                    Ok(()) => self.run_image(guest, world, until),
                    Err(why) => self.interpret(guest, world, why),
                }
            };
            if let Some(stop) = stop {
                return stop;
            }
            if self.by_boundary {
                return self.look_up(guest);
            }
        }
    }

    fn stop_at_boundaries(&mut self, on: bool) {
        self.by_boundary = on;
        if let Some(translation) = &mut self.translation {
            translation.translator.by_unit = on;
        }
    }

    fn interrupted(&mut self, guest: &Cpu, world: &mut World) {
        self.count(world, Cause::ExternalInterrupt, place(guest));
    }

    fn follow(&mut self, guest: &Cpu, world: &mut World) {
        self.sync(guest, world);
        self.drop_stale(world);
    }

    fn forget(&mut self, _: &mut World) {
        self.map_epoch = None;
        self.cut_short = None;
    }
}

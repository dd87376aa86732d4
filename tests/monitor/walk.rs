//! One guest on the bare machine and under a monitor, step by step, and what must hold of each step. How long
//! a step is, a [`Grain`] says: a tick, or to where the monitor looks up, which in translated code is the end
//! of a unit, be it of one instruction.
//!
//! **The homomorphism**: where the real processor ran the instructions by itself, it now is in the state that
//! V makes of the guest's: V(step(s)) = step'(V(s)). V's inverse gives the guest's state back, before and
//! after.
//!
//! **Efficiency**: an innocuous instruction made the monitor run only for a reason that [`reason`] knows, and
//! was then run by the real processor itself, unless that reason is one to emulate it. Translated code calls
//! out, or runs an inline sequence, for no innocuous instruction, unless the rule is about such ones, or its
//! access kept exiting.
//!
//! **Resource control**: the real IF is on and the real IOPL below the real CPL at every look, no chip was
//! reached past the monitor, nothing of the monitor's was changed by the guest's own run, no page maps what
//! is not the guest's, and time is where it was to be.
//!
//! **Coherence**: what the shadow allows, the guest's tables allow; see [`super::stale`].

use super::audit::audit;
use super::pair::{Cell, Tested, monitor, run_to};
use super::stale::Coherent;
use crate::vmm::bt::rules;
use crate::vmm::integrity;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use subring::addr::GuestPhys;
use subring::bus::phys::Target;
use subring::cell::{Coherence, Strategy};
use subring::classify::Class;
use subring::classify::verdict::verdict;
use subring::clock::When;
use subring::cpu::vmx::{self, Field, Pin, Primary, Vmx};
use subring::cpu::{Cpu, Cr4, Eflags};
use subring::decode::{Decoded, Insn, MAX_INSN_LEN, Op, SegReg, decode, disassemble};
use subring::event::{Event, Sink};
use subring::lab::state;
use subring::machine::{Limits, Machine, Outcome, Wants, Watcher};
use subring::report::Change;
use subring::report::Obstacle;
use subring::report::{Cause, Exit};
use subring::translate::RuleId;
use subring::vmm::layout;

/// Hidden page faults that one instruction may need: its pages, each perhaps for reading and again for
/// writing, and again when a frame had to be taken from another.
const MOST_HIDDEN: usize = 24;

/// Exits of an access after which a callout takes its place: see `vmm::bt::adapt`.
const PATIENCE: u64 = 16;
const ADAPTING: [Cause; 4] = [Cause::TracePageTable, Cause::TraceDescriptors, Cause::Mmio, Cause::Truncated];
/// Steps between two looks at all shadow page tables.
const AUDIT: u64 = 16;
/// Boundaries at which time may stand still.
const MOST_TURNS: u32 = 10_000;
/// Rules about instructions that are innocuous by themselves: they read through CS, which translated code has
/// wider than it is truncated, and x87 state, which holds a selector of CS.
const OF_INNOCUOUS: [&str; 2] = ["CODE-READ", "X87-STATE"];

/// How long a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// One tick.
    Tick,
    /// To the monitor's next boundary: the next exit, or in translated code the end of a unit, of so many
    /// instructions at most and a branch or a rewritten one at their end.
    Unit(usize),
}

impl Grain {
    /// One of those that there are under `cell`, another for the next `n`.
    pub(super) fn nth(cell: Cell, n: u64) -> Self {
        let all = Self::of(cell);
        all[n as usize % all.len()]
    }

    /// Those that there are under `cell`.
    pub(super) fn of(cell: Cell) -> &'static [Self] {
        match cell.strategy() {
            Strategy::Bt => &[Self::Tick, Self::Unit(1), Self::Unit(64)],
            Strategy::Bare | Strategy::Trap | Strategy::Hvm => &[Self::Tick, Self::Unit(64)],
        }
    }
}

/// What of it is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    pub(super) homomorphism: bool,
    pub(super) efficiency: bool,
    pub(super) control: bool,
    pub(super) coherence: bool,
    /// The two must not part, be it at a sensitive instruction.
    pub(super) strict: bool,
}

/// What a walk saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Instructions that the real processor ran by itself, with both sides of the diagram compared.
    pub(super) compared: u64,
    /// States that V and its inverse gave back.
    pub(super) returned: u64,
    pub(super) direct: u64,
    pub(super) emulated: u64,
    pub(super) interpreted: u64,
    /// Exits of innocuous instructions, by cause.
    pub(super) innocuous: BTreeMap<Cause, u64>,
    /// Walks that ended where the two parted.
    pub(super) parted: u64,
    /// Instructions of translated code, of those that ran by themselves.
    pub(super) translated: u64,
    /// Callouts of innocuous instructions whose access kept exiting.
    pub(super) adapted: u64,
    /// Shadow entries that were held against the guest's tables.
    pub(super) entries: u64,
    /// Translations in use whose page-table entries the guest wrote to, as the traces saw it.
    pub(super) live_writes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.returned += other.returned;
        self.direct += other.direct;
        self.emulated += other.emulated;
        self.interpreted += other.interpreted;
        self.parted += other.parted;
        self.translated += other.translated;
        self.adapted += other.adapted;
        self.entries += other.entries;
        self.live_writes += other.live_writes;
        for (cause, n) in &other.innocuous {
            *self.innocuous.entry(*cause).or_default() += n;
        }
    }
}

/// What the bare machine did in a step.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) insns: Vec<(u32, Vec<u8>, bool)>,
    /// EIP and vector.
    faults: Vec<(u32, u8)>,
    /// Linear address, guest-physical address, bytes, whether written.
    accesses: Vec<(u32, GuestPhys, u32, bool)>,
}

struct Keep(Rc<RefCell<Seen>>);

impl Sink for Keep {
    fn record(&mut self, _: When, event: &Event<'_>) {
        let mut seen = self.0.borrow_mut();
        match *event {
            Event::Insn { eip, bytes, code32, .. } => seen.insns.push((eip, bytes.to_vec(), code32)),
            Event::Fault { eip, vector, .. } => seen.faults.push((eip, vector)),
            Event::Memory { at, phys, width, write, .. } => seen.accesses.push((at.0, phys, width, write)),
            _ => {}
        }
    }
}

/// What the monitor counted.
#[derive(Clone, Default)]
struct Counted {
    /// Instructions that ran by themselves, translated or not, that were emulated, that were interpreted.
    direct: u64,
    emulated: u64,
    interpreted: u64,
    callouts: BTreeMap<RuleId, u64>,
    inlined: u64,
}

impl Counted {
    fn of(m: &Machine) -> Self {
        let counts = monitor(m).counts();
        let mut counted = Self {
            direct: counts.direct + counts.translated,
            emulated: counts.emulated,
            interpreted: counts.interpreted.values().sum(),
            ..Self::default()
        };
        if let Some(translation) = m.translation() {
            counted.callouts = translation.callouts().clone();
            counted.inlined = translation.inlined();
        }
        counted
    }

    /// What was counted since.
    fn since(&self, before: &Self) -> Self {
        let of = |id: &RuleId| before.callouts.get(id).copied().unwrap_or(0);
        let callouts = self.callouts.iter().map(|(id, n)| (*id, n - of(id))).filter(|(_, n)| *n > 0);
        Self {
            direct: self.direct - before.direct,
            emulated: self.emulated - before.emulated,
            interpreted: self.interpreted - before.interpreted,
            callouts: callouts.collect(),
            inlined: self.inlined - before.inlined,
        }
    }
}

/// The two machines.
pub(super) struct Walk {
    bare: Machine,
    other: Machine,
    seen: Rc<RefCell<Seen>>,
    looks: Looks,
    /// The two may part at a sensitive instruction.
    may_part: bool,
    grain: Grain,
    coherent: Coherent,
    tally: Tally,
    /// EIP of a rewritten instruction that found a fault, to which the bare machine has not come yet.
    ahead: Option<u32>,
    /// EIP of a repeated instruction whose emulation the end of the step before cut short.
    repeating: Option<u32>,
}

impl Walk {
    /// `make` makes the guest's machine; the walk begins at tick `from`.
    pub(super) fn new(make: impl Fn() -> Machine, cell: Cell, grain: Grain, from: u64, looks: Looks) -> Self {
        let (mut bare, mut other) = (make(), make());
        cell.put(&mut other, 11);
        run_to(&mut bare, from);
        run_to(&mut other, from);
        let seen = Rc::new(RefCell::new(Seen::default()));
        let wants = Wants { insn: true, fault: true, memory: true, ..Wants::default() };
        bare.watch(Some(Watcher { wants, sink: Box::new(Keep(Rc::clone(&seen))) }));
        let under = other.monitor_mut().expect("a monitor");
        under.log_exits(true);
        if let (Grain::Unit(most), Some(translation)) = (grain, under.translation_mut()) {
            translation.translator_mut().limits_mut().unit = most;
            translation.translator_mut().forget();
        }
        integrity::watch(looks.control);
        let coherent = Coherent::new(cell.coherence() == Some(Coherence::Trace));
        let may_part = cell.parts_at_sensitive() && !looks.strict;
        let tally = Tally::default();
        Self { bare, other, seen, looks, may_part, grain, coherent, tally, ahead: None, repeating: None }
    }

    /// Walks `ticks`, or to where the two part or end.
    pub(super) fn run(mut self, ticks: u64) -> Result<Tally, String> {
        let end = self.bare.cpu.now + ticks;
        let mut steps = 0;
        while self.now() < end && self.step(end, steps)? {
            steps += 1;
        }
        let Counted { direct, emulated, interpreted, .. } = Counted::of(&self.other);
        self.tally.translated = monitor(&self.other).counts().translated;
        let synced = self.other.shadow().and_then(|mmu| mmu.counts().changes.get(&Change::Synced).copied());
        self.tally.live_writes = synced.unwrap_or(0);
        (self.tally.direct, self.tally.emulated, self.tally.interpreted) = (direct, emulated, interpreted);
        Ok(std::mem::take(&mut self.tally))
    }

    /// Where it is: control is kept of what the guest does under the monitor, whatever the bare machine does.
    fn now(&self) -> u64 {
        if self.looks.control { self.other.cpu.now } else { self.bare.cpu.now }
    }

    /// One step; whether it goes on.
    fn step(&mut self, end: u64, steps: u64) -> Result<bool, String> {
        *self.seen.borrow_mut() = Seen::default();
        let before = Counted::of(&self.other);
        let from = self.now();
        let (to, b) = match self.grain {
            Grain::Tick => (from + 1, run_to(&mut self.other, from + 1)),
            Grain::Unit(_) => {
                let ended = run_to_boundary(&mut self.other, end);
                // Only a run beyond its end shows that the bare machine ends, too.
                (if ended.is_some() { end } else { self.other.cpu.now }, ended)
            }
        };
        if self.looks.coherence {
            self.coherent.meet(&self.other, &self.bare);
        }
        let mut a = None;
        while a.is_none() && self.bare.cpu.now < to {
            let so_far = self.seen.borrow().insns.len();
            let next = self.bare.cpu.now + 1;
            a = run_to(&mut self.bare, next);
            // What random guests forget to flush is then as fresh here as under a monitor.
            self.bare.world.tlb.flush(true);
            if self.looks.coherence {
                self.coherent.follow(&self.bare, &self.seen.borrow().insns[so_far..]);
            }
        }
        let log = self.take_log();
        if self.bare.cpu.mid_string && !self.other.cpu.mid_string && !self.looks.control && self.compares() {
            // In the midst of a repeated comparison a hidden fault gives the flags back; the bare machine
            // does not fault there. It is no boundary of the guest's.
            return Ok(true);
        }
        if self.looks.control {
            let bound = if self.grain == Grain::Tick { to } else { end };
            self.control(bound, steps).map_err(|e| format!("control: {e} ({})", self.place()))?;
            // Control is kept of whatever the guest does, that which it does on the bare machine or another
            // thing.
            return Ok(b.is_none_or(|outcome| outcome == Outcome::Reset));
        }
        let sensitive = self.seen.borrow().insns.iter().any(|(_, bytes, code32)| sensitive(bytes, *code32));
        let may = sensitive && self.may_part;
        let differs = a != b || !alike(&self.bare.cpu, &self.other.cpu);
        // What went wrong may lie in memory alone, and show later.
        if may && (differs || !state::same(&self.bare, &self.other)) {
            self.tally.parted += 1;
            return Ok(false);
        }
        if differs && !self.looks.homomorphism {
            return Err(format!("equivalence: the guest went another way ({})", self.place()));
        }
        let did = Counted::of(&self.other).since(&before);
        self.look(&log, &did, self.bare.cpu.now - from)?;
        Ok(a.is_none_or(|outcome| outcome == Outcome::Reset))
    }

    /// Whether the bare machine ran a comparison of strings last.
    fn compares(&self) -> bool {
        let seen = self.seen.borrow();
        let last = seen.insns.last().map(|(_, bytes, code32)| decode(bytes, *code32));
        matches!(last, Some(Decoded::Insn(insn)) if matches!(insn.op, Op::Cmps | Op::Scas))
    }

    fn take_log(&mut self) -> Vec<Exit> {
        self.other.monitor_mut().expect("a monitor").take_log()
    }

    fn look(&mut self, log: &[Exit], did: &Counted, ticks: u64) -> Result<(), String> {
        if self.looks.homomorphism {
            self.homomorphism(log, did).map_err(|e| format!("homomorphism: {e} ({})", self.place()))?;
        }
        if self.looks.efficiency {
            self.efficiency(log, did, ticks).map_err(|e| format!("efficiency: {e} ({})", self.place()))?;
        }
        if self.looks.coherence {
            let entries = self.coherent.check(&self.other);
            self.tally.entries += entries.map_err(|e| format!("coherence: {e} ({})", self.place()))?;
        }
        Ok(())
    }

    /// Where the walk is, for messages.
    fn place(&self) -> String {
        let seen = self.seen.borrow();
        let text = seen.insns.iter().map(|(eip, bytes, code32)| {
            if bytes.is_empty() {
                format!("{eip:08x}: not mapped")
            } else {
                disassemble(bytes, *code32, *eip)
            }
        });
        format!("tick {}: {}", self.bare.cpu.now, text.collect::<Vec<_>>().join("; "))
    }

    fn homomorphism(&mut self, log: &[Exit], did: &Counted) -> Result<(), String> {
        let quiet = log.iter().all(|e| is_fill(e.cause));
        let alone = did.direct > 0 && did.emulated + did.interpreted == 0;
        if !alone || !quiet || !self.seen.borrow().faults.is_empty() {
            return Ok(());
        }
        differ("step(s)", &self.bare.cpu, "what V's inverse makes of step'(V(s))", &self.other.cpu)?;
        let processor = monitor(&self.other).processor().expect("a real processor");
        let s = &self.bare.cpu;
        let image = match processor.image(s) {
            Ok(image) => image,
            Err(Obstacle::NoShadow) => return Ok(()),
            // A segment register that the inline sequence loaded may hold what the real one cannot. All else
            // lasts.
            Err(Obstacle::MonitorsRegion | Obstacle::Unloadable) if did.inlined > 0 => return Ok(()),
            Err(why) => {
                return Err(format!("the state after the instruction has no image: {}", why.sentence()));
            }
        };
        let mut real = processor.real().clone();
        if self.grain != Grain::Tick {
            // The real processor has tried the instruction at which the step ends, which takes RF away.
            real.system_flags.set(Eflags::RF, image.real.system_flags.contains(Eflags::RF));
        }
        differ("V(step(s))", &image.real, "step'(V(s))", &real)?;
        self.tally.compared += 1;
        differ("s", s, "V's inverse of V(s)", &image.guest)?;
        self.tally.returned += 1;
        Ok(())
    }

    fn efficiency(&mut self, log: &[Exit], did: &Counted, ticks: u64) -> Result<(), String> {
        let seen = self.seen.borrow();
        for exit in log {
            let Some((_, bytes, code32)) = seen.insns.iter().find(|(eip, ..)| *eip == exit.eip) else {
                continue;
            };
            if !innocuous(bytes, *code32) {
                continue;
            }
            *self.tally.innocuous.entry(exit.cause).or_default() += 1;
            let Decoded::Insn(insn) = decode(bytes, *code32) else { continue };
            if !reason(exit, &insn, &seen, &self.other) {
                let text = disassemble(bytes, *code32, exit.eip);
                return Err(format!("{text} is innocuous, and exited by {}", exit.cause.name()));
            }
        }
        let hidden = log.iter().filter(|e| is_fill(e.cause)).count();
        if hidden > MOST_HIDDEN * seen.insns.len().max(1) {
            return Err(format!("{hidden} hidden page faults in one tick"));
        }
        // Rewritten ones, each of which called out, or ran its sequence.
        let ruled = did.callouts.iter().filter(|(id, _)| **id != rules::ADAPTED && !of_innocuous(**id));
        let due = self.ahead.take();
        if let Some(at) = due
            && !seen.faults.iter().any(|fault| fault.0 == at)
        {
            return Err(format!("the instruction at {at:08x} was rewritten for nothing"));
        }
        let rewritten = ruled.map(|(_, n)| n).sum::<u64>() + did.inlined + u64::from(due.is_some());
        let others = seen.insns.iter().filter(|(_, bytes, code32)| !innocuous(bytes, *code32)).count() as u64;
        match rewritten.saturating_sub(others) {
            0 => {}
            // It found a fault, which comes with the next step.
            1 if self.grain != Grain::Tick => self.ahead = Some(self.other.cpu.eip),
            _ => {
                return Err(format!(
                    "{rewritten} instructions were rewritten, and {others} are not innocuous"
                ));
            }
        }
        let Some((eip, bytes, code32)) = seen.insns.last() else { return Ok(()) };
        // A hidden fault does, where the order of the accesses shows.
        let orders = matches!(decode(bytes, *code32), Decoded::Insn(i) if i.touches_after_reading());
        let emulates = |e: &Exit| {
            e.eip == *eip
                && match e.cause {
                    Cause::HiddenPageFault => orders,
                    Cause::Vmx(vmx::Reason::EptViolation) => reached_chip(&seen, &self.other),
                    cause => cause != Cause::ExternalInterrupt,
                }
        };
        let adapted = did.callouts.get(&rules::ADAPTED).copied().unwrap_or(0);
        if adapted > 0 {
            // It is the last one, or the one before, which faulted.
            let base = self.other.cpu.segs[1].base;
            let sites = &monitor(&self.other).exits().by_site;
            let of = |at: u32| ADAPTING.iter().filter_map(move |cause| sites.get(&(*cause, at))).sum::<u64>();
            if !seen.insns.iter().any(|(eip, ..)| of(base.wrapping_add(*eip)) >= PATIENCE) {
                return Err("an access calls out that did not keep exiting".into());
            }
            self.tally.adapted += adapted;
        }
        let called = did.callouts.keys().any(|id| *id == rules::ADAPTED || of_innocuous(*id));
        let asked_for = log.iter().any(emulates) || called || self.repeating == Some(*eip);
        let cut_short = did.emulated != 0 && self.other.cpu.mid_string && self.other.cpu.eip == *eip;
        self.repeating = cut_short.then_some(*eip);
        if did.emulated != 0 && innocuous(bytes, *code32) && !asked_for {
            return Err("an innocuous instruction was emulated for no reason".into());
        }
        let all = did.direct + did.emulated + did.interpreted;
        if all > ticks {
            return Err(format!("{all} instructions ran in {ticks} ticks"));
        }
        Ok(())
    }

    fn control(&self, to: u64, steps: u64) -> Result<(), String> {
        let monitor = monitor(&self.other);
        let real = monitor.processor().expect("a real processor").real();
        if let Some(vmx) = &real.vmx {
            controlled(vmx, real, &self.other)?;
        } else if monitor.counts().entries != 0 {
            // Until it first ran the guest, the real processor is as after its reset.
            if !real.system_flags.contains(Eflags::IF) {
                return Err("the real IF is off".into());
            }
            // User code may see an IOPL that gives it nothing.
            if real.cpl == 0 || real.iopl() >= real.cpl {
                return Err("the guest runs with the monitor's privilege".into());
            }
        }
        if self.other.world.escapes() != 0 {
            return Err("the real processor reached a chip".into());
        }
        if integrity::broken() != 0 {
            return Err("the guest's own run changed what is the monitor's".into());
        }
        if steps.is_multiple_of(AUDIT) {
            audit(&self.other, false)?;
        }
        // The delivery of an event may take a tick of its own.
        if self.other.cpu.now > to + 1 {
            return Err(format!("it ran to tick {}, and was to stop at {to}", self.other.cpu.now));
        }
        Ok(())
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        integrity::watch(false);
    }
}

/// Under VMX the guest has its own privilege and flags, and control is the control structure's: interrupts, HLT
/// and ports leave the guest, and what translates is the monitor's.
fn controlled(vmx: &Vmx, real: &Cpu, other: &Machine) -> Result<(), String> {
    if vmx.entries == 0 {
        // Nothing is in force until the guest first runs.
        return Ok(());
    }
    let of = |field: Field| vmx.vmcs.get32(field);
    let primary = Primary::from_bits_retain(of(Field::PrimaryControls));
    if of(Field::PinControls) & Pin::EXTERNAL_INTERRUPT.bits() == 0 {
        return Err("external interrupts do not leave the guest".into());
    }
    if !primary.contains(Primary::HLT | Primary::UNCONDITIONAL_IO) {
        return Err("HLT or ports do not leave the guest".into());
    }
    let translates = match other.nested() {
        Some(nested) => vmx.vmcs.get(Field::EptPointer) == nested.pointer(),
        None => primary.contains(Primary::CR3_LOAD) && of(Field::ExceptionBitmap) & 1 << 14 != 0,
    };
    let kept = translates && real.cr4.contains(Cr4::VMXE);
    if kept { Ok(()) } else { Err("the guest translates by itself".into()) }
}

/// Runs to the monitor's next boundary at which time has moved on, or to `end`. `None` when it got there.
pub(super) fn run_to_boundary(m: &mut Machine, end: u64) -> Option<Outcome> {
    let from = m.cpu.now;
    let mut turns = 0;
    loop {
        match m.run_to_boundary(Limits::until(end)) {
            Outcome::Reached if m.cpu.now > from => return None,
            Outcome::Reached => {
                turns += 1;
                assert!(turns < MOST_TURNS, "the monitor runs, and the guest does not");
            }
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
}

/// Whether the rule is about instructions that are innocuous.
fn of_innocuous(rule: RuleId) -> bool {
    OF_INNOCUOUS.contains(&rules::by_id(rule).name)
}

fn differ(of: &str, a: &Cpu, and: &str, b: &Cpu) -> Result<(), String> {
    let same = (a.regs, a.eip, a.eflags(), a.segs, a.cpl) == (b.regs, b.eip, b.eflags(), b.segs, b.cpl)
        && (a.cr0, a.cr2, a.cr3, a.cr4, a.dr) == (b.cr0, b.cr2, b.cr3, b.cr4, b.dr)
        && (a.ldtr, a.tr, a.gdtr, a.idtr) == (b.ldtr, b.tr, b.gdtr, b.idtr)
        && (a.shadow, a.debug_pending) == (b.shadow, b.debug_pending)
        && a.fpu == b.fpu;
    if same {
        return Ok(());
    }
    let found = state::cpu_differences(a, b);
    let list: Vec<_> = found.iter().map(|d| format!("{} {} and {}", d.piece, d.first, d.second)).collect();
    Err(format!("{of} and {and} differ: {}", list.join(", ")))
}

fn alike(a: &Cpu, b: &Cpu) -> bool {
    (a.regs, a.eip, a.eflags(), a.segs) == (b.regs, b.eip, b.eflags(), b.segs)
}

fn sensitive(bytes: &[u8], code32: bool) -> bool {
    matches!(decode(bytes, code32), Decoded::Insn(insn) if verdict(&insn).escapes())
}

fn innocuous(bytes: &[u8], code32: bool) -> bool {
    matches!(decode(bytes, code32), Decoded::Insn(insn) if verdict(&insn).class == Class::Innocuous)
}

/// Whether an exit of this cause may have made a translation, after which the instruction runs by itself.
fn is_fill(cause: Cause) -> bool {
    matches!(cause, Cause::HiddenPageFault | Cause::Vmx(vmx::Reason::EptViolation))
}

/// Whether an access of the instructions that were seen, or a fetch, met something else than RAM.
fn reached_chip(seen: &Seen, m: &Machine) -> bool {
    let ram = |at: GuestPhys, write: bool| {
        let backing = m.world.map.backing(at);
        if write { backing.write == Target::Ram } else { backing.read == Target::Ram }
    };
    let look_up = |at: u32| m.world.peek_address(&m.cpu, subring::addr::Linear(at));
    let fetched = look_up(m.cpu.linear_eip()).is_none_or(|at| !ram(at, false));
    // The last byte of an access may lie elsewhere.
    let last = |at: u32, width: u32| look_up(at.wrapping_add(width - 1));
    fetched
        || seen.accesses.iter().any(|&(at, phys, width, write)| {
            !ram(phys, write) || last(at, width).is_some_and(|at| !ram(at, write))
        })
}

/// Whether there is a reason for this exit of an innocuous instruction: the guest's bare machine shows it.
fn reason(exit: &Exit, insn: &Insn, seen: &Seen, m: &Machine) -> bool {
    let faulted = |page: bool| seen.faults.iter().any(|f| f.0 == exit.eip && (!page || f.1 == 14));
    match exit.cause {
        // How often is looked at elsewhere.
        Cause::HiddenPageFault | Cause::ExternalInterrupt | Cause::InterruptWindow => true,
        Cause::TruePageFault => faulted(true),
        // An x87 exception may go by way of the board; integer instructions are none that report it.
        Cause::Reflected => {
            let reports = (Op::Emms as u16..=Op::Fpu as u16).contains(&(insn.op as u16));
            faulted(false) || (reports && m.world.board.numeric_error_waits())
        }
        Cause::TracePageTable | Cause::TraceDescriptors => seen.accesses.iter().any(|a| a.3),
        Cause::Mmio => reached_chip(seen, m),
        Cause::Truncated => {
            // An access, or code: where its segment is truncated.
            let end = layout::BASE.saturating_sub(m.cpu.seg(SegReg::Cs).base);
            // ENTER probes the stack where it ends up; no access shows that.
            let stack = m.cpu.seg(SegReg::Ss).base.wrapping_add(m.cpu.sp());
            exit.eip.saturating_add(MAX_INSN_LEN as u32) > end
                || (insn.op == Op::Enter && stack.saturating_add(3) >= layout::BASE)
                || seen.accesses.iter().any(|a| a.0.saturating_add(a.2 - 1) >= layout::BASE)
        }
        // How often frames are mapped is looked at elsewhere.
        Cause::Vmx(vmx::Reason::EptViolation | vmx::Reason::ExternalInterrupt) => true,
        Cause::Vmx(vmx::Reason::InterruptWindow | vmx::Reason::TaskSwitch) => true,
        // CPUID leaves the guest whatever the controls are.
        Cause::Vmx(vmx::Reason::Cpuid) => insn.op == Op::Cpuid,
        Cause::Vmx(vmx::Reason::Exception) => faulted(false) || m.world.board.numeric_error_waits(),
        Cause::Privileged
        | Cause::PortIo
        | Cause::Halt
        | Cause::SoftwareInterrupt
        | Cause::SegmentReload
        | Cause::Vmx(_) => false,
    }
}

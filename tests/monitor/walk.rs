//! One guest on the bare machine and under a monitor, tick by tick, and what must hold of each tick.
//!
//! **The homomorphism**: where the real processor ran the instruction by itself, it now is in the state that V makes of the
//! guest's: V(step(s)) = step'(V(s)). V's inverse gives the guest's state back, before and after.
//!
//! **Efficiency**: an innocuous instruction made the monitor run only for a reason that [`reason`] knows, and was then run by the
//! real processor itself, unless that reason is one to emulate it.
//!
//! **Resource control**: the real IF is on and the real IOPL below the real CPL at every look, no chip was reached past the monitor, nothing of the
//! monitor's was changed by the guest's own run, and time is where it was to be.

use super::pair::{Cell, run_to};
use crate::vmm::seal;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use subring::addr::GuestPhys;
use subring::bus::phys::Target;
use subring::classify::Class;
use subring::classify::verdict::verdict;
use subring::cpu::{Cpu, Eflags};
use subring::decode::{Decoded, decode, disassemble};
use subring::event::{Event, Sink};
use subring::lab::state;
use subring::machine::{Machine, Outcome, Wants, Watcher};
use subring::vmm::exit::{Cause, Exit};
use subring::vmm::vcpu::{Obstacle, V};
use subring::vmm::{Trap, layout};

/// Hidden page faults that one instruction may need: its pages, each perhaps for reading and again for writing, and again
/// when a frame had to be taken from another.
const MOST_HIDDEN: usize = 24;

/// What of it is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    pub(super) homomorphism: bool,
    pub(super) efficiency: bool,
    pub(super) control: bool,
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
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.returned += other.returned;
        self.direct += other.direct;
        self.emulated += other.emulated;
        self.interpreted += other.interpreted;
        self.parted += other.parted;
        for (cause, n) in &other.innocuous {
            *self.innocuous.entry(*cause).or_default() += n;
        }
    }
}

/// What the bare machine did in a tick.
#[derive(Default)]
struct Seen {
    insns: Vec<(u32, Vec<u8>, bool)>,
    /// EIP and vector.
    faults: Vec<(u32, u8)>,
    /// Linear address, guest-physical address, bytes, whether written.
    accesses: Vec<(u32, GuestPhys, u32, bool)>,
}

struct Keep(Rc<RefCell<Seen>>);

impl Sink for Keep {
    fn record(&mut self, _: u64, event: &Event<'_>) {
        let mut seen = self.0.borrow_mut();
        match *event {
            Event::Insn { eip, bytes, code32, .. } => seen.insns.push((eip, bytes.to_vec(), code32)),
            Event::Fault { eip, vector, .. } => seen.faults.push((eip, vector)),
            Event::Memory { at, phys, width, write, .. } => seen.accesses.push((at.0, phys, width, write)),
            _ => {}
        }
    }
}

/// The two machines.
pub(super) struct Walk {
    bare: Machine,
    other: Machine,
    seen: Rc<RefCell<Seen>>,
    looks: Looks,
    tally: Tally,
}

impl Walk {
    /// `make` makes the guest's machine; the walk begins at tick `from`.
    pub(super) fn new(make: impl Fn() -> Machine, cell: Cell, from: u64, looks: Looks) -> Self {
        let (mut bare, mut other) = (make(), make());
        cell.put(&mut other, 11);
        run_to(&mut bare, from);
        run_to(&mut other, from);
        let seen = Rc::new(RefCell::new(Seen::default()));
        let wants = Wants { insn: true, fault: true, memory: true, ..Wants::default() };
        bare.watch(Some(Watcher { wants, sink: Box::new(Keep(Rc::clone(&seen))) }));
        other.monitor_mut::<Trap>().expect("a monitor").log = Some(Vec::new());
        seal::watch(looks.control);
        Self { bare, other, seen, looks, tally: Tally::default() }
    }

    /// Walks `ticks`, or to where the two part or end.
    pub(super) fn run(mut self, ticks: u64) -> Result<Tally, String> {
        let start = self.bare.cpu.now;
        for to in start + 1..=start + ticks {
            *self.seen.borrow_mut() = Seen::default();
            let before = counts(monitor(&self.other));
            let (a, b) = (run_to(&mut self.bare, to), run_to(&mut self.other, to));
            // What random guests forget to flush is then as fresh here as under a monitor.
            self.bare.world.tlb.flush(true);
            let log = self.take_log();
            if self.looks.control {
                self.control(to).map_err(|e| format!("control: {e} ({})", self.place()))?;
            }
            if self.looks.control {
                // Control is kept of whatever the guest does, that which it does on the bare machine or another thing.
                if b.is_some_and(|outcome| outcome != Outcome::Reset) {
                    break;
                }
                continue;
            }
            if a != b || !alike(&self.bare.cpu, &self.other.cpu) {
                let may = self.seen.borrow().insns.iter().any(|(_, bytes, code32)| sensitive(bytes, *code32));
                if !self.looks.homomorphism || may && !self.looks.strict {
                    self.tally.parted += 1;
                    break;
                }
            }
            let after = counts(monitor(&self.other));
            let did = [0, 1, 2].map(|n| after[n] - before[n]);
            self.tick(&log, did)?;
            if a.is_some_and(|outcome| outcome != Outcome::Reset) {
                break;
            }
        }
        let [direct, emulated, interpreted] = counts(monitor(&self.other));
        (self.tally.direct, self.tally.emulated, self.tally.interpreted) = (direct, emulated, interpreted);
        Ok(std::mem::take(&mut self.tally))
    }

    fn take_log(&mut self) -> Vec<Exit> {
        let log = &mut self.other.monitor_mut::<Trap>().expect("a monitor").log;
        log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn tick(&mut self, log: &[Exit], did: [u64; 3]) -> Result<(), String> {
        if self.looks.homomorphism {
            self.homomorphism(log, did).map_err(|e| format!("homomorphism: {e} ({})", self.place()))?;
        }
        if self.looks.efficiency {
            self.efficiency(log, did).map_err(|e| format!("efficiency: {e} ({})", self.place()))?;
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

    fn homomorphism(&mut self, log: &[Exit], did: [u64; 3]) -> Result<(), String> {
        let [direct, emulated, interpreted] = did;
        let quiet = log.iter().all(|e| e.cause == Cause::HiddenPageFault);
        if direct != 1 || emulated + interpreted != 0 || !quiet || !self.seen.borrow().faults.is_empty() {
            return Ok(());
        }
        differ("step(s)", &self.bare.cpu, "what V's inverse makes of step'(V(s))", &self.other.cpu)?;
        let t = monitor(&self.other);
        let Some(root) = t.mmu.shadow.target.directory() else { return Ok(()) };
        let mut v = V::default();
        let mut image = Cpu::new();
        let s = &self.bare.cpu;
        if let Err(why) = v.compose(s, &t.descriptors, root, &mut image) {
            // An x87 error that goes by way of the board is a new state of the processor's; all else lasts.
            if why == Obstacle::X87Error {
                return Ok(());
            }
            return Err(format!("the state after the instruction has no image: {}", why.sentence()));
        }
        differ("V(step(s))", &image, "step'(V(s))", t.real())?;
        self.tally.compared += 1;
        let mut guest = s.clone();
        v.decompose(&image, &t.descriptors, &mut guest);
        differ("s", s, "V's inverse of V(s)", &guest)?;
        self.tally.returned += 1;
        Ok(())
    }

    fn efficiency(&mut self, log: &[Exit], [direct, emulated, interpreted]: [u64; 3]) -> Result<(), String> {
        let seen = self.seen.borrow();
        for exit in log {
            let Some((_, bytes, code32)) = seen.insns.iter().find(|(eip, ..)| *eip == exit.eip) else {
                continue;
            };
            if !innocuous(bytes, *code32) {
                continue;
            }
            *self.tally.innocuous.entry(exit.cause).or_default() += 1;
            if !reason(exit, &seen, &self.other) {
                let text = disassemble(bytes, *code32, exit.eip);
                return Err(format!("{text} is innocuous, and exited by {}", exit.cause.name()));
            }
        }
        let hidden = log.iter().filter(|e| e.cause == Cause::HiddenPageFault).count();
        if hidden > MOST_HIDDEN * seen.insns.len().max(1) {
            return Err(format!("{hidden} hidden page faults in one tick"));
        }
        let Some((eip, bytes, code32)) = seen.insns.last() else { return Ok(()) };
        let emulates =
            |e: &Exit| !matches!(e.cause, Cause::HiddenPageFault | Cause::ExternalInterrupt) && e.eip == *eip;
        if emulated != 0 && innocuous(bytes, *code32) && !log.iter().any(emulates) {
            return Err("an innocuous instruction was emulated for no reason".into());
        }
        if direct + emulated + interpreted > 1 {
            return Err(format!("{direct} + {emulated} + {interpreted} instructions ran in one tick"));
        }
        Ok(())
    }

    fn control(&self, to: u64) -> Result<(), String> {
        let t = monitor(&self.other);
        let real = t.real();
        // Until it first ran the guest, the real processor is as after its reset.
        if t.counts.entries != 0 {
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
        if seal::broken() != 0 {
            return Err("the guest's own run changed what is the monitor's".into());
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
        seal::watch(false);
    }
}

fn monitor(m: &Machine) -> &Trap {
    m.monitor().expect("a monitor")
}

/// Instructions that ran by themselves, translated or not, that were emulated, that were interpreted.
fn counts(t: &Trap) -> [u64; 3] {
    [t.counts.direct + t.counts.translated, t.counts.emulated, t.counts.interpreted.values().sum()]
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

/// Whether there is a reason for this exit of an innocuous instruction: the guest's bare machine shows it.
fn reason(exit: &Exit, seen: &Seen, m: &Machine) -> bool {
    let ram = |at: GuestPhys, write: bool| {
        let backing = m.world.map.backing(at);
        if write { backing.write == Target::Ram } else { backing.read == Target::Ram }
    };
    let faulted = |page: bool| seen.faults.iter().any(|f| f.0 == exit.eip && (!page || f.1 == 14));
    match exit.cause {
        // How often is looked at elsewhere.
        Cause::HiddenPageFault | Cause::ExternalInterrupt | Cause::InterruptWindow => true,
        Cause::TruePageFault => faulted(true),
        Cause::Reflected => faulted(false),
        Cause::TracePageTable | Cause::TraceDescriptors => seen.accesses.iter().any(|a| a.3),
        Cause::Mmio => {
            let code = m.world.peek_address(&m.cpu, subring::addr::Linear(m.cpu.linear_eip()));
            let fetched = code.is_none_or(|at| !ram(at, false));
            fetched || seen.accesses.iter().any(|a| !ram(a.1, a.3))
        }
        Cause::Truncated => seen.accesses.iter().any(|a| a.0.saturating_add(a.2 - 1) >= layout::BASE),
        Cause::Privileged | Cause::PortIo | Cause::Halt | Cause::SoftwareInterrupt | Cause::SegmentReload => {
            false
        }
    }
}

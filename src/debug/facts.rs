//! What the rules and the report ask a dead machine: its memory without side effects, the chain of exceptions
//! that ended the run, the instruction at EIP.

use super::Ending;
use super::scene::Scene;
use super::source::Source;
use crate::addr::{GuestPhys, Linear};
use crate::bus::phys::Target;
use crate::cpu::vmx::refusal::RefusedEntry;
use crate::cpu::{Cpu, Eflags, Fault, Vector, gpr};
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, SegReg, decode};
use crate::exec::event::Event;
use crate::machine::Machine;
use crate::machine::history::Record;
use crate::symbols::{Symbol, name_in};

/// An event that was tried, and the fault that its delivery met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) record: Record,
    pub(super) met: Option<Fault>,
}

/// A machine after its run.
pub struct Facts<'a> {
    pub(super) machine: &'a Machine,
    /// The processor at the scene: see [`Scene`].
    pub(super) cpu: &'a Cpu,
    /// The scene is an exception whose handler never returned; the run ended later.
    pub(super) handled: bool,
    pub(super) ending: Ending,
    pub(super) symbols: &'a [Symbol],
    pub(super) source: Option<&'a Source>,
    /// The last event, and what was met while it was delivered; ends in the third fault of a triple fault.
    pub(super) chain: Vec<Link>,
    /// The last events, the oldest first.
    pub(super) history: Vec<Record>,
    /// The bytes at CS:EIP, as many as are mapped.
    pub(super) bytes: Vec<u8>,
    /// The instruction that they are.
    pub(super) insn: Option<Insn>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        machine: &'a Machine,
        ending: Ending,
        symbols: &'a [Symbol],
        source: Option<&'a Source>,
        scene: &'a Scene,
    ) -> Self {
        let (cpu, history) = (&scene.cpu, scene.history.clone());
        let bytes = bytes_at(machine, cpu);
        let insn = match decode(&bytes, cpu.code32()) {
            Decoded::Insn(insn) => Some(insn),
            _ => None,
        };
        let chain = chain(&history, ending);
        Self { machine, cpu, handled: scene.handled, ending, symbols, source, chain, history, bytes, insn }
    }

    /// What happened, in a sentence.
    pub(super) fn what(&self) -> String {
        let (end, at) = (self.end_sentence(), self.place(self.cpu.eip));
        let Some(record) = self.chain.last().map(|l| l.record).filter(|_| self.handled) else { return end };
        let (event, when) = (event_name(record.event), record.when.instructions);
        format!("{event} came at {at}, after {when} instructions, and its handler never returned; {end}")
    }

    /// How the run ended, in a sentence.
    fn end_sentence(&self) -> String {
        let at = self.place(self.now().eip);
        match self.ending {
            Ending::TripleFault(t) => {
                let first = match t.first {
                    Event::Exception(f) => f.to_string(),
                    other => format!("interrupt {:#04x}", other.vector()),
                };
                format!(
                    "triple fault: {first} came with EIP at {at} and could not be delivered, nor could the double fault after it; the processor shut down"
                )
            }
            Ending::HaltedForever if self.now().system_flags.contains(Eflags::IF) => {
                format!("halted for ever before {at}: interrupts are on, and no chip will raise one")
            }
            Ending::HaltedForever => format!("halted for ever before {at}: interrupts are off"),
            Ending::Limit => format!("stopped by the limit at {at}, with the guest stuck"),
            Ending::Exit(status) => format!("the guest ended the run with status {status}, at {at}"),
            Ending::Event => {
                let event = self.chain.first().map_or(String::new(), |l| event_name(l.record.event));
                format!("stopped at {at}, where {event} is about to be delivered")
            }
            Ending::VmxAbort(why) => format!("VMX abort, with EIP at {at}: {why}"),
            Ending::Other => format!("the run ended at {at}"),
        }
    }

    /// The last VM entry of the guest's own hypervisor, if it was refused.
    pub(super) fn refused_entry(&self) -> Option<RefusedEntry> {
        self.machine.world.last_refused_entry(self.now())
    }

    /// The processor at the end of the run.
    pub(super) fn now(&self) -> &'a Cpu {
        &self.machine.cpu
    }

    /// The bytes at CS:EIP at the end of the run, as many as are mapped.
    pub(super) fn bytes_now(&self) -> Vec<u8> {
        bytes_at(self.machine, self.now())
    }

    /// The exception that the guest did not survive: the triple fault's first, or the one whose handler never
    /// returned.
    pub(super) fn first(&self) -> Option<Fault> {
        let exception = |l: &Link| match l.record.event {
            Event::Exception(f) => Some(f),
            _ => None,
        };
        match self.ending {
            Ending::TripleFault(_) | Ending::Event => self.chain.first().and_then(exception),
            _ if self.handled => self.chain.iter().find_map(exception),
            _ => None,
        }
    }

    /// Whether the last chain of events is the end of the guest, and no event that it has dealt with.
    pub(super) fn last_is_fatal(&self) -> bool {
        self.died() || self.handled || self.ending == Ending::Event
    }

    /// The page faults of the chain, those met and the first.
    pub(super) fn page_faults(&self) -> impl Iterator<Item = Fault> {
        let first = self.first();
        first.into_iter().chain(self.chain.iter().filter_map(|l| l.met)).filter(|f| f.is(Vector::Pf))
    }

    pub(super) fn died(&self) -> bool {
        matches!(self.ending, Ending::TripleFault(_))
    }

    /// A linear address with the symbol it is in.
    pub(super) fn place(&self, at: u32) -> String {
        match self.symbol(at) {
            Some(name) => format!("{at:#010x} ({name})"),
            None => format!("{at:#010x}"),
        }
    }

    /// `name+offset` for an address within a symbol, or not far after one without a size.
    pub(super) fn symbol(&self, at: u32) -> Option<String> {
        self.named(at, at)
    }

    /// `name+offset` for a return address: the CALL before it may be the last instruction of its function.
    pub(super) fn caller(&self, at: u32) -> Option<String> {
        self.named(at.wrapping_sub(1), at)
    }

    /// `at` as an offset from the symbol that `inside` is in.
    fn named(&self, inside: u32, at: u32) -> Option<String> {
        name_in(self.symbols, inside, at)
    }

    /// The doubleword at a linear address, if all of it is mapped.
    pub(super) fn dword(&self, at: u32) -> Option<u32> {
        let bytes = self.machine.world.peek(self.cpu, Linear(at), 4);
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn qword(&self, at: u32) -> Option<u64> {
        let low = self.dword(at)?;
        Some(u64::from(low) | u64::from(self.dword(at.wrapping_add(4))?) << 32)
    }

    /// The doubleword at a physical address.
    pub(super) fn physical(&self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.machine.world.map.read(self.machine.world.map.gated(GuestPhys(at)), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Bytes at a physical address.
    pub(super) fn physical_bytes<const N: usize>(&self, at: u32) -> [u8; N] {
        let mut bytes = [0; N];
        self.machine.world.map.read(GuestPhys(at), &mut bytes);
        bytes
    }

    /// Whether nothing answers at a physical address.
    pub(super) fn open_bus(&self, at: u32) -> bool {
        let map = &self.machine.world.map;
        map.backing(map.gated(GuestPhys(at))).read == Target::Open
    }

    /// The physical address of a linear one.
    pub(super) fn translate(&self, at: u32) -> Option<u32> {
        self.machine.world.peek_address(self.cpu, Linear(at)).map(|p| p.0)
    }

    /// The linear address of the top of the stack.
    pub(super) fn stack(&self) -> u32 {
        self.cpu.seg(SegReg::Ss).base.wrapping_add(self.cpu.sp())
    }

    pub(super) fn esp(&self) -> u32 {
        self.cpu.regs[gpr::ESP]
    }
}

/// The bytes at the CS:EIP of `cpu`, as many as are mapped.
fn bytes_at(machine: &Machine, cpu: &Cpu) -> Vec<u8> {
    machine.world.peek(cpu, Linear(cpu.linear_eip()), MAX_INSN_LEN)
}

/// The name of an event, with its error code and address.
pub(super) fn event_name(event: Event) -> String {
    match event {
        Event::Exception(f) | Event::Software(f) | Event::PrivilegedSoftware(f) => f.to_string(),
        Event::Injected(event) => format!("injected {} {:#04x}", event.kind.name(), event.vector),
        Event::SoftwareVector(v) => format!("INT {v:#04x}"),
        Event::External(v) => format!("hardware interrupt {v:#04x}"),
        Event::Nmi => "NMI".into(),
    }
}

/// The links of the last delivery in `history`.
fn chain(history: &[Record], ending: Ending) -> Vec<Link> {
    let start = history.iter().rposition(|r| !r.chained).unwrap_or(0);
    let records = &history[start..];
    let mut links: Vec<Link> = records.iter().map(|&record| Link { record, met: None }).collect();
    for n in 1..links.len() {
        let next = match records[n].event {
            Event::Exception(f) if !f.is(Vector::Df) => Some(f),
            _ => None,
        };
        links[n - 1].met = next;
    }
    if let Ending::TripleFault(t) = ending {
        let last = links.len().saturating_sub(1);
        if let Some(l) = links.get_mut(last) {
            l.met = Some(t.third);
        }
        if last > 0 {
            links[last - 1].met = Some(t.second);
        }
    }
    links
}

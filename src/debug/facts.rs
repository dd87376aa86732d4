//! What the rules and the report ask a dead machine: its memory without side effects, the chain of exceptions that
//! ended the run, the instruction at EIP.

use super::Ending;
use super::source::Source;
use crate::addr::{GuestPhys, Linear};
use crate::bus::phys::Target;
use crate::cpu::{Cpu, Eflags, Fault, Vector, gpr};
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, SegReg, decode};
use crate::exec::event::Event;
use crate::load::Symbol;
use crate::machine::Machine;
use crate::machine::history::Record;

/// An event that was tried, and the fault that its delivery met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) record: Record,
    pub(super) met: Option<Fault>,
}

/// A machine after its run.
pub struct Facts<'a> {
    pub(super) machine: &'a Machine,
    pub(super) cpu: &'a Cpu,
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
    ) -> Self {
        let cpu = &machine.cpu;
        let history: Vec<Record> = machine.history.records().copied().collect();
        let bytes = machine.world.peek(cpu, Linear(cpu.linear_eip()), MAX_INSN_LEN);
        let insn = match decode(&bytes, cpu.code32()) {
            Decoded::Insn(insn) => Some(insn),
            _ => None,
        };
        let chain = chain(&history, ending);
        Self { machine, cpu, ending, symbols, source, chain, history, bytes, insn }
    }

    /// What happened, in a sentence.
    pub(super) fn what(&self) -> String {
        let at = self.place(self.cpu.eip);
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
            Ending::HaltedForever if self.cpu.system_flags.contains(Eflags::IF) => {
                format!("halted for ever before {at}: interrupts are on, and no chip will raise one")
            }
            Ending::HaltedForever => format!("halted for ever before {at}: interrupts are off"),
            Ending::Limit => format!("stopped by the limit at {at}, with the guest stuck"),
        }
    }

    /// The triple fault's first exception.
    pub(super) fn first(&self) -> Option<Fault> {
        match (self.ending, self.chain.first()?.record.event) {
            (Ending::TripleFault(_), Event::Exception(f)) => Some(f),
            _ => None,
        }
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

    /// The same for a return address: the CALL before it may be the last instruction of its function.
    pub(super) fn caller(&self, at: u32) -> Option<String> {
        self.named(at.wrapping_sub(1), at)
    }

    /// `at` as an offset from the symbol that `inside` is in.
    fn named(&self, inside: u32, at: u32) -> Option<String> {
        let n = self.symbols.partition_point(|s| s.value <= inside);
        let s = self.symbols[..n].iter().rev().find(|s| !s.name.is_empty())?;
        let offset = at.wrapping_sub(s.value);
        if inside - s.value >= s.size.max(if s.size == 0 { 0x1000 } else { 0 }) {
            return None;
        }
        Some(if offset == 0 { s.name.clone() } else { format!("{}+{offset:#x}", s.name) })
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

//! The last events of a run, for whoever asks afterwards what happened: exceptions and hardware interrupts,
//! with the place and the mode in which they came. [`Machine`](super::Machine) notes them when it delivers
//! one, and at no other time; nothing in a run depends on them, and they are no part of its state.

use crate::clock::When;
use crate::cpu::{Cpu, Cr0, Eflags, Segment};
use crate::decode::SegReg;
use crate::exec::event::Event;

/// Events that are kept.
pub const KEPT: usize = 32;

/// An event that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The time of the event.
    pub when: When,
    /// The event.
    pub event: Event,
    /// Whether the event was raised while the one before was delivered.
    pub chained: bool,
    /// CS before it.
    pub cs: u16,
    /// EIP before it.
    pub eip: u32,
    /// The general registers before it.
    pub regs: [u32; 8],
    /// CR2, for a page fault its address.
    pub cr2: u32,
    /// The privilege level before it.
    pub cpl: u8,
    /// CR0 before it.
    pub cr0: Cr0,
    /// EFLAGS before it.
    pub flags: Eflags,
    /// The segment registers before it, with their hidden parts.
    pub segs: [Segment; 6],
    /// CR3 before it.
    pub cr3: u32,
}

/// The ring of the last [`KEPT`] events.
#[derive(Clone, Debug, Default)]
pub struct History {
    ring: Vec<Record>,
    next: usize,
}

impl History {
    /// Notes `event`, about to be delivered in the state `cpu`.
    pub(super) fn note(&mut self, cpu: &Cpu, event: Event, chained: bool) {
        let record = Record {
            when: cpu.when(),
            event,
            chained,
            cs: cpu.seg(SegReg::Cs).selector.0,
            eip: cpu.eip,
            regs: std::array::from_fn(|n| cpu.regs[n]),
            cr2: cpu.cr2,
            cpl: cpu.cpl,
            cr0: cpu.cr0,
            flags: cpu.eflags(),
            segs: cpu.segs,
            cr3: cpu.cr3,
        };
        match self.ring.get_mut(self.next) {
            Some(slot) => *slot = record,
            None => self.ring.push(record),
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// The events, the oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        let (newer, older) = self.ring.split_at(self.next.min(self.ring.len()));
        older.iter().chain(newer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_events_in_order() {
        let (mut history, mut cpu) = (History::default(), Cpu::new());
        for n in 0..KEPT as u32 + 3 {
            cpu.eip = n;
            history.note(&cpu, Event::External(8), false);
        }
        let eips: Vec<u32> = history.records().map(|r| r.eip).collect();
        assert_eq!(eips, (3..KEPT as u32 + 3).collect::<Vec<_>>());
    }
}

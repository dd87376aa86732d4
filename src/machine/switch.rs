//! A world changes hands: from a bare machine's to one under a monitor, and between the real processor and
//! the monitor, who see memory by different tables.

use super::space::{Flushes, Space};
use super::world::World;
use crate::mem::{P2m, Ram};
use crate::mmu::tlb::Tlb;

impl World {
    /// Makes this the world of a machine under a monitor: `machine` is its memory, `p2m` says where the guest
    /// is in it.
    pub fn virtualize(&mut self, machine: Ram, p2m: P2m) {
        self.map.relocate(machine, p2m);
        self.scattered = self.map.p2m().is_scattered();
        self.flushes = Some(Flushes::default());
        self.tlb.flush(true);
        self.settle();
    }

    /// The real processor takes over: from now on the world is the machine's.
    pub fn enter_machine(&mut self) {
        self.change(Space::Machine);
        self.scattered = false;
    }

    /// The monitor takes over: the world is the guest's again.
    pub fn leave_machine(&mut self) {
        self.change(Space::Guest);
        self.scattered = self.map.p2m().is_scattered();
    }

    /// The real processor, which is about to run, stops when the guest lets interrupts through ("interrupt-window
    /// exiting"), or no longer.
    pub fn watch_interrupt_window(&mut self, on: bool) {
        debug_assert!(self.space == Space::Machine, "the window is the real processor's");
        self.intr = on;
    }

    fn change(&mut self, to: Space) {
        debug_assert!(self.space != to, "the world is in this space already");
        self.space = to;
        std::mem::swap(&mut self.tlb, &mut self.parked.tlb);
        std::mem::swap(&mut self.careful, &mut self.parked.careful);
        std::mem::swap(&mut self.intr, &mut self.parked.intr);
    }

    /// Whether an interrupt is requested from the guest's processor, whichever runs.
    pub fn guest_interrupt_requested(&self) -> bool {
        match self.space {
            Space::Guest => self.intr,
            Space::Machine => self.parked.intr,
        }
    }

    /// What the guest flushed since this was last asked.
    pub fn take_flushes(&mut self) -> Flushes {
        self.flushes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the guest flushed anything since then.
    pub fn has_flushes(&self) -> bool {
        self.flushes.as_ref().is_some_and(|f| !f.is_empty())
    }

    /// The real machine's TLB, while the world is the guest's.
    pub fn machine_tlb(&mut self) -> &mut Tlb {
        &mut self.parked.tlb
    }

    /// The TLB of the processor that runs the guest, for an observer: the real machine's under a monitor.
    pub fn running_tlb(&self) -> &Tlb {
        if self.flushes.is_some() { &self.parked.tlb } else { &self.tlb }
    }

    /// Accesses of the real processor that got past the monitor to a chip.
    pub fn escapes(&self) -> u64 {
        self.parked.escapes
    }
}

//! Bringing shadows up to what the guest and its chips did since the guest last ran, and the real TLB up to
//! the shadows.

use super::state::RingCompression;
use crate::addr::Linear;
use crate::cpu::Cpu;
use crate::decode::MAX_INSN_LEN;
use crate::machine::World;
use crate::report::{Origin, Reason};
use crate::vmm::invariants;
use crate::vmm::vcpu::Mode;

impl RingCompression {
    /// Brings shadows up to what the guest and its chips did since the guest last ran.
    pub(in crate::vmm) fn sync(&mut self, guest: &Cpu, world: &mut World) {
        if self.map_epoch != Some(world.map.epoch()) {
            self.map_epoch = Some(world.map.epoch());
            self.mmu.forget(&mut world.map);
            self.descriptors.forget(world, &mut self.mmu);
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
                self.descriptors.refresh(guest, world, &mut self.mmu);
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
            let why = self.mmu.why_traced(at);
            if why.contains(Reason::PAGE_TABLE) {
                self.mmu.written(&mut world.map, at, len);
            }
            if why.contains(Reason::DESCRIPTORS) {
                self.descriptors.written(world, at, len);
            }
        }
    }

    /// Tells the journal, if there is one, whose changes come next.
    pub(in crate::vmm) fn note_origin(&mut self, guest: &Cpu, world: &World, outside: bool) {
        if let Some(journal) = self.mmu.journal_mut() {
            let bytes = world.peek(guest, Linear(guest.linear_eip()), MAX_INSN_LEN);
            journal.set_origin(Origin::of(guest, bytes, outside));
        }
    }

    /// The real TLB forgets what the shadow no longer says.
    pub(in crate::vmm) fn drop_stale(&mut self, world: &mut World) {
        let stale = self.mmu.take_stale();
        let tlb = world.machine_tlb();
        if !invariants::tlb_follows_shadow() {
            return;
        }
        if stale.all {
            tlb.flush(true);
        } else {
            stale.pages.into_iter().for_each(|at| tlb.invalidate(at));
        }
    }
}

//! Bringing shadows up to what the guest and its chips did since the guest last ran.

use super::state::RingCompression;
use crate::cpu::Cpu;
use crate::machine::World;
use crate::report::Reason;
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
        self.mmu.note_origin(guest, world, outside);
    }
}

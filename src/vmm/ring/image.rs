//! Giving the real processor to the guest: its image is composed, run directly, and taken back.

use super::state::RingCompression;
use crate::bus::Ticks;
use crate::cpu::{Cpu, Cr0};
use crate::interp::Stop;
use crate::machine::World;
use crate::report::Obstacle;
use crate::vmm::integrity;

impl RingCompression {
    pub(in crate::vmm) fn compose(&mut self, guest: &Cpu, world: &World) -> Result<(), Obstacle> {
        if world.board.numeric_error_waits() && !guest.cr0.contains(Cr0::NE) {
            return Err(Obstacle::X87Error);
        }
        let Some(root) = self.mmu.directory() else { return Err(Obstacle::NoShadow) };
        self.v.compose(guest, &self.descriptors, root, &mut self.real)?;
        Ok(())
    }

    /// Runs the guest on the real processor until something stops it. `None`: it can go on.
    pub(in crate::vmm) fn run_direct(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop> {
        self.mmu.drop_stale(world);
        let entry = (guest.now, guest.linear_eip());
        let start = guest.now;
        let sealed = integrity::take(&world.map.ram, || self.own_frames());
        let before = self.audit_before(world);
        world.enter_machine();
        let stop = self.direct.run(&mut self.real, world, until);
        world.leave_machine();
        integrity::check(sealed, &world.map.ram, || self.own_frames());
        self.audit_after(world, before.as_ref());
        self.v.decompose(&self.real, &self.descriptors, guest);
        self.ledger.counts.entries += u64::from(self.paused.take() != Some(entry));
        self.ledger.counts.direct += guest.now - start;
        if stop == Stop::Budget {
            self.paused = Some((guest.now, guest.linear_eip()));
        }
        self.stopped(guest, world, stop, self.direct.resumed())
    }
}

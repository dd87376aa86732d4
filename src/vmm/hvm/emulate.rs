//! Running instructions on the virtual processor: by the semantics of the bare machine, on the guest's state.

use super::state::Hvm;
use crate::cpu::Cpu;
use crate::interp::Stop;
use crate::machine::World;
use crate::report::{Cause, Obstacle};
use crate::vmm::place::place;
use crate::vmm::step::{Stepped, step};

impl Hvm {
    fn step(&mut self, guest: &mut Cpu, world: &mut World) -> Stepped {
        let eip = guest.eip;
        if let Some(mmu) = self.paging.shadow_mut() {
            mmu.note_origin(guest, world, false);
        }
        let stepped = step(&mut self.emulator, guest, world);
        self.wrote = world.map.traces.is_hit();
        self.cut_short = stepped.cut.then_some(eip);
        stepped
    }

    /// Runs the instruction that caused an exit.
    pub(super) fn emulate(&mut self, guest: &mut Cpu, world: &mut World, cause: Cause) -> Option<Stop> {
        let at = place(guest);
        let stop = self.run_virtually(guest, world);
        self.ledger.count(world, cause, at);
        stop
    }

    /// Runs the instruction at CS:EIP, of a repeated one an iteration, for the sake of its accesses' order.
    pub(super) fn emulate_access(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        cause: Cause,
    ) -> Option<Stop> {
        let deadline = std::mem::replace(&mut guest.deadline, guest.now + 1);
        let stop = self.emulate(guest, world, cause);
        guest.deadline = deadline;
        // The rest of a repeated one runs by itself.
        self.cut_short = None;
        stop
    }

    /// Runs the instruction at CS:EIP on the virtual processor, which is no exit: there was one, or none is
    /// needed.
    pub(super) fn run_virtually(&mut self, guest: &mut Cpu, world: &mut World) -> Option<Stop> {
        let stepped = self.step(guest, world);
        self.ledger.counts.emulated += stepped.ticks;
        stepped.fault.map(Stop::Fault)
    }

    /// Runs one instruction on the virtual processor because its state has no image.
    pub(super) fn interpret(&mut self, guest: &mut Cpu, world: &mut World, why: Obstacle) -> Option<Stop> {
        self.inside = false;
        let stepped = self.step(guest, world);
        *self.ledger.counts.interpreted.entry(why).or_default() += stepped.ticks;
        // The reason to interpret holds for the rest, too.
        self.cut_short = None;
        stepped.fault.map(Stop::Fault)
    }
}

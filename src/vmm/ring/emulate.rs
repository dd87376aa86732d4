//! Running instructions on the virtual processor: by the semantics of the bare machine, on the guest's state.

use super::state::{CutShort, Emulated, RingCompression};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::{Cpu, Eflags, Fault};
use crate::interp::Stop;
use crate::machine::World;
use crate::report::{Cause, Obstacle};
use crate::vmm::invariants;
use crate::vmm::place::place;
use crate::vmm::step::step;
use crate::vmm::vcpu::Mode;

impl RingCompression {
    /// The instruction that was cut short, if the guest is still at it. `Err`: the guest went elsewhere, and
    /// if an adapted access was cut short, where that is, and whether it met anything.
    pub(super) fn take_cut_short(&mut self, guest: &Cpu) -> Result<CutShort, Option<(Linear, bool)>> {
        match self.cut_short.take() {
            Some(cut) if guest.mid_string && cut.eip == guest.eip => Ok(cut),
            cut => Err(cut.and_then(|cut| cut.adapted)),
        }
    }

    /// Runs the instruction at CS:EIP, of a repeated one an iteration, on the virtual processor for the sake
    /// of its accesses' order. What it touched is mapped when it is touched again.
    pub(in crate::vmm) fn emulate_access(&mut self, guest: &mut Cpu, world: &mut World) -> Option<Stop> {
        let deadline = std::mem::replace(&mut guest.deadline, guest.now + 1);
        let stop = self.emulate(guest, world, Cause::HiddenPageFault);
        guest.deadline = deadline;
        // The rest of a repeated one runs by itself.
        self.cut_short = None;
        stop
    }

    /// Runs the instruction at CS:EIP on the virtual processor: the semantics of the bare machine on the
    /// guest's state.
    pub(in crate::vmm) fn emulate(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        cause: Cause,
    ) -> Option<Stop> {
        let at = place(guest);
        let safe = runs_directly(guest, self.v.mode());
        let (retired, stop) = self.step(guest, world);
        let cause = match stop {
            Some(Stop::Fault(fault)) if retired == 0 => own(cause, fault),
            _ => cause,
        };
        self.emulated = Some(Emulated { at: Linear(at.linear), cause, safe });
        self.count(world, cause, at);
        self.ledger.counts.emulated += retired;
        guest.now += invariants::extra_ticks(self.ledger.is_logging());
        stop
    }

    /// One instruction on the virtual processor: how many ticks it took, and its fault if it raised one.
    pub(in crate::vmm) fn step(&mut self, guest: &mut Cpu, world: &mut World) -> (Ticks, Option<Stop>) {
        let eip = guest.eip;
        self.note_origin(guest, world, false);
        let stepped = step(&mut self.emulator, guest, world);
        self.wrote = world.map.traces.is_hit();
        self.cut_short = stepped.cut.then_some(CutShort { eip, adapted: None });
        (stepped.ticks, stepped.fault.map(Stop::Fault))
    }

    /// Goes on with what was cut short.
    pub(in crate::vmm) fn go_on(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        cut: &CutShort,
    ) -> Option<Stop> {
        _ = world.take_reached_chip();
        let stop = self.call_out(guest, world);
        if let Some((at, met)) = cut.adapted {
            self.adapted_ran(world, at, met);
        }
        stop
    }

    /// The adapted access at `at` ran, or a part of it, before which it had met something or not.
    pub(in crate::vmm) fn adapted_ran(&mut self, world: &mut World, at: Linear, met: bool) {
        let met = world.take_reached_chip() || world.map.traces.is_hit() || met;
        match &mut self.cut_short {
            Some(cut) => cut.adapted = Some((at, met)),
            None => self.adapted = Some((at, met)),
        }
    }

    /// Runs the instruction at CS:EIP on the virtual processor because translated code says so, or because
    /// that began already.
    pub(in crate::vmm) fn call_out(&mut self, guest: &mut Cpu, world: &mut World) -> Option<Stop> {
        let (retired, stop) = self.step(guest, world);
        self.ledger.counts.emulated += retired;
        stop
    }

    /// Runs one instruction on the virtual processor because its state has no image.
    pub(in crate::vmm) fn interpret(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        why: Obstacle,
    ) -> Option<Stop> {
        let (retired, stop) = self.step(guest, world);
        *self.ledger.counts.interpreted.entry(why).or_default() += retired;
        // The reason to interpret holds for the rest, too.
        self.cut_short = None;
        stop
    }
}

/// The cause of an exit whose emulation found this fault, the guest's own.
fn own(cause: Cause, fault: Fault) -> Cause {
    match cause {
        Cause::TruePageFault if fault.address().is_none() => Cause::Reflected,
        Cause::HiddenPageFault if fault.address().is_some() => Cause::TruePageFault,
        Cause::TracePageTable | Cause::TraceDescriptors | Cause::Mmio => cause,
        Cause::SoftwareInterrupt | Cause::TruePageFault => cause,
        _ => Cause::Reflected,
    }
}

/// Whether the guest's code can run directly with nothing to be rewritten: user code with interrupts on, that
/// may neither turn them off nor speak to ports (Bugnion et al., 4.3).
pub(in crate::vmm) fn runs_directly(guest: &Cpu, mode: Mode) -> bool {
    mode.is_users() && guest.system_flags.contains(Eflags::IF) && guest.iopl() < 3
}

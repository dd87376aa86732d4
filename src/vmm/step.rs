//! One instruction on the virtual processor: the semantics that the bare machine runs, on the guest's state.

use crate::bus::Ticks;
use crate::cpu::{Cpu, Fault};
use crate::interp::Interp;
use crate::machine::World;

/// What became of it.
pub(in crate::vmm) struct Stepped {
    /// Ticks that it took: one for each iteration of a repeated one.
    pub(in crate::vmm) ticks: Ticks,
    /// The fault that it raised.
    pub(in crate::vmm) fault: Option<Fault>,
    /// The deadline cut a repeated one short. Its rest is no new exit: how a run is cut must not show.
    pub(in crate::vmm) cut: bool,
}

/// Runs the instruction at CS:EIP. It sees the guest's tables as they are: no staler than any shadow.
pub(in crate::vmm) fn step(interp: &mut Interp<World>, guest: &mut Cpu, world: &mut World) -> Stepped {
    let (start, eip) = (guest.now, guest.eip);
    // Anything else than the deadline ends it after each iteration by itself.
    let free = !guest.steps_iterations();
    world.tlb.flush(true);
    let fault = interp.step(guest, world).err();
    let stands = guest.mid_string && guest.eip == eip;
    let cut = free && stands && !guest.leave.get() && guest.now >= guest.deadline;
    Stepped { ticks: guest.now - start, fault, cut }
}

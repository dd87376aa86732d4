//! Where the guest is, for exits.

use crate::clock::When;
use crate::cpu::Cpu;
use crate::decode::SegReg;

/// Where the guest is.
#[derive(Clone, Copy)]
pub(in crate::vmm) struct Place {
    pub(in crate::vmm) when: When,
    pub(in crate::vmm) cs: u16,
    pub(in crate::vmm) eip: u32,
    pub(in crate::vmm) linear: u32,
}

/// The place of the instruction that `guest` is at.
pub(in crate::vmm) fn place(guest: &Cpu) -> Place {
    let cs = guest.seg(SegReg::Cs).selector.0;
    Place { when: guest.when(), cs, eip: guest.eip, linear: guest.linear_eip() }
}

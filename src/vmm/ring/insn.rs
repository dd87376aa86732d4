//! The guest's instruction at CS:EIP, as far as its fault has to be told from others.

use crate::addr::Linear;
use crate::cpu::Cpu;
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, Op, decode};
use crate::machine::{Walked, World};
use crate::mmu::paging::Access;

/// The instruction at CS:EIP, as far as it is mapped and is one.
fn insn_at(guest: &Cpu, world: &World) -> Option<Insn> {
    let code = world.peek(guest, Linear(guest.linear_eip()), MAX_INSN_LEN);
    match decode(&code, guest.code32()) {
        Decoded::Insn(insn) => Some(insn),
        _ => None,
    }
}

/// Whether the instruction at CS:EIP, for whose access at `at` a walk would mark entries, may have read them before: as its own code,
/// or as data.
pub(super) fn rereads(guest: &Cpu, world: &World, (at, access): (Linear, Access), walked: &Walked) -> bool {
    let start = Linear(guest.linear_eip());
    if at == start && !access.write {
        // Its first byte is fetched.
        return false;
    }
    let insn = insn_at(guest, world);
    let len = insn.map_or(MAX_INSN_LEN as u32, |insn| insn.len.into());
    // The rest of its code is, in the next page. (A read of data there cannot fault any more once code was fetched from it.)
    let fetches = !access.write && at == start.offset(len - 1).page();
    let mut code = (0..len).filter_map(|n| world.peek_address(guest, start.offset(n)));
    code.any(|byte| walked.marks_byte(byte)) || (!fetches && insn.is_some_and(|i| i.touches_after_reading()))
}

/// Whether the instruction at CS:EIP writes several times, and so may have before its fault: the real processor has found that
/// first ([`Env::restarts`]), the virtual one leaves what the bare machine leaves.
///
/// [`Env::restarts`]: crate::exec::Env::restarts
pub(super) fn writes_before_faults(guest: &Cpu, world: &World) -> bool {
    insn_at(guest, world).is_some_and(|insn| matches!(insn.op, Op::Enter | Op::Pusha))
}

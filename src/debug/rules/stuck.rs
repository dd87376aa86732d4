//! Whether a guest that a limit stopped would have got nowhere: it spins, sleeps, waits, faults or slides for
//! ever.

use super::controllers::blocked;
use super::fpu;
use super::repeats::repeats_now;
use crate::addr::Linear;
use crate::cpu::{Activity, Cpu, Eflags};
use crate::debug::facts::Facts;
use crate::decode::{Decoded, Insn, Op, decode};

/// Zero bytes from EIP on that are no code.
const ZEROS: usize = 8;

/// Whether the guest would go on as it is for ever.
pub(in crate::debug) fn stuck(f: &Facts<'_>) -> bool {
    let now = f.now();
    let waits = spins(f) || now.activity == Activity::Halted;
    let deaf = !now.system_flags.contains(Eflags::IF) || blocked(f);
    waits && deaf || repeats_now(f) || zeros(f, now) || nowhere(f, now).is_some() || fpu::waits(f)
}

/// The instruction at the EIP of the end.
fn next(f: &Facts<'_>) -> Option<Insn> {
    match decode(&f.bytes_now(), f.now().code32()) {
        Decoded::Insn(insn) => Some(insn),
        _ => None,
    }
}

/// Whether the guest jumps to itself at the end.
pub(super) fn spins(f: &Facts<'_>) -> bool {
    next(f).is_some_and(|i| i.op == Op::Jmp && i.imm.wrapping_add(u32::from(i.len)) == 0)
}

/// Whether the EIP of `cpu` is among zeros.
pub(super) fn zeros(f: &Facts<'_>, cpu: &Cpu) -> bool {
    let bytes = f.machine.world.peek(cpu, Linear(cpu.linear_eip()), ZEROS);
    cpu.activity != Activity::Halted && bytes.len() == ZEROS && bytes.iter().all(|&b| b == 0)
}

/// The physical address of the EIP of `cpu`, if no memory answers there.
pub(super) fn nowhere(f: &Facts<'_>, cpu: &Cpu) -> Option<u32> {
    let at = f.machine.world.peek_address(cpu, Linear(cpu.linear_eip()))?.0;
    f.open_bus(at).then_some(at)
}

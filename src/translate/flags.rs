//! Which arithmetic flags are dead: written, and written again before anything can see them.
//!
//! EFLAGS are seen by instructions that read them, and by whoever looks at the processor: after a fault, a store into
//! code, a unit's end. Interrupts and deadlines come at a unit's end only.

use super::invariants;
use crate::decode::op::{Flags, Reach};
use crate::decode::{Insn, Op, Place};

/// Whether `i` can neither fault nor end the unit early, and reaches registers and flags only.
fn is_pure(i: &Insn) -> bool {
    match i.op.facts().reach {
        Reach::Registers => true,
        Reach::Operands => !i.has_memory_operand(),
        Reach::World => false,
    }
}

/// Whether `i` reads an arithmetic flag. Shifts do, since a count of 0 leaves them; INC and DEC leave CF.
fn reads(i: &Insn) -> bool {
    i.op.facts().flags == Flags::Uses
}

/// Whether `i` writes all six.
fn writes_all(i: &Insn) -> bool {
    i.op.facts().flags == Flags::Writes
}

fn is_shift_by_immediate(i: &Insn) -> bool {
    matches!(i.op, Op::Shl | Op::Shr | Op::Sar) && i.src == Place::Imm
}

/// Whether nothing sees the flags that the first of `insns` leaves; the rest follow it in its unit.
pub(super) fn are_dead(insns: &[Insn]) -> bool {
    let Some((first, rest)) = insns.split_first() else { return false };
    // What it may leave alone is written again, too.
    let quiet = writes_all(first) || matches!(first.op, Op::Inc | Op::Dec) || is_shift_by_immediate(first);
    if !is_pure(first) || !quiet {
        return false;
    }
    for i in rest {
        if !is_pure(i) || (reads(i) && invariants::read_flags_live()) {
            return false;
        }
        if writes_all(i) {
            return true;
        }
    }
    false
}

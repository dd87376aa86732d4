//! The x87 that waits for ever. With CR0.NE clear an x87 error goes out as IRQ 13 and the next x87
//! instruction waits for somebody to clear it (SDM vol. 1, 8.7.2): nobody does where IRQ 13 has no handler.

use super::controllers::open_irqs;
use crate::cpu::{Cr0, Eflags};
use crate::debug::Ending;
use crate::debug::facts::Facts;

/// The control word after power-on: all exceptions unmasked. FNINIT sets 37Fh.
const AFTER_RESET: u16 = 0x40;
const IRQ: u16 = 13;

/// Whether the instruction at the end waits for an x87 error that nobody will clear.
pub(super) fn waits(f: &Facts<'_>) -> bool {
    let now = f.now();
    let x87 = matches!(f.bytes_now().first(), Some(0xd8..=0xdf | 0x9b));
    let heard = now.system_flags.contains(Eflags::IF) && open_irqs(f) & 1 << IRQ != 0;
    x87 && now.fpu.pending() && !now.cr0.contains(Cr0::NE) && !heard
}

pub(super) fn not_initialised(f: &Facts<'_>) -> Option<String> {
    let untouched = f.now().fpu.control() == AFTER_RESET;
    (f.ending == Ending::Limit && waits(f) && untouched).then(|| {
        format!(
            "the x87 was never initialised: its control word is still {AFTER_RESET:#x}, so its first error waits at {} for ever; run FNINIT (and set CR0.NE) before the first x87 instruction",
            f.place(f.now().eip)
        )
    })
}

pub(super) fn error_unheard(f: &Facts<'_>) -> Option<String> {
    (f.ending == Ending::Limit && waits(f)).then(|| {
        format!(
            "an x87 error is pending (status {:#06x}) and the x87 instruction at {} waits for ever: CR0.NE is clear, so the error goes to IRQ 13, which is masked or has interrupts off; set CR0.NE to get #MF instead",
            f.now().fpu.status(),
            f.place(f.now().eip)
        )
    })
}

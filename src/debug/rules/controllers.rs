//! What the interrupt controllers let through at the end of the run.

use crate::debug::facts::Facts;

/// Whether the interrupt controllers let nothing through, now and until somebody speaks to them.
pub(super) fn blocked(f: &Facts<'_>) -> bool {
    let board = &f.machine.world.board;
    if board.apic_is_open() || !board.pic_is_wired() {
        return !board.apic_is_open();
    }
    open_irqs(f) == 0
}

/// The IRQs that the two 8259A would let through, a bit each.
pub(super) fn open_irqs(f: &Facts<'_>) -> u16 {
    let [master, slave] = f.machine.world.board.interrupt_controllers();
    let open = |imr: u8, isr: u8| !imr & (isr & isr.wrapping_neg()).wrapping_sub(1);
    // What is in service shuts out its own level and all below; with nothing in service every level is open.
    let first = open(master.imr, master.isr);
    let second = if first & 4 != 0 { open(slave.imr, slave.isr) } else { 0 };
    u16::from(first & !4) | u16::from(second) << 8
}

/// The IRQ of the highest priority that is in service.
pub(super) fn in_service(f: &Facts<'_>) -> Option<u32> {
    let [master, slave] = f.machine.world.board.interrupt_controllers();
    match master.isr.trailing_zeros() {
        8 => None,
        2 if slave.isr != 0 => Some(8 + slave.isr.trailing_zeros()),
        irq => Some(irq),
    }
}

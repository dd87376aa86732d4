//! Whether anything can still wake a halted processor (SDM volume 2, HLT: an interrupt that is enabled, an
//! NMI, a reset). Asked by the machine each time that it halts.

use super::{Board, Chip, NEVER, SCI, TIMED};
use crate::device::Device;

impl Board {
    /// Whether an interrupt can reach a halted processor, now or ever: one of a chip that acts by itself, or
    /// of one that the host may send something to. The chips stand as they stand for good, because who would
    /// write to them is halted. So the lines of those chips are raised in a copy of the interrupt
    /// controllers, and what comes out decides; the local APIC's timer always may.
    pub fn can_wake(&self) -> bool {
        self.can_wake_with(true)
    }

    /// Whether an interrupt can reach a halted processor though the host sends nothing more.
    pub fn can_wake_without_input(&self) -> bool {
        self.can_wake_with(false)
    }

    /// [`Board::can_wake`], where the host sends `input` or never will.
    fn can_wake_with(&self, input: bool) -> bool {
        if self.due[Chip::Apic as usize] != NEVER {
            return true;
        }
        // A chip that only passes on what the host sends is dead without it.
        let live = |chip: &Chip| input || self.due[*chip as usize] != NEVER;
        let (mut pic, mut apic) = (self.chips.pic.clone(), self.chips.apic.clone());
        for irq in TIMED.into_iter().filter(live).flat_map(|chip| self.live_lines(chip)) {
            pic.pulse(irq);
            if let Some(apic) = &mut apic {
                let pin = if irq == 0 { 2 } else { irq };
                apic.set_pin(pin, false);
                apic.set_pin(pin, true);
                apic.set_ext_int(pic.int());
            }
        }
        apic.map_or(pic.int(), |apic| apic.requests(pic.int()) || apic.nmi())
    }

    /// The interrupt lines that a chip may yet drive while the processor is halted.
    fn live_lines(&self, chip: Chip) -> Vec<u8> {
        match chip {
            Chip::I8042 => {
                let on = self.chips.i8042.interrupts_on();
                [1, 12].into_iter().zip(on).filter(|&(_, on)| on).map(|(line, _)| line).collect()
            }
            Chip::Pm if self.chips.pm.as_ref().is_some_and(Device::may_interrupt) => vec![SCI],
            _ => {
                let live = self.chips.device(chip).is_some_and(|device| device.may_interrupt());
                chip.entry().and_then(|entry| entry.irq).filter(|_| live).into_iter().collect()
            }
        }
    }
}

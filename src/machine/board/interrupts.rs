//! The board's way to the processor: request lines to the 8259s and to the I/O APIC, and from these and the
//! local APIC the interrupt, the NMI and the x87's error line.

use super::{Board, Chip};
use crate::addr::GuestPhys;
use crate::bus::phys::PhysMap;
use crate::cpu::control::{APIC_ENABLE, APIC_PAGE};
use crate::device::Device;
use crate::device::apic::Apic;

impl Board {
    /// Drives the request line of an ISA interrupt: to the 8259s, and to the I/O APIC, where IRQ 0 has pin 2
    /// because pin 0 is the 8259's.
    #[inline]
    pub(super) fn set_irq(&mut self, irq: u8, high: bool) {
        if self.chips.pic.line(irq) == high {
            return;
        }
        self.chips.pic.set_line(irq, high);
        if let Some(apic) = &mut self.chips.apic {
            apic.set_pin(if irq == 0 { 2 } else { irq }, high);
            apic.set_ext_int(self.chips.pic.int());
        }
    }

    pub(super) fn settle_pic(&mut self) {
        if let Some(apic) = &mut self.chips.apic {
            apic.set_ext_int(self.chips.pic.int());
        }
    }

    /// The processor's FERR# line; returns IGNNE#.
    pub fn numeric_error(&mut self, asserted: bool) -> bool {
        self.chips.ferr.set_ferr(asserted);
        self.set_irq(13, self.chips.ferr.irq());
        self.chips.ferr.ignne()
    }

    /// Whether the processor drives FERR#.
    pub fn numeric_error_waits(&self) -> bool {
        self.chips.ferr.ferr()
    }

    /// Whether the processor is asked to take an interrupt.
    #[inline(always)]
    pub fn interrupt_requested(&self) -> bool {
        self.chips.apic.as_ref().map_or(self.chips.pic.int(), |apic| apic.requests(self.chips.pic.int()))
    }

    /// The INTA cycle: the vector.
    pub fn acknowledge(&mut self) -> u8 {
        if let Some(vector) = self.chips.apic.as_mut().and_then(Apic::acknowledge) {
            return vector;
        }
        let vector = self.chips.pic.acknowledge();
        self.settle_pic();
        vector
    }

    /// Whether an NMI waits for the processor.
    #[inline]
    pub fn nmi_requested(&self) -> bool {
        self.chips.apic.as_ref().is_some_and(Apic::nmi)
    }

    /// The processor takes the NMI.
    pub fn take_nmi(&mut self) {
        self.chips.apic.iter_mut().for_each(Apic::take_nmi);
    }

    /// Whether some interrupt line is set to make an NMI.
    pub fn makes_nmis(&self) -> bool {
        self.chips.apic.as_ref().is_some_and(Apic::makes_nmis)
    }

    /// Whether the APIC lets interrupts through that are not the 8259s'.
    pub fn apic_is_open(&self) -> bool {
        self.chips.apic.as_ref().is_some_and(Apic::is_open)
    }

    /// Whether the 8259s' interrupts reach the processor.
    pub fn pic_is_wired(&self) -> bool {
        self.chips.apic.as_ref().is_none_or(Apic::passes_ext_int)
    }

    /// Whether there is an APIC.
    pub fn has_apic(&self) -> bool {
        self.chips.apic.is_some()
    }

    /// The processor's IA32_APIC_BASE is `value`.
    pub fn set_apic_base(&mut self, value: u32, map: &mut PhysMap) {
        let Some(apic) = self.chips.apic.as_mut() else { return };
        apic.set_base((value & APIC_ENABLE != 0).then_some(GuestPhys(value & APIC_PAGE)));
        map.set_chip_pages(apic.pages());
        self.reschedule(Chip::Apic);
    }
}

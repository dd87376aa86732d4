//! The two halves of the APIC: the processor's [`local`] one and the board's I/O APIC ([`io`]), with the bus
//! between them (Intel MultiProcessor Specification 1.4, 3.6: "symmetric I/O mode", with virtual wire mode
//! before it).
//!
//! The board drives the I/O APIC's pins and LINT0 beside the 8259s, asks [`Apic::requests`] in their place,
//! and brings accesses to the two pages here. The page of the local one moves with the processor's
//! IA32_APIC_BASE, and while that disables it the 8259s are wired to the processor as if there were none.

pub mod io;
pub mod local;
pub mod timer;

use super::Device;
use crate::addr::{GuestPhys, PAGE_SIZE};
use crate::bus::{Clock, Ticks, Width};
use io::IoApic;
use local::{LocalApic, Message};
use serde::{Deserialize, Serialize};

/// Where the I/O APIC is.
pub const IO_APIC: GuestPhys = GuestPhys(0xfec0_0000);
/// Where the local APIC is after a reset.
pub const LOCAL_APIC: GuestPhys = GuestPhys(0xfee0_0000);

/// The pair.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Apic {
    clock: Clock,
    local: LocalApic,
    io: IoApic,
    /// The page of the local APIC; `None` while IA32_APIC_BASE disables it.
    base: Option<GuestPhys>,
}

impl Apic {
    /// As after power-on.
    pub fn new(clock: Clock) -> Self {
        Self { clock, local: LocalApic::new(clock), io: IoApic::new(), base: Some(LOCAL_APIC) }
    }

    /// The pages at which the APIC answers: that of the local APIC and that of the I/O APIC.
    pub fn pages(&self) -> [Option<GuestPhys>; 2] {
        [self.base, Some(IO_APIC)]
    }

    /// IA32_APIC_BASE was written. A local APIC that was disabled is as after power-on when it is enabled
    /// again (SDM vol. 3, 10.4.3).
    pub fn set_base(&mut self, base: Option<GuestPhys>) {
        if base.is_none() {
            self.local = LocalApic::new(self.clock);
        }
        self.base = base;
    }

    /// A read in one of the two pages. Registers are dwords on 16-byte boundaries; a narrower read gets its
    /// part.
    pub fn mmio_read(&self, at: GuestPhys, width: Width, now: Ticks) -> u32 {
        let offset = at.0 % PAGE_SIZE;
        let register = offset & !0xf;
        let value = match offset & 0xf {
            0..4 if self.is_local(at) => self.local.read(register, now),
            0..4 => self.io.read(register),
            _ => return if self.is_local(at) { 0 } else { width.mask() },
        };
        value >> (8 * (offset & 3)) & width.mask()
    }

    /// A write in one of the two pages. Only aligned dwords are writes; the manual leaves others open, here
    /// they are lost.
    pub fn mmio_write(&mut self, at: GuestPhys, width: Width, value: u32, now: Ticks) {
        let offset = at.0 % PAGE_SIZE;
        if width != Width::Dword || offset & 0xf != 0 {
            return;
        }
        if self.is_local(at) {
            if let Some(vector) = self.local.write(offset, value, now) {
                self.io.end_of_interrupt(vector, |message| self.local.receive(message));
            }
        } else {
            let message = self.io.write(offset, value);
            self.transfer(message);
        }
    }

    fn is_local(&self, at: GuestPhys) -> bool {
        self.base == Some(at.page())
    }

    /// Drives pin `pin` of the I/O APIC.
    #[inline]
    pub fn set_pin(&mut self, pin: u8, asserted: bool) {
        let message = self.io.set_pin(pin, asserted);
        self.transfer(message);
    }

    /// The 8259's INT, which goes to LINT0 and to pin 0.
    #[inline]
    pub fn set_ext_int(&mut self, high: bool) {
        self.local.set_lint0(high);
        self.set_pin(0, high);
    }

    /// Brings a message of the I/O APIC to the local one. To a disabled one it is lost.
    #[inline]
    fn transfer(&mut self, message: Option<Message>) {
        if let Some(message) = message.filter(|_| self.base.is_some()) {
            self.local.receive(message);
        }
    }

    /// Whether the processor is asked to take an interrupt, with the 8259's INT at `ext_int`.
    #[inline]
    pub fn requests(&self, ext_int: bool) -> bool {
        self.local.requests() || ext_int && self.passes_ext_int()
    }

    /// Whether the 8259's interrupts reach the processor: always without a local APIC, else through LINT0 or
    /// through the I/O APIC.
    pub fn passes_ext_int(&self) -> bool {
        let by_io = || self.io.passes_pin0().is_some_and(|m| self.local.is_addressed(m));
        self.base.is_none() || self.local.passes_lint0() || by_io()
    }

    /// The processor takes the local APIC's interrupt; `None`: there is none, it is the 8259's.
    pub fn acknowledge(&mut self) -> Option<u8> {
        self.local.acknowledge()
    }

    /// Whether an NMI waits for the processor.
    #[inline]
    pub fn nmi(&self) -> bool {
        self.local.nmi()
    }

    /// The processor takes the NMI.
    pub fn take_nmi(&mut self) {
        self.local.take_nmi();
    }

    /// Whether the timer or a pin of the I/O APIC can interrupt the processor.
    pub fn is_open(&self) -> bool {
        self.base.is_some() && self.local.enabled() && (self.local.timer_is_open() || self.io.is_open())
    }

    /// Whether some line is set to make an NMI.
    pub fn makes_nmis(&self) -> bool {
        self.base.is_some() && (self.local.lint0_is_nmi() || self.io.makes_nmis())
    }
}

/// The APIC has no ports; its registers are memory, see [`Apic::mmio_read`].
impl Device for Apic {
    fn read(&mut self, _port: u16, width: Width, _now: Ticks) -> u32 {
        width.mask()
    }

    fn write(&mut self, _port: u16, _width: Width, _value: u32, _now: Ticks) {}

    fn next_event(&self) -> Option<Ticks> {
        self.local.next_event()
    }

    fn advance(&mut self, now: Ticks) {
        self.local.advance(now);
    }

    fn reset(&mut self) {
        *self = Self::new(self.clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(apic: &mut Apic, register: u32, value: u32) {
        apic.mmio_write(LOCAL_APIC.offset(register), Width::Dword, value, 0);
    }

    fn io(apic: &mut Apic, register: u32, value: u32) {
        apic.mmio_write(IO_APIC, Width::Dword, register, 0);
        apic.mmio_write(IO_APIC.offset(0x10), Width::Dword, value, 0);
    }

    fn enabled() -> Apic {
        let mut apic = Apic::new(Clock::default());
        local(&mut apic, 0xf0, 0x1ff);
        apic
    }

    #[test]
    fn a_pin_interrupts_the_processor_and_its_end_goes_back() {
        let mut apic = enabled();
        assert!(!apic.is_open());
        io(&mut apic, 0x24, 0x8055);
        assert!(apic.is_open());
        apic.set_pin(10, true);
        assert!(apic.requests(false));
        assert_eq!(apic.acknowledge(), Some(0x55));
        assert!(!apic.requests(false));
        local(&mut apic, 0xb0, 0);
        assert!(apic.requests(false), "the line is still asserted");
        apic.acknowledge();
        apic.set_pin(10, false);
        local(&mut apic, 0xb0, 0);
        assert!(!apic.requests(false));
    }

    #[test]
    fn the_8259_reaches_the_processor_as_the_apic_is_set() {
        let mut apic = Apic::new(Clock::default());
        assert!(!apic.requests(true) && !apic.is_open(), "all is masked");
        apic.set_base(None);
        assert!(apic.requests(true), "as if there were none");
        apic.set_base(Some(LOCAL_APIC));
        assert!(!apic.requests(true));
        local(&mut apic, 0xf0, 0x1ff);
        local(&mut apic, 0x350, 0x700);
        assert!(apic.requests(true), "virtual wire by LINT0");
        assert_eq!(apic.acknowledge(), None);
        local(&mut apic, 0x350, 0x1_0700);
        assert!(!apic.requests(true));
        io(&mut apic, 0x10, 0x700);
        assert!(apic.requests(true), "virtual wire by the I/O APIC");
    }

    #[test]
    fn the_page_moves_with_the_base_and_narrow_reads_get_their_part() {
        let mut apic = enabled();
        apic.set_base(Some(GuestPhys(0xfed0_0000)));
        assert_eq!(apic.pages()[0], Some(GuestPhys(0xfed0_0000)));
        assert_eq!(apic.mmio_read(GuestPhys(0xfed0_0030), Width::Dword, 0), 0x4_0014);
        assert_eq!(apic.mmio_read(GuestPhys(0xfed0_0032), Width::Byte, 0), 4);
        assert_eq!(apic.mmio_read(GuestPhys(0xfed0_0034), Width::Dword, 0), 0);
        apic.mmio_write(GuestPhys(0xfed0_0080), Width::Byte, 0x50, 0);
        assert_eq!(apic.mmio_read(GuestPhys(0xfed0_0080), Width::Dword, 0), 0);
    }

    #[test]
    fn an_nmi_from_a_pin_waits_for_the_processor() {
        let mut apic = enabled();
        io(&mut apic, 0x14, 0x400);
        assert!(apic.makes_nmis());
        apic.set_pin(2, true);
        assert!(apic.nmi());
        apic.take_nmi();
        assert!(!apic.nmi());
    }
}

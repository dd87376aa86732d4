//! The power management function of the 82371AB (PIIX4 datasheet, 290562, chapter 7): ACPI's PM1a event and
//! control registers, the power management timer, and the ports by which system management is called (APMC,
//! APMS).
//!
//! The registers are 64 ports at PMBASE, which a configuration register of the PCI function 00:01.3 names.
//! Off is sleep type 0, as in S5; the other types are not built: they do nothing, and `\_S1` to `\_S4` are
//! not declared. ACPI is turned on and off by values written to APMC. On a real board those call firmware's
//! handler in system management mode, which sets SCI_EN; here the chip sets it itself. There is no power
//! button, no general-purpose event and no SMBus.

use super::Device;
use crate::bus::{Clock, Ticks, Width};
use serde::{Deserialize, Serialize};

/// System management command.
pub const APMC: u16 = 0xb2;
/// System management status: a byte for software's own use.
pub const APMS: u16 = 0xb3;
/// Written to APMC: ACPI on.
pub const ACPI_ENABLE: u8 = 0xf1;
/// Written to APMC: ACPI off.
pub const ACPI_DISABLE: u8 = 0xf0;
/// Where a BIOS of this machine has it.
pub const USUAL_BASE: u16 = 0x600;
/// PM1a event registers, from PMBASE: status, then enable.
pub const EVENT: u16 = 0x00;
/// PM1a control.
pub const CONTROL: u16 = 0x04;
/// Power management timer.
pub const TIMER: u16 = 0x08;
/// The frequency of the timer.
pub const TIMER_HZ: u64 = 3_579_545;
/// Ports from PMBASE.
pub const PORTS: u16 = 64;

const TIMER_MASK: u64 = 0xff_ffff;
/// The timer's status is set when its highest bit changes.
const TIMER_HALF: u64 = 0x80_0000;
/// Status and enable: timer, global lock, power button, real-time clock.
const TIMER_EVENT: u16 = 1 << 0;
const ENABLES: u16 = 0x0521;
const SCI_EN: u16 = 1 << 0;
/// SCI_EN, BRLD_EN and the sleep type.
const CONTROL_KEPT: u16 = 0x1c03;
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE: u16 = 7 << 10;

/// The registers.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Pm {
    clock: Clock,
    status: u16,
    enable: u16,
    control: u16,
    command: u8,
    software: u8,
    /// The timer's count, in all its bits, at which its highest bit next changes with nothing noted yet.
    half: u64,
    off: bool,
}

impl Pm {
    /// As after power-on: ACPI off, every event disabled.
    pub fn new(clock: Clock) -> Self {
        let (command, software, half) = (0, 0, TIMER_HALF);
        Self { clock, status: 0, enable: 0, control: 0, command, software, half, off: false }
    }

    /// Whether software turned the machine off.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.off
    }

    fn count(&self, now: Ticks) -> u64 {
        self.clock.cycles(now, TIMER_HZ)
    }

    fn register(&self, offset: u16, now: Ticks) -> u8 {
        let byte = |value: u64, first: u16| (value >> (8 * (offset - first))) as u8;
        match offset {
            EVENT..2 => byte(self.status.into(), EVENT),
            2..CONTROL => byte(self.enable.into(), 2),
            CONTROL..6 => byte(self.control.into(), CONTROL),
            TIMER..12 => byte(self.count(now) & TIMER_MASK, TIMER),
            _ => 0,
        }
    }

    /// Status bits are cleared by writing ones.
    fn set_register(&mut self, offset: u16, value: u8) {
        let shift = 8 * (offset & 1);
        let (value, mask) = (u16::from(value) << shift, 0xff << shift);
        let put = |old: u16, kept: u16| old & !(mask & kept) | value & kept;
        match offset {
            EVENT..2 => self.status &= !value,
            2..CONTROL => self.enable = put(self.enable, ENABLES),
            CONTROL..6 => {
                self.control = put(self.control, CONTROL_KEPT);
                self.off |= value & SLEEP_ENABLE != 0 && self.control & SLEEP_TYPE == 0;
            }
            _ => {}
        }
    }

    fn command(&mut self, value: u8) {
        self.command = value;
        match value {
            ACPI_ENABLE => self.control |= SCI_EN,
            ACPI_DISABLE => self.control &= !SCI_EN,
            _ => {}
        }
    }
}

impl Device for Pm {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.advance(now);
        match port {
            APMC => self.command,
            APMS => self.software,
            _ => self.register(port % PORTS, now),
        }
        .into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.advance(now);
        match port {
            APMC => self.command(value as u8),
            APMS => self.software = value as u8,
            _ => self.set_register(port % PORTS, value as u8),
        }
    }

    /// The system control interrupt, a level: an event that is enabled has happened, and ACPI is on.
    fn irq(&self) -> bool {
        self.control & SCI_EN != 0 && self.status & self.enable != 0
    }

    fn next_event(&self) -> Option<Ticks> {
        let waits = self.enable & TIMER_EVENT != 0 && self.status & TIMER_EVENT == 0;
        waits.then(|| self.clock.ticks_at(self.half, TIMER_HZ))
    }

    fn advance(&mut self, now: Ticks) {
        let count = self.count(now);
        if count >= self.half {
            self.status |= TIMER_EVENT;
            self.half = (count / TIMER_HALF + 1).saturating_mul(TIMER_HALF);
        }
    }

    /// The timer counts on from power-on.
    fn reset(&mut self) {
        *self = Self { half: self.half, ..Self::new(self.clock) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pm() -> Pm {
        Pm::new(Clock::new(TIMER_HZ))
    }

    fn word(pm: &mut Pm, offset: u16, now: Ticks) -> u32 {
        (0..2).fold(0, |v, i| v | pm.read(USUAL_BASE + offset + i, Width::Byte, now) << (8 * i))
    }

    fn set_word(pm: &mut Pm, offset: u16, value: u32, now: Ticks) {
        (0..2).for_each(|i| {
            pm.write(USUAL_BASE + offset + i, Width::Byte, value >> (8 * i) & 0xff, now);
        });
    }

    #[test]
    fn the_timer_has_24_bits() {
        let mut pm = pm();
        assert_eq!(word(&mut pm, TIMER, 0x12_3456), 0x3456);
        assert_eq!(word(&mut pm, TIMER + 2, 0x7f12_3456), 0x0012);
        set_word(&mut pm, TIMER, 0, 0);
        assert_eq!(word(&mut pm, TIMER, 0x77), 0x77, "it cannot be written");
    }

    #[test]
    fn the_timers_highest_bit_is_an_event() {
        let mut pm = pm();
        set_word(&mut pm, 2, 0xffff, 0);
        assert_eq!(word(&mut pm, 2, 0), 0x0521);
        assert_eq!(pm.next_event(), Some(0x80_0000));
        pm.advance(0x80_0000);
        assert_eq!((word(&mut pm, EVENT, 0x80_0000), pm.irq()), (1, false), "ACPI is off");
        pm.write(APMC, Width::Byte, ACPI_ENABLE.into(), 0x80_0000);
        assert_eq!((pm.irq(), pm.next_event()), (true, None));
        set_word(&mut pm, EVENT, 1, 0x80_0001);
        assert_eq!((pm.irq(), pm.next_event()), (false, Some(0x100_0000)));
    }

    #[test]
    fn the_event_shows_without_its_enable_and_interrupts_once_enabled() {
        let mut pm = pm();
        pm.write(APMC, Width::Byte, ACPI_ENABLE.into(), 0);
        assert_eq!(word(&mut pm, EVENT, 0x80_0005), 1, "TMR_STS");
        assert!(!pm.irq());
        set_word(&mut pm, 2, 1, 0x80_0006);
        assert!(pm.irq());
        set_word(&mut pm, EVENT, 1, 0x80_0007);
        assert_eq!((pm.irq(), pm.next_event()), (false, Some(0x100_0000)));
    }

    #[test]
    fn acpi_is_turned_on_and_off_by_command() {
        let mut pm = pm();
        for (command, on) in [(ACPI_ENABLE, 1), (0x55, 1), (ACPI_DISABLE, 0)] {
            pm.write(APMC, Width::Byte, command.into(), 0);
            assert_eq!(word(&mut pm, CONTROL, 0), on);
        }
        pm.write(APMS, Width::Byte, 0x77, 0);
        assert_eq!(
            (pm.read(APMC, Width::Byte, 0), pm.read(APMS, Width::Byte, 0)),
            (ACPI_DISABLE.into(), 0x77)
        );
    }

    #[test]
    fn sleep_type_0_turns_the_machine_off_and_no_other_does() {
        let mut pm = pm();
        set_word(&mut pm, CONTROL, 0x2401, 0);
        assert!(!pm.is_off());
        assert_eq!(word(&mut pm, CONTROL, 0), 0x0401, "SLP_EN reads 0");
        set_word(&mut pm, CONTROL, 0x0001, 0);
        assert!(!pm.is_off());
        set_word(&mut pm, CONTROL, 0x2001, 0);
        assert!(pm.is_off());
    }

    #[test]
    fn a_reset_leaves_the_timer_running() {
        let mut pm = pm();
        pm.advance(0x80_0005);
        pm.reset();
        assert_eq!(word(&mut pm, EVENT, 0x80_0006), 0);
        assert_eq!(word(&mut pm, TIMER, 0x80_0006), 6);
    }
}

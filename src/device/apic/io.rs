//! The I/O APIC (82093AA datasheet, 290566): 24 pins, each with an entry of the redirection table that makes
//! a message to the local APIC of it.
//!
//! Lines come in as asserted or not: the board's wiring is taken to match the polarity that an entry asks
//! for, which is kept and changes nothing. Pin 0 is the 8259's INT, for entries that pass its interrupts on
//! (ExtINT).

use super::local::{Delivery, Message};
use serde::{Deserialize, Serialize};

/// Pins.
pub const PINS: u8 = 24;

/// IOREGSEL and IOWIN.
const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;

/// Version 11h, the last entry is 23.
const VERSION_VALUE: u32 = 0x0017_0011;
const LOGICAL: u32 = 1 << 11;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// What a write keeps of an entry's lower half: not delivery status and remote IRR.
const KEPT: u32 = 0x1_afff;

/// The I/O APIC.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct IoApic {
    select: u8,
    id: u32,
    /// Lower and upper half of each entry.
    table: [[u32; 2]; PINS as usize],
    /// Pins that are asserted.
    levels: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// As after a reset: every entry masked.
    pub fn new() -> Self {
        Self { select: 0, id: 0, table: [[MASKED, 0]; PINS as usize], levels: 0 }
    }

    /// The register at `offset` in the page.
    pub fn read(&self, offset: u32) -> u32 {
        match (offset, self.select) {
            (SELECT, select) => select.into(),
            (WINDOW, ID | ARBITRATION) => self.id,
            (WINDOW, VERSION) => VERSION_VALUE,
            (WINDOW, register) => self.half(register).map_or(!0, |(pin, half)| self.table[pin][half]),
            _ => !0,
        }
    }

    /// Writes the register at `offset`. A pin that was held back may then send its message.
    pub fn write(&mut self, offset: u32, value: u32) -> Option<Message> {
        match (offset, self.select) {
            (SELECT, _) => self.select = value as u8,
            (WINDOW, ID) => self.id = value & 0x0f00_0000,
            (WINDOW, register) => {
                let (pin, half) = self.half(register)?;
                return self.write_entry(pin, half, value);
            }
            _ => {}
        }
        None
    }

    /// The entry and its half that a register is.
    fn half(&self, register: u8) -> Option<(usize, usize)> {
        let n = usize::from(register.checked_sub(TABLE)?);
        (n < 2 * usize::from(PINS)).then_some((n / 2, n % 2))
    }

    /// An entry that is made edge triggered waits for no EOI any more.
    fn write_entry(&mut self, pin: usize, half: usize, value: u32) -> Option<Message> {
        let entry = &mut self.table[pin];
        if half == 1 {
            entry[1] = value & 0xff00_0000;
            return None;
        }
        let waiting = if value & LEVEL != 0 { entry[0] & REMOTE_IRR } else { 0 };
        entry[0] = value & KEPT | waiting;
        self.serve_level(pin)
    }

    /// Drives a pin; what it sends.
    #[inline]
    pub fn set_pin(&mut self, pin: u8, asserted: bool) -> Option<Message> {
        if (self.levels >> pin & 1 != 0) == asserted { None } else { self.toggle(pin) }
    }

    /// A masked pin's edges are lost.
    fn toggle(&mut self, pin: u8) -> Option<Message> {
        self.levels ^= 1 << pin;
        let entry = self.table[usize::from(pin)];
        if entry[0] & LEVEL != 0 {
            return self.serve_level(pin.into());
        }
        (self.levels >> pin & 1 != 0 && entry[0] & MASKED == 0).then(|| message(entry))
    }

    /// Sends what a level-triggered pin asks for, unless the local APIC has it already.
    fn serve_level(&mut self, pin: usize) -> Option<Message> {
        let entry = &mut self.table[pin];
        let asks = entry[0] & LEVEL != 0 && self.levels >> pin & 1 != 0;
        if !asks || entry[0] & (MASKED | REMOTE_IRR) != 0 {
            return None;
        }
        if matches!(Delivery::of(entry[0]), Delivery::Fixed | Delivery::LowestPriority) {
            entry[0] |= REMOTE_IRR;
        }
        Some(message(*entry))
    }

    /// The end of a level-triggered interrupt. A pin that is still asserted asks again: its message goes to
    /// `send`.
    pub fn end_of_interrupt(&mut self, vector: u8, mut send: impl FnMut(Message)) {
        for pin in 0..usize::from(PINS) {
            let entry = &mut self.table[pin][0];
            if *entry & REMOTE_IRR != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
                self.serve_level(pin).into_iter().for_each(&mut send);
            }
        }
    }

    /// The message of pin 0, if its entry passes the 8259's interrupts on.
    #[inline]
    pub fn passes_pin0(&self) -> Option<Message> {
        let entry = self.table[0];
        (entry[0] & MASKED == 0 && Delivery::of(entry[0]) == Delivery::ExtInt).then(|| message(entry))
    }

    /// Whether some pin is let through.
    pub fn is_open(&self) -> bool {
        self.table.iter().any(|entry| entry[0] & MASKED == 0)
    }

    /// Whether some pin's entry makes NMIs.
    pub fn makes_nmis(&self) -> bool {
        self.table.iter().any(|entry| entry[0] & MASKED == 0 && Delivery::of(entry[0]) == Delivery::Nmi)
    }
}

fn message(entry: [u32; 2]) -> Message {
    Message {
        destination: (entry[1] >> 24) as u8,
        logical: entry[0] & LOGICAL != 0,
        delivery: Delivery::of(entry[0]),
        vector: entry[0] as u8,
        level: entry[0] & LEVEL != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(io: &mut IoApic, register: u8, value: u32) -> Option<u8> {
        io.write(SELECT, register.into());
        io.write(WINDOW, value).map(|m| m.vector)
    }

    fn read(io: &mut IoApic, register: u8) -> u32 {
        io.write(SELECT, register.into());
        io.read(WINDOW)
    }

    fn set(io: &mut IoApic, pin: u8, asserted: bool) -> Option<u8> {
        io.set_pin(pin, asserted).map(|m| m.vector)
    }

    fn end(io: &mut IoApic, vector: u8) -> Vec<u8> {
        let mut sent = Vec::new();
        io.end_of_interrupt(vector, |m| sent.push(m.vector));
        sent
    }

    #[test]
    fn registers_are_selected_and_read_through_the_window() {
        let mut io = IoApic::new();
        assert_eq!(read(&mut io, VERSION), 0x17_0011);
        write(&mut io, ID, !0);
        assert_eq!((read(&mut io, ID), read(&mut io, ARBITRATION)), (0x0f00_0000, 0x0f00_0000));
        assert_eq!((read(&mut io, 0x10), read(&mut io, 0x3e)), (MASKED, MASKED));
        write(&mut io, 0x13, !0);
        assert_eq!((read(&mut io, 0x13), read(&mut io, 0x40)), (0xff00_0000, !0));
    }

    #[test]
    fn an_edge_is_one_message_and_lost_while_masked() {
        let mut io = IoApic::new();
        assert_eq!(set(&mut io, 4, true), None);
        assert_eq!(write(&mut io, 0x18, 0x34), None, "it came while masked");
        assert_eq!(set(&mut io, 4, false), None);
        assert_eq!(set(&mut io, 4, true), Some(0x34));
        assert_eq!(set(&mut io, 4, true), None);
    }

    #[test]
    fn a_level_asks_again_after_the_end_of_its_interrupt() {
        let mut io = IoApic::new();
        write(&mut io, 0x22, LEVEL | 0x51);
        assert_eq!(set(&mut io, 9, true), Some(0x51));
        assert_eq!(read(&mut io, 0x22) & REMOTE_IRR, REMOTE_IRR);
        assert!(end(&mut io, 0x52).is_empty());
        assert_eq!(end(&mut io, 0x51), [0x51]);
        assert_eq!(set(&mut io, 9, false), None);
        assert!(end(&mut io, 0x51).is_empty());
        assert_eq!(read(&mut io, 0x22) & REMOTE_IRR, 0);
    }

    #[test]
    fn a_level_that_waits_behind_its_mask_comes_when_that_is_lifted() {
        let mut io = IoApic::new();
        write(&mut io, 0x22, LEVEL | MASKED | 0x51);
        assert_eq!(set(&mut io, 9, true), None);
        assert_eq!(write(&mut io, 0x22, LEVEL | 0x51), Some(0x51));
        write(&mut io, 0x22, MASKED | 0x51);
        assert_eq!(read(&mut io, 0x22) & REMOTE_IRR, 0, "as an edge it waits for nothing");
    }

    #[test]
    fn an_entry_says_where_its_message_goes() {
        let mut io = IoApic::new();
        write(&mut io, 0x15, 0x0300_0000);
        write(&mut io, 0x14, LOGICAL | 0x131);
        let delivery = Delivery::LowestPriority;
        let sent = Message { destination: 3, logical: true, delivery, vector: 0x31, level: false };
        assert_eq!(io.set_pin(2, true), Some(sent));
        write(&mut io, 0x10, 0x700);
        assert_eq!(io.passes_pin0().map(|m| m.delivery), Some(Delivery::ExtInt));
        assert!(io.is_open() && !io.makes_nmis());
        write(&mut io, 0x12, 0x400);
        assert!(io.makes_nmis());
    }
}

//! The 8259A pair: two cascaded interrupt controllers (Intel 8259A datasheet, 231468; ELCR: 82371SB, 2.5.6).
//!
//! The board drives the sixteen request lines with [`Pic::set_line`], watches [`Pic::int`], and runs the INTA
//! cycle with [`Pic::acknowledge`].

use super::Device;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

/// Command port of the master; data is the next port.
pub const MASTER: u16 = 0x20;
/// Command port of the slave; data is the next port.
pub const SLAVE: u16 = 0xa0;
/// Edge/level control of IRQ 0-7; IRQ 8-15 is the next port.
pub const ELCR: u16 = 0x4d0;

/// The master's input that the slave's INT drives.
const CASCADE: u8 = 2;
/// Lines that may be level triggered: not IRQ 0-2 nor 8 and 13, which are soldered to edge sources.
const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];

const ICW1: u8 = 0x10;
const ICW1_IC4: u8 = 0x01;
const ICW1_SNGL: u8 = 0x02;
const ICW1_LTIM: u8 = 0x08;
const ICW4_AEOI: u8 = 0x02;
const ICW4_SFNM: u8 = 0x10;
const OCW3: u8 = 0x08;
const OCW3_RIS: u8 = 0x01;
const OCW3_RR: u8 = 0x02;
const OCW3_POLL: u8 = 0x04;
const OCW3_SMM: u8 = 0x20;
const OCW3_ESMM: u8 = 0x40;

/// Which initialization word the data port expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Expect {
    Icw2,
    Icw3,
    Icw4,
    Ocw1,
}

/// The registers of one 8259A that decide whether an interrupt comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PicState {
    /// The vector of its input 0 (ICW2).
    pub base: u8,
    /// Interrupt request register.
    pub irr: u8,
    /// In-service register.
    pub isr: u8,
    /// Interrupt mask register.
    pub imr: u8,
}

/// One 8259A.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
struct Chip {
    master: bool,
    /// Levels of the inputs IR0-IR7.
    lines: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    icw1: u8,
    icw4: u8,
    /// ICW2: bits 7-3 of the vectors.
    base: u8,
    icw3: u8,
    expect: Expect,
    /// The input that has the lowest priority; the one after it has the highest.
    lowest: u8,
    rotate_in_aeoi: bool,
    special_mask: bool,
    poll: bool,
    read_isr: bool,
}

impl Chip {
    fn new(master: bool) -> Self {
        Self {
            master,
            lines: 0,
            irr: 0,
            isr: 0,
            imr: 0xff,
            elcr: 0,
            icw1: 0,
            icw4: 0,
            base: 0,
            icw3: 0,
            expect: Expect::Ocw1,
            lowest: 7,
            rotate_in_aeoi: false,
            special_mask: false,
            poll: false,
            read_isr: false,
        }
    }

    fn level_triggered(&self) -> u8 {
        if self.icw1 & ICW1_LTIM != 0 { 0xff } else { self.elcr }
    }

    /// In edge mode a rising line latches its request, and a line that falls before INTA takes it back (the
    /// spurious case); in level mode the request is the line.
    fn set_line(&mut self, line: u8, high: bool) {
        let bit = 1 << line;
        let was = self.lines & bit != 0;
        if high && !was {
            self.lines |= bit;
            self.irr |= bit;
        } else if !high && was {
            self.lines &= !bit;
            self.irr &= !bit;
        }
    }

    /// Inputs from highest to lowest priority.
    fn by_priority(&self) -> impl Iterator<Item = u8> + use<> {
        let lowest = self.lowest;
        (1..=8).map(move |i| (lowest + i) & 7)
    }

    /// The request that wins, if one may interrupt now.
    fn pending(&self) -> Option<u8> {
        let requests = self.irr & !self.imr;
        if requests == 0 {
            return None;
        }
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        if self.master && self.icw4 & ICW4_SFNM != 0 {
            blocking &= !self.icw3;
        }
        self.by_priority().find(|i| (requests | blocking) >> i & 1 != 0).filter(|i| blocking >> i & 1 == 0)
    }

    /// What INTA and a poll do: the winner goes in service. `None`: the request went away (spurious).
    fn take(&mut self) -> Option<u8> {
        let level = self.pending()?;
        let bit = 1 << level;
        if self.level_triggered() & bit == 0 {
            self.irr &= !bit;
        }
        if self.icw4 & ICW4_AEOI == 0 {
            self.isr |= bit;
        } else if self.rotate_in_aeoi {
            self.lowest = level;
        }
        Some(level)
    }

    fn command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialize(value);
        } else if value & OCW3 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    fn initialize(&mut self, icw1: u8) {
        self.icw1 = icw1;
        self.irr = self.lines & self.level_triggered();
        self.isr = 0;
        self.imr = 0;
        self.icw4 = 0;
        self.lowest = 7;
        self.rotate_in_aeoi = false;
        self.special_mask = false;
        self.poll = false;
        self.read_isr = false;
        self.expect = Expect::Icw2;
    }

    fn ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0 => self.rotate_in_aeoi = false,
            1 => drop(self.end_highest()),
            2 => {}
            3 => self.isr &= !(1 << level),
            4 => self.rotate_in_aeoi = true,
            5 => {
                if let Some(ended) = self.end_highest() {
                    self.lowest = ended;
                }
            }
            6 => self.lowest = level,
            _ => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
        }
    }

    /// Non-specific EOI: ends the highest level in service; one masked in special mask mode is not seen.
    fn end_highest(&mut self) -> Option<u8> {
        let visible = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let level = self.by_priority().find(|i| visible >> i & 1 != 0)?;
        self.isr &= !(1 << level);
        Some(level)
    }

    fn ocw3(&mut self, value: u8) {
        if value & OCW3_ESMM != 0 {
            self.special_mask = value & OCW3_SMM != 0;
        }
        if value & OCW3_POLL != 0 {
            self.poll = true;
        } else if value & OCW3_RR != 0 {
            self.read_isr = value & OCW3_RIS != 0;
        }
    }

    fn data(&mut self, value: u8) {
        let after_icw3 = if self.icw1 & ICW1_IC4 != 0 { Expect::Icw4 } else { Expect::Ocw1 };
        match self.expect {
            Expect::Ocw1 => self.imr = value,
            Expect::Icw2 => {
                self.base = value & 0xf8;
                self.expect = if self.icw1 & ICW1_SNGL == 0 { Expect::Icw3 } else { after_icw3 };
            }
            Expect::Icw3 => {
                self.icw3 = value;
                self.expect = after_icw3;
            }
            Expect::Icw4 => {
                self.icw4 = value;
                self.expect = Expect::Ocw1;
            }
        }
    }

    /// A poll command makes the next read, of either port, an INTA without a vector.
    fn read(&mut self, data: bool) -> u8 {
        if self.poll {
            self.poll = false;
            return self.take().map_or(7, |level| 0x80 | level);
        }
        match (data, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }
}

/// The master and its slave.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Pic {
    master: Chip,
    slave: Chip,
    /// The master's INT output, kept so that looking is cheap.
    int: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// The pair after power-on: everything masked until the firmware initializes it.
    pub fn new() -> Self {
        Self { master: Chip::new(true), slave: Chip::new(false), int: false }
    }

    /// The level of request line `irq`.
    #[inline]
    pub fn line(&self, irq: u8) -> bool {
        let (chip, line) = if irq < 8 { (&self.master, irq) } else { (&self.slave, irq & 7) };
        chip.lines >> line & 1 != 0
    }

    /// Sets the level of request line `irq` (0-15; 2 is the cascade and cannot be driven).
    #[inline]
    pub fn set_line(&mut self, irq: u8, high: bool) {
        if self.line(irq) != high && irq != CASCADE {
            self.change_line(irq, high);
        }
    }

    fn change_line(&mut self, irq: u8, high: bool) {
        if irq < 8 {
            self.master.set_line(irq, high);
        } else {
            self.slave.set_line(irq & 7, high);
        }
        self.update();
    }

    /// A low-high transition of a line, for a source whose low time nobody sampled.
    pub fn pulse(&mut self, irq: u8) {
        self.set_line(irq, false);
        self.set_line(irq, true);
    }

    /// The INT output to the processor.
    #[inline(always)]
    pub fn int(&self) -> bool {
        self.int
    }

    /// The INTA cycle: the vector. A request that went away gives the level 7 of the chip that was asked,
    /// with nothing in service (spurious).
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.take() {
            Some(level) if self.is_cascade(level) => self.acknowledge_slave(),
            Some(level) => self.master.base | level,
            None => self.master.base | 7,
        };
        self.update();
        vector
    }

    /// What the two chips hold, the master first: for people who ask why no interrupt comes.
    pub fn inspect(&self) -> [PicState; 2] {
        [&self.master, &self.slave].map(|c| PicState { base: c.base, irr: c.irr, isr: c.isr, imr: c.imr })
    }

    fn is_cascade(&self, level: u8) -> bool {
        level == CASCADE && self.master.icw1 & ICW1_SNGL == 0
    }

    fn acknowledge_slave(&mut self) -> u8 {
        let level = self.slave.take().unwrap_or(7);
        self.drop_cascade();
        self.slave.base | level
    }

    /// The slave's INT falls during INTA, so that a further request of the slave makes an edge at the master.
    fn drop_cascade(&mut self) {
        self.master.set_line(CASCADE, false);
    }

    fn update(&mut self) {
        self.master.set_line(CASCADE, self.slave.pending().is_some());
        self.int = self.master.pending().is_some();
    }

    fn write_elcr(&mut self, high: bool, value: u8) {
        let chip = if high { &mut self.slave } else { &mut self.master };
        chip.elcr = value & ELCR_WRITABLE[usize::from(high)];
        chip.irr |= chip.lines & chip.elcr;
    }
}

impl Device for Pic {
    fn read(&mut self, port: u16, _width: Width, _now: Ticks) -> u32 {
        let value = match port & !1 {
            MASTER => self.master.read(port & 1 != 0),
            SLAVE => {
                let polled = self.slave.poll;
                let value = self.slave.read(port & 1 != 0);
                if polled {
                    self.drop_cascade();
                }
                value
            }
            _ if port & 1 == 0 => self.master.elcr,
            _ => self.slave.elcr,
        };
        self.update();
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, _now: Ticks) {
        let value = value as u8;
        match port {
            0x20 => self.master.command(value),
            0x21 => self.master.data(value),
            0xa0 => self.slave.command(value),
            0xa1 => self.slave.data(value),
            _ => self.write_elcr(port & 1 != 0, value),
        }
        self.update();
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(pic: &mut Pic, port: u16, value: u8) {
        pic.write(port, Width::Byte, value.into(), 0);
    }

    fn inb(pic: &mut Pic, port: u16) -> u8 {
        pic.read(port, Width::Byte, 0) as u8
    }

    /// The PC's initialization: vectors 08 and 70, cascade on IR2, with `icw4` for the master.
    fn pc(icw4: u8) -> Pic {
        let mut pic = Pic::new();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x08),
            (0x21, 0x04),
            (0x21, icw4),
            (0xa0, 0x11),
            (0xa1, 0x70),
            (0xa1, 0x02),
            (0xa1, 0x01),
        ] {
            out(&mut pic, port, value);
        }
        pic
    }

    #[test]
    fn the_lower_number_wins_and_blocks_until_eoi() {
        let mut pic = pc(1);
        pic.set_line(4, true);
        pic.set_line(1, true);
        assert_eq!(pic.acknowledge(), 0x09);
        assert!(!pic.int(), "IRQ4 waits for the EOI of IRQ1");
        out(&mut pic, 0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x0c);
    }

    #[test]
    fn a_slave_request_comes_through_the_cascade() {
        let mut pic = pc(1);
        pic.set_line(14, true);
        pic.set_line(8, true);
        assert_eq!(pic.acknowledge(), 0x70);
        out(&mut pic, 0xa0, 0x20);
        assert!(!pic.int());
        out(&mut pic, 0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x76);
        out(&mut pic, 0x20, 0x0b);
        assert_eq!(inb(&mut pic, 0x20), 0x04);
    }

    #[test]
    fn special_fully_nested_mode_lets_the_slave_nest() {
        let mut pic = pc(0x11);
        pic.set_line(14, true);
        assert_eq!(pic.acknowledge(), 0x76);
        pic.set_line(8, true);
        assert_eq!(pic.acknowledge(), 0x70);
    }

    #[test]
    fn a_request_that_goes_away_is_spurious() {
        let mut pic = pc(1);
        pic.set_line(3, true);
        pic.set_line(3, false);
        assert_eq!(pic.acknowledge(), 0x0f);
        out(&mut pic, 0x20, 0x0b);
        assert_eq!(inb(&mut pic, 0x20), 0, "nothing is in service");
    }

    #[test]
    fn a_slave_request_that_goes_away_gives_irq_15() {
        let mut pic = pc(1);
        pic.set_line(12, true);
        pic.slave.set_line(4, false);
        assert_eq!(pic.acknowledge(), 0x77);
        out(&mut pic, 0x20, 0x0b);
        assert_eq!(inb(&mut pic, 0x20), 4, "the master has the cascade in service");
    }

    #[test]
    fn masking_holds_a_request_back() {
        let mut pic = pc(1);
        out(&mut pic, 0x21, 0x02);
        pic.set_line(1, true);
        assert!(!pic.int());
        assert_eq!(inb(&mut pic, 0x20), 2, "IRR shows it");
        out(&mut pic, 0x21, 0);
        assert!(pic.int());
    }

    #[test]
    fn an_edge_asks_once_and_a_level_again() {
        let mut pic = pc(1);
        pic.set_line(5, true);
        pic.acknowledge();
        out(&mut pic, 0x20, 0x20);
        assert!(!pic.int());
        out(&mut pic, 0x4d0, 0xff);
        assert_eq!(inb(&mut pic, 0x4d0), 0xf8);
        assert_eq!(pic.acknowledge(), 0x0d);
        out(&mut pic, 0x20, 0x20);
        assert!(pic.int(), "still high");
        pic.set_line(5, false);
        assert!(!pic.int());
    }

    #[test]
    fn rotation_moves_the_served_level_to_the_end() {
        let mut pic = pc(1);
        pic.set_line(3, true);
        pic.acknowledge();
        out(&mut pic, 0x20, 0xa0);
        pic.pulse(3);
        pic.set_line(5, true);
        assert_eq!(pic.acknowledge(), 0x0d, "IR3 is lowest now");
        out(&mut pic, 0x20, 0x65);
        out(&mut pic, 0x20, 0xc1);
        pic.set_line(1, true);
        assert_eq!(pic.acknowledge(), 0x0b, "set priority: IR1 lowest, so IR3 before it");
    }

    #[test]
    fn auto_eoi_leaves_nothing_in_service_and_may_rotate() {
        let mut pic = pc(3);
        out(&mut pic, 0x20, 0x80);
        pic.set_line(0, true);
        assert_eq!(pic.acknowledge(), 8);
        out(&mut pic, 0x20, 0x0b);
        assert_eq!(inb(&mut pic, 0x20), 0);
        pic.pulse(0);
        pic.set_line(7, true);
        assert_eq!(pic.acknowledge(), 0x0f);
    }

    #[test]
    fn special_mask_mode_lets_lower_levels_in() {
        let mut pic = pc(1);
        pic.set_line(1, true);
        pic.acknowledge();
        pic.set_line(6, true);
        assert!(!pic.int());
        out(&mut pic, 0x21, 0x02);
        out(&mut pic, 0x20, 0x68);
        assert_eq!(pic.acknowledge(), 0x0e);
    }

    #[test]
    fn a_poll_reads_and_acknowledges() {
        let mut pic = pc(1);
        out(&mut pic, 0x20, 0x0c);
        assert_eq!(inb(&mut pic, 0x20) & 0x80, 0);
        pic.set_line(6, true);
        out(&mut pic, 0x20, 0x0c);
        assert_eq!(inb(&mut pic, 0x20), 0x86);
        out(&mut pic, 0x20, 0x0b);
        assert_eq!(inb(&mut pic, 0x20), 0x40);
    }
}

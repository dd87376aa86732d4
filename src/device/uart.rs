//! The 16550A serial port (National PC16550D datasheet). COM1 is at 3F8h on IRQ4, COM2 at 2F8h on IRQ3.
//!
//! Transmitted bytes reach the host at once. The transmitter itself is empty again at once by default, as
//! QEMU's is: a guest that polls LSR then spends its time on its own work, not on the line. With
//! [`Transmitter::Paced`] the holding register, the FIFO and the shift register empty at the divisor's rate,
//! as on real hardware. Bytes from the host always arrive at that rate, and wait while the FIFO is full, as a
//! sender that heeds RTS would: none is lost.

use super::Device;
use crate::bus::{Clock, Ticks, Width};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The crystal, already divided by 16.
const BAUD_HZ: u64 = 115_200;
const FIFO: usize = 16;

const RBR_THR: u16 = 0;
const IER: u16 = 1;
const IIR_FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;

const IER_RDA: u8 = 0x01;
const IER_THRE: u8 = 0x02;
const IER_LINE: u8 = 0x04;
const IER_MODEM: u8 = 0x08;
const IIR_NONE: u8 = 0x01;
const IIR_MODEM: u8 = 0x00;
const IIR_THRE: u8 = 0x02;
const IIR_RDA: u8 = 0x04;
const IIR_LINE: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFOS: u8 = 0xc0;
const FCR_ENABLE: u8 = 0x01;
const FCR_CLEAR_RX: u8 = 0x02;
const FCR_CLEAR_TX: u8 = 0x04;
const LCR_DLAB: u8 = 0x80;
const LCR_BREAK: u8 = 0x40;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOP: u8 = 0x10;
const LSR_DR: u8 = 0x01;
const LSR_OE: u8 = 0x02;
const LSR_BI: u8 = 0x10;
const LSR_ERRORS: u8 = 0x1e;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
/// CTS, DSR and DCD on: somebody is there.
const MSR_PEER: u8 = 0xb0;
const MSR_RI: u8 = 0x40;
const MSR_TERI: u8 = 0x04;

/// How fast bytes leave the transmitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transmitter {
    /// A byte is gone as soon as it is written: THRE and TEMT are always set.
    #[default]
    Immediate,
    /// A byte takes the line's time for a character.
    Paced,
}

/// One serial port.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Uart {
    clock: Clock,
    transmitter: Transmitter,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// The error bits of LSR.
    errors: u8,
    /// Modem status lines (bits 7-4) and their deltas (bits 3-0).
    msr: u8,
    scr: u8,
    divisor: u16,
    rx: VecDeque<u8>,
    /// What the host sent and the line has not delivered.
    inbox: VecDeque<u8>,
    next_rx: Option<Ticks>,
    /// When the receive timeout strikes; `timed_out` once it has.
    rx_timeout: Option<Ticks>,
    timed_out: bool,
    tx: VecDeque<u8>,
    shift_done: Option<Ticks>,
    shifting: u8,
    thre_pending: bool,
    /// The request fell and rose again within one access.
    dropped: bool,
    output: Vec<u8>,
}

impl Uart {
    /// A port with nothing sent, at 9600 baud.
    pub fn new(clock: Clock, transmitter: Transmitter) -> Self {
        Self {
            clock,
            transmitter,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            errors: 0,
            msr: MSR_PEER,
            scr: 0,
            divisor: 12,
            rx: VecDeque::new(),
            inbox: VecDeque::new(),
            next_rx: None,
            rx_timeout: None,
            timed_out: false,
            tx: VecDeque::new(),
            shift_done: None,
            shifting: 0,
            thre_pending: false,
            dropped: false,
            output: Vec::new(),
        }
    }

    /// Bytes from the host, to be received at the line's rate.
    pub fn input(&mut self, bytes: &[u8], now: Ticks) {
        self.inbox.extend(bytes);
        if self.next_rx.is_none() && !self.inbox.is_empty() {
            self.next_rx = Some(now + self.character());
        }
    }

    /// Bytes sent since this was last asked.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Bytes of host input not yet received.
    pub fn input_waiting(&self) -> usize {
        self.inbox.len()
    }

    /// Ticks of one character: start, data, parity and stop bits at the divisor's rate.
    fn character(&self) -> Ticks {
        let data = 5 + u64::from(self.lcr & 3);
        let parity = u64::from(self.lcr >> 3 & 1);
        let stop = 1 + u64::from(self.lcr >> 2 & 1);
        let bits = 1 + data + parity + stop;
        self.clock.ticks_at(bits * u64::from(self.divisor.max(1)), BAUD_HZ).max(1)
    }

    fn fifos(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn depth(&self) -> usize {
        if self.fifos() { FIFO } else { 1 }
    }

    fn trigger(&self) -> usize {
        if self.fifos() { [1, 4, 8, 14][usize::from(self.fcr >> 6)] } else { 1 }
    }

    fn looped(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// The source that IIR shows: the highest of those enabled and pending.
    fn source(&self) -> u8 {
        if self.ier & IER_LINE != 0 && self.errors & LSR_ERRORS != 0 {
            IIR_LINE
        } else if self.ier & IER_RDA != 0 && self.rx.len() >= self.trigger() {
            IIR_RDA
        } else if self.ier & IER_RDA != 0 && self.timed_out {
            IIR_TIMEOUT
        } else if self.ier & IER_THRE != 0 && self.thre_pending {
            IIR_THRE
        } else if self.ier & IER_MODEM != 0 && self.msr & 0x0f != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    fn lsr(&self) -> u8 {
        self.errors
            | if self.rx.is_empty() { 0 } else { LSR_DR }
            | if self.tx.is_empty() { LSR_THRE } else { 0 }
            | if self.tx.is_empty() && self.shift_done.is_none() { LSR_TEMT } else { 0 }
    }

    fn receive(&mut self, byte: u8, now: Ticks) {
        if self.rx.len() < self.depth() {
            self.rx.push_back(byte);
        } else {
            self.errors |= LSR_OE;
            if !self.fifos() {
                self.rx[0] = byte;
            }
        }
        self.restart_timeout(now);
    }

    /// The timeout strikes four characters after the last byte came in or was read, with bytes left in the
    /// FIFO.
    fn restart_timeout(&mut self, now: Ticks) {
        self.timed_out = false;
        let armed = self.fifos() && !self.rx.is_empty();
        self.rx_timeout = armed.then(|| now + 4 * self.character());
    }

    fn read_rbr(&mut self, now: Ticks) -> u8 {
        let byte = self.rx.pop_front().unwrap_or(0);
        self.restart_timeout(now);
        self.deliver(now);
        byte
    }

    fn write_thr(&mut self, byte: u8, now: Ticks) {
        self.dropped |= self.source() == IIR_THRE;
        self.thre_pending = false;
        if !self.looped() {
            self.output.push(byte);
        }
        if self.transmitter == Transmitter::Immediate {
            self.sent(byte, now);
            self.thre_pending = true;
        } else if self.shift_done.is_none() {
            self.shift(byte, now);
            self.thre_pending = true;
        } else if self.tx.len() < self.depth() {
            self.tx.push_back(byte);
        } else if let Some(last) = self.tx.back_mut() {
            *last = byte;
        }
    }

    fn shift(&mut self, byte: u8, from: Ticks) {
        self.shifting = byte;
        self.shift_done = Some(from + self.character());
    }

    /// A byte left the shift register at `at`: in loopback it comes straight in again.
    fn sent(&mut self, byte: u8, at: Ticks) {
        if self.looped() {
            self.receive(byte, at);
        }
    }

    fn advance_tx(&mut self, now: Ticks) {
        while let Some(done) = self.shift_done.filter(|&t| t <= now) {
            self.shift_done = None;
            self.sent(self.shifting, done);
            if let Some(byte) = self.tx.pop_front() {
                self.shift(byte, done);
                self.thre_pending |= self.tx.is_empty();
            }
        }
    }

    /// Moves host bytes that the line has delivered into the FIFO, as far as there is room.
    fn deliver(&mut self, now: Ticks) {
        while let Some(at) = self.next_rx.filter(|&t| t <= now) {
            if self.rx.len() >= self.depth() || self.looped() {
                return;
            }
            if let Some(byte) = self.inbox.pop_front() {
                let at = if self.rx.len() + 1 == self.depth() { now } else { at };
                self.receive(byte, at);
                self.next_rx = Some(at + self.character());
            }
            if self.inbox.is_empty() {
                self.next_rx = None;
            }
        }
    }

    fn write_fcr(&mut self, value: u8, now: Ticks) {
        let toggled = (self.fcr ^ value) & FCR_ENABLE != 0;
        if value & FCR_CLEAR_RX != 0 || toggled {
            self.rx.clear();
            self.restart_timeout(now);
        }
        if value & FCR_CLEAR_TX != 0 || toggled {
            self.thre_pending |= !self.tx.is_empty();
            self.tx.clear();
        }
        self.fcr = if value & FCR_ENABLE != 0 { value & 0xc9 } else { 0 };
    }

    fn write_ier(&mut self, value: u8) {
        let enabling = value & !self.ier & IER_THRE != 0;
        self.ier = value & 0x0f;
        self.thre_pending |= enabling && self.tx.is_empty();
    }

    /// In loopback the modem outputs drive the modem inputs: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
    fn update_modem(&mut self) {
        let lines = if self.looped() {
            (self.mcr & 1) << 5 | (self.mcr & 2) << 3 | (self.mcr & 4) << 4 | (self.mcr & 8) << 4
        } else {
            MSR_PEER
        };
        let old = self.msr & 0xf0;
        let changed = (old ^ lines) >> 4;
        let mut deltas = changed & 0x0b;
        if old & MSR_RI != 0 && lines & MSR_RI == 0 {
            deltas |= MSR_TERI;
        }
        self.msr = lines | (self.msr & 0x0f) | deltas;
    }

    fn write_lcr(&mut self, value: u8, now: Ticks) {
        let breaking = value & !self.lcr & LCR_BREAK != 0;
        self.lcr = value;
        if breaking && self.looped() {
            self.receive(0, now);
            self.errors |= LSR_BI;
        }
    }

    fn read_iir(&mut self) -> u8 {
        let source = self.source();
        if source == IIR_THRE {
            self.thre_pending = false;
        }
        source | if self.fifos() { IIR_FIFOS } else { 0 }
    }
}

impl Device for Uart {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.advance(now);
        let latch = self.lcr & LCR_DLAB != 0;
        let value = match port & 7 {
            RBR_THR if latch => self.divisor as u8,
            IER if latch => (self.divisor >> 8) as u8,
            RBR_THR => self.read_rbr(now),
            IER => self.ier,
            IIR_FCR => self.read_iir(),
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => {
                let lsr = self.lsr();
                self.errors = 0;
                lsr
            }
            MSR => {
                let msr = self.msr;
                self.msr &= 0xf0;
                msr
            }
            _ => self.scr,
        };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.advance(now);
        let value = value as u8;
        let latch = self.lcr & LCR_DLAB != 0;
        match port & 7 {
            RBR_THR if latch => self.divisor = self.divisor & 0xff00 | u16::from(value),
            IER if latch => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            RBR_THR => self.write_thr(value, now),
            IER => self.write_ier(value),
            IIR_FCR => self.write_fcr(value, now),
            LCR => self.write_lcr(value, now),
            MCR => {
                self.mcr = value & 0x1f;
                self.update_modem();
            }
            LSR | MSR => {}
            _ => self.scr = value,
        }
        self.deliver(now);
    }

    /// OUT2 gates the line on a PC; in loopback the pin is forced high (off).
    fn irq(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.source() != IIR_NONE
    }

    fn next_event(&self) -> Option<Ticks> {
        let room = self.rx.len() < self.depth() && !self.looped();
        let rx = self.next_rx.filter(|_| room);
        [self.shift_done, rx, self.rx_timeout].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Ticks) {
        self.advance_tx(now);
        self.deliver(now);
        if self.rx_timeout.is_some_and(|t| t <= now) {
            self.rx_timeout = None;
            self.timed_out = true;
        }
    }

    fn reset(&mut self) {
        let inbox = std::mem::take(&mut self.inbox);
        let output = std::mem::take(&mut self.output);
        let next_rx = self.next_rx;
        *self = Self { inbox, output, next_rx, ..Self::new(self.clock, self.transmitter) };
    }

    fn take_low(&mut self) -> bool {
        std::mem::take(&mut self.dropped)
    }

    /// The host may send something at any time.
    fn may_interrupt(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.ier != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A paced port: 1000 ticks per bit at 115200.
    fn uart() -> Uart {
        with(Transmitter::Paced)
    }

    fn with(transmitter: Transmitter) -> Uart {
        let mut uart = Uart::new(Clock::new(115_200_000), transmitter);
        for (reg, value) in [(LCR, 0x83), (RBR_THR, 1), (IER, 0), (LCR, 3), (MCR, 0x0b)] {
            out(&mut uart, reg, value, 0);
        }
        uart
    }

    const CHAR: Ticks = 10_000;

    fn out(uart: &mut Uart, reg: u16, value: u8, now: Ticks) {
        uart.write(0x3f8 + reg, Width::Byte, value.into(), now);
    }

    fn inb(uart: &mut Uart, reg: u16, now: Ticks) -> u8 {
        uart.read(0x3f8 + reg, Width::Byte, now) as u8
    }

    #[test]
    fn the_divisor_is_behind_dlab() {
        let mut uart = uart();
        out(&mut uart, LCR, 0x83, 0);
        assert_eq!([inb(&mut uart, 0, 0), inb(&mut uart, 1, 0)], [1, 0]);
    }

    #[test]
    fn the_transmitter_empties_at_the_line_rate() {
        let mut uart = uart();
        out(&mut uart, 0, b'a', 0);
        assert_eq!(inb(&mut uart, LSR, 1) & 0x60, 0x20, "the holding register is free, the shifter is not");
        out(&mut uart, 0, b'b', 1);
        assert_eq!(inb(&mut uart, LSR, 2) & 0x60, 0);
        assert_eq!(inb(&mut uart, LSR, CHAR) & 0x60, 0x20);
        assert_eq!(inb(&mut uart, LSR, 2 * CHAR) & 0x60, 0x60);
        assert_eq!(uart.take_output(), b"ab");
    }

    #[test]
    fn an_immediate_transmitter_is_always_empty() {
        let mut uart = with(Transmitter::Immediate);
        for byte in *b"abc" {
            out(&mut uart, 0, byte, 7);
            assert_eq!(inb(&mut uart, LSR, 7) & (LSR_THRE | LSR_TEMT), LSR_THRE | LSR_TEMT);
        }
        assert_eq!(uart.next_event(), None);
        assert_eq!(uart.take_output(), b"abc");
    }

    #[test]
    fn an_immediate_transmitter_interrupts_after_each_byte() {
        let mut uart = with(Transmitter::Immediate);
        out(&mut uart, IER, IER_THRE, 0);
        assert_eq!(inb(&mut uart, IIR_FCR, 0), IIR_THRE, "enabling the interrupt finds the register empty");
        assert!(!uart.irq(), "reading IIR took the request back");
        out(&mut uart, 0, b'a', 0);
        assert!(uart.irq());
        out(&mut uart, 0, b'b', 0);
        assert!(uart.irq() && uart.take_low(), "an edge for the interrupt controller");
    }

    #[test]
    fn an_immediate_transmitter_loops_a_byte_back_at_once() {
        let mut uart = with(Transmitter::Immediate);
        out(&mut uart, MCR, MCR_LOOP, 0);
        out(&mut uart, 0, 0x5a, 0);
        assert_eq!(inb(&mut uart, LSR, 0) & LSR_DR, LSR_DR);
        assert_eq!(inb(&mut uart, 0, 0), 0x5a);
        assert!(uart.take_output().is_empty());
    }

    #[test]
    fn input_arrives_at_the_line_rate_and_none_is_lost() {
        let mut uart = uart();
        out(&mut uart, IIR_FCR, 1, 0);
        let sent: Vec<u8> = (0..100).collect();
        uart.input(&sent, 0);
        assert_eq!(inb(&mut uart, LSR, CHAR - 1) & LSR_DR, 0);
        assert_eq!(inb(&mut uart, LSR, CHAR) & LSR_DR, LSR_DR);
        uart.advance(1_000_000 * CHAR);
        let mut got = Vec::new();
        for i in 0..1000u64 {
            let now = (1_000_000 + i) * CHAR;
            while inb(&mut uart, LSR, now) & (LSR_DR | LSR_OE) == LSR_DR {
                got.push(inb(&mut uart, 0, now));
            }
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn interrupts_come_in_priority_and_clear_as_the_datasheet_says() {
        let mut uart = uart();
        out(&mut uart, MCR, 0x1f, 0);
        inb(&mut uart, MSR, 0);
        out(&mut uart, MCR, 0x11, 0);
        out(&mut uart, 0, 1, 0);
        uart.advance(CHAR);
        out(&mut uart, 0, 2, CHAR);
        uart.advance(2 * CHAR);
        out(&mut uart, IER, 0x0f, 2 * CHAR);
        let now = 2 * CHAR;
        assert_eq!(inb(&mut uart, IIR_FCR, now), IIR_LINE, "overrun first");
        assert_eq!(inb(&mut uart, LSR, now) & LSR_OE, LSR_OE);
        assert_eq!(inb(&mut uart, IIR_FCR, now), IIR_RDA);
        assert_eq!(inb(&mut uart, 0, now), 2, "without FIFO an overrun replaces the byte");
        assert_eq!(inb(&mut uart, IIR_FCR, now), IIR_THRE);
        assert_eq!(inb(&mut uart, IIR_FCR, now), IIR_MODEM, "reading IIR took THRE back");
        inb(&mut uart, MSR, now);
        assert_eq!(inb(&mut uart, IIR_FCR, now), IIR_NONE);
    }

    #[test]
    fn the_fifo_interrupts_at_its_trigger_or_after_four_characters() {
        let mut uart = uart();
        out(&mut uart, IIR_FCR, 0x41, 0);
        out(&mut uart, IER, IER_RDA, 0);
        uart.input(&[1, 2, 3], 0);
        uart.advance(3 * CHAR);
        assert!(!uart.irq());
        uart.advance(7 * CHAR);
        assert_eq!(inb(&mut uart, IIR_FCR, 7 * CHAR), 0xcc);
        inb(&mut uart, 0, 7 * CHAR);
        assert_eq!(inb(&mut uart, IIR_FCR, 7 * CHAR), 0xc1);
        uart.input(&[4, 5], 7 * CHAR);
        uart.advance(9 * CHAR);
        assert_eq!(inb(&mut uart, IIR_FCR, 9 * CHAR), 0xc4);
    }

    #[test]
    fn loopback_turns_bytes_and_modem_lines_round() {
        let mut uart = uart();
        out(&mut uart, MCR, 0x1a, 0);
        assert_eq!(inb(&mut uart, MSR, 0) & 0xf0, 0x90, "RTS to CTS, OUT2 to DCD");
        out(&mut uart, 0, 0x5a, 0);
        assert_eq!(inb(&mut uart, 0, CHAR), 0x5a);
        assert!(uart.take_output().is_empty());
    }

    #[test]
    fn out2_gates_the_interrupt_line() {
        let mut uart = uart();
        out(&mut uart, IER, IER_THRE, 0);
        assert!(uart.irq());
        out(&mut uart, MCR, 3, 0);
        assert!(!uart.irq());
    }
}

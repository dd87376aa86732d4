//! The 8042 keyboard controller with a PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference,
//! keyboard/auxiliary device controller), and with the mouse of [`super::mouse`] at its auxiliary port. Data
//! at 60h, command and status at 64h; IRQ1 and IRQ12.
//!
//! The keyboard speaks scan code sets 2 and 1, the controller translates 2 to 1 on request. Bytes of the
//! devices take a serial transfer's time to arrive; the controller's own answers are there at once. The
//! host's keys are typed at a steady pace, and wait while the guest keeps the keyboard off: none is lost but
//! to a keyboard reset.

use super::Device;
use super::mouse::{Mouse, MouseEvent};
use crate::bus::{Clock, Ticks, Width};
use crate::console::keymap::KeyEvent;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Data port.
pub const DATA: u16 = 0x60;
/// Command (write) and status (read) port.
pub const COMMAND: u16 = 0x64;

/// Between a byte's being read, or asked for, and the device's next one.
const TRANSFER_US: u64 = 300;
/// Between two events of the host's keys: a typist whom firmware with its small buffer can follow.
const TYPING_US: u64 = 15_000;
/// Bytes the keyboard holds, as in a real one; the host's keys wait until there is room.
const QUEUE: usize = 16;
/// The longest sequence of bytes of one event.
const EVENT: usize = 3;

const STATUS_OBF: u8 = 0x01;
const STATUS_SYS: u8 = 0x04;
const STATUS_COMMAND: u8 = 0x08;
const STATUS_UNLOCKED: u8 = 0x10;
const STATUS_AUX: u8 = 0x20;
const CTR_IRQ1: u8 = 0x01;
const CTR_IRQ12: u8 = 0x02;
const CTR_SYS: u8 = 0x04;
const CTR_NO_KEYBOARD: u8 = 0x10;
const CTR_NO_AUX: u8 = 0x20;
const CTR_TRANSLATE: u8 = 0x40;
const OUT_NO_RESET: u8 = 0x01;
const OUT_A20: u8 = 0x02;
const OUT_IRQ1: u8 = 0x10;
const OUT_IRQ12: u8 = 0x20;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// Scan code set 2 to set 1, for codes below 80h; above, only 83h and 84h change.
const SET2_TO_SET1: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, //
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, //
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, //
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, //
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, //
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, //
];

fn translate(code: u8) -> u8 {
    match code {
        0x83 => 0x41,
        0x84 => 0x54,
        c => SET2_TO_SET1.get(usize::from(c)).copied().unwrap_or(c),
    }
}

/// The set 2 code of a set 1 make code.
fn set2(code: u8) -> u8 {
    match code {
        0x41 => 0x83,
        0x54 => 0x84,
        c => SET2_TO_SET1.iter().position(|&x| x == c).map_or(0, |i| i as u8),
    }
}

/// The keyboard.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
struct Keyboard {
    queue: VecDeque<u8>,
    scanning: bool,
    set: u8,
    /// The command that waits for its parameter.
    parameter_of: Option<u8>,
    last_sent: u8,
    leds: u8,
}

impl Keyboard {
    fn new() -> Self {
        Self { queue: VecDeque::new(), scanning: true, set: 2, parameter_of: None, last_sent: 0, leds: 0 }
    }

    /// Answers go on top of the keys that wait; a guest that asks and never reads loses the later ones.
    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= 2 * QUEUE {
            self.queue.extend(bytes);
        }
    }

    fn ready(&self) -> bool {
        self.scanning && self.queue.len() + EVENT <= QUEUE
    }

    fn key(&mut self, event: KeyEvent) {
        if event.extended {
            self.queue.push_back(0xe0);
        }
        match (self.set, event.down) {
            (1, down) => self.queue.push_back(event.code | if down { 0 } else { 0x80 }),
            (_, true) => self.queue.push_back(set2(event.code)),
            (_, false) => self.queue.extend([0xf0, set2(event.code)]),
        }
    }

    fn command(&mut self, value: u8) {
        if let Some(command) = self.parameter_of.take()
            && value < 0xed
        {
            return self.parameter(command, value);
        }
        match value {
            0xed | 0xf0 | 0xf3 => {
                self.parameter_of = Some(value);
                self.answer(&[ACK]);
            }
            0xee => self.answer(&[0xee]),
            0xf2 => self.answer(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.queue.clear();
                self.scanning = true;
                self.answer(&[ACK]);
            }
            0xf5 | 0xf6 => {
                *self = Self { scanning: value == 0xf6, leds: self.leds, ..Self::new() };
                self.answer(&[ACK]);
            }
            0xf7..=0xfd => self.answer(&[ACK]),
            RESEND => self.answer(&[self.last_sent]),
            0xff => {
                *self = Self::new();
                self.answer(&[ACK, 0xaa]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (0xed, leds) => {
                self.leds = leds & 7;
                self.answer(&[ACK]);
            }
            (0xf0, 0) => self.answer(&[ACK, self.set]),
            (0xf0, set @ (1 | 2)) => {
                self.set = set;
                self.answer(&[ACK]);
            }
            (0xf0, _) => self.answer(&[RESEND]),
            _ => self.answer(&[ACK]),
        }
    }
}

/// Who put the byte into the output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum From {
    Controller,
    Keyboard,
    Aux,
}

/// The controller with both devices.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct I8042 {
    clock: Clock,
    /// The command byte.
    ctr: u8,
    /// Whether the last write went to the command port.
    last_was_command: bool,
    output: Option<(u8, From)>,
    /// The byte last read, which the data port keeps showing.
    last_output: u8,
    /// An answer of the controller's that waits for the output buffer.
    answer: Option<u8>,
    /// The command that waits for a byte at the data port.
    parameter_of: Option<u8>,
    /// Set 2's F0 was seen by the translation: the next code is a release.
    release: bool,
    keyboard: Keyboard,
    mouse: Mouse,
    next_byte: Option<Ticks>,
    /// The host's keys to be typed, and when the next one may be.
    typing: VecDeque<KeyEvent>,
    next_key: Ticks,
    a20: bool,
    a20_written: Option<bool>,
    reset_pulse: bool,
    /// The controller's internal memory, 20h-3Fh, but for the command byte.
    ram: [u8; 32],
}

impl I8042 {
    /// A controller after power-on.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            ctr: CTR_NO_KEYBOARD | CTR_NO_AUX,
            last_was_command: false,
            output: None,
            last_output: 0,
            answer: None,
            parameter_of: None,
            release: false,
            keyboard: Keyboard::new(),
            mouse: Mouse::new(clock),
            next_byte: None,
            typing: VecDeque::new(),
            next_key: 0,
            a20: true,
            a20_written: None,
            reset_pulse: false,
            ram: [0; 32],
        }
    }

    /// A key of the host's went down or up.
    pub fn key(&mut self, event: KeyEvent, now: Ticks) {
        self.typing.push_back(event);
        self.type_keys(now);
        self.schedule(now);
    }

    /// The host's hand does something with the mouse.
    pub fn mouse(&mut self, event: MouseEvent, now: Ticks) {
        self.mouse.event(event);
        self.advance(now);
    }

    /// The host's key events, bytes of the keyboard's, and movements of the mouse that the guest has not
    /// taken.
    pub fn keys_waiting(&self) -> usize {
        self.typing.len() + self.keyboard.queue.len() + self.mouse.waiting()
    }

    fn can_type(&self) -> bool {
        !self.typing.is_empty() && self.keyboard.ready() && self.ctr & CTR_NO_KEYBOARD == 0
    }

    /// When the mouse speaks by itself: not while its clock line is held.
    fn mouse_event(&self) -> Option<Ticks> {
        self.mouse.next_event().filter(|_| self.ctr & CTR_NO_AUX == 0)
    }

    /// Types the host's next key, if it is time and the guest listens.
    fn type_keys(&mut self, now: Ticks) {
        if now >= self.next_key
            && self.can_type()
            && let Some(event) = self.typing.pop_front()
        {
            self.keyboard.key(event);
            self.next_key = now + self.clock.micros(TYPING_US);
        }
    }

    /// The keyboard's LEDs: Scroll Lock, Num Lock, Caps Lock from bit 0.
    pub fn leds(&self) -> u8 {
        self.keyboard.leds
    }

    /// The level that the guest gave the A20 gate since this was last asked.
    pub fn take_a20(&mut self) -> Option<bool> {
        self.a20_written.take()
    }

    /// Tells the controller the state of the gate, which port 92h moves too.
    pub fn set_a20(&mut self, open: bool) {
        self.a20 = open;
    }

    /// Whether the reset line was pulsed since this was last asked.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset_pulse)
    }

    /// Whether the guest has the interrupts of the keyboard and of the mouse on.
    pub fn interrupts_on(&self) -> [bool; 2] {
        [CTR_IRQ1, CTR_IRQ12].map(|bit| self.ctr & bit != 0)
    }

    /// The level of IRQ12.
    pub fn irq12(&self) -> bool {
        self.ctr & CTR_IRQ12 != 0 && matches!(self.output, Some((_, From::Aux)))
    }

    fn schedule(&mut self, now: Ticks) {
        if self.output.is_none() && self.next_byte.is_none() && self.source().is_some() {
            self.next_byte = Some(now + self.clock.micros(TRANSFER_US));
        }
    }

    /// The device whose byte comes next.
    fn source(&self) -> Option<From> {
        if !self.keyboard.queue.is_empty() && self.ctr & CTR_NO_KEYBOARD == 0 {
            Some(From::Keyboard)
        } else if self.mouse.has_byte() && self.ctr & CTR_NO_AUX == 0 {
            Some(From::Aux)
        } else {
            None
        }
    }

    /// Moves the next byte into the output buffer.
    fn fill(&mut self) {
        match self.source() {
            Some(From::Keyboard) => {
                let code = self.keyboard.queue.pop_front().unwrap_or(0);
                if code != RESEND {
                    self.keyboard.last_sent = code;
                }
                match self.translated(code) {
                    Some(code) => self.output = Some((code, From::Keyboard)),
                    None => self.fill(),
                }
            }
            Some(_) => self.output = self.mouse.take_byte().map(|b| (b, From::Aux)),
            None => {}
        }
    }

    /// What the translation makes of a code; nothing for the release prefix.
    fn translated(&mut self, code: u8) -> Option<u8> {
        if self.ctr & CTR_TRANSLATE == 0 {
            return Some(code);
        }
        if code == 0xf0 {
            self.release = true;
            return None;
        }
        let release = std::mem::take(&mut self.release);
        Some(translate(code) | if release { 0x80 } else { 0 })
    }

    fn reply(&mut self, value: u8) {
        if self.output.is_none() {
            self.output = Some((value, From::Controller));
            self.next_byte = None;
        } else {
            self.answer = Some(value);
        }
    }

    fn read_data(&mut self, now: Ticks) -> u8 {
        if let Some((byte, _)) = self.output.take() {
            self.last_output = byte;
            if let Some(answer) = self.answer.take() {
                self.reply(answer);
            }
            self.schedule(now);
        }
        self.last_output
    }

    fn status(&self) -> u8 {
        let output = match self.output {
            None => 0,
            Some((_, From::Aux)) => STATUS_OBF | STATUS_AUX,
            Some(_) => STATUS_OBF,
        };
        output
            | self.ctr & STATUS_SYS
            | if self.last_was_command { STATUS_COMMAND } else { 0 }
            | STATUS_UNLOCKED
    }

    fn output_port(&self) -> u8 {
        OUT_NO_RESET
            | if self.a20 { OUT_A20 } else { 0 }
            | if self.irq() { OUT_IRQ1 } else { 0 }
            | if self.irq12() { OUT_IRQ12 } else { 0 }
            | 0xc0
    }

    fn write_output_port(&mut self, value: u8) {
        self.open_a20(value & OUT_A20 != 0);
        self.reset_pulse |= value & OUT_NO_RESET == 0;
    }

    fn open_a20(&mut self, open: bool) {
        self.a20 = open;
        self.a20_written = Some(open);
    }

    fn command(&mut self, value: u8) {
        self.parameter_of = None;
        match value {
            0x20 => self.reply(self.ctr),
            0x21..=0x3f => self.reply(self.ram[usize::from(value & 0x1f)]),
            0x60..=0x7f | 0xcb | 0xd1..=0xd4 => self.parameter_of = Some(value),
            0xa7 => self.ctr |= CTR_NO_AUX,
            0xa8 => self.ctr &= !CTR_NO_AUX,
            0xa9 | 0xab => self.reply(0),
            0xaa => {
                self.ctr |= CTR_SYS;
                self.reply(0x55);
            }
            0xad => self.ctr |= CTR_NO_KEYBOARD,
            0xae => self.ctr &= !CTR_NO_KEYBOARD,
            0xc0 => self.reply(0x80),
            0xd0 => self.reply(self.output_port()),
            0xdd => self.open_a20(false),
            0xdf => self.open_a20(true),
            0xe0 => self.reply(0),
            0xf0..=0xff => self.reset_pulse |= value & 1 == 0,
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        match self.parameter_of.take() {
            Some(0x60) => self.ctr = value & !0x80,
            Some(at @ 0x61..=0x7f) => self.ram[usize::from(at & 0x1f)] = value,
            Some(0xd1) => self.write_output_port(value),
            Some(0xd2) => self.output = Some((value, From::Keyboard)),
            Some(0xd3) => self.output = Some((value, From::Aux)),
            Some(0xd4) => {
                self.ctr &= !CTR_NO_AUX;
                self.mouse.command(value);
            }
            Some(_) => {}
            None => {
                self.ctr &= !CTR_NO_KEYBOARD;
                self.keyboard.command(value);
            }
        }
    }
}

impl Device for I8042 {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.advance(now);
        let value = if port == DATA { self.read_data(now) } else { self.status() };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.advance(now);
        self.last_was_command = port != DATA;
        if port == DATA {
            self.data(value as u8);
        } else {
            self.command(value as u8);
        }
        self.schedule(now);
    }

    /// The level of IRQ1.
    fn irq(&self) -> bool {
        self.ctr & CTR_IRQ1 != 0 && matches!(self.output, Some((_, From::Keyboard | From::Controller)))
    }

    fn next_event(&self) -> Option<Ticks> {
        let key = self.can_type().then_some(self.next_key);
        [self.next_byte, key, self.mouse_event()].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Ticks) {
        if self.next_byte.is_some_and(|t| t <= now) {
            self.next_byte = None;
            if self.output.is_none() {
                self.fill();
            }
        }
        self.type_keys(now);
        if self.mouse_event().is_some() {
            self.mouse.advance(now);
        }
        self.schedule(now);
    }

    fn reset(&mut self) {
        let (typing, next_key) = (std::mem::take(&mut self.typing), self.next_key);
        let mut mouse = self.mouse.clone();
        mouse.reset();
        *self = Self { typing, next_key, mouse, ..Self::new(self.clock) };
    }
}

#[cfg(test)]
mod tests;

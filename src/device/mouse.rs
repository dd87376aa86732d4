//! The PS/2 mouse behind the auxiliary port of the keyboard controller (IBM PS/2 Hardware Interface Technical
//! Reference, Mouse), with the wheel and the five buttons that Microsoft's IntelliMouse and its Explorer
//! added: a driver asks for them by setting certain sample rates in a row. [`super::i8042`] carries its
//! bytes.
//!
//! What the host does with the mouse waits until the guest asks for it, and then comes a packet per sample
//! period: no click is lost to a slow sample rate or to a driver that is not there yet. A real mouse would
//! count on, up to an overflow. Movements are in counts, whatever resolution the guest sets; a real mouse has
//! counts per millimetre.

use crate::bus::{Clock, Ticks};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bytes of answers that it holds.
const QUEUE: usize = 16;
/// The most that a packet can say of one axis: nine bits, signed.
const FARTHEST: i32 = 255;
/// The most that a packet says of the wheel: four bits, signed, are there in every protocol.
const WHEEL: i32 = 7;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ERROR: u8 = 0xfc;
/// The self-test after a reset passed.
const PASSED: u8 = 0xaa;
/// Sample rates that a mouse knows, in packets per second.
const RATES: [u8; 7] = [10, 20, 40, 60, 80, 100, 200];
/// Three sample rates in a row that mean: be this kind of mouse.
const KNOCKS: [([u8; 3], u8); 2] = [([200, 100, 80], ID_WHEEL), ([200, 200, 80], ID_FIVE_BUTTONS)];
const ID_PLAIN: u8 = 0;
const ID_WHEEL: u8 = 3;
const ID_FIVE_BUTTONS: u8 = 4;

/// A button, by its bit in what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Button {
    /// Left.
    Left,
    /// Right.
    Right,
    /// Middle: the wheel, pressed.
    Middle,
    /// The fourth, at the thumb: "back".
    Side,
    /// The fifth, at the thumb: "forward".
    Extra,
}

impl Button {
    /// All, with their names in scripts.
    pub const NAMES: [(&str, Self); 5] = [
        ("left", Self::Left),
        ("right", Self::Right),
        ("middle", Self::Middle),
        ("side", Self::Side),
        ("extra", Self::Extra),
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What a hand does with the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MouseEvent {
    /// Moves it, in counts to the right and down.
    Move {
        /// To the right.
        dx: i32,
        /// Towards the user, which is down on a screen.
        dy: i32,
    },
    /// Turns the wheel by notches, towards the user.
    Wheel(i32),
    /// Presses or releases a button.
    Button {
        /// Which.
        button: Button,
        /// Pressed, else released.
        down: bool,
    },
}

/// A movement, and the buttons that are held from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Motion {
    dx: i32,
    /// Away from the user, as in packets.
    dy: i32,
    dz: i32,
    buttons: u8,
}

/// The mouse.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(super) struct Mouse {
    clock: Clock,
    /// Bytes for the controller.
    queue: VecDeque<u8>,
    /// What the next RESEND brings again.
    last_sent: Vec<u8>,
    /// Data reporting is enabled: in stream mode the mouse speaks by itself.
    reporting: bool,
    remote: bool,
    wrap: bool,
    double_scaling: bool,
    /// Two to this power counts per millimetre.
    resolution: u8,
    /// Packets per second.
    rate: u8,
    /// The last rates set, the newest last.
    rates: [u8; 3],
    id: u8,
    /// The command that waits for its parameter.
    parameter_of: Option<u8>,
    /// The last byte was no command: a second one in a row is answered otherwise.
    refused: bool,
    /// What the host's hand did, and the guest has not been told.
    motions: VecDeque<Motion>,
    /// The buttons that the guest was told of.
    told: u8,
    /// From when on the next packet may be sent.
    next_sample: Ticks,
}

impl Mouse {
    /// A mouse whose power-on answer (AAh 00h) the firmware has taken.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            queue: VecDeque::new(),
            last_sent: Vec::new(),
            reporting: false,
            remote: false,
            wrap: false,
            double_scaling: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            id: ID_PLAIN,
            parameter_of: None,
            refused: false,
            motions: VecDeque::new(),
            told: 0,
            next_sample: 0,
        }
    }

    /// The hand does something.
    pub(super) fn event(&mut self, event: MouseEvent) {
        let mut motion = Motion { buttons: self.held(), ..Motion::default() };
        match event {
            MouseEvent::Move { dx, dy } => (motion.dx, motion.dy) = (dx, dy.saturating_neg()),
            MouseEvent::Wheel(dz) => motion.dz = dz,
            MouseEvent::Button { button, down: true } => motion.buttons |= button.bit(),
            MouseEvent::Button { button, down: false } => motion.buttons &= !button.bit(),
        }
        match self.motions.back_mut() {
            Some(last) if last.buttons == motion.buttons => {
                last.dx = last.dx.saturating_add(motion.dx);
                last.dy = last.dy.saturating_add(motion.dy);
                last.dz = last.dz.saturating_add(motion.dz);
            }
            _ => self.motions.push_back(motion),
        }
    }

    /// The buttons that the hand holds down.
    fn held(&self) -> u8 {
        self.motions.back().map_or(self.told, |motion| motion.buttons)
    }

    /// What the hand did, in steps that the guest has not been told of.
    pub(super) fn waiting(&self) -> usize {
        self.motions.len()
    }

    /// Whether a byte waits for the controller.
    pub(super) fn has_byte(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next byte for the controller.
    pub(super) fn take_byte(&mut self) -> Option<u8> {
        self.queue.pop_front()
    }

    /// When the mouse speaks by itself, if it has something to say and may.
    pub(super) fn next_event(&self) -> Option<Ticks> {
        let streams = self.reporting && !self.remote && !self.wrap;
        let free = self.queue.is_empty() && self.parameter_of.is_none();
        (streams && free && !self.motions.is_empty()).then_some(self.next_sample)
    }

    /// Sends a packet by itself, if it is time.
    pub(super) fn advance(&mut self, now: Ticks) {
        if self.next_event().is_some_and(|t| t <= now) {
            let packet = self.packet(self.double_scaling);
            self.send(&packet);
            self.next_sample = now + self.clock.micros(1_000_000 / u64::from(self.rate));
        }
    }

    /// The power goes off and on; what the hand did stays.
    pub(super) fn reset(&mut self) {
        let motions = std::mem::take(&mut self.motions);
        *self = Self { motions, told: self.told, ..Self::new(self.clock) };
    }

    /// A packet with the next part of what the hand did.
    fn packet(&mut self, double: bool) -> Vec<u8> {
        let part = self.take_part(if double { FARTHEST / 2 } else { FARTHEST });
        let scaled = |n| if double { scale(n) } else { n };
        let (dx, dy) = (scaled(part.dx), scaled(part.dy));
        self.told = part.buttons;
        let head = 0x08 | part.buttons & 7 | u8::from(dx < 0) << 4 | u8::from(dy < 0) << 5;
        // The wheel's packets count towards the user.
        let mut packet = vec![head, dx as u8, dy as u8];
        match self.id {
            ID_WHEEL => packet.push(part.dz as u8),
            ID_FIVE_BUTTONS => packet.push(part.dz as u8 & 0x0f | (part.buttons & 0x18) << 1),
            _ => {}
        }
        packet
    }

    /// Takes as much of the first motion as one packet can say, with at most `farthest` counts.
    fn take_part(&mut self, farthest: i32) -> Motion {
        let Some(first) = self.motions.front_mut() else {
            return Motion { buttons: self.told, ..Motion::default() };
        };
        let part = Motion {
            dx: first.dx.clamp(-farthest, farthest),
            dy: first.dy.clamp(-farthest, farthest),
            dz: first.dz.clamp(-WHEEL, WHEEL),
            buttons: first.buttons,
        };
        (first.dx, first.dy, first.dz) = (first.dx - part.dx, first.dy - part.dy, first.dz - part.dz);
        if (first.dx, first.dy, first.dz) == (0, 0, 0) {
            self.motions.pop_front();
        }
        part
    }

    /// What a guest never reads is lost rather than kept.
    fn send(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
        self.last_sent = bytes.to_vec();
    }

    /// A byte from the controller. What the mouse was about to send is given up for it.
    pub(super) fn command(&mut self, value: u8) {
        self.queue.clear();
        if self.wrap && !matches!(value, 0xec | 0xff) {
            return self.send(&[value]);
        }
        let known = match self.parameter_of.take() {
            Some(command) if value < 0xe0 => self.parameter(command, value),
            _ => self.plain_command(value),
        };
        if !known {
            self.send(&[if self.refused { ERROR } else { RESEND }]);
        }
        self.refused = !known;
    }

    /// The parameter of the resolution (E8h) and of the sample rate (F3h).
    fn parameter(&mut self, command: u8, value: u8) -> bool {
        match command {
            0xe8 if value <= 3 => self.resolution = value,
            0xf3 if RATES.contains(&value) => self.set_rate(value),
            _ => return false,
        }
        self.send(&[ACK]);
        true
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.rates = [self.rates[1], self.rates[2], rate];
        if let Some((_, id)) = KNOCKS.iter().find(|(knock, _)| *knock == self.rates) {
            // Only a mouse with a wheel has the fourth and fifth button.
            if *id == ID_WHEEL && self.id == ID_PLAIN || *id == ID_FIVE_BUTTONS && self.id != ID_PLAIN {
                self.id = *id;
            }
        }
    }

    fn plain_command(&mut self, value: u8) -> bool {
        let mut answer = vec![ACK];
        match value {
            0xe6 | 0xe7 => self.double_scaling = value == 0xe7,
            0xe8 | 0xf3 => self.parameter_of = Some(value),
            0xe9 => answer.extend([self.status(), self.resolution, self.rate]),
            0xea => self.remote = false,
            // Scaling is the stream mode's.
            0xeb => answer.extend(self.packet(false)),
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => answer.push(self.id),
            0xf4 | 0xf5 => self.reporting = value == 0xf4,
            0xf6 => self.set_defaults(),
            RESEND => answer = self.last_sent.clone(),
            0xff => {
                self.reset();
                answer.extend([PASSED, ID_PLAIN]);
            }
            _ => return false,
        }
        self.send(&answer);
        true
    }

    fn set_defaults(&mut self) {
        (self.reporting, self.remote, self.double_scaling) = (false, false, false);
        (self.resolution, self.rate) = (2, 100);
    }

    fn status(&self) -> u8 {
        let held = |button: Button| self.told & button.bit() != 0;
        u8::from(self.remote) << 6
            | u8::from(self.reporting) << 5
            | u8::from(self.double_scaling) << 4
            | u8::from(held(Button::Left)) << 2
            | u8::from(held(Button::Middle)) << 1
            | u8::from(held(Button::Right))
    }
}

/// Scaling 2:1: small movements stay fine, large ones double.
fn scale(counts: i32) -> i32 {
    let scaled = match counts.abs() {
        n @ (0 | 1 | 3) => n,
        2 => 1,
        4 => 6,
        5 => 9,
        n => 2 * n,
    };
    scaled * counts.signum()
}

#[cfg(test)]
mod tests;

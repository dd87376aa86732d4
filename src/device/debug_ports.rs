//! The one-register ports: POST codes at 80h, the fast A20 and reset port 92h (82371SB, 2.5.5), and the ports
//! by which a guest speaks to whoever runs it: the debug consoles at E9h (Bochs) and 402h (SeaBIOS), marks of
//! phases at ECh, the exit at F4h.
//!
//! A write to F4h ends the run, and its low byte *is* the guest's exit status: 0 is success. (QEMU's
//! isa-debug-exit reports `value << 1 | 1`, which can never be 0; we keep the simpler rule.)

use super::Device;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};

/// POST code; the pages of the DMA controller around it are another chip's.
pub const POST: u16 = 0x80;
/// System control port A.
pub const CONTROL_A: u16 = 0x92;
/// Bochs' debug console; reads give E9h, by which software finds it.
pub const CONSOLE: u16 = 0xe9;
/// Marks of phases: the physical address of what describes one ([`crate::lab::compare::Phases`]).
pub const MARK: u16 = 0xec;
/// Exit.
pub const EXIT: u16 = 0xf4;
/// SeaBIOS' debug console; reads give E9h.
pub const BIOS_CONSOLE: u16 = 0x402;

const A_RESET: u8 = 0x01;
const A_A20: u8 = 0x02;
const PRESENT: u8 = 0xe9;

/// The state of the one-register ports.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
pub struct DebugPorts {
    post: u8,
    post_count: u64,
    control_a: u8,
    a20_written: Option<bool>,
    reset: bool,
    exit: Option<u32>,
    console: Vec<u8>,
    bios_console: Vec<u8>,
    #[serde(skip)]
    mark: Mark,
}

/// A mark that nobody has taken. No later behaviour depends on one: marks are not saved, and count for nothing
/// where machines are compared.
#[derive(Clone, Copy, Debug, Default)]
struct Mark(Option<u32>);

impl Hash for Mark {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl DebugPorts {
    /// The ports after power-on, the A20 gate open.
    pub fn new() -> Self {
        Self { control_a: A_A20, ..Self::default() }
    }

    /// The last POST code and how many were written.
    pub fn post(&self) -> (u8, u64) {
        (self.post, self.post_count)
    }

    /// What the guest wrote to F4h, if it did: the whole value. The exit status is its low byte.
    pub fn exit(&self) -> Option<u32> {
        self.exit
    }

    /// Whether the guest wrote a mark that was not taken.
    pub fn has_mark(&self) -> bool {
        self.mark.0.is_some()
    }

    /// The last mark that the guest wrote, unless it was taken.
    pub fn take_mark(&mut self) -> Option<u32> {
        self.mark.0.take()
    }

    /// Bytes written to E9h since this was last asked.
    pub fn take_console(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.console)
    }

    /// Bytes written to 402h since this was last asked.
    pub fn take_bios_console(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bios_console)
    }

    /// The level that port 92h gave the A20 gate since this was last asked.
    pub fn take_a20(&mut self) -> Option<bool> {
        self.a20_written.take()
    }

    /// Tells port 92h the state of the gate, which the keyboard controller moves too.
    pub fn set_a20(&mut self, open: bool) {
        self.control_a = self.control_a & !A_A20 | if open { A_A20 } else { 0 };
    }

    /// Whether port 92h asked for a reset since this was last asked.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }

    /// The reset bit acts when it goes from 0 to 1.
    fn write_control_a(&mut self, value: u8) {
        self.reset |= value & !self.control_a & A_RESET != 0;
        self.control_a = value;
        self.a20_written = Some(value & A_A20 != 0);
    }
}

impl Device for DebugPorts {
    fn read(&mut self, port: u16, width: Width, _now: Ticks) -> u32 {
        match port {
            POST => self.post.into(),
            CONTROL_A => self.control_a.into(),
            CONSOLE | BIOS_CONSOLE => PRESENT.into(),
            _ => width.mask(),
        }
    }

    fn write(&mut self, port: u16, width: Width, value: u32, _now: Ticks) {
        match port {
            POST => {
                self.post = value as u8;
                self.post_count += 1;
            }
            CONTROL_A => self.write_control_a(value as u8),
            CONSOLE => self.console.push(value as u8),
            BIOS_CONSOLE => self.bios_console.push(value as u8),
            MARK => self.mark.0 = (width == Width::Dword).then_some(value).or(self.mark.0),
            _ => self.exit = Some(value & width.mask()),
        }
    }

    fn reset(&mut self) {
        self.control_a = A_A20;
        self.a20_written = None;
        self.reset = false;
    }

    fn is_wide(&self, port: u16) -> bool {
        port == EXIT || port == MARK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_keeps_the_value_as_wide_as_written() {
        let mut ports = DebugPorts::new();
        ports.write(EXIT, Width::Word, 0x1234_5678, 0);
        assert_eq!(ports.exit(), Some(0x5678));
    }

    #[test]
    fn consoles_are_found_by_reading_and_collect_bytes() {
        let mut ports = DebugPorts::new();
        assert_eq!(ports.read(BIOS_CONSOLE, Width::Byte, 0), 0xe9);
        ports.write(CONSOLE, Width::Byte, b'x'.into(), 0);
        ports.write(BIOS_CONSOLE, Width::Byte, b'y'.into(), 0);
        assert_eq!((ports.take_console(), ports.take_bios_console()), (b"x".to_vec(), b"y".to_vec()));
    }

    #[test]
    fn port_92_moves_a20_and_resets_on_a_rising_bit() {
        let mut ports = DebugPorts::new();
        ports.write(CONTROL_A, Width::Byte, 0, 0);
        assert_eq!(ports.take_a20(), Some(false));
        ports.write(CONTROL_A, Width::Byte, 3, 0);
        assert!(ports.take_reset());
        ports.write(CONTROL_A, Width::Byte, 3, 0);
        assert!(!ports.take_reset());
    }
}

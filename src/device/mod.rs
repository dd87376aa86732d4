//! The chips of the board, one file each, all of the same anatomy: register offsets, bits, the plain state
//! struct, the behaviour, tests.
//!
//! Nothing here reads host time or does host I/O: the clock comes in as [`Ticks`] with each call, an
//! interrupt line goes out as a level that the board samples, output bytes collect in a buffer that the board
//! drains.

pub mod apic;
pub mod ata;
pub mod cdrom;
pub mod cmos;
pub mod debug_ports;
pub mod dma;
pub mod fdc;
pub mod ferr;
pub mod fw_cfg;
pub mod i8042;
pub mod ide;
mod identify;
pub mod mouse;
pub mod pc_testdev;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod uart;
pub mod vga_text;

use crate::bus::{Ticks, Width};

/// What every chip does, as the board sees it.
pub trait Device {
    /// A read of `width` at `port` (the full port number).
    fn read(&mut self, port: u16, width: Width, now: Ticks) -> u32;
    /// A write of `width` at `port` (the full port number).
    fn write(&mut self, port: u16, width: Width, value: u32, now: Ticks);
    /// Whether the register at `port` is wider than a byte.
    fn is_wide(&self, port: u16) -> bool {
        let _ = port;
        false
    }
    /// The level of the chip's interrupt request line.
    fn irq(&self) -> bool {
        false
    }
    /// Whether the request line was low for an instant since this was last asked, though it may be high now.
    fn take_low(&mut self) -> bool {
        false
    }
    /// Whether the chip may yet drive its request line while nobody writes to it.
    fn may_interrupt(&self) -> bool {
        self.next_event().is_some()
    }
    /// When the chip next changes by itself (its interrupt line, or what a read would show), if ever.
    fn next_event(&self) -> Option<Ticks> {
        None
    }
    /// Brings the chip up to `now`. Called at least at each `next_event`.
    fn advance(&mut self, now: Ticks) {
        let _ = now;
    }
    /// Back to the state after power-on or a reset line.
    fn reset(&mut self);
    /// Whether a state from a file is one that the chip can be in.
    fn sensible(&self) -> bool {
        true
    }
}

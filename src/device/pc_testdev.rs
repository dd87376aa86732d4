//! The test device of QEMU's PC (`-device pc-testdev`, hw/misc/pc-testdev.c), which public unit tests of
//! processors and chips use: a register that can be read and written in all widths, interrupt lines under
//! software's control, a page flush, 64 KiB of memory behind the bus, and a console. Only a board that was
//! asked for it (`--testdev`) has one.
//!
//! | ports | what |
//! |---|---|
//! | E0h-E3h | the register, by byte, word or dword at any offset |
//! | E4h-E7h | flush the page at the address written: nothing here keeps a page mapped, so nothing happens |
//! | E8h-EBh | the register again, always byte by byte |
//! | F1h | the console (`testdev` of older QEMUs); its bytes go where those of the debug console go |
//! | 2000h-2017h | one port for each interrupt line: 0 lowers it, all else raises it |
//!
//! The register and the lines stay over a reset, as there.

use super::Device;
use crate::addr::GuestPhys;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

/// The register.
pub const REGISTER: u16 = 0xe0;
/// Page flush.
pub const FLUSH: u16 = 0xe4;
/// The register, byte by byte.
pub const REGISTER_BYTES: u16 = 0xe8;
/// The console.
pub const CONSOLE: u16 = 0xf1;
/// The interrupt lines' first port.
pub const LINES: u16 = 0x2000;
/// How many of them there are; the board has the first sixteen.
pub const LINE_COUNT: u16 = 24;
/// Where the memory is.
pub const MEMORY: GuestPhys = GuestPhys(0xff00_0000);
/// Bytes of the memory.
pub const MEMORY_SIZE: u32 = 0x1_0000;

/// Whether the byte at `at` is the memory's.
pub fn has_memory_at(at: GuestPhys) -> bool {
    (MEMORY.0..MEMORY.0 + MEMORY_SIZE).contains(&at.0)
}

/// The device.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct PcTestdev {
    register: u32,
    /// The lines that are high.
    lines: u32,
    /// The line that was written to, for the board to drive.
    written: Option<u8>,
    console: Vec<u8>,
    #[serde(with = "crate::saved::bytes")]
    memory: Vec<u8>,
}

impl Default for PcTestdev {
    fn default() -> Self {
        Self {
            register: 0,
            lines: 0,
            written: None,
            console: Vec::new(),
            memory: vec![0; MEMORY_SIZE as usize],
        }
    }
}

impl PcTestdev {
    /// The interrupt lines that are high, a bit each.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// The line that was written to since this was last asked, and its level.
    pub fn take_line(&mut self) -> Option<(u8, bool)> {
        self.written.take().map(|line| (line, self.lines >> line & 1 != 0))
    }

    /// Bytes written to the console since this was last asked.
    pub fn take_console(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.console)
    }

    /// The memory's `width` at `at`; ones beyond its end.
    pub fn read_memory(&self, at: GuestPhys, width: Width) -> u32 {
        let byte = |i: u32| self.memory.get((at.0 - MEMORY.0 + i) as usize).copied().unwrap_or(0xff);
        (0..width.bytes()).fold(0, |value, i| value | u32::from(byte(i)) << (8 * i))
    }

    /// Stores `width` at `at`.
    pub fn write_memory(&mut self, at: GuestPhys, width: Width, value: u32) {
        for i in 0..width.bytes() {
            if let Some(byte) = self.memory.get_mut((at.0 - MEMORY.0 + i) as usize) {
                *byte = (value >> (8 * i)) as u8;
            }
        }
    }
}

impl Device for PcTestdev {
    fn read(&mut self, port: u16, width: Width, _now: Ticks) -> u32 {
        match port {
            REGISTER..FLUSH | REGISTER_BYTES..0xec => self.register >> (8 * (port & 3)) & width.mask(),
            _ => width.mask(),
        }
    }

    fn write(&mut self, port: u16, width: Width, value: u32, _now: Ticks) {
        match port {
            REGISTER..FLUSH | REGISTER_BYTES..0xec => {
                let shift = 8 * (port & 3);
                let mask = width.mask() << shift;
                self.register = self.register & !mask | value << shift & mask;
            }
            CONSOLE => self.console.push(value as u8),
            LINES.. => {
                let line = (port - LINES).min(LINE_COUNT - 1);
                self.lines = self.lines & !(1 << line) | u32::from(value as u8 != 0) << line;
                self.written = Some(line as u8);
            }
            _ => {}
        }
    }

    /// What lies beyond the register's end is lost: 32 bits at E1h reach only its upper 24.
    fn is_wide(&self, port: u16) -> bool {
        (REGISTER..REGISTER_BYTES).contains(&port)
    }

    fn reset(&mut self) {}

    fn sensible(&self) -> bool {
        self.memory.len() == MEMORY_SIZE as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_takes_every_width() {
        let mut dev = PcTestdev::default();
        dev.write(0xe0, Width::Dword, 0x1234_5678, 0);
        dev.write(0xe1, Width::Byte, 0xaa, 0);
        dev.write(0xea, Width::Byte, 0xbb, 0);
        assert_eq!(dev.read(0xe0, Width::Dword, 0), 0x12bb_aa78);
        assert_eq!((dev.read(0xe2, Width::Word, 0), dev.read(0xe3, Width::Byte, 0)), (0x12bb, 0x12));
    }

    #[test]
    fn each_line_has_its_port() {
        let mut dev = PcTestdev::default();
        [(0x200a, 1), (0x2005, 0xff), (0x2005, 0)].into_iter().for_each(|(port, value)| {
            dev.write(port, Width::Byte, value, 0);
        });
        assert_eq!((dev.lines(), dev.take_line()), (1 << 10, Some((5, false))));
    }

    #[test]
    fn memory_keeps_what_is_stored_up_to_its_end() {
        let mut dev = PcTestdev::default();
        dev.write_memory(GuestPhys(0xff00_fffe), Width::Dword, 0x4433_2211);
        assert_eq!(dev.read_memory(GuestPhys(0xff00_fffe), Width::Dword), 0xffff_2211);
    }
}

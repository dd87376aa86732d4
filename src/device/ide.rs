//! The bus master of a PCI IDE function (Programming Interface for Bus Master IDE Controller 1.0; 82371SB
//! datasheet, 2.7): for each channel a command, a status, and the address of a table of physical regions,
//! that data of a DMA command goes to or comes from. Its configuration space is in [`super::pci::i440fx`],
//! the channels are in [`super::ata`].
//!
//! All that a device offers moves at once, at the tick at which both sides are ready. The board calls
//! [`BusMaster::to_memory`] and [`BusMaster::from_memory`], where memory is at hand.

use super::Device;
use super::ata::Direction;
use crate::addr::GuestPhys;
use crate::bus::phys::PhysMap;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

/// Where firmware usually places the registers.
pub const USUAL_BASE: u16 = 0xc000;

/// Registers of a channel; the second channel's are 8 higher.
const COMMAND: u16 = 0;
const STATUS: u16 = 2;
const TABLE: u16 = 4;

/// Command: run; and the way, to memory.
const START: u8 = 0x01;
const TO_MEMORY: u8 = 0x08;
/// Status.
const ACTIVE: u8 = 0x01;
const ERROR: u8 = 0x02;
const INTERRUPT: u8 = 0x04;
/// Status: what the firmware says of the two devices; kept, and of no effect.
const DMA_CAPABLE: u8 = 0x60;
/// The last region of a table.
const END_OF_TABLE: u32 = 0x8000_0000;

/// A region of memory: where, and how many bytes are left of it.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Region {
    at: u32,
    left: u32,
    last: bool,
}

/// One channel.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Channel {
    command: u8,
    status: u8,
    table: u32,
    /// Where the next entry of the table is, and the region that is being worked on.
    next: u32,
    region: Region,
    /// The level of the channel's interrupt line.
    line: bool,
}

impl Channel {
    fn write_command(&mut self, value: u8) {
        let value = value & (START | TO_MEMORY);
        let was = std::mem::replace(&mut self.command, value);
        if value & !was & START != 0 {
            self.status |= ACTIVE;
            (self.next, self.region) = (self.table, Region::default());
        } else if value & START == 0 {
            self.status &= !ACTIVE;
        }
    }

    fn write_status(&mut self, value: u8) {
        let cleared = value & (ERROR | INTERRUPT);
        self.status = self.status & !DMA_CAPABLE & !cleared | value & DMA_CAPABLE;
    }

    fn byte(&self, register: u16) -> u8 {
        match register {
            COMMAND => self.command,
            STATUS => self.status,
            TABLE..=7 => (self.table >> (8 * (register - TABLE))) as u8,
            _ => 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        match register {
            COMMAND => self.write_command(value),
            STATUS => self.write_status(value),
            TABLE..=7 => {
                let shift = 8 * (register - TABLE);
                self.table = (self.table & !(0xff << shift) | u32::from(value) << shift) & !3;
            }
            _ => {}
        }
    }

    /// The next piece of the regions, of up to `len` bytes. `None` when the table is at its end: the channel
    /// is then not active any more.
    fn piece(&mut self, len: usize, map: &PhysMap) -> Option<(GuestPhys, usize)> {
        if self.region.left == 0 {
            if self.region.last {
                self.status &= !ACTIVE;
                return None;
            }
            self.fetch(map);
        }
        let n = len.min(self.region.left as usize);
        let at = GuestPhys(self.region.at);
        self.region.at = self.region.at.wrapping_add(n as u32);
        self.region.left -= n as u32;
        Some((at, n))
    }

    /// Reads the next entry: an even address, an even number of bytes with 0 for 64 KiB, and the mark of the
    /// last one.
    fn fetch(&mut self, map: &PhysMap) {
        let mut entry = [0; 8];
        map.read(GuestPhys(self.next), &mut entry);
        self.next = self.next.wrapping_add(8);
        let at = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) & !1;
        let size = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let left = if size & 0xfffe == 0 { 0x1_0000 } else { size & 0xfffe };
        self.region = Region { at, left, last: size & END_OF_TABLE != 0 };
    }

    fn runs(&self, direction: Direction) -> bool {
        let way = if self.command & TO_MEMORY != 0 { Direction::ToMemory } else { Direction::FromMemory };
        self.command & START != 0 && self.status & ACTIVE != 0 && way == direction
    }

    /// Walks the regions for up to `len` bytes; `each` moves a piece that begins at an offset. Returns the
    /// bytes moved.
    fn walk(
        &mut self,
        len: usize,
        map: &mut PhysMap,
        mut each: impl FnMut(usize, usize, GuestPhys, &mut PhysMap),
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some((at, n)) = self.piece(len - done, map) else { return done };
            each(done, n, at, map);
            done += n;
        }
        // A table that ends with the data is at its end now, not only when more is asked of it.
        if self.region.left == 0 && self.region.last {
            self.status &= !ACTIVE;
        }
        done
    }
}

/// Both channels.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
pub struct BusMaster {
    channels: [Channel; 2],
}

impl BusMaster {
    /// Whether `channel` is set to move data in this direction.
    pub fn runs(&self, channel: usize, direction: Direction) -> bool {
        self.channels[channel].runs(direction)
    }

    /// Moves `data` to the channel's regions, until they end; the number of bytes.
    pub fn to_memory(&mut self, channel: usize, data: &[u8], map: &mut PhysMap) -> usize {
        self.channels[channel].walk(data.len(), map, |from, n, at, map| map.write(at, &data[from..from + n]))
    }

    /// Fills `buf` from the channel's regions, until they end; the number of bytes.
    pub fn from_memory(&mut self, channel: usize, buf: &mut [u8], map: &mut PhysMap) -> usize {
        self.channels[channel].walk(buf.len(), map, |from, n, at, map| map.read(at, &mut buf[from..from + n]))
    }

    /// The level of a channel's interrupt line. Its rise is kept in the status until it is cleared.
    pub fn set_line(&mut self, channel: usize, high: bool) {
        let channel = &mut self.channels[channel];
        if high && !channel.line {
            channel.status |= INTERRUPT;
        }
        channel.line = high;
    }
}

impl Device for BusMaster {
    fn read(&mut self, port: u16, width: Width, _now: Ticks) -> u32 {
        (0..width.bytes() as u16).fold(0, |value, i| {
            let register = port.wrapping_add(i) & 0xf;
            value | u32::from(self.channels[usize::from(register >> 3)].byte(register & 7)) << (8 * i)
        })
    }

    fn write(&mut self, port: u16, width: Width, value: u32, _now: Ticks) {
        for i in 0..width.bytes() as u16 {
            let register = port.wrapping_add(i) & 0xf;
            self.channels[usize::from(register >> 3)].write(register & 7, (value >> (8 * i)) as u8);
        }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn is_wide(&self, _port: u16) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Ram;

    /// A master whose first channel has a table of these regions (address, size and mark) at 1000h.
    fn master(regions: &[(u32, u32)]) -> (BusMaster, PhysMap) {
        let mut map = PhysMap::new(Ram::new(1 << 20).unwrap());
        for (i, (at, size)) in (0u32..).zip(regions) {
            map.write(GuestPhys(0x1000 + 8 * i), &[at.to_le_bytes(), size.to_le_bytes()].concat());
        }
        let mut master = BusMaster::default();
        master.write(0xc004, Width::Dword, 0x1000, 0);
        (master, map)
    }

    fn start(master: &mut BusMaster, command: u8) {
        master.write(0xc000, Width::Byte, command.into(), 0);
    }

    fn status(master: &mut BusMaster) -> u32 {
        master.read(0xc002, Width::Byte, 0)
    }

    #[test]
    fn data_goes_to_one_region_after_the_other() {
        let (mut m, mut map) = master(&[(0x2000, 4), (0x3000, 4 | END_OF_TABLE)]);
        assert!(!m.runs(0, Direction::ToMemory));
        start(&mut m, START | TO_MEMORY);
        assert!(m.runs(0, Direction::ToMemory) && !m.runs(0, Direction::FromMemory));
        assert_eq!(status(&mut m), 1);
        assert_eq!(m.to_memory(0, &[1, 2, 3, 4, 5, 6], &mut map), 6);
        assert_eq!(status(&mut m), 1, "the regions have room left");
        assert_eq!(m.to_memory(0, &[7, 8, 9, 10], &mut map), 2, "and then no more");
        assert_eq!(status(&mut m), 0);
        let mut got = [0; 6];
        map.read(GuestPhys(0x3000), &mut got);
        assert_eq!(got, [5, 6, 7, 8, 0, 0]);
    }

    #[test]
    fn memory_feeds_the_device_and_the_line_is_latched() {
        let (mut m, mut map) = master(&[(0x2000, 2 | END_OF_TABLE)]);
        map.write(GuestPhys(0x2000), &[7, 8]);
        start(&mut m, START);
        let mut buf = [0; 2];
        assert_eq!(m.from_memory(0, &mut buf, &mut map), 2);
        assert_eq!(buf, [7, 8]);
        m.set_line(0, true);
        assert_eq!(status(&mut m), 4, "done: interrupt, not active");
        m.write(0xc002, Width::Byte, 0x64, 0);
        m.set_line(0, true);
        assert_eq!(status(&mut m), 0x60, "cleared; a level is no new rise");
    }

    #[test]
    fn a_size_of_zero_is_64_kib_and_a_stop_starts_over() {
        let (mut m, mut map) = master(&[(0x2_0000, END_OF_TABLE)]);
        start(&mut m, START | TO_MEMORY);
        assert_eq!(m.to_memory(0, &vec![1; 0x1_8000], &mut map), 0x1_0000);
        start(&mut m, 0);
        start(&mut m, START | TO_MEMORY);
        assert_eq!(m.to_memory(0, &[2; 16], &mut map), 16);
        let mut got = [0; 1];
        map.read(GuestPhys(0x2_0000), &mut got);
        assert_eq!(got, [2]);
        assert_eq!(m.read(0xc008, Width::Dword, 0), 0, "the other channel is untouched");
    }
}

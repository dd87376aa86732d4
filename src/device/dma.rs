//! The two 8237A DMA controllers with their page registers (Intel 8237A datasheet; 82371SB, 2.5.1). Channels
//! 0-3 move bytes, 5-7 words; channel 2 is the floppy controller's.
//!
//! A device moves what it has in one go, with [`Dma::to_memory`] and [`Dma::from_memory`].

use super::Device;
use crate::addr::GuestPhys;
use crate::bus::phys::PhysMap;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

const MODE_TRANSFER: u8 = 0x0c;
const MODE_VERIFY: u8 = 0x00;
const MODE_WRITE: u8 = 0x04;
const MODE_READ: u8 = 0x08;
const MODE_AUTOINIT: u8 = 0x10;
const MODE_DECREMENT: u8 = 0x20;
const COMMAND_DISABLE: u8 = 0x04;

/// One channel. Address and count are in its unit, bytes or words.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: u8,
    page: u8,
}

/// One 8237A.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
struct Controller {
    channels: [Channel; 4],
    command: u8,
    mask: u8,
    /// Channels that reached terminal count since status was read.
    reached: u8,
    requests: u8,
    /// Which byte of a 16-bit register comes next.
    flip_flop: bool,
}

impl Controller {
    fn new() -> Self {
        Self {
            channels: Default::default(),
            command: 0,
            mask: 0xf,
            reached: 0,
            requests: 0,
            flip_flop: false,
        }
    }

    fn clear(&mut self) {
        self.command = 0;
        self.mask = 0xf;
        self.reached = 0;
        self.requests = 0;
        self.flip_flop = false;
    }

    fn read(&mut self, register: u16) -> u8 {
        match register {
            0..=7 => {
                let channel = &self.channels[usize::from(register >> 1)];
                let value = if register & 1 == 0 { channel.address } else { channel.count };
                self.flip_flop = !self.flip_flop;
                if self.flip_flop { value as u8 } else { (value >> 8) as u8 }
            }
            8 => self.requests << 4 | std::mem::take(&mut self.reached),
            15 => 0xf0 | self.mask,
            _ => 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        let bit = 1 << (value & 3);
        match register {
            0..=7 => self.write_count(register, value),
            8 => self.command = value,
            9 => set(&mut self.requests, bit, value & 4 != 0),
            10 => set(&mut self.mask, bit, value & 4 != 0),
            11 => self.channels[usize::from(value & 3)].mode = value & 0xfc,
            12 => self.flip_flop = false,
            13 => self.clear(),
            14 => self.mask = 0,
            _ => self.mask = value & 0xf,
        }
    }

    fn write_count(&mut self, register: u16, value: u8) {
        let high = self.flip_flop;
        self.flip_flop = !high;
        let channel = &mut self.channels[usize::from(register >> 1)];
        let (base, current) = if register & 1 == 0 {
            (&mut channel.base_address, &mut channel.address)
        } else {
            (&mut channel.base_count, &mut channel.count)
        };
        let v = u16::from(value);
        *base = if high { *base & 0x00ff | v << 8 } else { *base & 0xff00 | v };
        *current = *base;
    }

    /// Moves one unit on: the address to use, and whether it was the last.
    fn step(&mut self, channel: usize) -> (u16, bool) {
        let c = &mut self.channels[channel];
        let address = c.address;
        let by = if c.mode & MODE_DECREMENT != 0 { u16::MAX } else { 1 };
        c.address = address.wrapping_add(by);
        c.count = c.count.wrapping_sub(1);
        let last = c.count == u16::MAX;
        if last {
            self.reached |= 1 << channel;
            if c.mode & MODE_AUTOINIT != 0 {
                (c.address, c.count) = (c.base_address, c.base_count);
            } else {
                self.mask |= 1 << channel;
            }
        }
        (address, last)
    }

    fn open(&self, channel: usize) -> bool {
        self.mask >> channel & 1 == 0 && self.command & COMMAND_DISABLE == 0
    }
}

fn set(bits: &mut u8, bit: u8, on: bool) {
    *bits = if on { *bits | bit } else { *bits & !bit };
}

/// Both controllers and the page registers.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Dma {
    /// Channels 0-3 and 4-7.
    controllers: [Controller; 2],
    /// The registers among 81h-8Fh that belong to no channel; they just keep a byte.
    spare: [u8; 16],
}

impl Default for Dma {
    fn default() -> Self {
        Self::new()
    }
}

/// How much of a transfer a channel took, and whether it reached terminal count with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: usize,
    /// Terminal count was reached.
    pub terminal: bool,
}

impl Dma {
    /// Controllers after reset: every channel masked.
    pub fn new() -> Self {
        Self { controllers: [Controller::new(), Controller::new()], spare: [0; 16] }
    }

    /// The channel whose page register is at `port`.
    fn page_channel(port: u16) -> Option<usize> {
        Some(match port {
            0x87 => 0,
            0x83 => 1,
            0x81 => 2,
            0x82 => 3,
            0x8f => 4,
            0x8b => 5,
            0x89 => 6,
            0x8a => 7,
            _ => return None,
        })
    }

    fn page(&mut self, port: u16) -> &mut u8 {
        match Self::page_channel(port) {
            Some(i) => &mut self.controllers[i / 4].channels[i % 4].page,
            None => &mut self.spare[usize::from(port & 0xf)],
        }
    }

    /// Runs `each` for the memory address of each byte of up to `len` bytes, until terminal count.
    fn run(&mut self, channel: usize, len: usize, mut each: impl FnMut(usize, GuestPhys)) -> Moved {
        let words = channel >= 4;
        let unit = if words { 2 } else { 1 };
        let controller = &mut self.controllers[channel / 4];
        let mut moved = Moved { bytes: 0, terminal: false };
        while moved.bytes + unit <= len && !moved.terminal && controller.open(channel % 4) {
            let page = u32::from(controller.channels[channel % 4].page);
            let (address, last) = controller.step(channel % 4);
            let at = if words {
                (page & 0xfe) << 16 | u32::from(address) << 1
            } else {
                page << 16 | u32::from(address)
            };
            (0..unit).for_each(|i| each(moved.bytes + i, GuestPhys(at + i as u32)));
            moved = Moved { bytes: moved.bytes + unit, terminal: last };
        }
        moved
    }

    fn transfer_mode(&self, channel: usize) -> u8 {
        self.controllers[channel / 4].channels[channel % 4].mode & MODE_TRANSFER
    }

    /// A device's data to memory by `channel`; verify transfers only count.
    pub fn to_memory(&mut self, channel: usize, data: &[u8], map: &mut PhysMap) -> Moved {
        match self.transfer_mode(channel) {
            MODE_WRITE => self.run(channel, data.len(), |i, at| map.write(at, &data[i..=i])),
            MODE_VERIFY => self.run(channel, data.len(), |_, _| {}),
            _ => Moved { bytes: 0, terminal: false },
        }
    }

    /// Memory to a device by `channel`.
    pub fn from_memory(&mut self, channel: usize, buf: &mut [u8], map: &PhysMap) -> Moved {
        match self.transfer_mode(channel) {
            MODE_READ => self.run(channel, buf.len(), |i, at| map.read(at, &mut buf[i..=i])),
            MODE_VERIFY => self.run(channel, buf.len(), |_, _| {}),
            _ => Moved { bytes: 0, terminal: false },
        }
    }
}

impl Device for Dma {
    fn read(&mut self, port: u16, _width: Width, _now: Ticks) -> u32 {
        let value = match port {
            0x00..=0x0f => self.controllers[0].read(port),
            0xc0..=0xdf => self.controllers[1].read((port - 0xc0) >> 1),
            _ => *self.page(port),
        };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, _now: Ticks) {
        let value = value as u8;
        match port {
            0x00..=0x0f => self.controllers[0].write(port, value),
            0xc0..=0xdf => self.controllers[1].write((port - 0xc0) >> 1, value),
            _ => *self.page(port) = value,
        }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Ram;

    fn out(dma: &mut Dma, port: u16, value: u8) {
        dma.write(port, Width::Byte, value.into(), 0);
    }

    /// Channel 2 for `count + 1` bytes at 1_2340, in `mode`.
    fn channel2(mode: u8, count: u16) -> Dma {
        let mut dma = Dma::new();
        let [low, high] = count.to_le_bytes();
        let writes = [(0x0b, mode), (0x0c, 0), (0x04, 0x40), (0x04, 0x23), (0x05, low), (0x05, high)];
        writes.into_iter().chain([(0x81, 1), (0x0a, 2)]).for_each(|(p, v)| out(&mut dma, p, v));
        dma
    }

    #[test]
    fn a_device_fills_memory_until_terminal_count() {
        let mut map = PhysMap::new(Ram::new(1 << 20).unwrap());
        let mut dma = channel2(0x46, 3);
        assert_eq!(dma.to_memory(2, &[1, 2, 3, 4, 5], &mut map), Moved { bytes: 4, terminal: true });
        let mut got = [0; 5];
        map.read(GuestPhys(0x1_2340), &mut got);
        assert_eq!(got, [1, 2, 3, 4, 0]);
        assert_eq!(dma.read(0x08, Width::Byte, 0), 4);
        assert_eq!(dma.to_memory(2, &[9], &mut map).bytes, 0, "masked itself");
    }

    #[test]
    fn memory_feeds_a_device_and_autoinit_starts_over() {
        let mut map = PhysMap::new(Ram::new(1 << 20).unwrap());
        map.write(GuestPhys(0x1_2340), &[7, 8]);
        let mut dma = channel2(0x5a, 1);
        let mut buf = [0; 2];
        assert!(dma.from_memory(2, &mut buf, &map).terminal);
        assert!(dma.from_memory(2, &mut buf, &map).terminal);
        assert_eq!(buf, [7, 8]);
    }

    #[test]
    fn a_masked_channel_moves_nothing() {
        let mut map = PhysMap::new(Ram::new(1 << 20).unwrap());
        let mut dma = channel2(0x46, 3);
        out(&mut dma, 0x0a, 6);
        assert_eq!(dma.to_memory(2, &[1], &mut map).bytes, 0);
    }
}

//! Tests of the floppy controller.

use super::*;
use crate::addr::GuestPhys;
use crate::media::MemoryDisk;
use crate::mem::Ram;

struct Bench {
    fdc: Fdc,
    dma: Dma,
    map: PhysMap,
    now: Ticks,
}

impl Bench {
    /// A 1.44M disk whose sectors begin with their number.
    fn new() -> Self {
        let mut bytes = vec![0; 2880 * SECTOR];
        for (i, s) in bytes.chunks_mut(SECTOR).enumerate() {
            s[..2].copy_from_slice(&(i as u16).to_le_bytes());
        }
        let disk: Box<dyn Disk> = Box::new(MemoryDisk::new(bytes));
        let mut b = Self {
            fdc: Fdc::new(Clock::default(), [Some(disk), None]),
            dma: Dma::new(),
            map: PhysMap::new(Ram::new(1 << 20).unwrap()),
            now: 0,
        };
        b.out(DOR, 0x18);
        b.out(DOR, 0x1c);
        b.wait();
        (0..4).for_each(|_| drop(b.run(&[0x08])));
        b
    }
    fn out(&mut self, port: u16, value: u8) {
        self.fdc.write(port, Width::Byte, value.into(), self.now);
    }
    fn inb(&mut self, port: u16) -> u8 {
        self.fdc.read(port, Width::Byte, self.now) as u8
    }
    fn wait(&mut self) {
        self.now += 1_000_000;
        self.fdc.advance(self.now);
        if self.fdc.wants_transfer(self.now) {
            self.fdc.transfer(&mut self.dma, &mut self.map);
        }
    }
    /// Gives a command, lets its time pass, and collects its result.
    fn run(&mut self, command: &[u8]) -> Vec<u8> {
        command.iter().for_each(|&b| self.out(FIFO, b));
        self.wait();
        let mut result = Vec::new();
        while self.inb(MSR_DSR) & 0xc0 == 0xc0 {
            result.push(self.inb(FIFO));
        }
        result
    }
    /// Channel 2 for `bytes` at 8000h.
    fn dma(&mut self, mode: u8, bytes: u16) {
        let [low, high] = (bytes - 1).to_le_bytes();
        let writes = [(0x0b, mode), (0x0c, 0), (4, 0), (4, 0x80), (5, low), (5, high), (0x81, 0), (0x0a, 2)];
        writes.into_iter().for_each(|(p, v): (u16, u8)| self.dma.write(p, Width::Byte, v.into(), 0));
    }
    fn memory(&self, at: u32) -> u16 {
        let mut b = [0; 2];
        self.map.read(GuestPhys(at), &mut b);
        u16::from_le_bytes(b)
    }
}

#[test]
fn reset_interrupts_and_reports_four_drives() {
    let mut b = Bench::new();
    b.out(DOR, 0);
    b.out(DOR, 0x0c);
    b.wait();
    assert!(b.fdc.irq());
    let st0 = [0; 4].map(|_: u8| b.run(&[0x08])[0]);
    assert_eq!(st0, [0xc0, 0xc1, 0xc2, 0xc3]);
    assert_eq!(b.run(&[0x08]), [0x80]);
}

#[test]
fn seek_moves_the_head_and_clears_the_change_line() {
    let mut b = Bench::new();
    assert_eq!(b.inb(DIR_CCR) & 0x80, 0x80);
    b.run(&[0x0f, 0, 5]);
    assert!(b.fdc.irq());
    assert_eq!(b.run(&[0x08]), [0x20, 5]);
    assert_eq!(b.inb(DIR_CCR) & 0x80, 0);
    b.run(&[0x07, 0]);
    assert_eq!(b.run(&[0x08]), [0x20, 0]);
    assert_eq!(b.run(&[0x04, 0])[0] & 0x10, 0x10);
}

#[test]
fn read_moves_sectors_by_dma_across_heads() {
    let mut b = Bench::new();
    b.run(&[0x0f, 0, 1]);
    b.run(&[0x08]);
    b.dma(0x46, 1024);
    let result = b.run(&[0xe6, 0, 1, 0, 18, 2, 18, 0x1b, 0xff]);
    assert_eq!(result, [0, 0, 0, 1, 1, 2, 2]);
    assert_eq!([b.memory(0x8000), b.memory(0x8200)], [36 + 17, 36 + 18]);
}

#[test]
fn write_then_read_and_the_end_of_the_track() {
    let mut b = Bench::new();
    b.map.write(GuestPhys(0x8000), &[0xcd, 0xab]);
    b.dma(0x4a, 512);
    assert_eq!(b.run(&[0x45, 0, 0, 0, 3, 2, 18, 0x1b, 0xff])[0], 0);
    b.map.write(GuestPhys(0x8000), &[0, 0]);
    b.dma(0x46, 512);
    b.run(&[0x46, 0, 0, 0, 3, 2, 18, 0x1b, 0xff]);
    assert_eq!(b.memory(0x8000), 0xabcd);
    b.dma(0x46, 1024);
    assert_eq!(b.run(&[0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff])[..2], [0x40, 0x80]);
}

#[test]
fn errors_name_the_cause() {
    let mut b = Bench::new();
    b.dma(0x46, 512);
    assert_eq!(b.run(&[0x46, 0, 0, 0, 19, 2, 19, 0x1b, 0xff])[..3], [0x40, 0x04, 0]);
    assert_eq!(b.run(&[0x46, 0, 7, 0, 1, 2, 18, 0x1b, 0xff])[..3], [0x40, 0x04, 0x10]);
    assert_eq!(b.run(&[0x4a, 1])[..2], [0x41, 0x01]);
}

#[test]
fn format_fills_the_sectors() {
    let mut b = Bench::new();
    b.map.write(GuestPhys(0x8000), &[0, 0, 1, 2, 0, 0, 2, 2]);
    b.dma(0x4a, 8);
    assert_eq!(b.run(&[0x4d, 0, 2, 2, 0x50, 0xf6])[0], 0);
    b.dma(0x46, 512);
    b.run(&[0x46, 0, 0, 0, 2, 2, 18, 0x1b, 0xff]);
    assert_eq!(b.memory(0x8000), 0xf6f6);
}

#[test]
fn version_lock_and_dump() {
    let mut b = Bench::new();
    assert_eq!(b.run(&[0x10]), [0x90]);
    assert_eq!(b.run(&[0x94]), [0x10]);
    b.run(&[0x03, 0xaf, 0x02]);
    let dump = b.run(&[0x0e]);
    assert_eq!((dump.len(), dump[4], dump[7] & 0x80), (10, 0xaf, 0x80));
    assert_eq!(b.run(&[0x1f]), [0x80]);
}

#[test]
fn media_follow_from_the_size() {
    assert_eq!(medium(2880).0, (80, 2, 18));
    assert_eq!(medium(720).0, (40, 2, 9));
    assert_eq!(medium(2600), ((80, 2, 18), 4));
}

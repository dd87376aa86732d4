//! Tests of the ATA controller.

use super::super::disk::{Content, MemoryDisk};
use super::*;
use std::io;

struct Bench {
    ata: Ata,
    now: Ticks,
}

impl Bench {
    /// A disk of 4096 sectors, each beginning with its number.
    fn new() -> Self {
        let mut bytes = vec![0; 4096 * SECTOR];
        for (i, s) in bytes.chunks_mut(SECTOR).enumerate() {
            s[..4].copy_from_slice(&(i as u32).to_le_bytes());
        }
        Self::with(Box::new(MemoryDisk::new(bytes)))
    }
    fn with(disk: Box<dyn Disk>) -> Self {
        Self { ata: Ata::new(Clock::default(), [Some(disk), None]), now: 0 }
    }
    fn out(&mut self, register: u16, value: u8) {
        self.ata.write(0x1f0 + register, Width::Byte, value.into(), self.now);
    }
    fn inb(&mut self, register: u16) -> u8 {
        self.ata.read(0x1f0 + register, Width::Byte, self.now) as u8
    }
    fn lba(&mut self, lba: u32, count: u8) {
        self.address(count, lba as u8, (lba >> 8) as u16, 0xe0 | (lba >> 24) as u8);
    }
    fn address(&mut self, count: u8, sector: u8, cylinder: u16, device: u8) {
        let values = [count, sector, cylinder as u8, (cylinder >> 8) as u8, device];
        values.into_iter().zip(2..).for_each(|(v, r)| self.out(r, v));
    }
    /// Gives a command and lets its latency pass; the status.
    fn command(&mut self, value: u8) -> u8 {
        self.out(7, value);
        self.wait()
    }
    fn wait(&mut self) -> u8 {
        self.now += 10_000;
        self.ata.read(0x3f6, Width::Byte, self.now) as u8
    }
    fn words(&mut self, n: usize) -> Vec<u16> {
        (0..n).map(|_| self.ata.read(0x1f0, Width::Word, self.now) as u16).collect()
    }
}

#[test]
fn identify_describes_the_disk() {
    let mut b = Bench::new();
    b.out(6, 0xa0);
    assert_eq!(b.command(0xec), 0x58);
    assert!(b.ata.irq());
    let id = b.words(256);
    assert_eq!([id[1], id[3], id[6]], [4, 16, 63]);
    assert_eq!(u32::from(id[61]) << 16 | u32::from(id[60]), 4096);
    assert_ne!(id[49] & 0x200, 0, "LBA");
    assert_eq!(b.inb(7), 0x50);
    assert!(!b.ata.irq(), "reading status takes the interrupt back");
}

#[test]
fn lba_and_chs_name_the_same_sector() {
    let mut b = Bench::new();
    b.lba(1008 + 63 * 2 + 4, 1);
    assert_eq!(b.command(0x20), 0x58);
    assert_eq!(b.words(256)[0], 1138);
    b.address(1, 5, 1, 0xa2);
    b.command(0x21);
    assert_eq!(b.words(256)[0], 1138);
}

#[test]
fn each_sector_of_read_sectors_interrupts() {
    let mut b = Bench::new();
    b.lba(7, 2);
    b.command(0x20);
    assert_eq!(b.words(256)[0], 7);
    b.inb(7);
    assert!(!b.ata.irq());
    assert_eq!(b.wait(), 0x58);
    assert!(b.ata.irq());
    assert_eq!(b.words(256)[0], 8);
    assert_eq!((b.inb(2), b.inb(3), b.wait()), (0, 8, 0x50));
}

#[test]
fn multiple_moves_a_block_per_interrupt() {
    let mut b = Bench::new();
    b.lba(0, 3);
    assert_eq!(b.command(0xc4) & ERR, ERR, "not before SET MULTIPLE");
    b.out(2, 3);
    assert_eq!(b.command(0xc6) & ERR, ERR, "3 is no block size");
    b.out(2, 2);
    assert_eq!(b.command(0xc6), 0x50);
    b.lba(0, 3);
    b.command(0xc4);
    assert_eq!(b.words(512)[256], 1);
    assert_eq!(b.wait(), 0x58);
    assert_eq!(b.words(256)[0], 2);
    assert_eq!(b.wait(), 0x50);
}

#[test]
fn a_write_reads_back_also_by_dwords() {
    let mut b = Bench::new();
    b.lba(9, 1);
    b.out(7, 0x30);
    assert_eq!(b.inb(7), 0x58);
    for i in 0..128 {
        b.ata.write(0x1f0, Width::Dword, 0xabcd_0000 + i, b.now);
    }
    assert_eq!(b.wait(), 0x50);
    assert!(b.ata.irq());
    b.lba(9, 1);
    b.command(0x20);
    assert_eq!(b.ata.read(0x1f0, Width::Dword, b.now), 0xabcd_0000);
}

#[test]
fn errors_say_what_was_wrong() {
    let mut b = Bench::new();
    b.lba(4096, 1);
    assert_eq!((b.command(0x20), b.inb(1)), (0x51, IDNF));
    b.address(1, 0, 0, 0xa0);
    assert_eq!((b.command(0x20), b.inb(1)), (0x51, IDNF), "sectors count from 1");
    assert_eq!((b.command(0xa1), b.inb(1)), (0x51, ABRT));
    assert_eq!((b.command(0x00), b.inb(1)), (0x51, ABRT));
}

#[test]
fn initialize_parameters_changes_the_translation() {
    let mut b = Bench::new();
    b.address(32, 0, 0, 0xa7);
    assert_eq!(b.command(0x91), 0x50);
    b.address(1, 1, 1, 0xa0);
    b.command(0x20);
    assert_eq!(b.words(256)[0], 256);
}

#[test]
fn nien_holds_the_line_and_srst_shows_the_signature() {
    let mut b = Bench::new();
    b.ata.write(0x3f6, Width::Byte, 2, 0);
    b.command(0xec);
    assert!(!b.ata.irq());
    b.ata.write(0x3f6, Width::Byte, 4, b.now);
    assert_eq!(b.inb(7), BSY);
    b.ata.write(0x3f6, Width::Byte, 0, b.now);
    assert_eq!(b.wait(), 0x50);
    assert_eq!([1, 2, 3, 4, 5].map(|r| b.inb(r)), [1, 1, 1, 0, 0]);
}

#[test]
fn an_absent_drive_is_silent_and_an_empty_channel_floats() {
    let mut b = Bench::new();
    b.out(6, 0xb0);
    assert_eq!(b.command(0xec), 0);
    let mut none = Ata::new(Clock::default(), [None, None]);
    assert_eq!(none.read(0x1f7, Width::Byte, 0), 0xff);
}

struct Gone;
impl Disk for Gone {
    fn sectors(&self) -> u64 {
        100
    }
    fn read(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, content: &Content) -> bool {
        *content == Content::Host
    }
}

#[test]
fn a_restored_channel_goes_on_in_the_middle_of_a_command() {
    let mut b = Bench::with(Box::new(MemoryDisk::new(vec![7; 4 * SECTOR])));
    b.lba(1, 2);
    b.out(7, 0x20);
    let saved = b.ata.saved();
    let finish = |b: &mut Bench| {
        b.now += 1_000_000;
        b.ata.advance(b.now);
        (b.inb(7), b.ata.read(0x1f0, Width::Word, b.now))
    };
    let now = b.now;
    let went = finish(&mut b);
    assert_eq!(went.1, 0x0707);
    b.out(7, 0xec);
    b.now = now;
    b.ata.restore(&saved);
    assert_eq!(finish(&mut b), went, "and the disk is still there");
}

#[test]
fn a_vanished_medium_is_the_drives_error_and_is_reported_once() {
    let mut b = Bench::with(Box::new(Gone));
    b.lba(0, 1);
    assert_eq!((b.command(0x20), b.inb(1)), (0x51, UNC));
    assert!(b.ata.take_host_error().is_some());
    assert!(b.ata.take_host_error().is_none());
}

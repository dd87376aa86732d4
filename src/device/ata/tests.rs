//! Tests of the ATA controller.

use super::*;
use crate::media::{Content, MemoryDisk};
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
        Self { ata: Ata::new(Clock::default(), [Some(Unit::disk(disk)), None]), now: 0 }
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

/// Takes all that the device offers to a bus master, letting its latencies pass.
fn dma_in(b: &mut Bench) -> Vec<u8> {
    let mut got = Vec::new();
    while b.ata.dma_request() == Some(Direction::ToMemory) {
        let data = b.ata.dma_data().to_vec();
        got.extend(&data);
        b.ata.dma_moved(data.len(), b.now);
        b.wait();
    }
    got
}

#[test]
fn read_dma_offers_its_sectors_and_interrupts_once_at_the_end() {
    let mut b = Bench::new();
    b.lba(5, 0);
    assert_eq!(b.command(0xc8), 0x58);
    assert!(!b.ata.irq());
    let got = dma_in(&mut b);
    assert_eq!(got.len(), 256 * SECTOR);
    assert_eq!([got[0], got[255 * SECTOR], got[255 * SECTOR + 1]], [5, 4, 1]);
    assert!(b.ata.irq());
    assert_eq!((b.inb(7), b.inb(2)), (0x50, 0));
}

#[test]
fn write_dma_with_a_48_bit_address_takes_its_sectors_from_the_bus_master() {
    let mut b = Bench::new();
    for high in [0, 1] {
        // Two writes to each register: the high bytes, then the low ones. 0100h sectors from 10.
        let values = if high == 0 { [1, 0, 0, 0] } else { [0, 10, 0, 0] };
        values.into_iter().zip(2..).for_each(|(v, r)| b.out(r, v));
    }
    b.out(6, 0xe0);
    assert_eq!(b.command(0x35), 0x58);
    let mut blocks = 0;
    while b.ata.dma_request() == Some(Direction::FromMemory) {
        b.ata.dma_data().fill(0x5a);
        let n = b.ata.dma_data().len();
        b.ata.dma_moved(n, b.now);
        // Stored, and the next one asked for.
        b.wait();
        b.wait();
        blocks += 1;
    }
    assert_eq!((blocks, b.inb(7)), (2, 0x50));
    b.lba(9, 3);
    b.command(0xc8);
    let got = dma_in(&mut b);
    assert_eq!([got[0], got[SECTOR], got[2 * SECTOR]], [9, 0x5a, 0x5a]);
    b.lba(265, 2);
    b.command(0xc8);
    let got = dma_in(&mut b);
    assert_eq!([got[0], got[SECTOR]], [0x5a, 10], "256 sectors and no more");
}

#[test]
fn the_hob_bit_shows_the_bytes_written_first() {
    let mut b = Bench::new();
    [0x12, 0x34].into_iter().for_each(|v| b.out(3, v));
    assert_eq!(b.inb(3), 0x34);
    b.ata.write(0x3f6, Width::Byte, HOB.into(), b.now);
    assert_eq!(b.inb(3), 0x12);
    b.out(4, 0);
    assert_eq!(b.inb(3), 0x34, "a write to the command block ends it");
}

#[test]
fn beyond_the_end_a_dma_read_moves_nothing() {
    let mut b = Bench::new();
    b.lba(4090, 8);
    assert_eq!((b.command(0xc8), b.inb(1)), (0x51, IDNF));
    assert_eq!(b.ata.dma_request(), None);
}

/// A disk, and a CD-ROM of 64 blocks that begin with their numbers, selected.
fn cd_bench() -> Bench {
    let mut bytes = vec![0; 64 * 2048];
    bytes.chunks_mut(2048).zip(0u8..).for_each(|(block, n)| block[0] = n);
    let mut b = Bench::new();
    let cdrom = Unit::cdrom(Box::new(MemoryDisk::new(bytes)));
    b.ata = Ata::new(Clock::default(), [b.ata.units[0].take(), Some(cdrom)]);
    b.out(6, 0xb0);
    b
}

/// Sends a packet with a byte count limit; the status then.
fn packet(b: &mut Bench, features: u8, limit: u16, bytes: &[u8]) -> u8 {
    b.wait();
    b.out(1, features);
    b.out(4, limit as u8);
    b.out(5, (limit >> 8) as u8);
    assert_eq!((b.command(0xa0), b.inb(2)), (0x58, 1), "it asks for the packet");
    assert!(!b.ata.irq());
    let mut all = [0; 12];
    all[..bytes.len()].copy_from_slice(bytes);
    for pair in all.chunks(2) {
        b.ata.write(0x1f0, Width::Word, u32::from(pair[0]) | u32::from(pair[1]) << 8, b.now);
    }
    b.wait()
}

/// The first command after power-on is told of it.
fn past_attention(b: &mut Bench) {
    assert_eq!((packet(b, 0, 0, &[0]), b.inb(1)), (0x51, 0x64));
}

#[test]
fn after_a_reset_the_signature_tells_a_cdrom_drive_from_a_disk() {
    let mut b = cd_bench();
    b.ata.write(0x3f6, Width::Byte, SRST.into(), b.now);
    b.ata.write(0x3f6, Width::Byte, 0, b.now);
    b.wait();
    let registers = |b: &mut Bench| [2, 3, 4, 5, 7].map(|r| b.inb(r));
    assert_eq!(registers(&mut b), [1, 1, 0, 0, 0x50]);
    b.out(6, 0xb0);
    assert_eq!(registers(&mut b), [1, 1, 0x14, 0xeb, 0]);
    b.out(4, 0);
    assert_eq!((b.command(0xec), b.inb(1)), (0x51, ABRT));
    assert_eq!((b.inb(4), b.inb(5)), (0x14, 0xeb), "IDENTIFY DEVICE is refused with it");
    assert_eq!(b.command(0xa1), 0x58);
    assert_eq!(b.words(256)[0], 0x85c0);
    b.out(7, 0x08);
    assert_eq!((b.inb(7), b.inb(4), b.inb(5)), (0, 0x14, 0xeb), "DEVICE RESET");
}

#[test]
fn data_comes_in_bursts_of_the_byte_count_limit_with_an_interrupt_each() {
    let mut b = cd_bench();
    past_attention(&mut b);
    let read = [0x28, 0, 0, 0, 0, 3, 0, 0, 2];
    assert_eq!(packet(&mut b, 0, 3001, &read), 0x58);
    let mut got = Vec::new();
    let mut bursts = Vec::new();
    while b.inb(2) == 2 {
        assert!(b.ata.irq());
        b.inb(7);
        let bytes = usize::from(b.inb(4)) | usize::from(b.inb(5)) << 8;
        bursts.push(bytes);
        got.extend(b.words(bytes / 2));
        b.wait();
    }
    assert_eq!(bursts, [3000, 1096]);
    assert_eq!((got[0], got[1024]), (3, 4));
    assert!(b.ata.irq());
    assert_eq!((b.inb(2), b.inb(7)), (3, 0x50), "and one at the end");
}

#[test]
fn a_packets_data_goes_by_dma_when_asked() {
    let mut b = cd_bench();
    past_attention(&mut b);
    assert_eq!(packet(&mut b, 1, 0, &[0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 60]), 0x58);
    let got = dma_in(&mut b);
    assert_eq!(got.len(), 60 * 2048);
    assert_eq!([got[0], got[59 * 2048]], [1, 60]);
    assert_eq!((b.inb(2), b.inb(7)), (3, 0x50));
}

#[test]
fn errors_of_packets_have_the_sense_key_in_the_error_register() {
    let mut b = cd_bench();
    past_attention(&mut b);
    assert_eq!((packet(&mut b, 0, 0, &[0x28, 0, 0, 0, 0, 64, 0, 0, 1]), b.inb(1)), (0x51, 0x54));
    assert_eq!(packet(&mut b, 0, 64, &[0x03, 0, 0, 0, 18]), 0x58);
    let sense: Vec<u8> = b.words(9).into_iter().flat_map(u16::to_le_bytes).collect();
    assert_eq!([sense[0], sense[2], sense[12], sense[13]], [0x70, 5, 0x21, 0]);
    assert_eq!((packet(&mut b, 0, 1, &[0x12, 0, 0, 0, 36]), b.inb(1)), (0x51, 0x54), "no burst fits");
    assert_eq!((packet(&mut b, 0, 0, &[0x12, 0, 0, 0, 5]), b.inb(4)), (0x58, 5), "an odd length");
    b.words(3);
    assert_eq!(b.wait(), 0x50);
}

#[test]
fn a_cd_that_the_host_lost_is_a_medium_error() {
    let mut b = Bench::new();
    b.ata = Ata::new(Clock::default(), [Some(Unit::cdrom(Box::new(Gone))), None]);
    past_attention(&mut b);
    assert_eq!((packet(&mut b, 0, 0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), b.inb(1)), (0x51, 0x34));
    assert!(b.ata.take_host_error().is_some());
}

#[test]
fn a_restored_channel_goes_on_in_the_middle_of_a_packets_data() {
    let mut b = cd_bench();
    past_attention(&mut b);
    packet(&mut b, 0, 2048, &[0x28, 0, 0, 0, 0, 30, 0, 0, 33]);
    b.words(100);
    let (saved, now) = (b.ata.saved(), b.now);
    let finish = |b: &mut Bench| {
        let mut words = Vec::new();
        while b.wait() & DRQ != 0 {
            words.extend(b.words(100));
        }
        words
    };
    let went = finish(&mut b);
    assert!(went.len() > 33 * 1024 - 100 && went.contains(&62), "the rest is long: {}", went.len());
    b.ata.reset();
    b.now = now;
    b.ata.restore(&saved);
    assert_eq!(finish(&mut b), went);
}

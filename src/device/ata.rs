//! An ATA channel with two PIO disks (ATA/ATAPI-4, ANSI NCITS 317). The board has two: command block at 1F0h with
//! control at 3F6h on IRQ14, and 170h with 376h on IRQ15.
//!
//! A command takes a fixed latency of guest time. A medium that the host cannot read or write any more is an error
//! of the drive for the guest; the first such trouble is kept for the machine's owner.

use super::Device;
use super::disk::{Disk, SECTOR, size_of};
use crate::bus::{Clock, Ticks, Width};
use crate::error::Error;
use serde::{Deserialize, Serialize};

const DATA: u16 = 0;
const ERROR_FEATURES: u16 = 1;
const COUNT: u16 = 2;
const SECTOR_NUMBER: u16 = 3;
const CYLINDER_LOW: u16 = 4;
const CYLINDER_HIGH: u16 = 5;
const DEVICE_HEAD: u16 = 6;
const STATUS_COMMAND: u16 = 7;

const BSY: u8 = 0x80;
const DRDY: u8 = 0x40;
const DSC: u8 = 0x10;
const DRQ: u8 = 0x08;
const ERR: u8 = 0x01;
const UNC: u8 = 0x40;
const IDNF: u8 = 0x10;
const ABRT: u8 = 0x04;
const LBA: u8 = 0x40;
const DEV: u8 = 0x10;
const NIEN: u8 = 0x02;
const SRST: u8 = 0x04;

/// From a command, or a block taken, to the drive's answer.
const LATENCY_US: u64 = 10;
/// Sectors in a block of READ MULTIPLE at most.
const MULTIPLE_MAX: u8 = 16;
const NO_ERROR: u8 = 1;

/// A drive: its medium and what commands set.
#[derive(Hash, Serialize, Deserialize)]
struct Drive {
    disk: Box<dyn Disk>,
    /// Heads and sectors per track, as INITIALIZE DEVICE PARAMETERS has them.
    heads: u32,
    sectors: u32,
    multiple: u8,
}

impl Drive {
    fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, heads: 16, sectors: 63, multiple: 0 }
    }

    /// Sectors that 28 bits of LBA reach.
    fn capacity(&self) -> u32 {
        self.disk.sectors().min(0x0fff_ffff) as u32
    }

    fn cylinders(&self) -> u32 {
        (self.capacity() / (self.heads * self.sectors)).clamp(1, 16_383)
    }

    fn identify(&self, slot: usize) -> Vec<u8> {
        let mut words = [0u16; 256];
        let (cylinders, capacity) = (self.cylinders(), self.capacity());
        let default_cylinders = (capacity / (16 * 63)).clamp(1, 16_383);
        let chs = (cylinders * self.heads * self.sectors).min(capacity);
        words[0] = 0x0040;
        words[1] = default_cylinders as u16;
        words[3] = 16;
        words[6] = 63;
        text(&mut words[10..20], &format!("SR{slot:04}"));
        text(&mut words[23..27], "1.0");
        text(&mut words[27..47], "SUBRING DISK");
        words[47] = 0x8000 | u16::from(MULTIPLE_MAX);
        words[48] = 1;
        words[49] = 0x0200;
        words[51] = 0x0200;
        words[53] = 3;
        words[54] = cylinders as u16;
        words[55] = self.heads as u16;
        words[56] = self.sectors as u16;
        words[57..59].copy_from_slice(&[chs as u16, (chs >> 16) as u16]);
        words[59] = if self.multiple == 0 { 0 } else { 0x0100 | u16::from(self.multiple) };
        words[60..62].copy_from_slice(&[capacity as u16, (capacity >> 16) as u16]);
        words[64] = 3;
        words[67] = 120;
        words[68] = 120;
        words[80] = 0x001e;
        words[83..88].copy_from_slice(&[0x5000, 0x4000, 0, 0x1000, 0x4000]);
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

/// ASCII as IDENTIFY has it: padded with blanks, the first character in the high byte.
fn text(words: &mut [u16], s: &str) {
    let mut bytes = s.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        *word = u16::from(bytes.next().unwrap_or(b' ')) << 8 | u16::from(bytes.next().unwrap_or(b' '));
    }
}

/// What the drive does once its latency is over, or with the data it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Work {
    /// Fill the buffer with the next block.
    Read,
    /// Store the buffer.
    Write,
    /// Report what was decided when the command came.
    Done { error: u8 },
    /// Hand out the identification.
    Identify,
    /// Be ready again after a reset or a diagnostic.
    Ready { interrupt: bool },
}

/// A data transfer in progress.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Transfer {
    lba: u32,
    left: u32,
    block: u32,
    write: bool,
}

/// One channel.
#[derive(Hash, Serialize, Deserialize)]
pub struct Ata {
    clock: Clock,
    drives: [Option<Drive>; 2],
    features: u8,
    count: u8,
    sector: u8,
    cylinder: u16,
    device: u8,
    error: u8,
    status: u8,
    control: u8,
    interrupt: bool,
    buffer: Vec<u8>,
    position: usize,
    transfer: Transfer,
    work: Option<(Ticks, Work)>,
    #[serde(skip)]
    host_error: Option<Error>,
}

impl Ata {
    /// A channel with the given disks as device 0 and 1.
    pub fn new(clock: Clock, disks: [Option<Box<dyn Disk>>; 2]) -> Self {
        let mut ata = Self {
            clock,
            drives: disks.map(|disk| disk.map(Drive::new)),
            features: 0,
            count: 0,
            sector: 0,
            cylinder: 0,
            device: 0,
            error: 0,
            status: 0,
            control: 0,
            interrupt: false,
            buffer: Vec::new(),
            position: 0,
            transfer: Transfer::default(),
            work: None,
            host_error: None,
        };
        ata.signature();
        ata
    }

    /// Cylinders, heads and sectors of the disk in `slot`, as it powers on.
    pub fn geometry(&self, slot: usize) -> Option<(u16, u8, u8)> {
        let drive = self.drives.get(slot)?.as_ref()?;
        Some((drive.cylinders() as u16, drive.heads as u8, drive.sectors as u8))
    }

    /// A copy whose disks are only what they say of their size.
    #[must_use]
    pub fn saved(&self) -> Self {
        let drives =
            self.drives.each_ref().map(|d| d.as_ref().map(|d| Drive { disk: size_of(&*d.disk), ..*d }));
        Self { drives, buffer: self.buffer.clone(), host_error: None, ..*self }
    }

    /// Whether a state from a file is one that a channel can be in.
    pub fn sensible(&self) -> bool {
        let drive = |d: &Drive| {
            (1..=16).contains(&d.heads) && (1..=255).contains(&d.sectors) && d.multiple <= MULTIPLE_MAX
        };
        let transfer = self.transfer;
        self.drives.iter().flatten().all(drive)
            && self.position <= self.buffer.len()
            && self.buffer.len() <= 256 * SECTOR
            && transfer.left <= 256
            && transfer.block <= 256
            && transfer.lba <= 1 << 28
    }

    /// Takes over the state of `saved` and keeps the disks.
    pub fn restore(&mut self, saved: &Self) {
        let disks = std::mem::take(&mut self.drives).map(|drive| drive.map(|d| d.disk));
        *self = saved.saved();
        for (drive, disk) in self.drives.iter_mut().zip(disks) {
            if let (Some(drive), Some(disk)) = (drive, disk) {
                drive.disk = disk;
            }
        }
    }

    /// The disks, by slot.
    pub fn disks(&self) -> [Option<&dyn Disk>; 2] {
        self.drives.each_ref().map(|drive| drive.as_ref().map(|d| &*d.disk))
    }

    /// The same, to change.
    pub fn disks_mut(&mut self) -> [Option<&mut Box<dyn Disk>>; 2] {
        self.drives.each_mut().map(|drive| drive.as_mut().map(|d| &mut d.disk))
    }

    /// The first trouble that the host made, once.
    pub fn take_host_error(&mut self) -> Option<Error> {
        self.host_error.take()
    }

    fn slot(&self) -> usize {
        usize::from(self.device & DEV != 0)
    }

    fn drive(&mut self) -> Option<&mut Drive> {
        let slot = self.slot();
        self.drives[slot].as_mut()
    }

    fn empty(&self) -> bool {
        self.drives.iter().all(Option::is_none)
    }

    /// What a disk's registers show after a reset or a diagnostic.
    fn signature(&mut self) {
        self.error = NO_ERROR;
        self.count = 1;
        self.sector = 1;
        self.cylinder = 0;
        self.device = 0;
        self.status = DRDY | DSC;
        self.work = None;
        self.buffer.clear();
        self.position = 0;
    }

    fn begin(&mut self, work: Work, now: Ticks) {
        self.status = BSY | DSC;
        self.work = Some((now + self.clock.micros(LATENCY_US), work));
    }

    fn sectors_asked(&self) -> u32 {
        if self.count == 0 { 256 } else { self.count.into() }
    }

    /// The sector that the registers name; `None` when there is none.
    fn address(&mut self) -> Option<u32> {
        let (head, cylinder, sector) =
            (u32::from(self.device & 0xf), u32::from(self.cylinder), u32::from(self.sector));
        let lba_mode = self.device & LBA != 0;
        let drive = self.drive()?;
        if lba_mode {
            return Some(head << 24 | cylinder << 8 | sector);
        }
        let exists = sector >= 1 && sector <= drive.sectors && head < drive.heads;
        exists.then(|| (cylinder * drive.heads + head) * drive.sectors + sector - 1)
    }

    /// The registers name the sector that was last transferred.
    fn show_address(&mut self, lba: u32) {
        if self.device & LBA != 0 {
            self.sector = lba as u8;
            self.cylinder = (lba >> 8) as u16;
            self.device = self.device & 0xf0 | (lba >> 24) as u8 & 0x0f;
        } else if let Some(drive) = self.drive() {
            let (heads, sectors) = (drive.heads, drive.sectors);
            self.sector = (lba % sectors + 1) as u8;
            self.cylinder = (lba / sectors / heads) as u16;
            self.device = self.device & 0xf0 | (lba / sectors % heads) as u8;
        }
    }

    fn command(&mut self, value: u8, now: Ticks) {
        self.interrupt = false;
        if value == 0x90 {
            return self.diagnose(now);
        }
        if self.drive().is_none() || self.status & BSY != 0 {
            return;
        }
        self.error = 0;
        self.position = 0;
        self.buffer.clear();
        match value {
            0x20 | 0x21 => self.start(false, 1, now),
            0x30 | 0x31 => self.start(true, 1, now),
            0xc4 | 0xc5 => match self.drive().map_or(0, |d| d.multiple) {
                0 => self.begin(Work::Done { error: ABRT }, now),
                n => self.start(value == 0xc5, n.into(), now),
            },
            0xec => self.begin(Work::Identify, now),
            _ => {
                let error = self.without_data(value);
                self.begin(Work::Done { error }, now);
            }
        }
    }

    fn diagnose(&mut self, now: Ticks) {
        if !self.empty() {
            self.signature();
            self.begin(Work::Ready { interrupt: true }, now);
        }
    }

    /// Commands without data: their effect, and the error they report.
    fn without_data(&mut self, command: u8) -> u8 {
        match command {
            0x10..=0x1f => {
                self.cylinder = 0;
                0
            }
            0x40 | 0x41 => self.verify(),
            0x70..=0x7f => match self.address() {
                Some(lba) if self.drive().is_some_and(|d| lba < d.capacity()) => 0,
                _ => IDNF,
            },
            0x91 => self.initialize_parameters(),
            0xc6 => self.set_multiple(),
            0xe7 => self.flush(),
            0xef => self.set_features(),
            0xe5 | 0x98 => {
                self.count = 0xff;
                0
            }
            0xe0..=0xe3 | 0xe6 | 0x94..=0x97 | 0x99 => 0,
            _ => ABRT,
        }
    }

    fn verify(&mut self) -> u8 {
        let asked = self.sectors_asked();
        let Some(lba) = self.address() else { return IDNF };
        let end = u64::from(lba) + u64::from(asked);
        if self.drive().is_none_or(|d| end > u64::from(d.capacity())) {
            return IDNF;
        }
        self.show_address(lba + asked - 1);
        self.count = 0;
        0
    }

    fn initialize_parameters(&mut self) -> u8 {
        let (heads, sectors) = (u32::from(self.device & 0xf) + 1, u32::from(self.count));
        match self.drive() {
            Some(drive) if sectors != 0 => {
                (drive.heads, drive.sectors) = (heads, sectors);
                0
            }
            _ => ABRT,
        }
    }

    fn set_multiple(&mut self) -> u8 {
        let n = self.count;
        match self.drive() {
            Some(drive) if n <= MULTIPLE_MAX && (n == 0 || n.is_power_of_two()) => {
                drive.multiple = n;
                0
            }
            _ => ABRT,
        }
    }

    /// Transfer modes of PIO, caches and look-ahead can be set; modes of DMA cannot.
    fn set_features(&mut self) -> u8 {
        match (self.features, self.count) {
            (0x03, 0x00..=0x0f) | (0x02 | 0x82 | 0x55 | 0xaa | 0x66 | 0xcc, _) => 0,
            _ => ABRT,
        }
    }

    fn flush(&mut self) -> u8 {
        let result = self.drive().map(|drive| drive.disk.flush());
        match result {
            Some(Err(e)) => self.host_trouble("flush a disk image", e, ABRT),
            _ => 0,
        }
    }

    fn host_trouble(&mut self, action: &'static str, source: std::io::Error, error: u8) -> u8 {
        self.host_error.get_or_insert(Error::Host { action, source });
        error
    }

    fn start(&mut self, write: bool, block: u32, now: Ticks) {
        let left = self.sectors_asked();
        let Some(lba) = self.address() else { return self.begin(Work::Done { error: IDNF }, now) };
        self.transfer = Transfer { lba, left, block, write };
        if !write {
            return self.begin(Work::Read, now);
        }
        if !self.block_exists() {
            return self.begin(Work::Done { error: IDNF }, now);
        }
        self.ask_for_block();
    }

    fn block_sectors(&self) -> u32 {
        self.transfer.left.min(self.transfer.block)
    }

    fn block_exists(&mut self) -> bool {
        let end = u64::from(self.transfer.lba) + u64::from(self.block_sectors());
        self.drive().is_some_and(|d| end <= u64::from(d.capacity()))
    }

    /// Raises DRQ for the block that the host is to write.
    fn ask_for_block(&mut self) {
        self.buffer = vec![0; self.block_sectors() as usize * SECTOR];
        self.position = 0;
        self.status = DRDY | DSC | DRQ;
    }

    fn read_block(&mut self) {
        if !self.block_exists() {
            return self.finish(IDNF);
        }
        let mut buffer = vec![0; self.block_sectors() as usize * SECTOR];
        let lba = self.transfer.lba.into();
        let result = self.drive().map(|d| d.disk.read(lba, &mut buffer));
        if let Some(Err(e)) = result {
            let error = self.host_trouble("read a disk image", e, UNC);
            return self.finish(error);
        }
        self.buffer = buffer;
        self.position = 0;
        self.block_moved();
        self.status = DRDY | DSC | DRQ;
        self.interrupt = true;
    }

    fn write_block(&mut self) {
        if !self.block_exists() {
            return self.finish(IDNF);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let lba = self.transfer.lba.into();
        let result = self.drive().map(|d| match d.disk.read_only() {
            true => Err(std::io::ErrorKind::PermissionDenied.into()),
            false => d.disk.write(lba, &buffer),
        });
        if let Some(Err(e)) = result {
            let error = self.host_trouble("write a disk image", e, ABRT);
            return self.finish(error);
        }
        self.block_moved();
        if self.transfer.left == 0 {
            self.finish(0);
        } else {
            self.ask_for_block();
            self.interrupt = true;
        }
    }

    /// Moves the transfer and the registers past the block.
    fn block_moved(&mut self) {
        let n = self.block_sectors();
        self.show_address(self.transfer.lba + n - 1);
        self.transfer.lba += n;
        self.transfer.left -= n;
        self.count = self.transfer.left as u8;
    }

    fn finish(&mut self, error: u8) {
        self.error = error;
        self.status = DRDY | DSC | if error == 0 { 0 } else { ERR };
        self.buffer.clear();
        self.position = 0;
        self.transfer = Transfer::default();
        self.interrupt = true;
    }

    fn identify(&mut self) {
        let slot = self.slot();
        let data = self.drive().map(|d| d.identify(slot)).unwrap_or_default();
        self.buffer = data;
        self.position = 0;
        self.transfer = Transfer::default();
        self.status = DRDY | DSC | DRQ;
        self.interrupt = true;
    }

    fn run(&mut self, work: Work) {
        match work {
            Work::Read => self.read_block(),
            Work::Write => self.write_block(),
            Work::Done { error } => self.finish(error),
            Work::Identify => self.identify(),
            Work::Ready { interrupt } => {
                self.status = DRDY | DSC;
                self.interrupt = interrupt;
            }
        }
    }

    fn read_data(&mut self, width: Width, now: Ticks) -> u32 {
        if self.status & DRQ == 0 || self.transfer.write {
            return width.mask();
        }
        let end = (self.position + width.bytes() as usize).min(self.buffer.len());
        let bytes = &self.buffer[self.position..end];
        let value = bytes.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b));
        self.position = end;
        if end == self.buffer.len() {
            self.block_read(now);
        }
        value
    }

    fn block_read(&mut self, now: Ticks) {
        self.status = DRDY | DSC;
        if self.transfer.left != 0 {
            self.begin(Work::Read, now);
        }
    }

    fn write_data(&mut self, width: Width, value: u32, now: Ticks) {
        if self.status & DRQ == 0 || !self.transfer.write {
            return;
        }
        let end = (self.position + width.bytes() as usize).min(self.buffer.len());
        let bytes = value.to_le_bytes();
        self.buffer[self.position..end].copy_from_slice(&bytes[..end - self.position]);
        self.position = end;
        if end == self.buffer.len() {
            self.begin(Work::Write, now);
        }
    }

    /// A drive that is not there shows no status; its registers are the other drive's.
    fn visible_status(&mut self) -> u8 {
        if self.drive().is_some() { self.status } else { 0 }
    }

    fn write_control(&mut self, value: u8, now: Ticks) {
        let was = std::mem::replace(&mut self.control, value);
        if value & SRST != 0 {
            self.signature();
            self.interrupt = false;
            self.status = BSY;
        } else if was & SRST != 0 {
            self.begin(Work::Ready { interrupt: false }, now);
        }
    }
}

impl Device for Ata {
    /// `port` is a command block port, or the control port with bit 9 of 3F6h or 376h (bits 2-0 are 6).
    fn read(&mut self, port: u16, width: Width, now: Ticks) -> u32 {
        if self.empty() {
            return width.mask();
        }
        self.advance(now);
        if port & 0x200 != 0 {
            return self.visible_status().into();
        }
        let value = match port & 7 {
            DATA => return self.read_data(width, now),
            ERROR_FEATURES => self.error,
            COUNT => self.count,
            SECTOR_NUMBER => self.sector,
            CYLINDER_LOW => self.cylinder as u8,
            CYLINDER_HIGH => (self.cylinder >> 8) as u8,
            DEVICE_HEAD => self.device | 0xa0,
            _ => {
                self.interrupt = false;
                self.visible_status()
            }
        };
        value.into()
    }

    fn write(&mut self, port: u16, width: Width, value: u32, now: Ticks) {
        self.advance(now);
        let byte = value as u8;
        if port & 0x200 != 0 {
            return self.write_control(byte, now);
        }
        match port & 7 {
            DATA => self.write_data(width, value, now),
            STATUS_COMMAND => self.command(byte, now),
            // While a command runs or waits for data the registers are its own (ATA-4, 7.2): a change of DEV in the middle of a
            // transfer must not lead its blocks to the other drive.
            _ if self.status & (BSY | DRQ) != 0 => {}
            ERROR_FEATURES => self.features = byte,
            COUNT => self.count = byte,
            SECTOR_NUMBER => self.sector = byte,
            CYLINDER_LOW => self.cylinder = self.cylinder & 0xff00 | u16::from(byte),
            CYLINDER_HIGH => self.cylinder = self.cylinder & 0x00ff | u16::from(byte) << 8,
            _ => self.device = byte & 0x5f,
        }
    }

    fn irq(&self) -> bool {
        self.interrupt && self.control & NIEN == 0
    }

    fn next_event(&self) -> Option<Ticks> {
        self.work.map(|(at, _)| at)
    }

    fn advance(&mut self, now: Ticks) {
        if let Some((_, work)) = self.work.take_if(|(at, _)| *at <= now) {
            self.run(work);
        }
    }

    fn reset(&mut self) {
        self.control = 0;
        self.interrupt = false;
        self.transfer = Transfer::default();
        for drive in self.drives.iter_mut().flatten() {
            (drive.heads, drive.sectors, drive.multiple) = (16, 63, 0);
        }
        self.signature();
    }
}

#[cfg(test)]
mod tests;

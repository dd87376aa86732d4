//! A disk's commands (ATA/ATAPI-5, clause 8; those with 48-bit addresses as ATA/ATAPI-6 has them), and what
//! it says of itself.

use super::*;
use crate::device::identify::{multiword_dma, text};

/// Sectors in a block of READ MULTIPLE at most.
const MULTIPLE_MAX: u8 = 16;
/// Sectors that a DMA command moves at a time.
const DMA_BLOCK: u32 = 128;
/// Sectors that 28 bits address.
const LBA28: u64 = 0x0fff_ffff;

/// A drive: its medium and what commands set.
#[derive(Hash, Serialize, Deserialize)]
pub struct Drive {
    pub(super) disk: Box<dyn Disk>,
    /// Heads and sectors per track, as INITIALIZE DEVICE PARAMETERS has them.
    heads: u32,
    sectors: u32,
    multiple: u8,
    /// The multiword DMA mode that SET FEATURES selected.
    dma_mode: u8,
}

impl Drive {
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, heads: 16, sectors: 63, multiple: 0, dma_mode: 2 }
    }

    /// A copy of the drive with another medium.
    pub(super) fn with_medium(&self, disk: Box<dyn Disk>) -> Self {
        Self { disk, ..*self }
    }

    pub(super) fn reset(&mut self) {
        (self.heads, self.sectors, self.multiple, self.dma_mode) = (16, 63, 0, 2);
    }

    /// Whether a state from a file is one that a drive can be in.
    pub(super) fn sensible(&self) -> bool {
        (1..=16).contains(&self.heads)
            && (1..=255).contains(&self.sectors)
            && self.multiple <= MULTIPLE_MAX
            && self.dma_mode <= 2
    }

    pub(super) fn geometry(&self) -> (u16, u8, u8) {
        (self.cylinders() as u16, self.heads as u8, self.sectors as u8)
    }

    /// The number of sectors, at most what 48 bits address.
    fn capacity(&self) -> u64 {
        self.disk.sectors().min((1 << 48) - 1)
    }

    /// Sectors that 28 bits of LBA reach.
    fn capacity28(&self) -> u32 {
        self.capacity().min(LBA28) as u32
    }

    fn cylinders(&self) -> u32 {
        (self.capacity28() / (self.heads * self.sectors)).clamp(1, 16_383)
    }

    pub(super) fn identify(&self, slot: usize) -> Vec<u8> {
        let mut words = [0u16; 256];
        let (cylinders, capacity) = (self.cylinders(), self.capacity28());
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
        // LBA, DMA.
        words[49] = 0x0300;
        words[51] = 0x0200;
        words[53] = 3;
        words[54] = cylinders as u16;
        words[55] = self.heads as u16;
        words[56] = self.sectors as u16;
        words[57..59].copy_from_slice(&[chs as u16, (chs >> 16) as u16]);
        words[59] = if self.multiple == 0 { 0 } else { 0x0100 | u16::from(self.multiple) };
        words[60..62].copy_from_slice(&[capacity as u16, (capacity >> 16) as u16]);
        words[63] = multiword_dma(self.dma_mode);
        words[64] = 3;
        words[65..69].fill(120);
        words[80] = 0x007e;
        // FLUSH CACHE, 48-bit addresses, FLUSH CACHE EXT; supported, then enabled.
        words[83..88].copy_from_slice(&[0x7400, 0x4000, 0, 0x3400, 0x4000]);
        let all = self.capacity();
        words[100..104].copy_from_slice(&[0, 16, 32, 48].map(|shift| (all >> shift) as u16));
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

/// A command that moves sectors.
#[derive(Clone, Copy)]
struct Moves {
    write: bool,
    dma: bool,
    extended: bool,
    /// By blocks of SET MULTIPLE's size.
    multiple: bool,
}

impl Moves {
    fn of(command: u8) -> Option<Self> {
        let (write, dma, extended, multiple) = match command {
            0x20 | 0x21 => (false, false, false, false),
            0x24 => (false, false, true, false),
            0x25 => (false, true, true, false),
            0x29 => (false, false, true, true),
            0x30 | 0x31 => (true, false, false, false),
            0x34 => (true, false, true, false),
            0x35 => (true, true, true, false),
            0x39 => (true, false, true, true),
            0xc4 => (false, false, false, true),
            0xc5 => (true, false, false, true),
            0xc8 | 0xc9 => (false, true, false, false),
            0xca | 0xcb => (true, true, false, false),
            _ => return None,
        };
        Some(Self { write, dma, extended, multiple })
    }
}

impl Ata {
    pub(super) fn disk_command(&mut self, value: u8, now: Ticks) {
        if let Some(moves) = Moves::of(value) {
            return self.start(moves, now);
        }
        let work = match value {
            0xec => Work::Identify,
            _ => Work::Done { error: self.without_data(value) },
        };
        self.begin(work, now);
    }

    /// Commands without data: their effect, and the error they report.
    fn without_data(&mut self, command: u8) -> u8 {
        match command {
            0x10..=0x1f => {
                let registers = self.registers();
                (registers.cylinder_low, registers.cylinder_high) = (0, 0);
                0
            }
            0x40 | 0x41 => self.verify(false),
            0x42 => self.verify(true),
            0x70..=0x7f => match self.address(false) {
                Some(lba) if self.drive().is_some_and(|d| lba < d.capacity()) => 0,
                _ => IDNF,
            },
            0x91 => self.initialize_parameters(),
            0xc6 => self.set_multiple(),
            0xe7 | 0xea => self.flush(),
            0xef => self.set_features(),
            0xe5 | 0x98 => {
                self.registers().count = 0xff;
                0
            }
            0xe0..=0xe3 | 0xe6 | 0x94..=0x97 | 0x99 => 0,
            _ => ABRT,
        }
    }

    fn sectors_asked(&mut self, extended: bool) -> u32 {
        let count = self.registers().count;
        match (extended, count as u8, count) {
            (false, 0, _) => 256,
            (false, n, _) => n.into(),
            (true, _, 0) => 0x1_0000,
            (true, _, n) => n.into(),
        }
    }

    /// The sector that the registers name; `None` when there is none.
    fn address(&mut self, extended: bool) -> Option<u64> {
        let lba_mode = self.device & LBA != 0;
        let head = u64::from(self.device & 0xf);
        let r = *self.registers();
        let drive = self.drive()?;
        if extended {
            let bytes = [r.sector, r.cylinder_low, r.cylinder_high];
            let half = |shift: u16| {
                bytes.iter().rev().fold(0, |v, register| v << 8 | u64::from(register >> shift & 0xff))
            };
            return lba_mode.then(|| half(8) << 24 | half(0));
        }
        let [sector, low, high] = [r.sector, r.cylinder_low, r.cylinder_high].map(|v| u64::from(v as u8));
        let cylinder = high << 8 | low;
        if lba_mode {
            return Some(head << 24 | cylinder << 8 | sector);
        }
        let (heads, sectors) = (u64::from(drive.heads), u64::from(drive.sectors));
        let exists = sector >= 1 && sector <= sectors && head < heads;
        exists.then(|| (cylinder * heads + head) * sectors + sector - 1)
    }

    /// The registers name the sector that was last transferred.
    fn show_address(&mut self, lba: u64, extended: bool) {
        let byte = |n: u32| lba >> (8 * n) & 0xff;
        let (sector, low, high) = if extended {
            let both = |n| (byte(n + 3) << 8 | byte(n)) as u16;
            (both(0), both(1), both(2))
        } else if self.device & LBA != 0 {
            self.device = self.device & 0xf0 | byte(3) as u8 & 0x0f;
            (byte(0) as u16, byte(1) as u16, byte(2) as u16)
        } else {
            let Some(drive) = self.drive() else { return };
            let (heads, sectors) = (u64::from(drive.heads), u64::from(drive.sectors));
            let cylinder = lba / sectors / heads;
            self.device = self.device & 0xf0 | (lba / sectors % heads) as u8;
            ((lba % sectors + 1) as u16, cylinder as u16 & 0xff, (cylinder >> 8) as u16 & 0xff)
        };
        let registers = self.registers();
        (registers.sector, registers.cylinder_low, registers.cylinder_high) = (sector, low, high);
    }

    fn verify(&mut self, extended: bool) -> u8 {
        let asked = u64::from(self.sectors_asked(extended));
        let Some(lba) = self.address(extended) else { return IDNF };
        if self.drive().is_none_or(|d| lba + asked > d.capacity()) {
            return IDNF;
        }
        self.show_address(lba + asked - 1, extended);
        self.registers().count = 0;
        0
    }

    fn initialize_parameters(&mut self) -> u8 {
        let (heads, sectors) = (u32::from(self.device & 0xf) + 1, u32::from(self.registers().count as u8));
        match self.drive() {
            Some(drive) if sectors != 0 => {
                (drive.heads, drive.sectors) = (heads, sectors);
                0
            }
            _ => ABRT,
        }
    }

    fn set_multiple(&mut self) -> u8 {
        let n = self.registers().count as u8;
        match self.drive() {
            Some(drive) if n <= MULTIPLE_MAX && (n == 0 || n.is_power_of_two()) => {
                drive.multiple = n;
                0
            }
            _ => ABRT,
        }
    }

    /// Transfer modes of PIO and multiword DMA, caches and look-ahead can be set; Ultra DMA cannot.
    fn set_features(&mut self) -> u8 {
        let mode = self.registers().count as u8;
        match (self.features, mode, self.drive()) {
            (0x03, 0x20..=0x22, Some(drive)) => {
                drive.dma_mode = mode & 3;
                0
            }
            (0x03, 0x00..=0x0f, _) | (0x02 | 0x82 | 0x55 | 0xaa | 0x66 | 0xcc, _, _) => 0,
            _ => ABRT,
        }
    }

    fn flush(&mut self) -> u8 {
        let result = self.drive().map(|drive| drive.disk.flush());
        match result {
            Some(Err(e)) => {
                self.host_trouble("flush a disk image", e);
                ABRT
            }
            _ => 0,
        }
    }

    fn start(&mut self, moves: Moves, now: Ticks) {
        let multiple = self.drive().map_or(0, |d| d.multiple);
        let block = match (moves.dma, moves.multiple) {
            (true, _) => DMA_BLOCK,
            (false, true) if multiple == 0 => return self.begin(Work::Done { error: ABRT }, now),
            (false, true) => multiple.into(),
            (false, false) => 1,
        };
        let left = self.sectors_asked(moves.extended);
        let Some(lba) = self.address(moves.extended) else {
            return self.begin(Work::Done { error: IDNF }, now);
        };
        self.transfer = Transfer { lba, left, block, dma: moves.dma, extended: moves.extended };
        if !moves.write {
            return self.begin(Work::Read, now);
        }
        if !self.block_exists() {
            return self.begin(Work::Done { error: IDNF }, now);
        }
        if moves.dma { self.begin(Work::Ask, now) } else { self.ask_for_block() }
    }

    fn block_sectors(&self) -> u32 {
        self.transfer.left.min(self.transfer.block)
    }

    fn block_exists(&mut self) -> bool {
        let end = self.transfer.lba + u64::from(self.block_sectors());
        self.drive().is_some_and(|d| end <= d.capacity())
    }

    /// Raises DRQ for the block that the host, or the bus master, is to bring.
    pub(super) fn ask_for_block(&mut self) {
        self.buffer = vec![0; self.block_sectors() as usize * SECTOR];
        self.position = 0;
        let phase = if self.transfer.dma { Phase::DmaOut } else { Phase::Out };
        self.offer(phase, self.buffer.len());
    }

    pub(super) fn read_block(&mut self) {
        if !self.block_exists() {
            return self.finish(IDNF);
        }
        let mut buffer = vec![0; self.block_sectors() as usize * SECTOR];
        let lba = self.transfer.lba;
        let result = self.drive().map(|d| d.disk.read(lba, &mut buffer));
        if let Some(Err(e)) = result {
            self.host_trouble("read a disk image", e);
            return self.finish(UNC);
        }
        self.buffer = buffer;
        self.position = 0;
        self.block_moved();
        let phase = if self.transfer.dma { Phase::DmaIn } else { Phase::In };
        self.offer(phase, self.buffer.len());
        self.interrupt |= !self.transfer.dma;
    }

    pub(super) fn write_block(&mut self, now: Ticks) {
        if !self.block_exists() {
            return self.finish(IDNF);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let lba = self.transfer.lba;
        let result = self.drive().map(|d| match d.disk.read_only() {
            true => Err(std::io::ErrorKind::PermissionDenied.into()),
            false => d.disk.write(lba, &buffer),
        });
        if let Some(Err(e)) = result {
            self.host_trouble("write a disk image", e);
            return self.finish(ABRT);
        }
        self.block_moved();
        match (self.transfer.left, self.transfer.dma) {
            (0, _) => self.finish(0),
            (_, true) => self.begin(Work::Ask, now),
            (_, false) => {
                self.ask_for_block();
                self.interrupt = true;
            }
        }
    }

    /// Moves the transfer and the registers past the block.
    fn block_moved(&mut self) {
        let n = self.block_sectors();
        let extended = self.transfer.extended;
        self.show_address((self.transfer.lba + u64::from(n)).saturating_sub(1), extended);
        self.transfer.lba += u64::from(n);
        self.transfer.left -= n;
        self.registers().count =
            if extended { self.transfer.left as u16 } else { self.transfer.left as u8 as u16 };
    }

    /// The host, or the bus master, has taken a block. The last one by the data port ends the command without
    /// a further interrupt; by the bus master it is what the interrupt is for.
    pub(super) fn block_read(&mut self, now: Ticks) {
        if self.transfer.left != 0 {
            return self.begin(Work::Read, now);
        }
        if self.transfer.dma {
            return self.finish(0);
        }
        self.registers().status = DRDY | DSC;
        self.stop();
    }
}

//! An ATA channel with two devices (ATA/ATAPI-5, ANSI NCITS 340): disks or CD-ROM drives. The board has two:
//! command block at 1F0h with control at 3F6h on IRQ14, and 170h with 376h on IRQ15.
//!
//! This file has the registers and the data port; `disk` has the commands of a disk, `packet` the protocol by
//! which a CD-ROM drive gets its commands. Data goes through the data port, or by the bus master in
//! [`super::ide`], to which the board brings it ([`Ata::dma_request`], [`Ata::dma_data`],
//! [`Ata::dma_moved`]).
//!
//! A command takes a fixed latency of guest time, and so does each block of data. A medium that the host
//! cannot read or write any more is an error of the drive for the guest; the first such trouble is kept for
//! the machine's owner.

mod disk;
mod packet;

use super::Device;
use super::cdrom::Cdrom;
use crate::bus::{Clock, Ticks, Width};
use crate::error::Error;
use crate::media::{Disk, SECTOR, size_of};
use disk::Drive;
use packet::Packet;
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
/// Device control: reads of the command block give the bytes written before the last ones.
const HOB: u8 = 0x80;
const NIEN: u8 = 0x02;
const SRST: u8 = 0x04;

/// From a command, or a block taken, to the drive's answer.
const LATENCY_US: u64 = 10;
const NO_ERROR: u8 = 1;

/// A device of a channel.
#[derive(Hash, Serialize, Deserialize)]
pub enum Unit {
    /// A disk.
    Disk(Drive),
    /// A CD-ROM drive.
    Cdrom(Cdrom),
}

impl Unit {
    /// A hard disk on `medium`.
    pub fn disk(medium: Box<dyn Disk>) -> Self {
        Self::Disk(Drive::new(medium))
    }

    /// A CD-ROM drive with `medium` in it.
    pub fn cdrom(medium: Box<dyn Disk>) -> Self {
        Self::Cdrom(Cdrom::new(medium))
    }

    /// Cylinders, heads and sectors of a disk, as it powers on.
    pub fn geometry(&self) -> Option<(u16, u8, u8)> {
        match self {
            Self::Disk(drive) => Some(drive.geometry()),
            Self::Cdrom(_) => None,
        }
    }

    fn medium(&self) -> &dyn Disk {
        match self {
            Self::Disk(drive) => &*drive.disk,
            Self::Cdrom(drive) => drive.medium(),
        }
    }

    fn medium_mut(&mut self) -> &mut Box<dyn Disk> {
        match self {
            Self::Disk(drive) => &mut drive.disk,
            Self::Cdrom(drive) => drive.medium_mut(),
        }
    }

    /// A copy whose medium is only what it says of its size.
    fn saved(&self) -> Self {
        let medium = size_of(self.medium());
        match self {
            Self::Disk(drive) => Self::Disk(drive.with_medium(medium)),
            Self::Cdrom(drive) => Self::Cdrom(drive.with_medium(medium)),
        }
    }
}

/// The registers that each device has of its own. Count and address keep two bytes, the last one written in
/// the low half: commands with 48-bit addresses take both (6.20, "48-bit Address feature set" of
/// ATA/ATAPI-6).
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Registers {
    error: u8,
    status: u8,
    count: u16,
    sector: u16,
    cylinder_low: u16,
    cylinder_high: u16,
}

/// What the data port, or the bus master, is for at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Phase {
    /// Nothing.
    #[default]
    None,
    /// Data to the host, through the data port.
    In,
    /// Data from the host.
    Out,
    /// A command packet from the host.
    Command,
    /// Data to memory.
    DmaIn,
    /// Data from memory.
    DmaOut,
}

/// Which way the bus master is to move data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device to memory.
    ToMemory,
    /// From memory to the device.
    FromMemory,
}

/// What the drive does once its latency is over, or with the data it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Work {
    /// Fill the buffer with the next block.
    Read,
    /// Ask for a block by the bus master.
    Ask,
    /// Store the buffer.
    Write,
    /// Report what was decided when the command came.
    Done { error: u8 },
    /// Hand out the identification.
    Identify,
    /// Be ready again after a reset or a diagnostic.
    Ready { interrupt: bool },
    /// Ask for a command packet.
    AskPacket,
    /// Carry out the packet.
    Packet,
    /// Go on with a packet's data, or end it.
    PacketMore,
}

/// A disk's data transfer in progress.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Transfer {
    lba: u64,
    left: u32,
    /// Sectors that move at a time.
    block: u32,
    dma: bool,
    /// The command's address has 48 bits.
    extended: bool,
}

/// One channel.
#[derive(Hash, Serialize, Deserialize)]
pub struct Ata {
    clock: Clock,
    units: [Option<Unit>; 2],
    registers: [Registers; 2],
    features: u8,
    /// Head, LBA and DEV: each write of it reaches both devices.
    device: u8,
    control: u8,
    interrupt: bool,
    buffer: Vec<u8>,
    position: usize,
    /// Where in the buffer the data that DRQ offers or asks for ends.
    end: usize,
    phase: Phase,
    transfer: Transfer,
    packet: Packet,
    work: Option<(Ticks, Work)>,
    #[serde(skip)]
    host_error: Option<Error>,
}

impl Ata {
    /// A channel with the given devices 0 and 1.
    pub fn new(clock: Clock, units: [Option<Unit>; 2]) -> Self {
        let mut ata = Self {
            clock,
            units,
            registers: Default::default(),
            features: 0,
            device: 0,
            control: 0,
            interrupt: false,
            buffer: Vec::new(),
            position: 0,
            end: 0,
            phase: Phase::None,
            transfer: Transfer::default(),
            packet: Packet::default(),
            work: None,
            host_error: None,
        };
        ata.signatures();
        ata
    }

    /// A copy whose media are only what they say of their size.
    #[must_use]
    pub fn saved(&self) -> Self {
        let units = self.units.each_ref().map(|unit| unit.as_ref().map(Unit::saved));
        Self { units, buffer: self.buffer.clone(), host_error: None, ..*self }
    }

    /// Takes over the state of `saved` and keeps the media.
    pub fn restore(&mut self, saved: &Self) {
        let units = std::mem::take(&mut self.units);
        *self = saved.saved();
        for (unit, had) in self.units.iter_mut().zip(units) {
            if let (Some(unit), Some(mut had)) = (unit, had) {
                std::mem::swap(unit.medium_mut(), had.medium_mut());
            }
        }
    }

    /// Whether the device in `slot` is a CD-ROM drive.
    pub fn is_cdrom(&self, slot: usize) -> bool {
        matches!(self.units.get(slot), Some(Some(Unit::Cdrom(_))))
    }

    /// The media, by slot.
    pub fn media(&self) -> [Option<&dyn Disk>; 2] {
        self.units.each_ref().map(|unit| unit.as_ref().map(Unit::medium))
    }

    /// The media, by slot, to change.
    pub fn media_mut(&mut self) -> [Option<&mut Box<dyn Disk>>; 2] {
        self.units.each_mut().map(|unit| unit.as_mut().map(Unit::medium_mut))
    }

    /// The first trouble that the host made, once.
    pub fn take_host_error(&mut self) -> Option<Error> {
        self.host_error.take()
    }

    fn slot(&self) -> usize {
        usize::from(self.device & DEV != 0)
    }

    fn unit(&mut self) -> Option<&mut Unit> {
        let slot = self.slot();
        self.units[slot].as_mut()
    }

    fn drive(&mut self) -> Option<&mut Drive> {
        match self.unit()? {
            Unit::Disk(drive) => Some(drive),
            Unit::Cdrom(_) => None,
        }
    }

    fn cdrom(&mut self) -> Option<&mut Cdrom> {
        match self.unit()? {
            Unit::Cdrom(drive) => Some(drive),
            Unit::Disk(_) => None,
        }
    }

    /// The selected device's registers; those of the other one when it is alone.
    fn registers(&mut self) -> &mut Registers {
        let slot = self.slot();
        let shown = if self.units[slot].is_none() { slot ^ 1 } else { slot };
        &mut self.registers[shown]
    }

    fn status(&mut self) -> u8 {
        self.registers().status
    }

    fn empty(&self) -> bool {
        self.units.iter().all(Option::is_none)
    }

    /// What the registers of the device in `slot` show after a reset or a diagnostic (9.12): which kind it
    /// is.
    fn signature(&mut self, slot: usize) {
        let packet = self.is_cdrom(slot);
        let (low, high, status) = if packet { (0x14, 0xeb, 0) } else { (0, 0, DRDY | DSC) };
        self.registers[slot] = Registers {
            error: NO_ERROR,
            status,
            count: 1,
            sector: 1,
            cylinder_low: low,
            cylinder_high: high,
        };
    }

    fn signatures(&mut self) {
        self.signature(0);
        self.signature(1);
        self.device = 0;
        self.stop();
    }

    /// Nothing is under way any more.
    fn stop(&mut self) {
        self.work = None;
        self.buffer.clear();
        (self.position, self.end) = (0, 0);
        self.phase = Phase::None;
        self.transfer = Transfer::default();
        self.packet = Packet::default();
    }

    fn begin(&mut self, work: Work, now: Ticks) {
        self.registers().status = BSY | DSC;
        self.phase = Phase::None;
        self.work = Some((now + self.clock.micros(LATENCY_US), work));
    }

    /// Raises DRQ for the buffer from its position to `end`, for the data port or the bus master.
    fn offer(&mut self, phase: Phase, end: usize) {
        self.phase = phase;
        self.end = end;
        self.registers().status = DRDY | DSC | DRQ;
    }

    fn finish(&mut self, error: u8) {
        let registers = self.registers();
        registers.error = error;
        registers.status = DRDY | DSC | if error == 0 { 0 } else { ERR };
        self.stop();
        self.interrupt = true;
    }

    fn command(&mut self, value: u8, now: Ticks) {
        if value == 0x90 {
            self.interrupt = false;
            return self.diagnose(now);
        }
        let packet_device = self.cdrom().is_some();
        if packet_device && value == packet::DEVICE_RESET {
            return self.device_reset(now);
        }
        self.interrupt = false;
        if self.unit().is_none() || self.status() & BSY != 0 {
            return;
        }
        self.registers().error = 0;
        self.stop();
        if packet_device { self.packet_device_command(value, now) } else { self.disk_command(value, now) }
    }

    fn diagnose(&mut self, now: Ticks) {
        if !self.empty() {
            self.signatures();
            self.begin(Work::Ready { interrupt: true }, now);
        }
    }

    fn host_trouble(&mut self, action: &'static str, source: std::io::Error) {
        self.host_error.get_or_insert(Error::Host { action, source });
    }

    fn identify(&mut self) {
        let slot = self.slot();
        self.buffer = match self.unit() {
            Some(Unit::Disk(drive)) => drive.identify(slot),
            Some(Unit::Cdrom(drive)) => drive.identify(slot),
            None => Vec::new(),
        };
        self.position = 0;
        self.offer(Phase::In, self.buffer.len());
        self.interrupt = true;
    }

    /// Both devices leave a reset behind: a disk is ready, a packet device waits to be identified.
    fn ready(&mut self, interrupt: bool) {
        for slot in 0..2 {
            self.registers[slot].status = if self.is_cdrom(slot) { 0 } else { DRDY | DSC };
        }
        self.interrupt = interrupt;
    }

    fn run(&mut self, work: Work, now: Ticks) {
        match work {
            Work::Read => self.read_block(),
            Work::Ask => self.ask_for_block(),
            Work::Write => self.write_block(now),
            Work::Done { error } => self.finish(error),
            Work::Identify => self.identify(),
            Work::Ready { interrupt } => self.ready(interrupt),
            Work::AskPacket => self.ask_for_packet(),
            Work::Packet => self.carry_out_packet(now),
            Work::PacketMore => self.packet_more(),
        }
    }

    fn read_data(&mut self, width: Width, now: Ticks) -> u32 {
        if self.phase != Phase::In {
            return width.mask();
        }
        let to = (self.position + width.bytes() as usize).min(self.end);
        let bytes = &self.buffer[self.position..to];
        let value = bytes.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b));
        self.moved(to, now);
        value
    }

    fn write_data(&mut self, width: Width, value: u32, now: Ticks) {
        if !matches!(self.phase, Phase::Out | Phase::Command) {
            return;
        }
        let to = (self.position + width.bytes() as usize).min(self.end);
        let bytes = value.to_le_bytes();
        self.buffer[self.position..to].copy_from_slice(&bytes[..to - self.position]);
        self.moved(to, now);
    }

    /// Data has moved up to `position`: at the end of what was offered the device goes on.
    fn moved(&mut self, position: usize, now: Ticks) {
        self.position = position;
        if position != self.end {
            return;
        }
        match self.phase {
            Phase::Command => self.begin(Work::Packet, now),
            Phase::Out | Phase::DmaOut => self.begin(Work::Write, now),
            Phase::In | Phase::DmaIn if self.packet.active => self.begin(Work::PacketMore, now),
            Phase::In | Phase::DmaIn => self.block_read(now),
            Phase::None => {}
        }
    }

    /// Which way the device wants the bus master to move data, if it does.
    pub fn dma_request(&self) -> Option<Direction> {
        match self.phase {
            Phase::DmaIn => Some(Direction::ToMemory),
            Phase::DmaOut => Some(Direction::FromMemory),
            _ => None,
        }
    }

    /// The data that is to go to memory, or the room for what comes from there.
    pub fn dma_data(&mut self) -> &mut [u8] {
        &mut self.buffer[self.position..self.end]
    }

    /// The bus master has moved the first `bytes` of that.
    pub fn dma_moved(&mut self, bytes: usize, now: Ticks) {
        if bytes != 0 {
            self.moved((self.position + bytes).min(self.end), now);
        }
    }

    /// A drive that is not there shows no status; its registers are the other drive's.
    fn visible_status(&mut self) -> u8 {
        if self.unit().is_some() { self.status() } else { 0 }
    }

    fn write_control(&mut self, value: u8, now: Ticks) {
        let was = std::mem::replace(&mut self.control, value);
        if value & SRST != 0 {
            self.signatures();
            self.interrupt = false;
            self.registers.iter_mut().for_each(|r| r.status = BSY);
        } else if was & SRST != 0 {
            self.begin(Work::Ready { interrupt: false }, now);
        }
    }

    /// A write to the command block reaches both devices, and moves what was there before to the high byte.
    fn write_registers(&mut self, port: u16, byte: u8) {
        self.control &= !HOB;
        for registers in &mut self.registers {
            let register = match port & 7 {
                COUNT => &mut registers.count,
                SECTOR_NUMBER => &mut registers.sector,
                CYLINDER_LOW => &mut registers.cylinder_low,
                _ => &mut registers.cylinder_high,
            };
            *register = *register << 8 | u16::from(byte);
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
        let shift = if self.control & HOB != 0 { 8 } else { 0 };
        let device = self.device;
        let registers = *self.registers();
        let value = match port & 7 {
            DATA => return self.read_data(width, now),
            ERROR_FEATURES => registers.error,
            COUNT => (registers.count >> shift) as u8,
            SECTOR_NUMBER => (registers.sector >> shift) as u8,
            CYLINDER_LOW => (registers.cylinder_low >> shift) as u8,
            CYLINDER_HIGH => (registers.cylinder_high >> shift) as u8,
            DEVICE_HEAD => device | 0xa0,
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
            // While a command runs or waits for data the registers are its own (ATA-4, 7.2): a change of DEV
            // in the middle of a transfer must not lead its blocks to the other drive.
            _ if self.status() & (BSY | DRQ) != 0 => {}
            ERROR_FEATURES => self.features = byte,
            DEVICE_HEAD => self.device = byte & 0x5f,
            _ => self.write_registers(port, byte),
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
            self.run(work, now);
        }
    }

    fn reset(&mut self) {
        self.control = 0;
        self.interrupt = false;
        for unit in self.units.iter_mut().flatten() {
            match unit {
                Unit::Disk(drive) => drive.reset(),
                Unit::Cdrom(drive) => drive.reset(),
            }
        }
        self.signatures();
    }

    fn sensible(&self) -> bool {
        let unit = |unit: &Unit| match unit {
            Unit::Disk(drive) => drive.sensible(),
            Unit::Cdrom(drive) => drive.sensible(),
        };
        let transfer = self.transfer;
        self.units.iter().flatten().all(unit)
            && self.position <= self.end
            && self.end <= self.buffer.len()
            && self.buffer.len() <= 256 * SECTOR
            && transfer.left <= 0x1_0000
            && transfer.block <= 256
            && transfer.lba <= 1 << 48
            && self.packet.sensible()
    }

    fn is_wide(&self, port: u16) -> bool {
        port & 0x207 == 0
    }
}

#[cfg(test)]
mod tests;

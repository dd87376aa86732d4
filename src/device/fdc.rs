//! The 82077AA floppy controller with two drives (Intel 82077AA datasheet, 290166). Ports 3F0h-3F5h and 3F7h;
//! IRQ6, DMA channel 2.
//!
//! Simplifications: data moves by DMA only (SPECIFY's non-DMA bit is ignored), a command's transfer happens
//! at one instant after a fixed time, and the data rate need not match the medium.

use super::Device;
use super::dma::Dma;
use crate::bus::phys::PhysMap;
use crate::bus::{Clock, Ticks, Width};
use crate::error::Error;
use crate::media::{Disk, SECTOR, size_of};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const DOR: u16 = 0x3f2;
const TDR: u16 = 0x3f3;
const MSR_DSR: u16 = 0x3f4;
const FIFO: u16 = 0x3f5;
const DIR_CCR: u16 = 0x3f7;

const DOR_NOT_RESET: u8 = 0x04;
const DOR_DMA_GATE: u8 = 0x08;
const DSR_RESET: u8 = 0x80;
const MSR_RQM: u8 = 0x80;
const MSR_DIO: u8 = 0x40;
const MSR_BUSY: u8 = 0x10;
const DIR_CHANGED: u8 = 0x80;
const ST0_ABNORMAL: u8 = 0x40;
const ST0_INVALID: u8 = 0x80;
const ST0_POLLING: u8 = 0xc0;
const ST0_SEEK_END: u8 = 0x20;
const ST1_END: u8 = 0x80;
const ST1_DATA_ERROR: u8 = 0x20;
const ST1_NO_DATA: u8 = 0x04;
const ST1_PROTECTED: u8 = 0x02;
const ST1_NO_MARK: u8 = 0x01;
const ST2_WRONG_CYLINDER: u8 = 0x10;
const CONFIGURE_IMPLIED_SEEK: u8 = 0x40;
const CONFIGURE_NO_POLL: u8 = 0x10;
const CMD_MULTITRACK: u8 = 0x80;

/// Guest time of a seek, a data command, and a reset.
const SEEK_US: u64 = 1000;
const DATA_US: u64 = 500;
const RESET_US: u64 = 100;
/// The DMA channel.
const CHANNEL: usize = 2;

/// Cylinders, heads and sectors per track.
type Geometry = (u8, u8, u8);

/// Standard media: size in sectors, geometry, and the CMOS type of the drive that takes them.
const MEDIA: &[(u64, Geometry, u8)] = &[
    (320, (40, 1, 8), 1),
    (360, (40, 1, 9), 1),
    (640, (40, 2, 8), 1),
    (720, (40, 2, 9), 1),
    (1440, (80, 2, 9), 3),
    (2400, (80, 2, 15), 2),
    (2880, (80, 2, 18), 4),
    (3360, (80, 2, 21), 4),
    (3444, (82, 2, 21), 4),
    (5760, (80, 2, 36), 5),
];

/// The medium that an image of `sectors` is: the standard one of that size, else the 1.44M or 2.88M one that
/// holds it.
fn medium(sectors: u64) -> (Geometry, u8) {
    let exact = MEDIA.iter().find(|m| m.0 == sectors);
    let holds = MEDIA.iter().find(|m| m.0 >= sectors && matches!(m.0, 2880 | 5760));
    exact.or(holds).map_or(((80, 2, 36), 5), |&(_, geometry, kind)| (geometry, kind))
}

/// The CMOS type of the drive that takes a floppy of `sectors`.
pub fn drive_type(sectors: u64) -> u8 {
    medium(sectors).1
}

/// A drive.
#[derive(Default, Hash, Serialize, Deserialize)]
struct Drive {
    disk: Option<Box<dyn Disk>>,
    geometry: Geometry,
    kind: u8,
    cylinder: u8,
    /// The disk change line.
    changed: bool,
}

impl Drive {
    fn new(disk: Option<Box<dyn Disk>>) -> Self {
        let Some(disk) = disk else { return Self::default() };
        let (geometry, kind) = medium(disk.sectors());
        Self { disk: Some(disk), geometry, kind, cylinder: 0, changed: true }
    }

    /// A step of the head with a disk in takes the change line back.
    fn seek(&mut self, cylinder: u8) {
        if cylinder != self.cylinder && self.disk.is_some() {
            self.changed = false;
        }
        self.cylinder = cylinder;
    }

    /// The sector at an address of this medium.
    fn lba(&self, id: Id) -> Option<u64> {
        let (cylinders, heads, sectors) = self.geometry;
        let exists = id.c < cylinders && id.h < heads && (1..=sectors).contains(&id.r) && id.n == 2;
        let track = u64::from(id.c) * u64::from(heads) + u64::from(id.h);
        exists.then(|| track * u64::from(sectors) + u64::from(id.r) - 1)
    }
}

/// A sector's identification: cylinder, head, record and size code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Id {
    c: u8,
    h: u8,
    r: u8,
    n: u8,
}

/// How a data command failed: ST1 and ST2.
#[derive(Clone, Copy, Debug, Hash, Serialize, Deserialize)]
struct Failure(u8, u8);

/// What happens when the current delay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Work {
    ResetDone,
    SeekDone,
    Data,
}

/// The controller and its drives.
#[derive(Hash, Serialize, Deserialize)]
pub struct Fdc {
    clock: Clock,
    drives: [Drive; 2],
    dor: u8,
    tdr: u8,
    dsr: u8,
    /// A command's bytes so far.
    command: Vec<u8>,
    result: VecDeque<u8>,
    interrupt: bool,
    /// Drives whose end of seek or change of readiness SENSE INTERRUPT is to report: ST0 each.
    reports: VecDeque<u8>,
    work: Option<(Ticks, Work)>,
    seeking: u8,
    specify: [u8; 2],
    /// CONFIGURE's second byte, and its precompensation track.
    configure: [u8; 2],
    lock: bool,
    perpendicular: u8,
    last_eot: u8,
    #[serde(skip)]
    host_error: Option<Error>,
}

impl Fdc {
    /// A controller with the given disks in drives A and B.
    pub fn new(clock: Clock, disks: [Option<Box<dyn Disk>>; 2]) -> Self {
        Self {
            clock,
            drives: disks.map(Drive::new),
            dor: DOR_DMA_GATE | DOR_NOT_RESET,
            tdr: 0,
            dsr: 2,
            command: Vec::new(),
            result: VecDeque::new(),
            interrupt: false,
            reports: VecDeque::new(),
            work: None,
            seeking: 0,
            specify: [0; 2],
            configure: [0; 2],
            lock: false,
            perpendicular: 0,
            last_eot: 0,
            host_error: None,
        }
    }

    /// A copy whose disks are only what they say of their size.
    #[must_use]
    pub fn saved(&self) -> Self {
        Self {
            drives: self.drives.each_ref().map(|d| Drive { disk: d.disk.as_deref().map(size_of), ..*d }),
            command: self.command.clone(),
            result: self.result.clone(),
            reports: self.reports.clone(),
            host_error: None,
            ..*self
        }
    }

    /// Takes over the state of `saved` and keeps the disks.
    pub fn restore(&mut self, saved: &Self) {
        let disks = self.drives.each_mut().map(|drive| drive.disk.take());
        *self = saved.saved();
        for (drive, disk) in self.drives.iter_mut().zip(disks) {
            drive.disk = disk;
        }
    }

    /// The disks, by drive.
    pub fn disks(&self) -> [Option<&dyn Disk>; 2] {
        self.drives.each_ref().map(|drive| drive.disk.as_deref())
    }

    /// The disks, by drive, to change.
    pub fn disks_mut(&mut self) -> [Option<&mut Box<dyn Disk>>; 2] {
        self.drives.each_mut().map(|drive| drive.disk.as_mut())
    }

    /// The first trouble that the host made, once.
    pub fn take_host_error(&mut self) -> Option<Error> {
        self.host_error.take()
    }

    fn after(&mut self, us: u64, work: Work, now: Ticks) {
        self.work = Some((now + self.clock.micros(us), work));
    }

    fn msr(&self) -> u8 {
        let phase = if self.dor & DOR_NOT_RESET == 0 || matches!(self.work, Some((_, Work::ResetDone))) {
            0
        } else if !self.result.is_empty() {
            MSR_RQM | MSR_DIO | MSR_BUSY
        } else if matches!(self.work, Some((_, Work::Data))) {
            MSR_BUSY
        } else {
            MSR_RQM | if self.command.is_empty() { 0 } else { MSR_BUSY }
        };
        phase | self.seeking
    }

    fn write_dor(&mut self, value: u8, now: Ticks) {
        let was = std::mem::replace(&mut self.dor, value);
        if value & DOR_NOT_RESET == 0 {
            self.abort();
        } else if was & DOR_NOT_RESET == 0 {
            self.after(RESET_US, Work::ResetDone, now);
        }
    }

    /// What both resets clear; a lock keeps CONFIGURE's settings.
    fn abort(&mut self) {
        self.command.clear();
        self.result.clear();
        self.reports.clear();
        self.work = None;
        self.seeking = 0;
        self.interrupt = false;
        if !self.lock {
            self.configure = [0; 2];
        }
    }

    fn reset_done(&mut self) {
        if self.configure[0] & CONFIGURE_NO_POLL == 0 {
            self.reports = (0..4).map(|drive| ST0_POLLING | drive).collect();
            self.interrupt = true;
        }
    }

    fn write_fifo(&mut self, value: u8, now: Ticks) {
        if self.msr() & (MSR_RQM | MSR_DIO) != MSR_RQM {
            return;
        }
        self.command.push(value);
        if self.command.len() > parameters(self.command[0]) {
            self.interrupt &= self.command[0] == 0x08;
            self.execute(now);
        }
    }

    fn parameter(&self, i: usize) -> u8 {
        self.command.get(i).copied().unwrap_or(0)
    }

    /// Bits 1-0 of a command's first parameter.
    fn selected(&self) -> u8 {
        self.parameter(1) & 3
    }

    fn finish(&mut self, result: &[u8]) {
        self.command.clear();
        self.result.extend(result);
    }

    fn execute(&mut self, now: Ticks) {
        match self.command[0] & 0x1f {
            0x02 | 0x05 | 0x06 | 0x09 | 0x0a | 0x0c | 0x0d | 0x16 => self.after(DATA_US, Work::Data, now),
            0x03 => {
                self.specify = [self.parameter(1), self.parameter(2)];
                self.finish(&[]);
            }
            0x04 => self.sense_drive(),
            0x07 => self.start_seek(0, now),
            0x0f => self.start_seek(self.parameter(2), now),
            0x08 => self.sense_interrupt(),
            0x0e => self.dump_registers(),
            0x10 if self.command[0] == 0x10 => self.finish(&[0x90]),
            0x12 => {
                self.perpendicular = self.parameter(1);
                self.finish(&[]);
            }
            0x13 => {
                self.configure = [self.parameter(2), self.parameter(3)];
                self.finish(&[]);
            }
            0x14 => {
                self.lock = self.command[0] & 0x80 != 0;
                self.finish(&[u8::from(self.lock) << 4]);
            }
            _ => self.finish(&[ST0_INVALID]),
        }
    }

    fn sense_drive(&mut self) {
        let select = self.parameter(1) & 7;
        let at_zero = self.drives.get(usize::from(select & 3)).is_some_and(|d| d.cylinder == 0);
        let protected = self.drives.get(usize::from(select & 3)).is_some_and(is_protected);
        self.finish(&[0x28 | select | u8::from(at_zero) << 4 | u8::from(protected) << 6]);
    }

    fn start_seek(&mut self, cylinder: u8, now: Ticks) {
        let drive = self.selected();
        if let Some(d) = self.drives.get_mut(usize::from(drive)) {
            d.seek(cylinder);
        }
        self.seeking |= 1 << drive;
        self.finish(&[]);
        self.after(SEEK_US, Work::SeekDone, now);
    }

    /// A drive that is not there never finds track 0: equipment check.
    fn seek_done(&mut self) {
        for drive in 0..4u8 {
            if self.seeking >> drive & 1 != 0 {
                let there = self.drives.get(usize::from(drive)).is_some_and(|d| d.kind != 0);
                let st0 = if there { ST0_SEEK_END } else { ST0_SEEK_END | ST0_ABNORMAL | 0x10 };
                self.reports.push_back(st0 | drive);
            }
        }
        self.seeking = 0;
        self.interrupt = true;
    }

    fn sense_interrupt(&mut self) {
        self.interrupt = false;
        match self.reports.pop_front() {
            Some(st0) => {
                let cylinder = self.drives.get(usize::from(st0 & 3)).map_or(0, |d| d.cylinder);
                self.finish(&[st0, cylinder]);
            }
            None => self.finish(&[ST0_INVALID]),
        }
    }

    fn dump_registers(&mut self) {
        let [a, b] = [0, 1].map(|i| self.drives[i].cylinder);
        let lock = u8::from(self.lock) << 7 | self.perpendicular & 0x7f;
        let [s1, s2] = self.specify;
        let [c1, c2] = self.configure;
        self.finish(&[a, b, 0, 0, s1, s2, self.last_eot, lock, c1, c2]);
    }

    /// Whether a data command waits for [`Fdc::transfer`].
    pub fn wants_transfer(&self, now: Ticks) -> bool {
        matches!(self.work, Some((at, Work::Data)) if at <= now)
    }

    /// Runs the data command whose time has come, moving its data by DMA.
    pub fn transfer(&mut self, dma: &mut Dma, map: &mut PhysMap) {
        self.work = None;
        let id = self.start_id();
        let outcome = match self.command[0] & 0x1f {
            0x0a => self.read_id(),
            0x0d => self.format(dma, map),
            _ => self.move_sectors(id, dma, map),
        };
        let (id, failure) = match outcome {
            Ok(id) => (id, None),
            Err((id, failure)) => (id, Some(failure)),
        };
        let st0 = self.parameter(1) & 7 | if failure.is_some() { ST0_ABNORMAL } else { 0 };
        let Failure(st1, st2) = failure.unwrap_or(Failure(0, 0));
        self.finish(&[st0, st1, st2, id.c, id.h, id.r, id.n]);
        self.interrupt = true;
    }

    fn start_id(&self) -> Id {
        Id { c: self.parameter(2), h: self.parameter(3), r: self.parameter(4), n: self.parameter(5) }
    }

    fn head(&self) -> u8 {
        self.parameter(1) >> 2 & 1
    }

    fn read_id(&mut self) -> Result<Id, (Id, Failure)> {
        let head = self.head();
        let drive = self.drives.get(usize::from(self.selected()));
        let id = Id { c: drive.map_or(0, |d| d.cylinder), h: head, r: 1, n: 2 };
        let found = drive.is_some_and(|d| d.disk.is_some() && d.lba(id).is_some());
        if found { Ok(id) } else { Err((id, Failure(ST1_NO_MARK, 0))) }
    }

    /// READ, WRITE and VERIFY: sectors from `id` until terminal count or the end of the track.
    fn move_sectors(&mut self, mut id: Id, dma: &mut Dma, map: &mut PhysMap) -> Result<Id, (Id, Failure)> {
        self.last_eot = self.parameter(6);
        self.find_cylinder(id).map_err(|failure| (id, failure))?;
        loop {
            let done = self.move_sector(id, dma, map).map_err(|failure| (id, failure))?;
            let (next, end) = self.next_id(id);
            if done {
                return Ok(next);
            }
            if end {
                return Err((next, Failure(ST1_END, 0)));
            }
            id = next;
        }
    }

    fn find_cylinder(&mut self, id: Id) -> Result<(), Failure> {
        let implied = self.configure[0] & CONFIGURE_IMPLIED_SEEK != 0;
        let index = usize::from(self.selected());
        let drive = self.drives.get_mut(index).filter(|d| d.disk.is_some()).ok_or(Failure(ST1_NO_MARK, 0))?;
        if implied {
            drive.seek(id.c);
        }
        if drive.cylinder == id.c { Ok(()) } else { Err(Failure(ST1_NO_DATA, ST2_WRONG_CYLINDER)) }
    }

    /// The identification after `id`, and whether `id` was the last of the command's cylinder.
    fn next_id(&self, id: Id) -> (Id, bool) {
        if id.r != self.parameter(6) {
            return (Id { r: id.r.wrapping_add(1), ..id }, id.r == u8::MAX);
        }
        if self.command[0] & CMD_MULTITRACK != 0 && id.h & 1 == 0 {
            return (Id { h: id.h | 1, r: 1, ..id }, false);
        }
        let h = if self.command[0] & CMD_MULTITRACK != 0 { id.h ^ 1 } else { id.h };
        (Id { c: id.c.wrapping_add(1), h, r: 1, ..id }, true)
    }

    /// One sector; whether terminal count ended the transfer.
    fn move_sector(&mut self, id: Id, dma: &mut Dma, map: &mut PhysMap) -> Result<bool, Failure> {
        let index = usize::from(self.selected());
        let lba = self.drives.get(index).and_then(|d| d.lba(id)).ok_or(Failure(ST1_NO_DATA, 0))?;
        let mut sector = [0; SECTOR];
        match self.command[0] & 0x1f {
            0x05 | 0x09 => {
                self.check_writable(index)?;
                let moved = dma.from_memory(CHANNEL, &mut sector, map);
                if moved.bytes > 0 {
                    self.store(index, lba, &sector)?;
                }
                Ok(moved.terminal || moved.bytes == 0)
            }
            0x16 => {
                self.load(index, lba, &mut sector)?;
                Ok(id.r == self.parameter(6))
            }
            _ => {
                self.load(index, lba, &mut sector)?;
                let moved = dma.to_memory(CHANNEL, &sector, map);
                Ok(moved.terminal || moved.bytes == 0)
            }
        }
    }

    fn check_writable(&self, index: usize) -> Result<(), Failure> {
        let protected = self.drives.get(index).is_some_and(is_protected);
        if protected { Err(Failure(ST1_PROTECTED, 0)) } else { Ok(()) }
    }

    /// Reads a sector; an image shorter than its medium ends in zeros.
    fn load(&mut self, index: usize, lba: u64, sector: &mut [u8; SECTOR]) -> Result<(), Failure> {
        let result = match self.drives.get_mut(index).and_then(|d| d.disk.as_mut()) {
            Some(disk) if lba < disk.sectors() => disk.read(lba, sector),
            _ => Ok(()),
        };
        result.map_err(|e| self.host_trouble("read a floppy image", e))
    }

    fn store(&mut self, index: usize, lba: u64, sector: &[u8; SECTOR]) -> Result<(), Failure> {
        let result = match self.drives.get_mut(index).and_then(|d| d.disk.as_mut()) {
            Some(disk) if lba < disk.sectors() => disk.write(lba, sector),
            _ => return Err(Failure(ST1_NO_DATA, 0)),
        };
        result.map_err(|e| self.host_trouble("write a floppy image", e))
    }

    fn host_trouble(&mut self, action: &'static str, source: std::io::Error) -> Failure {
        self.host_error.get_or_insert(Error::Host { action, source });
        Failure(ST1_DATA_ERROR, 0)
    }

    /// FORMAT TRACK: memory gives an identification per sector, the command the filler.
    fn format(&mut self, dma: &mut Dma, map: &mut PhysMap) -> Result<Id, (Id, Failure)> {
        let (sectors, filler) = (self.parameter(3), self.parameter(5));
        let index = usize::from(self.selected());
        let mut id = Id::default();
        self.check_writable(index).map_err(|failure| (id, failure))?;
        for _ in 0..sectors {
            let mut raw = [0; 4];
            if dma.from_memory(CHANNEL, &mut raw, map).bytes < raw.len() {
                break;
            }
            let [c, h, r, n] = raw;
            id = Id { c, h, r, n };
            let lba = self.drives.get(index).and_then(|d| d.lba(id));
            let lba = lba.ok_or((id, Failure(ST1_NO_DATA, 0)))?;
            self.store(index, lba, &[filler; SECTOR]).map_err(|failure| (id, failure))?;
        }
        Ok(id)
    }

    fn read_fifo(&mut self) -> u8 {
        self.interrupt &= self.result.is_empty();
        self.result.pop_front().unwrap_or(0)
    }

    fn read_dir(&self) -> u8 {
        let drive = self.drives.get(usize::from(self.dor & 3));
        let steady = drive.is_some_and(|d| d.disk.is_some() && !d.changed);
        if steady { 0 } else { DIR_CHANGED }
    }
}

fn is_protected(drive: &Drive) -> bool {
    drive.disk.as_ref().is_some_and(|disk| disk.read_only())
}

/// How many bytes follow a command's first.
fn parameters(command: u8) -> usize {
    match command & 0x1f {
        0x02 | 0x05 | 0x06 | 0x09 | 0x0c | 0x16 => 8,
        0x03 | 0x0f => 2,
        0x04 | 0x07 | 0x0a | 0x12 => 1,
        0x0d => 5,
        0x13 => 3,
        _ => 0,
    }
}

impl Device for Fdc {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.advance(now);
        let value = match port {
            DOR => self.dor,
            TDR => self.tdr,
            MSR_DSR => self.msr(),
            FIFO => self.read_fifo(),
            DIR_CCR => self.read_dir(),
            _ => 0,
        };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.advance(now);
        let value = value as u8;
        match port {
            DOR => self.write_dor(value, now),
            TDR => self.tdr = value & 3,
            MSR_DSR => {
                self.dsr = value & !DSR_RESET;
                if value & DSR_RESET != 0 {
                    self.abort();
                    self.after(RESET_US, Work::ResetDone, now);
                }
            }
            FIFO => self.write_fifo(value, now),
            DIR_CCR => self.dsr = self.dsr & !3 | value & 3,
            _ => {}
        }
    }

    fn irq(&self) -> bool {
        self.interrupt && self.dor & DOR_DMA_GATE != 0
    }

    fn next_event(&self) -> Option<Ticks> {
        self.work.map(|(at, _)| at)
    }

    /// Ends resets and seeks; a data command waits for [`Fdc::transfer`].
    fn advance(&mut self, now: Ticks) {
        match self.work.take_if(|(at, work)| *at <= now && *work != Work::Data) {
            Some((_, Work::ResetDone)) => self.reset_done(),
            Some((_, Work::SeekDone)) => self.seek_done(),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.lock = false;
        self.abort();
        self.dor = DOR_DMA_GATE | DOR_NOT_RESET;
        self.dsr = 2;
        self.specify = [0; 2];
        self.perpendicular = 0;
        for drive in &mut self.drives {
            drive.cylinder = 0;
        }
    }

    fn sensible(&self) -> bool {
        !(self.command.is_empty() && matches!(self.work, Some((_, Work::Data))))
    }
}

#[cfg(test)]
mod tests;

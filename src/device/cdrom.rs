//! A CD-ROM drive with one data track (SCSI Multimedia Commands, MMC-3, ANSI NCITS 360; sense data and
//! INQUIRY by SPC-2), apart from the channel that it hangs on: what each command packet does. [`super::ata`]
//! brings the packets.
//!
//! The medium is an image of 2048-byte blocks, and always there; what can be missing is that the tray is
//! closed.

mod answers;

use super::identify::{multiword_dma, text};
use crate::media::{Disk, SECTOR};
use serde::{Deserialize, Serialize};
use std::io;

/// Bytes of user data in a block.
pub const BLOCK: usize = 2048;

const TEST_UNIT_READY: u8 = 0x00;
const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const MODE_SENSE_6: u8 = 0x1a;
const START_STOP_UNIT: u8 = 0x1b;
const PREVENT_ALLOW: u8 = 0x1e;
const READ_CAPACITY: u8 = 0x25;
const READ_10: u8 = 0x28;
const SEEK_10: u8 = 0x2b;
const READ_TOC: u8 = 0x43;
const GET_CONFIGURATION: u8 = 0x46;
const GET_EVENT_STATUS: u8 = 0x4a;
const READ_DISC_INFORMATION: u8 = 0x51;
const MODE_SENSE_10: u8 = 0x5a;
const READ_12: u8 = 0xa8;
const SET_CD_SPEED: u8 = 0xbb;
const MECHANISM_STATUS: u8 = 0xbd;
const READ_CD: u8 = 0xbe;

/// Why a command failed: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key, a nibble.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
}

impl Sense {
    const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    const NONE: Self = Self::new(0, 0, 0);
    /// MEDIUM NOT PRESENT - TRAY OPEN.
    const TRAY_OPEN: Self = Self::new(2, 0x3a, 0x02);
    /// UNRECOVERED READ ERROR.
    pub const UNRECOVERED_READ: Self = Self::new(3, 0x11, 0);
    /// INVALID COMMAND OPERATION CODE.
    const INVALID_OPCODE: Self = Self::new(5, 0x20, 0);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Self = Self::new(5, 0x24, 0);
    /// SAVING PARAMETERS NOT SUPPORTED.
    const NO_SAVING: Self = Self::new(5, 0x39, 0);
    /// MEDIUM REMOVAL PREVENTED.
    const LOCKED: Self = Self::new(5, 0x53, 0x02);
    /// ILLEGAL MODE FOR THIS TRACK.
    const ILLEGAL_MODE: Self = Self::new(5, 0x64, 0);
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
    const MEDIUM_CHANGED: Self = Self::new(6, 0x28, 0);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    const POWER_ON: Self = Self::new(6, 0x29, 0);
}

/// What a command hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No data.
    Nothing,
    /// Bytes, at least one.
    Data(Vec<u8>),
    /// Blocks of the medium, at least one, all of them there.
    Blocks {
        /// The first.
        lba: u32,
        /// How many.
        count: u32,
    },
}

/// Media events (MMC-3, 6.5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Event {
    #[default]
    None,
    NewMedia = 2,
    MediaRemoval = 3,
}

/// A drive, and the disc in it.
#[derive(Hash, Serialize, Deserialize)]
pub struct Cdrom {
    medium: Box<dyn Disk>,
    /// The tray is out.
    open: bool,
    /// PREVENT ALLOW MEDIUM REMOVAL holds the tray.
    locked: bool,
    /// What REQUEST SENSE will say.
    sense: Sense,
    /// What the next command is told instead of being carried out.
    attention: Option<Sense>,
    event: Event,
    dma_mode: u8,
}

impl Cdrom {
    /// A drive with `medium` in it, just powered on.
    pub fn new(medium: Box<dyn Disk>) -> Self {
        Self {
            medium,
            open: false,
            locked: false,
            sense: Sense::NONE,
            attention: Some(Sense::POWER_ON),
            event: Event::None,
            dma_mode: 2,
        }
    }

    /// As after power-on. The tray stays where it is.
    pub fn reset(&mut self) {
        self.locked = false;
        self.sense = Sense::NONE;
        self.attention = Some(Sense::POWER_ON);
        self.event = Event::None;
        self.dma_mode = 2;
    }

    /// A copy of the drive with another medium.
    #[must_use]
    pub fn with_medium(&self, medium: Box<dyn Disk>) -> Self {
        Self { medium, ..*self }
    }

    /// Whether a state from a file is one that a drive can be in.
    pub fn sensible(&self) -> bool {
        self.dma_mode <= 2 && self.sense.key <= 0xf && self.attention.is_none_or(|sense| sense.key <= 0xf)
    }

    /// The medium.
    pub fn medium(&self) -> &dyn Disk {
        &*self.medium
    }

    /// The medium, to change.
    pub fn medium_mut(&mut self) -> &mut Box<dyn Disk> {
        &mut self.medium
    }

    /// Selects a multiword DMA mode, 0 to 2.
    pub fn set_dma_mode(&mut self, mode: u8) {
        self.dma_mode = mode;
    }

    /// The blocks of the medium: a last one that is not whole does not count.
    fn blocks(&self) -> u32 {
        u32::try_from(self.medium.sectors() / (BLOCK / SECTOR) as u64).unwrap_or(u32::MAX)
    }

    /// Reads blocks from `lba` on.
    ///
    /// # Errors
    /// What the host said.
    pub fn read(&mut self, lba: u32, buf: &mut [u8]) -> io::Result<()> {
        self.medium.read(u64::from(lba) * (BLOCK / SECTOR) as u64, buf)
    }

    /// REQUEST SENSE will say this.
    pub fn note(&mut self, sense: Sense) {
        self.sense = sense;
    }

    /// Carries out a command packet.
    ///
    /// # Errors
    /// What REQUEST SENSE then says of it.
    pub fn command(&mut self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        if packet[0] == REQUEST_SENSE {
            return self.request_sense(packet);
        }
        let result = self.checked(packet);
        self.sense = result.as_ref().err().copied().unwrap_or(Sense::NONE);
        result
    }

    fn checked(&mut self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        // These tell of a drive in any state (SPC-2, 5.6; MMC-3, 6.5 and 6.6).
        let patient = matches!(packet[0], INQUIRY | GET_CONFIGURATION | GET_EVENT_STATUS);
        if !patient && let Some(attention) = self.attention.take() {
            return Err(attention);
        }
        match packet[0] {
            TEST_UNIT_READY => self.loaded().map(|()| Reply::Nothing),
            INQUIRY => self.inquiry(packet),
            MODE_SENSE_6 | MODE_SENSE_10 => self.mode_sense(packet),
            START_STOP_UNIT => self.start_stop(packet),
            PREVENT_ALLOW => {
                self.locked = packet[4] & 1 != 0;
                Ok(Reply::Nothing)
            }
            READ_CAPACITY => self.read_capacity(),
            READ_10 => self.blocks_of(be32(&packet[2..]), be16(&packet[7..]).into()),
            READ_12 => self.blocks_of(be32(&packet[2..]), be32(&packet[6..])),
            READ_CD => self.read_cd(packet),
            SEEK_10 => self.blocks_of(be32(&packet[2..]), 1).map(|_| Reply::Nothing),
            READ_TOC => self.read_toc(packet),
            GET_CONFIGURATION => self.get_configuration(packet),
            GET_EVENT_STATUS => self.get_event_status(packet),
            READ_DISC_INFORMATION => self.read_disc_information(packet),
            SET_CD_SPEED => Ok(Reply::Nothing),
            MECHANISM_STATUS => self.mechanism_status(packet),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    fn loaded(&self) -> Result<(), Sense> {
        if self.open { Err(Sense::TRAY_OPEN) } else { Ok(()) }
    }

    /// START STOP UNIT: the tray in or out (LoEj), or the motor, which needs no time here.
    fn start_stop(&mut self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let (load_eject, start) = (packet[4] & 2 != 0, packet[4] & 1 != 0);
        match (load_eject, start) {
            (false, true) => self.loaded()?,
            (false, false) => {}
            (true, false) if self.locked => return Err(Sense::LOCKED),
            (true, false) => {
                self.event = if self.open { self.event } else { Event::MediaRemoval };
                self.open = true;
            }
            (true, true) if self.open => {
                self.open = false;
                self.event = Event::NewMedia;
                self.attention = Some(Sense::MEDIUM_CHANGED);
            }
            (true, true) => {}
        }
        Ok(Reply::Nothing)
    }

    fn blocks_of(&self, lba: u32, count: u32) -> Result<Reply, Sense> {
        self.loaded()?;
        if u64::from(lba) + u64::from(count) > self.blocks().into() {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok(if count == 0 { Reply::Nothing } else { Reply::Blocks { lba, count } })
    }

    /// READ CD: the user data of mode 1 sectors. Headers, error correction and sub-channels, which an image
    /// does not have, are an invalid field.
    fn read_cd(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let count = be32(&[0, packet[6], packet[7], packet[8]]);
        let blocks = self.blocks_of(be32(&packet[2..]), count)?;
        match packet[1] >> 2 & 7 {
            0 | 2 => {}
            1 | 3..=5 => return Err(Sense::ILLEGAL_MODE),
            _ => return Err(Sense::INVALID_FIELD),
        }
        match (packet[9], packet[10]) {
            (0, 0) => Ok(Reply::Nothing),
            (0x10, 0) => Ok(blocks),
            _ => Err(Sense::INVALID_FIELD),
        }
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// As much of `data` as the host has room for.
fn allocated(mut data: Vec<u8>, room: usize) -> Reply {
    data.truncate(room);
    if data.is_empty() { Reply::Nothing } else { Reply::Data(data) }
}

#[cfg(test)]
mod tests;

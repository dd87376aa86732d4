//! What a CD-ROM drive says of itself and of its disc: identification, sense, capacity, contents,
//! capabilities.

use super::*;

/// Profile: CD-ROM (MMC-3, table 76).
const PROFILE_CDROM: u16 = 0x0008;
/// The track number of the lead-out.
const LEAD_OUT: u8 = 0xaa;
/// ADR and control of a data track.
const DATA_TRACK: u8 = 0x14;
/// Of the capabilities page and the removable medium feature: a tray, eject, and a lock.
const TRAY: u8 = 0x29;
/// kB/s: four times the speed of audio.
const SPEED: u16 = 706;
/// KiB.
const BUFFER: u16 = 128;

/// Feature descriptors (MMC-3, 5.2): code, whether it is always current, version, data.
type Feature = (u16, bool, u8, Vec<u8>);

impl Cdrom {
    /// IDENTIFY PACKET DEVICE (ATA/ATAPI-5, 8.13).
    pub fn identify(&self, slot: usize) -> Vec<u8> {
        let mut words = [0u16; 256];
        // A removable CD-ROM drive that asks for packets of 12 bytes within 50 us, without an interrupt.
        words[0] = 0x85c0;
        text(&mut words[10..20], &format!("SRCD{slot:04}"));
        text(&mut words[23..27], "1.0");
        text(&mut words[27..47], "SUBRING CD-ROM");
        // LBA, DMA.
        words[49] = 0x0300;
        words[51] = 0x0200;
        words[53] = 2;
        words[63] = multiword_dma(self.dma_mode);
        words[64] = 3;
        words[65..69].fill(120);
        words[80] = 0x003e;
        // PACKET, DEVICE RESET; supported, then enabled.
        words[82..88].copy_from_slice(&[0x0210, 0x4000, 0x4000, 0x0210, 0, 0x4000]);
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    pub(super) fn request_sense(&mut self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let pending = std::mem::take(&mut self.sense);
        // A condition that no command has been told of yet is told here.
        let Sense { key, asc, ascq } = match pending {
            Sense::NONE => self.attention.take().unwrap_or_default(),
            sense => sense,
        };
        let mut data = vec![0; 18];
        (data[0], data[2], data[7], data[12], data[13]) = (0x70, key, 10, asc, ascq);
        Ok(allocated(data, packet[4].into()))
    }

    pub(super) fn inquiry(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        // No vital product data.
        if packet[1] & 1 != 0 || packet[2] != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let mut data = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
        data.extend_from_slice(b"SUBRING CD-ROM          1.0 ");
        Ok(allocated(data, packet[4].into()))
    }

    pub(super) fn read_capacity(&self) -> Result<Reply, Sense> {
        self.loaded()?;
        let last = self.blocks().saturating_sub(1);
        let data = [last.to_be_bytes(), (BLOCK as u32).to_be_bytes()];
        Ok(Reply::Data(data.concat()))
    }

    /// Formats 0 (tracks) and 1 (sessions).
    pub(super) fn read_toc(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        self.loaded()?;
        let msf = packet[1] & 2 != 0;
        // Before it had a place of its own the format stood in the control byte.
        let format = match packet[2] & 0xf {
            0 => packet[9] >> 6,
            format => format,
        };
        let place = |lba: u32| {
            let frames = lba.saturating_add(150);
            let [minutes, seconds, frame] = [frames / 75 / 60, frames / 75 % 60, frames % 75];
            if msf { [0, minutes as u8, seconds as u8, frame as u8] } else { lba.to_be_bytes() }
        };
        let track = |number, lba| [&[0, DATA_TRACK, number, 0], &place(lba)[..]].concat();
        let entries = match (format, packet[6]) {
            (0, 0 | 1) => [track(1, 0), track(LEAD_OUT, self.blocks())].concat(),
            (0, LEAD_OUT) => track(LEAD_OUT, self.blocks()),
            (1, _) => track(1, 0),
            _ => return Err(Sense::INVALID_FIELD),
        };
        let mut data = (entries.len() as u16 + 2).to_be_bytes().to_vec();
        data.extend([1, 1]);
        data.extend(entries);
        Ok(allocated(data, be16(&packet[7..]).into()))
    }

    pub(super) fn mode_sense(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let (page, control) = (packet[2] & 0x3f, packet[2] >> 6);
        if control == 3 {
            return Err(Sense::NO_SAVING);
        }
        let mut pages = match page {
            0x01 => error_recovery(),
            0x2a => self.capabilities(),
            0x3f => [error_recovery(), self.capabilities()].concat(),
            _ => return Err(Sense::INVALID_FIELD),
        };
        if control == 1 {
            // What can be changed: nothing.
            let mut at = 0;
            while at < pages.len() {
                let end = at + 2 + usize::from(pages[at + 1]);
                pages[at + 2..end].fill(0);
                at = end;
            }
        }
        // 120 mm data disc, or an open door.
        let medium = if self.open { 0x71 } else { 0x01 };
        let (mut data, room) = if packet[0] == MODE_SENSE_6 {
            (vec![pages.len() as u8 + 3, medium, 0, 0], usize::from(packet[4]))
        } else {
            let length = (pages.len() as u16 + 6).to_be_bytes();
            (vec![length[0], length[1], medium, 0, 0, 0, 0, 0], be16(&packet[7..]).into())
        };
        data.extend(pages);
        Ok(allocated(data, room))
    }

    /// The page of capabilities and mechanical status (MMC-3, 5.5.10).
    fn capabilities(&self) -> Vec<u8> {
        let mut page = vec![0; 20];
        (page[0], page[1]) = (0x2a, 18);
        // Reads CD-R and CD-RW.
        page[2] = 0x03;
        page[6] = TRAY | if self.locked { 2 } else { 0 };
        page[8..10].copy_from_slice(&SPEED.to_be_bytes());
        page[12..14].copy_from_slice(&BUFFER.to_be_bytes());
        page[14..16].copy_from_slice(&SPEED.to_be_bytes());
        page
    }

    pub(super) fn get_configuration(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let first = be16(&packet[2..]);
        let features = self.features();
        let wanted = features.iter().filter(|(code, always, ..)| match packet[1] & 3 {
            0 => *code >= first,
            1 => *code >= first && (*always || !self.open),
            _ => *code == first,
        });
        if packet[1] & 3 == 3 {
            return Err(Sense::INVALID_FIELD);
        }
        let mut data = vec![0; 8];
        let profile = if self.open { 0 } else { PROFILE_CDROM };
        data[6..8].copy_from_slice(&profile.to_be_bytes());
        for (code, always, version, bytes) in wanted {
            data.extend(code.to_be_bytes());
            let current = *always || !self.open;
            data.extend([version << 2 | u8::from(*always) << 1 | u8::from(current), bytes.len() as u8]);
            data.extend(bytes);
        }
        let length = (data.len() as u32 - 4).to_be_bytes();
        data[..4].copy_from_slice(&length);
        Ok(allocated(data, be16(&packet[7..]).into()))
    }

    fn features(&self) -> [Feature; 5] {
        let current = u8::from(!self.open);
        [
            // Profile list.
            (0x0000, true, 0, vec![0x00, PROFILE_CDROM as u8, current, 0]),
            // Core: ATAPI.
            (0x0001, true, 0, vec![0, 0, 0, 2]),
            // Removable medium.
            (0x0003, true, 0, vec![TRAY, 0, 0, 0]),
            // Random readable: blocks of 2048 bytes, one at a time.
            (0x0010, false, 0, vec![0, 0, 8, 0, 0, 1, 0, 0]),
            // CD read.
            (0x001e, false, 2, vec![0, 0, 0, 0]),
        ]
    }

    /// Only asked, never waiting: media events.
    pub(super) fn get_event_status(&mut self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        const MEDIA: u8 = 4;
        let polled = packet[1] & 1 != 0;
        if !polled {
            return Err(Sense::INVALID_FIELD);
        }
        let room = be16(&packet[7..]).into();
        if packet[4] & 1 << MEDIA == 0 {
            // No event of a class asked for.
            return Ok(allocated(vec![0, 2, 0x80, 1 << MEDIA], room));
        }
        // An event counts as told only when there was room for it.
        let event = if room > 4 { std::mem::take(&mut self.event) } else { Event::None };
        let status = if self.open { 0x01 } else { 0x02 };
        Ok(allocated(vec![0, 6, MEDIA, 1 << MEDIA, event as u8, status, 0, 0], room))
    }

    /// A finished disc of one session with one track.
    pub(super) fn read_disc_information(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        self.loaded()?;
        let mut data = vec![0; 34];
        data[1] = 32;
        data[2] = 0x0e;
        data[3..7].fill(1);
        // Not restricted in use; no lead-in and lead-out to be told of.
        data[7] = 0x20;
        data[16..24].fill(0xff);
        Ok(allocated(data, be16(&packet[7..]).into()))
    }

    pub(super) fn mechanism_status(&self, packet: &[u8; 12]) -> Result<Reply, Sense> {
        let door = if self.open { 0x10 } else { 0 };
        Ok(allocated(vec![0, door, 0, 0, 0, 0, 0, 0], be16(&packet[8..]).into()))
    }
}

/// The page of error recovery (MMC-3, 5.5.3), with nothing in it to be set.
fn error_recovery() -> Vec<u8> {
    vec![0x01, 6, 0, 0, 0, 0, 0, 0]
}

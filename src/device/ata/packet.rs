//! How a packet device gets its commands and hands out data (ATA/ATAPI-5, 8.21 and 9.8): the PACKET command
//! asks for a packet of 12 bytes, data comes in bursts of at most as many bytes as the host said, and each
//! change of phase is told by an interrupt and by the interrupt reason in the count register.

use super::*;
use crate::device::cdrom::{BLOCK, Reply, Sense};

/// DEVICE RESET, which a packet device takes at any time.
pub(super) const DEVICE_RESET: u8 = 0x08;
const PACKET: u8 = 0xa0;
const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
const IDENTIFY_DEVICE: u8 = 0xec;
/// Features of PACKET: data by DMA.
const DMA: u8 = 0x01;
/// Features of PACKET: another command may come in between; not built.
const OVERLAP: u8 = 0x02;
/// Interrupt reason: a command or its end, not data; and the way to the host.
const COD: u16 = 0x01;
const IO: u16 = 0x02;
/// Bytes of a packet.
const PACKET_BYTES: usize = 12;
/// Blocks read from the medium at a time. The largest burst is 65,534 bytes.
const CHUNK: u32 = 31;

/// A packet command in progress.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
pub(super) struct Packet {
    /// Data is on its way.
    pub(super) active: bool,
    dma: bool,
    /// Bytes in a burst at most.
    limit: u16,
    /// What is still to be read of the medium.
    lba: u32,
    blocks: u32,
}

impl Packet {
    /// Whether a state from a file is one that a command can be in.
    pub(super) fn sensible(&self) -> bool {
        self.lba.checked_add(self.blocks).is_some()
    }
}

impl Ata {
    pub(super) fn packet_device_command(&mut self, value: u8, now: Ticks) {
        match value {
            PACKET if self.features & OVERLAP != 0 => self.begin(Work::Done { error: ABRT }, now),
            PACKET => {
                self.packet.dma = self.features & DMA != 0;
                let registers = self.registers();
                let limit = registers.cylinder_high << 8 | registers.cylinder_low & 0xff;
                // 0 and FFFFh mean the largest; an odd limit counts as the even one below.
                self.packet.limit = if matches!(limit, 0 | 0xffff) { 0xfffe } else { limit & !1 };
                self.begin(Work::AskPacket, now);
            }
            IDENTIFY_PACKET_DEVICE => self.begin(Work::Identify, now),
            // Commands of disks are aborted with the signature, so that software sees what kind it has met.
            IDENTIFY_DEVICE | 0x20 | 0x21 => {
                let slot = self.slot();
                self.signature(slot);
                self.begin(Work::Done { error: ABRT }, now);
            }
            0xe5 => {
                self.registers().count = 0xff;
                self.begin(Work::Done { error: 0 }, now);
            }
            0xe0..=0xe3 | 0xe6 => self.begin(Work::Done { error: 0 }, now),
            0xef => {
                let error = self.set_cdrom_features();
                self.begin(Work::Done { error }, now);
            }
            _ => self.begin(Work::Done { error: ABRT }, now),
        }
    }

    /// SET FEATURES: transfer modes.
    fn set_cdrom_features(&mut self) -> u8 {
        let mode = self.registers().count as u8;
        match (self.features, mode, self.cdrom()) {
            (0x03, 0x20..=0x22, Some(drive)) => {
                drive.set_dma_mode(mode & 3);
                0
            }
            (0x03, 0x00..=0x0f, _) | (0x66 | 0xcc, _, _) => 0,
            _ => ABRT,
        }
    }

    /// Ends whatever the selected device does. It makes no interrupt, and needs none of the latency.
    pub(super) fn device_reset(&mut self, _now: Ticks) {
        let slot = self.slot();
        self.stop();
        self.interrupt = false;
        self.signature(slot);
        self.device &= DEV;
    }

    pub(super) fn ask_for_packet(&mut self) {
        self.buffer = vec![0; PACKET_BYTES];
        self.position = 0;
        self.registers().count = COD;
        self.offer(Phase::Command, PACKET_BYTES);
    }

    pub(super) fn carry_out_packet(&mut self, _now: Ticks) {
        let Some(&packet) = self.buffer.first_chunk::<PACKET_BYTES>() else { return self.finish(ABRT) };
        self.buffer.clear();
        (self.position, self.end) = (0, 0);
        let Some(drive) = self.cdrom() else { return self.finish(ABRT) };
        match drive.command(&packet) {
            Ok(Reply::Nothing) => self.packet_done(None),
            Ok(Reply::Data(data)) => {
                self.buffer = data;
                self.packet_data();
            }
            Ok(Reply::Blocks { lba, count }) => {
                (self.packet.lba, self.packet.blocks) = (lba, count);
                self.packet_data();
            }
            Err(sense) => self.packet_done(Some(sense)),
        }
    }

    fn packet_data(&mut self) {
        // A limit of one byte allows no burst at all.
        if self.packet.limit == 0 && !self.packet.dma {
            let sense = Sense::INVALID_FIELD;
            self.cdrom().into_iter().for_each(|drive| drive.note(sense));
            return self.packet_done(Some(sense));
        }
        self.packet.active = true;
        self.packet_more();
    }

    /// Offers the next burst, or ends the command.
    pub(super) fn packet_more(&mut self) {
        if self.position == self.buffer.len() {
            if self.packet.blocks == 0 {
                return self.packet_done(None);
            }
            if let Err(sense) = self.next_blocks() {
                return self.packet_done(Some(sense));
            }
        }
        let rest = self.buffer.len() - self.position;
        if self.packet.dma {
            self.registers().count = IO;
            return self.offer(Phase::DmaIn, self.buffer.len());
        }
        let burst = rest.min(self.packet.limit.into());
        let registers = self.registers();
        registers.count = IO;
        registers.cylinder_low = burst as u16 & 0xff;
        registers.cylinder_high = burst as u16 >> 8;
        self.offer(Phase::In, self.position + burst);
        self.interrupt = true;
    }

    fn next_blocks(&mut self) -> Result<(), Sense> {
        let n = self.packet.blocks.min(CHUNK);
        let lba = self.packet.lba;
        let mut buffer = vec![0; n as usize * BLOCK];
        let Some(drive) = self.cdrom() else { return Err(Sense::INVALID_FIELD) };
        if let Err(e) = drive.read(lba, &mut buffer) {
            self.host_trouble("read a CD image", e);
            let sense = Sense::UNRECOVERED_READ;
            self.cdrom().into_iter().for_each(|drive| drive.note(sense));
            return Err(sense);
        }
        (self.buffer, self.position) = (buffer, 0);
        self.packet.lba += n;
        self.packet.blocks -= n;
        Ok(())
    }

    /// The end of a packet command, with what went wrong in the error register.
    fn packet_done(&mut self, sense: Option<Sense>) {
        self.finish(sense.map_or(0, |s| s.key << 4 | ABRT));
        self.registers().count = COD | IO;
    }
}

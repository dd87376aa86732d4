//! Where an ATA channel, the bus master and memory meet, and the channel's interrupt line goes out.

use super::{Board, Chip};
use crate::bus::Ticks;
use crate::bus::phys::PhysMap;
use crate::device::Device;
use crate::device::ata::Direction;
use crate::device::pci::function::Function;
use crate::device::pci::i440fx::IDE;

impl Board {
    /// A channel's data for the bus master moves here, where memory is at hand. Its request line goes to the
    /// bus master, too.
    pub(super) fn settle_ata(&mut self, channel: usize, now: Ticks, map: &mut PhysMap) {
        let (ata, ide) = if channel == 0 {
            (&mut self.chips.ata0, &mut self.chips.ide)
        } else {
            (&mut self.chips.ata1, &mut self.chips.ide)
        };
        let master = self.chips.pci.function(IDE).is_some_and(Function::is_bus_master);
        if let Some(direction) = ata.dma_request().filter(|&way| master && ide.runs(channel, way)) {
            let moved = match direction {
                Direction::ToMemory => ide.to_memory(channel, ata.dma_data(), map),
                Direction::FromMemory => ide.from_memory(channel, ata.dma_data(), map),
            };
            ata.dma_moved(moved, now);
        }
        ide.set_line(channel, ata.irq());
    }

    /// The bus master was started or stopped: what a channel has waiting for it moves.
    pub(super) fn settle_ide(&mut self, now: Ticks, map: &mut PhysMap) {
        for (channel, chip) in [Chip::Ata0, Chip::Ata1].into_iter().enumerate() {
            self.settle_ata(channel, now, map);
            self.drive_line(chip);
            self.reschedule(chip);
        }
    }
}

//! The board's state, apart from the board: every chip, and what of the disks' content lives in this process. Saved
//! and restored by [`Machine`](crate::machine::Machine).

use super::Board;
use crate::bus::Ticks;
use crate::device::apic::Apic;
use crate::device::ata::Ata;
use crate::device::cmos::Cmos;
use crate::device::debug_ports::DebugPorts;
use crate::device::dma::Dma;
use crate::device::fdc::Fdc;
use crate::device::fw_cfg::FwCfg;
use crate::device::i8042::I8042;
use crate::device::ide::BusMaster;
use crate::device::numeric::Numeric;
use crate::device::pci::Pci;
use crate::device::pic::Pic;
use crate::device::pit::Pit;
use crate::device::pm::Pm;
use crate::device::uart::Uart;
use crate::device::vga_text::Vga;
use crate::error::{Error, Result};
use crate::media::{Content, Disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The chips, and what the disks hold in memory.
#[derive(Serialize, Deserialize)]
pub struct State {
    pic: Pic,
    apic: Option<Apic>,
    pit: Pit,
    i8042: I8042,
    cmos: Cmos,
    com: [Uart; 2],
    ata: [Ata; 2],
    fdc: Fdc,
    dma: Dma,
    vga: Vga,
    pci: Pci,
    pm: Option<Pm>,
    ide: BusMaster,
    fw_cfg: FwCfg,
    debug: DebugPorts,
    numeric: Numeric,
    reset_requested: bool,
    due: [Ticks; super::TIMED.len()],
    next: Ticks,
    unclaimed: BTreeMap<u16, u64>,
    /// By drive: four disks, the third of which may be the CD-ROM, and two floppies. Each with its size in sectors.
    media: [Option<(u64, Content)>; 6],
}

impl Board {
    /// The state of the chips and of the media.
    pub fn save(&self) -> State {
        State { media: self.media().map(|disk| disk.map(|d| (d.sectors(), d.save()))), ..self.save_chips() }
    }

    /// The state of the chips, and nothing of what the media hold.
    pub fn save_chips(&self) -> State {
        State {
            pic: self.pic.clone(),
            apic: self.apic.clone(),
            pit: self.pit.clone(),
            i8042: self.i8042.clone(),
            cmos: self.cmos.clone(),
            com: self.com.clone(),
            ata: self.ata.each_ref().map(Ata::saved),
            fdc: self.fdc.saved(),
            dma: self.dma.clone(),
            vga: self.vga.clone(),
            pci: self.pci.clone(),
            pm: self.pm.clone(),
            ide: self.ide.clone(),
            fw_cfg: self.fw_cfg.clone(),
            debug: self.debug.clone(),
            numeric: self.numeric.clone(),
            reset_requested: self.reset_requested,
            due: self.due,
            next: self.next,
            unclaimed: self.unclaimed.clone(),
            media: [const { None }; 6],
        }
    }

    /// Takes over `state`. The disks attached here stay, and get what of their content was saved.
    ///
    /// # Errors
    /// [`Error::Usage`] when the disks are not those of the saved machine, or a chip's state is none.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let drives = state.fdc.sensible() && state.ata.iter().all(Ata::sensible);
        if !(state.vga.sensible() && state.pit.sensible() && drives) {
            return Err(Error::Usage("the saved state has a chip in a state that it cannot be in".into()));
        }
        self.restore_media(state)?;
        self.restore_chips(state);
        Ok(())
    }

    /// The same without the media, which stay as they are.
    pub fn restore_chips(&mut self, state: &State) {
        self.pic = state.pic.clone();
        self.apic = state.apic.clone();
        self.pit = state.pit.clone();
        self.i8042 = state.i8042.clone();
        self.cmos = state.cmos.clone();
        self.com = state.com.clone();
        self.ata.iter_mut().zip(&state.ata).for_each(|(ata, saved)| ata.restore(saved));
        self.fdc.restore(&state.fdc);
        self.dma = state.dma.clone();
        self.vga = state.vga.clone();
        self.pci = state.pci.clone();
        self.pm = state.pm.clone();
        self.ide = state.ide.clone();
        self.fw_cfg = state.fw_cfg.clone();
        self.debug = state.debug.clone();
        self.numeric = state.numeric.clone();
        self.reset_requested = state.reset_requested;
        self.due = state.due;
        self.next = state.next;
        self.unclaimed = state.unclaimed.clone();
        self.route_windows();
    }

    fn restore_media(&mut self, state: &State) -> Result<()> {
        let [first, second] = &mut self.ata;
        let [a, b] = first.media_mut();
        let [c, d] = second.media_mut();
        let [e, f] = self.fdc.disks_mut();
        for (n, (disk, saved)) in [a, b, c, d, e, f].into_iter().zip(&state.media).enumerate() {
            let same = match (disk, saved) {
                (Some(disk), Some((sectors, content))) => disk.sectors() == *sectors && disk.restore(content),
                (None, None) => true,
                _ => false,
            };
            if !same {
                let drive = if n < 4 { format!("disk {n}") } else { format!("floppy {}", n - 4) };
                return Err(Error::Usage(format!("{drive} is not what the saved machine had there")));
            }
        }
        Ok(())
    }

    /// The media: four disks, two floppies.
    fn media(&self) -> [Option<&dyn Disk>; 6] {
        let [a, b] = self.ata[0].media();
        let [c, d] = self.ata[1].media();
        let [e, f] = self.fdc.disks();
        [a, b, c, d, e, f]
    }
}

//! The board's state, apart from the board: every chip, and what of the disks' content lives in this process.
//! Saved and restored by [`Machine`](crate::machine::Machine).

use super::Board;
use super::chips::{Chips, TIMED};
use crate::bus::Ticks;
use crate::error::{Error, Result};
use crate::media::{Content, Disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The chips, and what the disks hold in memory.
#[derive(Serialize, Deserialize)]
pub struct State {
    chips: Chips,
    reset_requested: bool,
    warm_starts: bool,
    due: [Ticks; TIMED.len()],
    next: Ticks,
    unclaimed: BTreeMap<u16, u64>,
    /// By drive: four disks, the third of which may be the CD-ROM, and two floppies. Each with its size in
    /// sectors.
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
            chips: self.chips.saved(),
            reset_requested: self.reset_requested,
            warm_starts: self.warm_starts,
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
        if !state.chips.sensible() {
            return Err(Error::Usage("the saved state has a chip in a state that it cannot be in".into()));
        }
        self.restore_media(state)?;
        self.restore_chips(state);
        Ok(())
    }

    /// Takes over the chips of `state`; the media stay as they are.
    pub fn restore_chips(&mut self, state: &State) {
        self.chips.restore(&state.chips);
        self.reset_requested = state.reset_requested;
        self.warm_starts = state.warm_starts;
        self.due = state.due;
        self.next = state.next;
        self.unclaimed = state.unclaimed.clone();
        self.route_windows();
    }

    fn restore_media(&mut self, state: &State) -> Result<()> {
        let [a, b] = self.chips.ata0.media_mut();
        let [c, d] = self.chips.ata1.media_mut();
        let [e, f] = self.chips.fdc.disks_mut();
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
        let [a, b] = self.chips.ata0.media();
        let [c, d] = self.chips.ata1.media();
        let [e, f] = self.chips.fdc.disks();
        [a, b, c, d, e, f]
    }
}

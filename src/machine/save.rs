//! The machine's state apart from the machine: what [`Machine::save`] gives and [`Machine::restore`] takes,
//! in memory or, by serde, in a file (`snapshot`).
//!
//! Saved is what the guest can tell: registers, memory, chips, and the cached translations, because those may
//! be staler than the page tables. Decoded code and other caches of ours are not: a restored machine makes
//! them anew.
//!
//! Under a monitor that is the virtual processor's state, which is a bare machine's between two instructions:
//! either can go on from it. What the monitor derived is made anew, the shadow page tables first of all; the
//! guest's TLB counts as empty.

use super::board::{self, BoardConfig};
use super::{Config, Counts, Machine};
use crate::bus::phys;
use crate::bus::{Clock, Ticks};
use crate::cpu::{Cpu, Fault};
use crate::error::{Error, Result};
use crate::interp;
use crate::media::Disk;
use crate::mmu::tlb;
use serde::{Deserialize, Serialize};

/// The whole state of a machine at a point between two instructions.
#[derive(Serialize, Deserialize)]
pub struct State {
    clock: Clock,
    cpu: Cpu,
    memory: phys::Saved,
    board: board::State,
    tlb: Vec<tlb::Saved>,
    tlb_counts: (u64, u64),
    code_pages: interp::Saved,
    delivered: Option<Ticks>,
    pending: Option<Fault>,
    counts: Counts,
    /// Software interrupts by vector.
    software_interrupts: Vec<u64>,
    /// Ports that were accessed: reads and writes.
    ports: Vec<(u16, [u64; 2])>,
}

impl State {
    /// Bytes of RAM.
    pub fn ram_size(&self) -> u32 {
        self.memory.ram_size()
    }
    /// The clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }
    /// Guest time.
    pub fn now(&self) -> Ticks {
        self.cpu.now
    }
    /// Instructions retired since power-on.
    pub fn retired(&self) -> u64 {
        self.cpu.retired()
    }
}

/// `cpu` without the run loop's own notes.
fn between_runs(cpu: Cpu) -> Cpu {
    cpu.leave.set(false);
    Cpu { deadline: 0, ..cpu }
}

impl Machine {
    /// The machine's state now. What a file on the host holds of a disk is not in it.
    pub fn save(&self) -> State {
        self.save_with(self.world.map.save(), self.world.board.save())
    }

    /// The machine's state without the content of memory and media.
    pub(super) fn save_core(&self) -> State {
        self.save_with(self.world.map.save_gates(), self.world.board.save_chips())
    }

    fn save_with(&self, memory: phys::Saved, board: board::State) -> State {
        let world = &self.world;
        let used = (0..=u16::MAX).zip(world.ports.iter().copied()).filter(|(_, n)| *n != [0, 0]);
        State {
            clock: self.clock,
            cpu: between_runs(self.cpu.clone()),
            memory,
            board,
            tlb: if self.has_monitor() { Vec::new() } else { world.tlb.save() },
            tlb_counts: (world.tlb.fills, world.tlb.flushes),
            code_pages: self.interp().save(world),
            delivered: self.delivered,
            pending: self.pending,
            counts: self.counts.clone(),
            software_interrupts: world.software_interrupts.to_vec(),
            ports: used.collect(),
        }
    }

    /// Puts the machine into `state`: it goes on from there as the saved one did. It must have as much RAM
    /// and the same disks. After an error it is in no state to run.
    ///
    /// # Errors
    /// [`Error::Usage`] when it has not.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        if state.software_interrupts.len() != self.world.software_interrupts.len() {
            return Err(Error::Usage("the saved state is of another machine".into()));
        }
        self.world.map.restore(&state.memory)?;
        self.world.board.restore(&state.board)?;
        self.settle_into(state);
        Ok(())
    }

    /// Takes over what [`Machine::save_core`] gave; memory and media are the caller's to put back first.
    pub(super) fn restore_core(&mut self, state: &State) {
        self.world.map.restore_gates(&state.memory);
        self.world.board.restore_chips(&state.board);
        self.settle_into(state);
    }

    /// All but memory and board, which are in place.
    fn settle_into(&mut self, state: &State) {
        let world = &mut self.world;
        world.map.block_a20(state.cpu.in_vmx_operation());
        world.settle_restored(&state.tlb);
        (world.tlb.fills, world.tlb.flushes) = state.tlb_counts;
        for (count, saved) in world.software_interrupts.iter_mut().zip(&state.software_interrupts) {
            *count = *saved;
        }
        world.ports.fill([0; 2]);
        for &(port, counts) in &state.ports {
            world.ports[usize::from(port)] = counts;
        }
        if let Some(translated) = &mut self.translated {
            translated.forget();
            translated.interp_mut().restore(&state.code_pages, world);
        } else {
            self.interp.restore(&state.code_pages, world);
        }
        self.clock = state.clock;
        self.cpu = state.cpu.clone();
        self.delivered = state.delivered;
        self.pending = state.pending;
        self.counts = state.counts.clone();
        self.hide_extensions();
        self.tell_monitor();
    }

    /// A machine in `state`, with `disks`, `floppies` and `cdrom` attached.
    ///
    /// # Errors
    /// The errors of [`Machine::new`] and [`Machine::restore`].
    pub fn from_state(
        state: &State,
        disks: [Option<Box<dyn Disk>>; 4],
        floppies: [Option<Box<dyn Disk>>; 2],
        cdrom: Option<Box<dyn Disk>>,
    ) -> Result<Self> {
        let ram_size = state.ram_size();
        let board =
            BoardConfig { clock: state.clock, ram_size, disks, floppies, cdrom, ..BoardConfig::default() };
        let mut machine = Self::new(Config { ram_size, board, bios: None, vga_bios: None })?;
        machine.restore(state)?;
        Ok(machine)
    }
}

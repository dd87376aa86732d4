//! The plan that brings a guest into a machine: what to store in RAM, and how the processor starts.

use super::dwarf::DebugSections;
use super::guest::Around;
use super::loader_state::LoaderState;
use super::part::Part;
use super::symbol::Symbol;
use crate::addr::GuestPhys;
use crate::cpu::TableReg;
use crate::machine::Machine;

/// What is to be stored in RAM before the start, and how the processor starts. RAM is zero at power-on, so the
/// zeroed parts of an image (.bss) need no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where which bytes go; disjoint, and all of them in RAM.
    pub writes: Vec<(GuestPhys, Vec<u8>)>,
    /// How the processor starts.
    pub entry: Entry,
    /// What a boot loader would have left beyond what the guest's boot protocol promises.
    pub loader: Option<LoaderState>,
    /// What the image calls its addresses, in order of address.
    pub symbols: Vec<Symbol>,
    /// The image's debug information, if there is any.
    pub debug: Option<DebugSections>,
    /// What the user should know: things asked for by the image and not given.
    pub notes: Vec<String>,
}

/// The processor's state at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Real mode at `cs:ip`; the other segment registers hold `cs` too, SP is 0xFFFE, interrupts are off.
    Real {
        /// Code segment.
        cs: u16,
        /// Offset of the first instruction.
        ip: u16,
    },
    /// 32-bit protected mode with flat 4 GiB segments, paging and interrupts off, A20 open.
    Flat {
        /// The first instruction.
        eip: u32,
        /// EAX (0x2BADB002 for Multiboot).
        eax: u32,
        /// EBX (the Multiboot information structure).
        ebx: u32,
        /// Top of a small stack in low memory.
        esp: u32,
    },
    /// As `Flat`, with the segments that the Linux boot protocol asks for.
    Linux {
        /// The first instruction.
        eip: u32,
        /// ESI: the boot parameters.
        esi: u32,
        /// The global descriptor table that CS (10h) and the data segments (18h) come from.
        gdt: u32,
    },
    /// The reset vector: firmware runs and boots the disk.
    Firmware,
}

impl Plan {
    /// Stores the image and sets the processor up for it, the chips as a BIOS leaves them.
    pub fn carry_out(&self, machine: &mut Machine) {
        for (at, bytes) in &self.writes {
            machine.store(*at, bytes);
        }
        if self.entry != Entry::Firmware {
            machine.chips_as_after_post();
        }
        if self.loader.is_some() {
            machine.cpu.fpu.init();
        }
        match self.entry {
            Entry::Real { cs, ip } => machine.start_real(cs, ip),
            Entry::Flat { eip, eax, ebx, esp } => machine.start_flat(eip, eax, ebx, esp),
            Entry::Linux { eip, esi, gdt } => machine.start_linux(eip, esi, gdt),
            Entry::Firmware => {}
        }
        if let Some(LoaderState { gdt: Some(at) }) = self.loader {
            machine.cpu.gdtr = TableReg { base: at, limit: LoaderState::LIMIT };
        }
    }

    /// Bytes to store and a start, without symbols or notes.
    pub fn new(entry: Entry, writes: Vec<(GuestPhys, Vec<u8>)>) -> Self {
        Self { writes, entry, loader: None, symbols: Vec::new(), debug: None, notes: Vec::new() }
    }

    /// This plan, with what a loader leaves for an image of `parts`.
    #[must_use]
    pub(super) fn with_loader(mut self, around: &Around, parts: &[Part<'_>]) -> Self {
        if let Some((state, table)) = LoaderState::of(around, parts) {
            self.loader = Some(state);
            self.writes.extend(table);
        }
        self
    }

    /// Nothing to store: firmware starts and boots what is attached.
    pub fn firmware() -> Self {
        Self::new(Entry::Firmware, Vec::new())
    }
}

//! The Multiboot information structure (specification 3.3) and what it points to, as one block of bytes: the
//! structure, the module list, the memory map, the strings.

use crate::load::guest::{Around, Module};
use crate::load::memory_map::{HIGH, LOW_END, memory_map};

/// What the machine's own loader calls itself.
const LOADER_NAME: &str = concat!("subring ", env!("CARGO_PKG_VERSION"));
/// Bytes of the structure up to and with `apm_table`.
const SIZE: usize = 72;
/// First hard disk, no partition.
const FIRST_DISK: u32 = 0x80ff_ffff;
/// Bits of the `flags` field: which fields hold.
mod has {
    pub(super) const MEM: u32 = 1;
    pub(super) const BOOT_DEVICE: u32 = 1 << 1;
    pub(super) const CMDLINE: u32 = 1 << 2;
    pub(super) const MODS: u32 = 1 << 3;
    pub(super) const MMAP: u32 = 1 << 6;
    pub(super) const LOADER_NAME: u32 = 1 << 9;
}

/// A module and where it lies.
pub(super) struct Placed<'a> {
    pub(super) at: u32,
    pub(super) module: &'a Module,
}

/// The block, before its address is known.
pub(super) struct Info {
    bytes: Vec<u8>,
    /// Offsets of the words that hold offsets in the block, and want its address added.
    pointers: Vec<usize>,
}

impl Info {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes for a block at `base`.
    pub(super) fn at(mut self, base: u32) -> Vec<u8> {
        for at in std::mem::take(&mut self.pointers) {
            let offset = u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap_or_default());
            self.set(at, base.wrapping_add(offset));
        }
        self.bytes
    }

    fn set(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn push(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    /// Makes the word at `at` point to the end of the block as it is now.
    fn point_here(&mut self, at: usize) {
        self.set(at, self.bytes.len() as u32);
        self.pointers.push(at);
    }

    fn string(&mut self, pointer: usize, text: &str) {
        self.point_here(pointer);
        self.bytes.extend(text.bytes().filter(|&b| b != 0));
        self.bytes.push(0);
    }
}

/// Builds the block.
pub(super) fn build(cmdline: &str, modules: &[Placed<'_>], around: &Around) -> Info {
    let mut info = Info { bytes: vec![0; SIZE], pointers: Vec::new() };
    let mut flags = has::MEM | has::CMDLINE | has::MODS | has::MMAP | has::LOADER_NAME;
    info.set(4, around.mem.min(LOW_END) / 1024);
    info.set(8, around.mem.saturating_sub(HIGH) / 1024);
    if around.has_disk {
        flags |= has::BOOT_DEVICE;
        info.set(12, FIRST_DISK);
    }
    info.set(0, flags);
    info.set(20, modules.len() as u32);
    info.point_here(24);
    let list = info.len();
    for m in modules {
        info.push(m.at);
        info.push(m.at + m.module.bytes.len() as u32);
        info.push(0);
        info.push(0);
    }
    let map = memory_map(around.mem);
    info.set(44, map.len() as u32 * 24);
    info.point_here(48);
    for range in map {
        for word in [20, range.base, 0, range.len, 0, if range.usable { 1 } else { 2 }] {
            info.push(word);
        }
    }
    info.string(16, cmdline);
    info.string(64, LOADER_NAME);
    for (i, m) in modules.iter().enumerate() {
        info.string(list + 16 * i + 8, &m.module.string);
    }
    info
}

//! QEMU's firmware configuration device (QEMU, docs/specs/fw_cfg): how SeaBIOS learns of memory, processors,
//! boot order and option ROMs. The selector is a word at 510h, the data a byte at 511h; there is no DMA
//! interface.

use super::Device;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Selector (16 bits, write only).
pub const SELECTOR: u16 = 0x510;
/// Data (8 bits).
pub const DATA: u16 = 0x511;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const NOGRAPHIC: u16 = 0x04;
const NB_CPUS: u16 = 0x05;
const NUMA: u16 = 0x0d;
const BOOT_MENU: u16 = 0x0e;
const MAX_CPUS: u16 = 0x0f;
const FILE_DIR: u16 = 0x19;
const FILE_FIRST: u16 = 0x20;
const IRQ0_OVERRIDE: u16 = 0x8002;
/// Bytes of a file's name in the directory.
const NAME: usize = 56;
const E820_RAM: u32 = 1;

/// What the firmware is told, apart from the memory size.
#[derive(Clone, Debug, Default, Hash)]
pub struct FwCfgConfig {
    /// Files by name, such as `vgaroms/vgabios.bin` or `bootorder`.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether the firmware offers its boot menu.
    pub boot_menu: bool,
}

/// The device: items by key, and a cursor.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    selected: u16,
    offset: usize,
}

impl FwCfg {
    /// The items of a machine with one processor and `ram_size` bytes of RAM.
    pub fn new(ram_size: u32, config: FwCfgConfig) -> Self {
        let one = 1u16.to_le_bytes().to_vec();
        let mut items = BTreeMap::from([
            (SIGNATURE, b"QEMU".to_vec()),
            (ID, 1u32.to_le_bytes().to_vec()),
            (RAM_SIZE, u64::from(ram_size).to_le_bytes().to_vec()),
            (NOGRAPHIC, vec![0; 2]),
            (NB_CPUS, one.clone()),
            (MAX_CPUS, one),
            (NUMA, vec![0; 16]),
            (BOOT_MENU, u16::from(config.boot_menu).to_le_bytes().to_vec()),
            (IRQ0_OVERRIDE, vec![0; 4]),
        ]);
        let mut files = config.files;
        files.push(("etc/e820".to_owned(), e820(ram_size)));
        files.sort();
        items.insert(FILE_DIR, directory(&files));
        let contents = files.into_iter().map(|(_, content)| content);
        items.extend((FILE_FIRST..).zip(contents));
        Self { items, selected: SIGNATURE, offset: 0 }
    }

    fn next_byte(&mut self) -> u8 {
        let byte = self.items.get(&self.selected).and_then(|item| item.get(self.offset));
        self.offset += 1;
        byte.copied().unwrap_or(0)
    }
}

/// One range: all of RAM. The firmware carves its own areas out of it.
fn e820(ram_size: u32) -> Vec<u8> {
    let mut table = 0u64.to_le_bytes().to_vec();
    table.extend(u64::from(ram_size).to_le_bytes());
    table.extend(E820_RAM.to_le_bytes());
    table
}

/// Count, then size, key, reserved and name of each file, big-endian.
fn directory(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = (files.len() as u32).to_be_bytes().to_vec();
    for (key, (name, content)) in (FILE_FIRST..).zip(files) {
        out.extend((content.len() as u32).to_be_bytes());
        out.extend(key.to_be_bytes());
        out.extend([0; 2]);
        let mut field = [0; NAME];
        let len = name.len().min(NAME - 1);
        field[..len].copy_from_slice(&name.as_bytes()[..len]);
        out.extend(field);
    }
    out
}

impl Device for FwCfg {
    fn read(&mut self, port: u16, width: Width, _now: Ticks) -> u32 {
        if port == DATA { self.next_byte().into() } else { width.mask() }
    }

    fn write(&mut self, port: u16, width: Width, value: u32, _now: Ticks) {
        if port == SELECTOR && width != Width::Byte {
            self.selected = value as u16;
            self.offset = 0;
        }
    }

    fn reset(&mut self) {
        self.selected = SIGNATURE;
        self.offset = 0;
    }

    fn is_wide(&self, port: u16) -> bool {
        port == SELECTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fw: &mut FwCfg, key: u16, n: usize) -> Vec<u8> {
        fw.write(SELECTOR, Width::Word, key.into(), 0);
        (0..n).map(|_| fw.read(DATA, Width::Byte, 0) as u8).collect()
    }

    #[test]
    fn the_signature_and_sizes_read_and_the_end_gives_zeros() {
        let mut fw = FwCfg::new(64 << 20, FwCfgConfig::default());
        assert_eq!(read(&mut fw, SIGNATURE, 6), b"QEMU\0\0");
        assert_eq!(read(&mut fw, ID, 4), [1, 0, 0, 0], "no DMA interface");
        assert_eq!(read(&mut fw, RAM_SIZE, 8), (64u64 << 20).to_le_bytes());
        assert_eq!(read(&mut fw, 0x7777, 2), [0, 0]);
    }

    #[test]
    fn the_directory_is_big_endian_and_names_each_file() {
        let files = vec![("vgaroms/x.bin".to_owned(), vec![7; 300])];
        let mut fw = FwCfg::new(1 << 20, FwCfgConfig { files, boot_menu: false });
        let dir = read(&mut fw, FILE_DIR, 4 + 2 * 64);
        assert_eq!(dir[..4], [0, 0, 0, 2]);
        assert_eq!(dir[4..10], [0, 0, 0, 20, 0, 0x20]);
        assert_eq!(&dir[12..21], b"etc/e820\0");
        assert_eq!(dir[68..74], [0, 0, 1, 0x2c, 0, 0x21]);
        assert_eq!(read(&mut fw, 0x21, 2), [7, 7]);
    }
}

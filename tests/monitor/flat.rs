//! Machines that are about to run a few instructions: 32-bit code of ring 0, flat segments, paging off.

use subring::addr::GuestPhys;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};
use subring::media::{Disk, MemoryDisk};

/// RAM, where the code lies, and the top of the stack.
const RAM: u32 = 2 << 20;
pub(super) const CODE: u32 = 0x10_0000;
const STACK: u32 = 0x9_0000;

/// A machine without disks, about to run `code`.
pub(super) fn machine(code: &[u8]) -> Machine {
    build(code, [None, None, None, None])
}

/// The same with a disk.
pub(super) fn with_disk(code: &[u8], disk: Vec<u8>) -> Machine {
    build(code, [Some(Box::new(MemoryDisk::new(disk))), None, None, None])
}

fn build(code: &[u8], disks: [Option<Box<dyn Disk>>; 4]) -> Machine {
    let board = BoardConfig { ram_size: RAM, disks, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
    m.chips_as_after_post();
    m.store(GuestPhys(CODE), code);
    m.start_flat(CODE, 0, 0, STACK);
    m
}

//! The machines of the built-in guests, for tests of the library.

use subring::bus::Clock;
use subring::cli::builtin::Builtin;
use subring::load::{self, Around, Entry, Format, Guest};
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};
use subring::media::{Disk, MemoryDisk};

/// The machine that `subring run NAME` builds.
pub(crate) fn machine(guest: &Builtin) -> Machine {
    let path = std::path::Path::new(guest.name);
    let kind =
        load::identify(path, guest.bytes, guest.bytes.len() as u64, Format::Auto).expect("a known format");
    let around = Around { mem: 4 << 20, cmdline: guest.cmdline.map(String::from), ..Around::default() };
    let plan = load::plan(path, guest.bytes, kind, &around).expect("it loads");
    let firmware = plan.entry == Entry::Firmware;
    let medium = || Some(Box::new(MemoryDisk::new(guest.bytes.to_vec())) as Box<dyn Disk>);
    let board = BoardConfig {
        clock: Clock::default(),
        ram_size: 4 << 20,
        disks: [if kind == Guest::Disk { medium() } else { None }, None, None, None],
        floppies: [if kind == Guest::Floppy { medium() } else { None }, None],
        firmware,
        apic: true,
        acpi: true,
        ..BoardConfig::default()
    };
    let bios = firmware.then(|| include_bytes!("../../guest-programs/bios/bios.bin").to_vec());
    let mut m = Machine::new(Config { ram_size: 4 << 20, board, bios, vga_bios: None }).expect("a machine");
    plan.carry_out(&mut m);
    m
}

//! Which chip sits at which port.

use crate::device::pci::{IoWindow, i440fx};
use crate::device::pm;
use crate::device::{debug_ports, ide, numeric};

/// What answers at a port. The first [`TIMED`] of them act by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Chip {
    Apic,
    Pit,
    I8042,
    Cmos,
    Com1,
    Com2,
    Ata0,
    Ata1,
    Fdc,
    Pm,
    Pic,
    Dma,
    Vga,
    Pci,
    Ide,
    FwCfg,
    Debug,
    Numeric,
    None,
}

/// The chips that act by themselves, in the order of [`Chip`]. The APIC is reset before the chips that drive its pins.
pub(super) const TIMED: [Chip; 10] = [
    Chip::Apic,
    Chip::Pit,
    Chip::I8042,
    Chip::Cmos,
    Chip::Com1,
    Chip::Com2,
    Chip::Ata0,
    Chip::Ata1,
    Chip::Fdc,
    Chip::Pm,
];
/// First and last port of each chip.
pub(super) const PORTS: &[(u16, u16, Chip)] = &[
    (0x000, 0x00f, Chip::Dma),
    (0x020, 0x021, Chip::Pic),
    (0x040, 0x043, Chip::Pit),
    (0x060, 0x060, Chip::I8042),
    (0x061, 0x061, Chip::Pit),
    (0x064, 0x064, Chip::I8042),
    (0x070, 0x071, Chip::Cmos),
    (0x080, 0x080, Chip::Debug),
    (0x081, 0x08f, Chip::Dma),
    (0x092, 0x092, Chip::Debug),
    (0x0a0, 0x0a1, Chip::Pic),
    (pm::APMC, pm::APMS, Chip::Pm),
    (0x0c0, 0x0df, Chip::Dma),
    (0x0e9, 0x0e9, Chip::Debug),
    (numeric::CLEAR, numeric::RESET, Chip::Numeric),
    (0x0f4, 0x0f4, Chip::Debug),
    (0x170, 0x177, Chip::Ata1),
    (0x1f0, 0x1f7, Chip::Ata0),
    (0x2f8, 0x2ff, Chip::Com2),
    (0x376, 0x376, Chip::Ata1),
    (0x3b4, 0x3b5, Chip::Vga),
    (0x3ba, 0x3ba, Chip::Vga),
    (0x3c0, 0x3cf, Chip::Vga),
    (0x3d4, 0x3d5, Chip::Vga),
    (0x3da, 0x3da, Chip::Vga),
    (0x3f2, 0x3f5, Chip::Fdc),
    (0x3f6, 0x3f6, Chip::Ata0),
    (0x3f7, 0x3f7, Chip::Fdc),
    (0x3f8, 0x3ff, Chip::Com1),
    (0x402, 0x402, Chip::Debug),
    (0x4d0, 0x4d1, Chip::Pic),
    (0x510, 0x511, Chip::FwCfg),
    (0xcf8, 0xcff, Chip::Pci),
];

/// What the chip at `port` is called in reports; one of a PCI function where firmware usually puts it.
pub fn chip_name(port: u16) -> &'static str {
    const MOVED: [(u16, u16, Chip); 2] = [
        (pm::USUAL_BASE, pm::USUAL_BASE + pm::PORTS - 1, Chip::Pm),
        (ide::USUAL_BASE, ide::USUAL_BASE + 15, Chip::Ide),
    ];
    let chip = PORTS.iter().chain(&MOVED).find(|(first, last, _)| (*first..=*last).contains(&port));
    match chip.map_or(Chip::None, |&(_, _, chip)| chip) {
        Chip::Pit => "timer",
        Chip::I8042 => "keyboard",
        Chip::Cmos => "CMOS",
        Chip::Com1 => "COM1",
        Chip::Com2 => "COM2",
        Chip::Ata0 => "disk 0-1",
        Chip::Ata1 => "disk 2-3",
        Chip::Fdc => "floppy",
        Chip::Pic => "interrupt controller",
        Chip::Apic => "APIC",
        Chip::Pm => "power management",
        Chip::Dma => "DMA",
        Chip::Vga => "VGA",
        Chip::Pci => "PCI",
        Chip::Ide => "IDE bus master",
        Chip::FwCfg => "fw_cfg",
        Chip::Numeric => "x87 error latch",
        Chip::Debug => "debug ports",
        Chip::None => "nothing",
    }
}

/// Whether the register at `port` is wider than a byte.
pub(super) fn takes_wide(chip: Chip, port: u16) -> bool {
    match chip {
        Chip::Ata0 | Chip::Ata1 => port & 0x207 == 0,
        Chip::Pci | Chip::Ide => true,
        Chip::FwCfg => port == crate::device::fw_cfg::SELECTOR,
        Chip::Debug => port == debug_ports::EXIT,
        _ => false,
    }
}

/// The chip behind the ports of a PCI function.
pub(super) fn window_chip(window: IoWindow) -> Option<Chip> {
    match (window.devfn, window.bar) {
        (i440fx::PM, i440fx::PMBASE) => Some(Chip::Pm),
        (i440fx::IDE, 4) => Some(Chip::Ide),
        _ => None,
    }
}

pub(super) fn routes() -> Box<[Chip; 0x1_0000]> {
    let mut route = Box::new([Chip::None; 0x1_0000]);
    for &(first, last, chip) in PORTS {
        route[usize::from(first)..=usize::from(last)].fill(chip);
    }
    route
}

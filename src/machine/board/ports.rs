//! Which chip sits at which port: the table's ports, and those that PCI functions have moved.

use super::chips::{Chip, TABLE};
use crate::device::pci::{IoWindow, i440fx};
use crate::device::{ide, pc_testdev, pm};

/// The ports of a chip that is a PCI function: which function and base address they have, and where firmware
/// usually puts them.
struct Window {
    chip: Chip,
    devfn: u8,
    bar: usize,
    usual: (u16, u16),
}

const WINDOWS: [Window; 2] = [
    Window { chip: Chip::Pm, devfn: i440fx::PM, bar: i440fx::PMBASE, usual: (pm::USUAL_BASE, pm::PORTS) },
    Window { chip: Chip::Ide, devfn: i440fx::IDE, bar: 4, usual: (ide::USUAL_BASE, 16) },
];

/// What the chip at `port` is called in reports; a PCI function's where firmware usually puts it.
pub fn chip_name(port: u16) -> &'static str {
    let fixed = TABLE.iter().find(|entry| entry.ports.iter().any(|&(a, b)| (a..=b).contains(&port)));
    let moved = || {
        let window = WINDOWS.iter().find(|w| (w.usual.0..w.usual.0 + w.usual.1).contains(&port));
        window.and_then(|window| window.chip.entry())
    };
    fixed.or_else(moved).map_or("nothing", |entry| entry.name)
}

/// The chip behind the ports of a PCI function.
pub(super) fn window_chip(window: IoWindow) -> Option<Chip> {
    WINDOWS.iter().find(|w| (w.devfn, w.bar) == (window.devfn, window.bar)).map(|w| w.chip)
}

/// What answers at each port, with PCI's windows closed. A test device takes its ports from others that have
/// them too.
pub(super) fn routes(testdev: bool) -> Box<[Chip; 0x1_0000]> {
    let mut route = Box::new([Chip::None; 0x1_0000]);
    for entry in TABLE {
        for &(first, last) in entry.ports {
            route[usize::from(first)..=usize::from(last)].fill(entry.chip);
        }
    }
    if testdev {
        for port in [pc_testdev::REGISTER_BYTES + 1, pc_testdev::CONSOLE] {
            route[usize::from(port)] = Chip::Testdev;
        }
    }
    route
}

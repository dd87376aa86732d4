//! The table of chips: each stands in one line, with its field, what it is called, its ports and its
//! interrupt. From the table come the chips' fields and identities, port routing, due times, reset, saved
//! state and hash. What a chip does beside its ports and its line (a gate, a transfer, a second line) is
//! wired in [`super::Board::settle`].

use crate::bus::Clock;
use crate::device::Device;
use crate::device::apic::Apic;
use crate::device::ata::{Ata, Unit};
use crate::device::cmos::{self, Cmos};
use crate::device::debug_ports::DebugPorts;
use crate::device::dma::Dma;
use crate::device::fdc::Fdc;
use crate::device::ferr::FerrLatch;
use crate::device::fw_cfg::{FwCfg, FwCfgConfig};
use crate::device::i8042::I8042;
use crate::device::ide::BusMaster;
use crate::device::pc_testdev::PcTestdev;
use crate::device::pci::{Pci, i440fx};
use crate::device::pic::Pic;
use crate::device::pit::Pit;
use crate::device::pm::{self, Pm};
use crate::device::uart::{Transmitter, Uart};
use crate::device::vga_text::Vga;
use crate::media::Disk;
use serde::{Deserialize, Serialize};

/// What the chips are made from. Each takes what is its own.
pub(super) struct Parts {
    pub(super) clock: Clock,
    pub(super) epoch: i64,
    pub(super) ram_size: u32,
    pub(super) firmware: bool,
    pub(super) apic: bool,
    pub(super) acpi: bool,
    pub(super) testdev: bool,
    pub(super) transmitter: Transmitter,
    /// What CMOS says of the machine.
    pub(super) cmos: cmos::Machine,
    /// The devices of both ATA channels.
    pub(super) units: [[Option<Unit>; 2]; 2],
    pub(super) floppies: [Option<Box<dyn Disk>>; 2],
    pub(super) fw_cfg: FwCfgConfig,
}

/// First and last of a range of ports.
type Ports = (u16, u16);

/// A line of the table, as far as it is data.
pub(super) struct Entry {
    pub(super) chip: Chip,
    /// What reports call the chip.
    pub(super) name: &'static str,
    /// The ISA interrupt that the chip's request line drives.
    pub(super) irq: Option<u8>,
    /// The ports that are the chip's for good.
    pub(super) ports: &'static [Ports],
}

/// A field of [`Chips`]: a chip, or one that only some boards have.
trait Slot {
    fn device(&self) -> Option<&dyn Device>;
    fn device_mut(&mut self) -> Option<&mut dyn Device>;
}

impl<T: Device> Slot for T {
    #[inline(always)]
    fn device(&self) -> Option<&dyn Device> {
        Some(self)
    }
    #[inline(always)]
    fn device_mut(&mut self) -> Option<&mut dyn Device> {
        Some(self)
    }
}

impl<T: Device> Slot for Option<T> {
    #[inline(always)]
    fn device(&self) -> Option<&dyn Device> {
        self.as_ref().map(|chip| chip as &dyn Device)
    }
    #[inline(always)]
    fn device_mut(&mut self) -> Option<&mut dyn Device> {
        self.as_mut().map(|chip| chip as &mut dyn Device)
    }
}

/// How a chip's state is copied for a snapshot. Media stay where they are.
trait Copied {
    fn copied(&self) -> Self;
    fn take_over(&mut self, saved: &Self);
}

impl<T: Clone> Copied for T {
    fn copied(&self) -> Self {
        self.clone()
    }
    fn take_over(&mut self, saved: &Self) {
        self.clone_from(saved);
    }
}

impl Copied for Ata {
    fn copied(&self) -> Self {
        self.saved()
    }
    fn take_over(&mut self, saved: &Self) {
        self.restore(saved);
    }
}

impl Copied for Fdc {
    fn copied(&self) -> Self {
        self.saved()
    }
    fn take_over(&mut self, saved: &Self) {
        self.restore(saved);
    }
}

fn build<T>(parts: &mut Parts, new: impl FnOnce(&mut Parts) -> T) -> T {
    new(parts)
}

macro_rules! chips {
    (@entry $id:ident, $irq:expr, [$(($first:expr, $last:expr)),*], $name:literal) => {
        Entry { chip: Chip::$id, name: $name, irq: $irq, ports: &[$(($first, $last)),*] }
    };
    (
        timed { $($tid:ident, $tfield:ident: $tty:ty, $tirq:expr, $tports:tt, $tname:literal, $tnew:expr;)* }
        passive { $($id:ident, $field:ident: $ty:ty, $irq:expr, $ports:tt, $name:literal, $new:expr;)* }
    ) => {
        /// What answers at a port. The chips of [`TIMED`] come first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Chip { $($tid,)* $($id,)* None }

        /// The chips that act by themselves, in the order of [`Chip`].
        pub(super) const TIMED: [Chip; [$(stringify!($tid)),*].len()] = [$(Chip::$tid),*];

        /// The table.
        pub(super) const TABLE: &[Entry] = &[
            $(chips!(@entry $tid, $tirq, $tports, $tname),)*
            $(chips!(@entry $id, $irq, $ports, $name),)*
        ];

        /// Every chip of the board. A saved state has the same form, without the media.
        #[derive(Hash, Serialize, Deserialize)]
        pub(super) struct Chips { $(pub(super) $tfield: $tty,)* $(pub(super) $field: $ty,)* }

        impl Chips {
            /// The chips after power-on.
            pub(super) fn new(parts: &mut Parts) -> Self {
                Self { $($tfield: build(parts, $tnew),)* $($field: build(parts, $new),)* }
            }

            /// The chip that `chip` names; `None` where this board has none.
            #[inline]
            pub(super) fn device(&self, chip: Chip) -> Option<&dyn Device> {
                match chip {
                    $(Chip::$tid => Slot::device(&self.$tfield),)*
                    $(Chip::$id => Slot::device(&self.$field),)*
                    Chip::None => None,
                }
            }

            /// The chip that `chip` names, to act on.
            #[inline]
            pub(super) fn device_mut(&mut self, chip: Chip) -> Option<&mut dyn Device> {
                match chip {
                    $(Chip::$tid => Slot::device_mut(&mut self.$tfield),)*
                    $(Chip::$id => Slot::device_mut(&mut self.$field),)*
                    Chip::None => None,
                }
            }

            /// A copy for a saved state: the registers, and of the media only their sizes.
            pub(super) fn saved(&self) -> Self {
                Self {
                    $($tfield: Copied::copied(&self.$tfield),)*
                    $($field: Copied::copied(&self.$field),)*
                }
            }

            /// Takes over the state of `saved` and keeps the media.
            pub(super) fn restore(&mut self, saved: &Self) {
                $(Copied::take_over(&mut self.$tfield, &saved.$tfield);)*
                $(Copied::take_over(&mut self.$field, &saved.$field);)*
            }
        }
    };
}

// identity, field: type, interrupt line, ports, name, how it is made
chips! {
    timed {
        Apic,  apic: Option<Apic>, None,           [],                               "APIC",
            |p| p.apic.then(|| Apic::new(p.clock));
        Pit,   pit: Pit,           Some(0),        [(0x40, 0x43), (0x61, 0x61)],     "timer",
            |p| Pit::new(p.clock);
        I8042, i8042: I8042,       Some(1),        [(0x60, 0x60), (0x64, 0x64)],     "keyboard",
            |p| I8042::new(p.clock);
        Cmos,  cmos: Cmos,         Some(8),        [(0x70, 0x71)],                   "CMOS",
            |p| Cmos::described(p.clock, p.epoch, &p.cmos);
        Com1,  com1: Uart,         Some(4),        [(0x3f8, 0x3ff)],                 "COM1",
            |p| Uart::new(p.clock, p.transmitter);
        Com2,  com2: Uart,         Some(3),        [(0x2f8, 0x2ff)],                 "COM2",
            |p| Uart::new(p.clock, p.transmitter);
        Ata0,  ata0: Ata,          Some(14),       [(0x1f0, 0x1f7), (0x3f6, 0x3f6)], "disk 0-1",
            |p| Ata::new(p.clock, std::mem::take(&mut p.units[0]));
        Ata1,  ata1: Ata,          Some(15),       [(0x170, 0x177), (0x376, 0x376)], "disk 2-3",
            |p| Ata::new(p.clock, std::mem::take(&mut p.units[1]));
        Fdc,   fdc: Fdc,           Some(6),        [(0x3f2, 0x3f5), (0x3f7, 0x3f7)], "floppy",
            |p| Fdc::new(p.clock, std::mem::take(&mut p.floppies));
        Pm,    pm: Option<Pm>,     None,           [(pm::APMC, pm::APMS)],           "power management",
            |p| p.acpi.then(|| Pm::new(p.clock));
    }
    passive {
        Pic,   pic: Pic,           None,           [(0x20, 0x21), (0xa0, 0xa1), (0x4d0, 0x4d1)],
            "interrupt controller", |_| Pic::new();
        Dma,   dma: Dma,           None,           [(0x00, 0x0f), (0x81, 0x8f), (0xc0, 0xdf)],
            "DMA", |_| Dma::new();
        Vga,   vga: Vga,           None,           [(0x3b4, 0x3b5), (0x3ba, 0x3ba), (0x3c0, 0x3cf), (0x3d4, 0x3d5),
            (0x3da, 0x3da)], "VGA", |p| Vga::new(p.clock);
        Pci,   pci: Pci,           None,           [(0xcf8, 0xcff)],                 "PCI",
            |p| pci(p.firmware, p.acpi);
        Ide,   ide: BusMaster,     None,           [],                               "IDE bus master",
            |_| BusMaster::default();
        FwCfg, fw_cfg: FwCfg,      None,           [(0x510, 0x511)],                 "fw_cfg",
            |p| FwCfg::new(p.ram_size, std::mem::take(&mut p.fw_cfg));
        Debug, debug: DebugPorts,  None,           [(0x80, 0x80), (0x92, 0x92), (0xe9, 0xe9), (0xec, 0xec),
            (0xf4, 0xf4), (0x402, 0x402)], "debug ports", |_| DebugPorts::new();
        Ferr,  ferr: FerrLatch,    Some(13),       [(0xf0, 0xf1)],                   "x87 error latch",
            |_| FerrLatch::default();
        Testdev, testdev: Option<PcTestdev>, None, [(0xe0, 0xe8), (0xea, 0xeb), (0x2000, 0x2017)], "test device",
            |p| p.testdev.then(PcTestdev::default);
    }
}

/// The board's PCI functions.
fn pci(firmware: bool, acpi: bool) -> Pci {
    let mut pci = Pci::new(firmware);
    if acpi {
        pci.add(i440fx::power_management());
    }
    pci
}

impl Chip {
    /// The line of the table.
    pub(super) fn entry(self) -> Option<&'static Entry> {
        TABLE.get(self as usize)
    }
}

impl Chips {
    /// Whether every chip is in a state that it can be in, which a state from a file need not be.
    pub(super) fn sensible(&self) -> bool {
        TABLE.iter().filter_map(|entry| self.device(entry.chip)).all(Device::sensible)
    }

    /// COM1 (0) or COM2 (1).
    pub(super) fn com(&mut self, port: usize) -> Option<&mut Uart> {
        [&mut self.com1, &mut self.com2].into_iter().nth(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_identities() {
        assert!(TABLE.iter().enumerate().all(|(at, entry)| entry.chip as usize == at));
        assert_eq!(TABLE.len(), Chip::None as usize);
    }

    #[test]
    fn no_two_chips_share_a_port_or_a_line() {
        let mut ports: Vec<Ports> = TABLE.iter().flat_map(|entry| entry.ports.iter().copied()).collect();
        ports.sort_unstable();
        assert!(ports.iter().all(|(first, last)| first <= last));
        assert!(ports.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ports:x?}");
        let mut lines: Vec<u8> = TABLE.iter().filter_map(|entry| entry.irq).collect();
        lines.sort_unstable();
        assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "{lines:?}");
    }
}

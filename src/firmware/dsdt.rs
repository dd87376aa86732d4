//! The machine's DSDT: what no other table and no probing tells. In ASL it is
//!
//! ```text
//! Name (\_S5, Package () { 0, 0, 0, 0 })
//! Scope (\_PR) { Processor (CPU0, 0, 0, 0) {} }
//! Scope (\_SB) {
//!   Device (PCI0) {
//!     Name (_HID, EisaId ("PNP0A03"))
//!     Name (_UID, 0)
//!     Name (_CRS, ResourceTemplate () {
//!       WordBusNumber (…, 0, 0)
//!       IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
//!       WordIO (…, 0x0000, 0x0CF7)
//!       WordIO (…, 0x0D00, 0xFFFF)
//!       DWordMemory (…, Cacheable, ReadWrite, …, 0x000A0000, 0x000BFFFF)
//!       DWordMemory (…, NonCacheable, ReadWrite, …, 0xC0000000, 0xFEBFFFFF)
//!     })
//!     Name (_PRT, Package () {
//!       Package () { 0x0000FFFF, 0, 0, 11 }, …      // each device, each pin
//!     })
//!     Device (ISA) {
//!       Name (_ADR, 0x00010000)
//!       Device (RTC)  { Name (_HID, EisaId ("PNP0B00")) Name (_CRS, …) }
//!       Device (KBD)  { Name (_HID, EisaId ("PNP0303")) Name (_CRS, …) }
//!       Device (MOU)  { Name (_HID, EisaId ("PNP0F13")) Name (_CRS, …) }
//!       Device (COM1) { Name (_HID, EisaId ("PNP0501")) Name (_UID, 1) Name (_CRS, …) }
//!       Device (COM2) { Name (_HID, EisaId ("PNP0501")) Name (_UID, 2) Name (_CRS, …) }
//!     }
//!   }
//! }
//! ```
//!
//! PCI interrupts are routed to IRQ 10 and 11 by the firmware and stay there: they have the same numbers at the 8259s
//! and at the I/O APIC, so there are no link devices and no `_PIC`. There is no HPET, and none is declared.

use super::aml::{
    Aml, bus_range, device, eisa_id, io, io_range, irq, memory_range, name, number, package, processor,
    resources, scope,
};
use crate::device::pci::i440fx::PIRQ_ROUTES;

/// The system control interrupt.
pub(super) const SCI: u8 = 9;

/// Where PCI memory begins: above all RAM that a machine can have.
const PCI_MEMORY: (u32, u32) = (0xc000_0000, 0xfebf_ffff);
/// The ISA bridge's device number.
const ISA: u32 = 1;

/// The definition block, without its header.
pub(super) fn definition_block() -> Aml {
    let zero = number(0);
    [
        name("\\_S5", &package(&[zero.clone(), zero.clone(), zero.clone(), zero])),
        scope("\\_PR", &[processor("CPU0", 0)]),
        scope("\\_SB", &[pci_root()]),
    ]
    .concat()
}

fn pci_root() -> Aml {
    let windows = resources(&[
        bus_range(0, 0),
        io(0xcf8, 8),
        io_range(0, 0xcf7),
        io_range(0xd00, 0xffff),
        memory_range(0xa_0000, 0xb_ffff, true),
        memory_range(PCI_MEMORY.0, PCI_MEMORY.1, false),
    ]);
    let hid = name("_HID", &eisa_id("PNP0A03"));
    let routing = name("_PRT", &package(&routing()));
    device("PCI0", &[hid, name("_UID", &number(0)), name("_CRS", &windows), routing, isa_bridge()])
}

/// Device, pin, 0, interrupt. Devices are wired in rotation; the bridge's own INTA# is the system control interrupt.
fn routing() -> Vec<Aml> {
    let entry = |slot: u32, pin: u32| {
        let line = PIRQ_ROUTES[((slot + 3 + pin) & 3) as usize];
        let interrupt = if (slot, pin) == (ISA, 0) { SCI } else { line };
        package(&[number(slot << 16 | 0xffff), number(pin), number(0), number(interrupt.into())])
    };
    (0..32).flat_map(|slot| (0..4).map(move |pin| entry(slot, pin))).collect()
}

fn isa_bridge() -> Aml {
    let part = |called: &str, id: &str, unit: Option<u32>, used: &[Aml]| {
        let unit = unit.map_or_else(Vec::new, |n| name("_UID", &number(n)));
        device(called, &[name("_HID", &eisa_id(id)), unit, name("_CRS", &resources(used))])
    };
    let parts = [
        name("_ADR", &number(ISA << 16)),
        part("RTC", "PNP0B00", None, &[io(0x70, 2), irq(8)]),
        part("KBD", "PNP0303", None, &[io(0x60, 1), io(0x64, 1), irq(1)]),
        part("MOU", "PNP0F13", None, &[irq(12)]),
        part("COM1", "PNP0501", Some(1), &[io(0x3f8, 8), irq(4)]),
        part("COM2", "PNP0501", Some(2), &[io(0x2f8, 8), irq(3)]),
    ];
    device("ISA", &parts)
}

//! The MP configuration table and the floating pointer to it (MultiProcessor Specification 1.4, chapter 4), for kernels
//! that know no ACPI.

use super::dsdt::SCI;
use crate::cpu::Model;
use crate::device::apic::{IO_APIC, LOCAL_APIC};
use crate::device::pci::i440fx::PIRQ_ROUTES;

/// Bytes of the floating pointer.
pub(super) const POINTER: usize = 16;
const HEADER: usize = 44;
/// Identities of the buses.
const PCI: u8 = 0;
const ISA: u8 = 1;
/// Kinds of interrupts.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Polarity and trigger: as the bus has it; active high, level.
const CONFORMS: u8 = 0;
const HIGH_LEVEL: u8 = 0xd;
/// The processor has an FPU and an APIC.
const FEATURES: u32 = 0x201;

/// The floating pointer for a table at `table`.
pub(super) fn pointer(table: u32) -> [u8; POINTER] {
    let mut p = [0; POINTER];
    p[..4].copy_from_slice(b"_MP_");
    p[4..8].copy_from_slice(&table.to_le_bytes());
    p[8] = 1;
    p[9] = 4;
    p[10] = complement(&p);
    p
}

/// The table: one processor, PCI and ISA, the I/O APIC, and where each interrupt goes.
pub(super) fn table(cpu: Model) -> Vec<u8> {
    let mut entries = vec![processor(cpu), bus(PCI, b"PCI   "), bus(ISA, b"ISA   ")];
    entries.push([&[2, 0, 0x11, 1][..], &IO_APIC.0.to_le_bytes()].concat());
    // IRQ 0 is at pin 2, where no other interrupt can be.
    for irq in (0..16).filter(|irq| *irq != 2) {
        let pin = if irq == 0 { 2 } else { irq };
        let shared = irq == SCI || PIRQ_ROUTES.contains(&irq);
        entries.push(vec![3, INT, if shared { HIGH_LEVEL } else { CONFORMS }, 0, ISA, irq, 0, pin]);
    }
    entries.push(vec![4, EXT_INT, CONFORMS, 0, ISA, 0, 0, 0]);
    entries.push(vec![4, NMI, CONFORMS, 0, ISA, 0, 0xff, 1]);
    let len = HEADER + entries.iter().map(Vec::len).sum::<usize>();
    let mut t = b"PCMP".to_vec();
    t.extend((len as u16).to_le_bytes());
    t.extend([4, 0]);
    t.extend(b"SUBRING SUBRING     ");
    t.extend([0; 6]);
    t.extend((entries.len() as u16).to_le_bytes());
    t.extend(LOCAL_APIC.0.to_le_bytes());
    t.extend([0; 4]);
    t.extend(entries.concat());
    t[7] = complement(&t);
    t
}

fn processor(cpu: Model) -> Vec<u8> {
    let (enabled, bootstrap) = (1, 2);
    let mut p = vec![0, 0, 0x14, enabled | bootstrap];
    p.extend([cpu.signature(), FEATURES, 0, 0].map(u32::to_le_bytes).concat());
    p
}

fn bus(id: u8, name: &[u8; 6]) -> Vec<u8> {
    [&[1, id][..], name].concat()
}

/// The byte that makes the sum zero.
fn complement(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_and_table_sum_to_zero_and_count_their_entries() {
        let (pointer, table) = (pointer(0xf_1000), table(Model::PentiumII));
        assert_eq!((&pointer[..4], complement(&pointer)), (&b"_MP_"[..], 0));
        assert_eq!((&table[..4], complement(&table)), (&b"PCMP"[..], 0));
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        let mut at = HEADER;
        let mut count = 0;
        while at < table.len() {
            at += if table[at] == 0 { 20 } else { 8 };
            count += 1;
        }
        assert_eq!((at, count), (table.len(), u16::from_le_bytes([table[34], table[35]])));
        assert_eq!(table[HEADER..HEADER + 4], [0, 0, 0x14, 3]);
    }
}

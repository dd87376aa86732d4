//! ACPI's tables but the DSDT (ACPI 1.0b, chapter 5): FACS, FADT, MADT, RSDT, and the RSDP that finds them.
//!
//! They are put together once, with offsets in the place of addresses; what is to be added to which of them, and which
//! byte makes which sum zero, is noted beside ([`Blob`]). Whoever knows the addresses finishes them: this program, or
//! firmware by `loader`.

use super::dsdt::{self, SCI};
use crate::device::apic::{IO_APIC, LOCAL_APIC};
use crate::device::pci::i440fx::PIRQ_ROUTES;
use crate::device::pm;

/// Bytes of a table's header.
const HEADER: usize = 36;
/// Where the header has its checksum.
const HEADER_SUM: usize = 9;
/// Bytes of the RSDP of ACPI 1.0, and where it has its checksum and the RSDT's address.
const RSDP: usize = 20;
const RSDP_SUM: usize = 8;
const RSDP_RSDT: usize = 16;
/// Bytes of the FACS, and its alignment.
pub(super) const FACS: usize = 64;

const OEM: &[u8; 6] = b"SUBRNG";
const OEM_TABLE: &[u8; 8] = b"SUBRING ";
const CREATOR: &[u8; 4] = b"SUBR";

/// FADT flags: WBINVD works, C1 is there, neither button is a fixed one, the clock's alarm is no fixed event.
const FADT_FLAGS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6;
/// MADT flags: there are also two 8259s.
const PCAT_COMPATIBLE: u32 = 1;
/// A MADT interrupt's flags: active high, level triggered.
const ACTIVE_HIGH_LEVEL: u16 = 0xd;
/// CMOS index of the century.
const CENTURY: u8 = 0x32;

/// A file of tables before its address is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Blob {
    /// The content.
    pub(super) bytes: Vec<u8>,
    /// Where dwords stand that are offsets into a blob of tables, and are to become addresses.
    pub(super) pointers: Vec<usize>,
    /// Checksums: where the byte is, where what it sums begins, and how long that is.
    pub(super) sums: Vec<(usize, usize, usize)>,
}

impl Blob {
    /// Adds a table and its header; where it is.
    fn table(&mut self, signature: &[u8; 4], revision: u8, body: &[u8]) -> usize {
        let at = self.bytes.len();
        let len = HEADER + body.len();
        self.bytes.extend(signature);
        self.bytes.extend((len as u32).to_le_bytes());
        self.bytes.extend([revision, 0]);
        self.bytes.extend(OEM);
        self.bytes.extend(OEM_TABLE);
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(CREATOR);
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(body);
        self.sums.push((at + HEADER_SUM, at, len));
        // Tables start on 16-byte boundaries, for people who look at memory.
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        at
    }

    /// The content with its pointers into a blob of tables at `tables`, all sums made zero.
    pub(super) fn placed(mut self, tables: u32) -> Vec<u8> {
        for at in self.pointers {
            let field = &mut self.bytes[at..at + 4];
            let offset = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
            field.copy_from_slice(&tables.wrapping_add(offset).to_le_bytes());
        }
        for (byte, start, len) in self.sums {
            let sum = self.bytes[start..start + len].iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
            self.bytes[byte] = self.bytes[byte].wrapping_sub(sum);
        }
        self.bytes
    }
}

/// The RSDP and the tables.
pub(super) struct Tables {
    pub(super) rsdp: Blob,
    pub(super) tables: Blob,
}

/// All tables of a machine, with a MADT if it has an APIC. The FACS, which software writes to, is at the address given
/// or else the first of the tables.
pub(super) fn all(apic: bool, facs: Option<u32>) -> Tables {
    let mut t = Blob::default();
    if facs.is_none() {
        t.bytes.extend(self::facs());
    }
    let dsdt = t.table(b"DSDT", 1, &dsdt::definition_block());
    let fadt = t.table(b"FACP", 1, &fadt(facs.unwrap_or(0), dsdt as u32, apic));
    t.pointers.push(fadt + HEADER + 4);
    if facs.is_none() {
        t.pointers.push(fadt + HEADER);
    }
    let mut listed = vec![fadt];
    if apic {
        listed.push(t.table(b"APIC", 1, &madt()));
    }
    let entries: Vec<u8> = listed.iter().flat_map(|at| (*at as u32).to_le_bytes()).collect();
    let rsdt = t.table(b"RSDT", 1, &entries);
    t.pointers.extend((0..listed.len()).map(|n| rsdt + HEADER + 4 * n));
    Tables { rsdp: rsdp(rsdt as u32), tables: t }
}

fn rsdp(rsdt: u32) -> Blob {
    let mut bytes = b"RSD PTR \0".to_vec();
    bytes.extend(OEM);
    bytes.push(0);
    bytes.extend(rsdt.to_le_bytes());
    Blob { bytes, pointers: vec![RSDP_RSDT], sums: vec![(RSDP_SUM, 0, RSDP)] }
}

/// The FACS: nothing but its head; software keeps its waking vector and the global lock in it.
pub(super) fn facs() -> [u8; FACS] {
    let mut facs = [0; FACS];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = FACS as u8;
    facs
}

/// The FADT of ACPI 1.0, behind its header.
fn fadt(facs: u32, dsdt: u32, apic: bool) -> Vec<u8> {
    let base = u32::from(pm::USUAL_BASE);
    let mut f = Vec::new();
    f.extend([facs, dsdt].map(u32::to_le_bytes).concat());
    f.extend([apic.into(), 0, SCI, 0]);
    f.extend(u32::from(pm::APMC).to_le_bytes());
    f.extend([pm::ACPI_ENABLE, pm::ACPI_DISABLE, 0, 0]);
    // PM1a and PM1b event, PM1a and PM1b control, PM2 control, timer, two blocks of general-purpose events.
    let (event, control, timer) = (u32::from(pm::EVENT), u32::from(pm::CONTROL), u32::from(pm::TIMER));
    f.extend([base + event, 0, base + control, 0, 0, base + timer, 0, 0].map(u32::to_le_bytes).concat());
    // Their lengths, and the first event of the second block.
    f.extend([4, 2, 0, 4, 0, 0, 0, 0]);
    // Too long: there are no C2 and C3; then no flushing by reads, no duty cycle.
    f.extend([0x0fff_u16, 0x0fff, 0, 0].map(u16::to_le_bytes).concat());
    f.extend([0, 0, 0, 0, CENTURY, 0, 0, 0]);
    f.extend(FADT_FLAGS.to_le_bytes());
    f
}

/// The MADT, behind its header: one processor, the I/O APIC, where ISA interrupts differ, and the NMI at LINT1.
fn madt() -> Vec<u8> {
    let mut m = [LOCAL_APIC.0, PCAT_COMPATIBLE].map(u32::to_le_bytes).concat();
    m.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    m.extend([1, 12, 0, 0]);
    m.extend([IO_APIC.0, 0].map(u32::to_le_bytes).concat());
    let mut interrupt = |irq: u8, pin: u32, flags: u16| {
        m.extend([2, 10, 0, irq]);
        m.extend(pin.to_le_bytes());
        m.extend(flags.to_le_bytes());
    };
    interrupt(0, 2, 0);
    let [a, _, c, _] = PIRQ_ROUTES;
    [SCI, a, c].into_iter().for_each(|irq| interrupt(irq, irq.into(), ACTIVE_HIGH_LEVEL));
    m.extend([4, 6, 0xff, 0, 0, 1]);
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
    }

    fn dword(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn from_the_rsdp_every_table_is_found_and_sums_to_zero() {
        const AT: usize = 0xf_0040;
        let t = all(true, Some(0x9_fd00));
        let (rsdp, tables) = (t.rsdp.placed(AT as u32), t.tables.placed(AT as u32));
        assert_eq!((&rsdp[..8], rsdp.len(), sum(&rsdp)), (&b"RSD PTR "[..], 20, 0));
        let table = |at: usize| {
            let from = &tables[at - AT..];
            let whole = &from[..dword(from, 4)];
            assert_eq!(sum(whole), 0, "{:?}", std::str::from_utf8(&whole[..4]));
            whole.to_vec()
        };
        let rsdt = table(dword(&rsdp, 16));
        assert_eq!((&rsdt[..4], rsdt.len()), (&b"RSDT"[..], 44));
        let fadt = table(dword(&rsdt, 36));
        assert_eq!((&fadt[..4], fadt.len(), fadt[8]), (&b"FACP"[..], 116, 1));
        assert_eq!(
            (dword(&fadt, 36), dword(&fadt, 56), dword(&fadt, 64), dword(&fadt, 76)),
            (0x9_fd00, 0x600, 0x604, 0x608)
        );
        assert_eq!((fadt[46], dword(&fadt, 48), fadt[88], fadt[91], fadt[108]), (9, 0xb2, 4, 4, 0x32));
        assert_eq!(table(dword(&fadt, 40))[..4], *b"DSDT");
        let madt = table(dword(&rsdt, 40));
        assert_eq!((&madt[..4], dword(&madt, 36)), (&b"APIC"[..], 0xfee0_0000));
        assert_eq!(madt[64..74], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0], "IRQ 0 is at pin 2");
    }

    #[test]
    fn without_an_apic_there_is_no_madt() {
        let t = all(false, None);
        assert_eq!(t.tables.bytes[..4], *b"FACS");
        let bytes = t.tables.placed(0x1000);
        assert!(!bytes.windows(4).any(|w| w == b"APIC"));
        assert!(bytes.windows(4).any(|w| w == b"RSDT"));
    }
}

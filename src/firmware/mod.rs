//! Firmware: the built-in BIOS, and the tables by which a kernel learns of the board (ACPI's and, for older kernels,
//! the MP table).
//!
//! The tables reach memory as on a real board. SeaBIOS gets them as files of fw_cfg and a script ([`fw_cfg_files`]).
//! In the built-in BIOS the tables are part of the ROM ([`built_in_bios`]), at F0000h. For a kernel that is loaded
//! without firmware the tables are in RAM at the same place ([`for_kernel`]), as a BIOS leaves its shadow. Either way
//! the memory map has that segment reserved already, and the FACS, which software writes to, is in the extended BIOS
//! data area.

mod aml;
mod dsdt;
mod loader;
mod mp;
mod tables;

use crate::addr::GuestPhys;
use crate::cpu::Model;

/// The built-in BIOS, as guest-programs/bios/build.sh builds it.
const BIOS: &[u8] = include_bytes!("../../guest-programs/bios/bios.bin");
/// Where the tables are, in the segment where they are looked for.
const AT: u32 = 0xf_0000;
/// The RSDP and the MP floating pointer come first, each on a 16-byte boundary.
const MP_POINTER: usize = 0x20;
const FIRST_TABLE: usize = 0x40;
/// In the extended BIOS data area, on a 64-byte boundary.
const FACS: u32 = 0x9_fd00;
/// Where the built-in BIOS's code begins: the tables lie before it.
const ROM_ROOM: usize = 0xc000;

/// Which tables a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// ACPI's.
    pub acpi: bool,
    /// What describes an APIC: a MADT, if there is ACPI, and an MP table.
    pub apic: bool,
    /// The processor, for the MP table.
    pub cpu: Model,
}

/// The files of fw_cfg from which SeaBIOS makes the tables of ACPI. It makes an MP table of its own.
pub fn fw_cfg_files(wanted: Wanted) -> Vec<(String, Vec<u8>)> {
    if wanted.acpi { loader::files(wanted.apic) } else { Vec::new() }
}

/// The built-in BIOS (guest-programs/bios) with the tables in the part of the ROM that its code leaves free.
pub fn built_in_bios(wanted: Wanted) -> Vec<u8> {
    let mut image = BIOS.to_vec();
    into_rom(&mut image, wanted);
    image
}

/// Puts the tables into the room that the built-in BIOS's image has for them.
fn into_rom(image: &mut [u8], wanted: Wanted) {
    let segment = segment(wanted);
    if segment.len() <= ROM_ROOM {
        image[..segment.len()].copy_from_slice(&segment);
    }
}

/// What is to be stored for a kernel without firmware: where and what.
pub fn for_kernel(wanted: Wanted) -> Vec<(GuestPhys, Vec<u8>)> {
    let mut stores = vec![(GuestPhys(AT), segment(wanted))];
    if wanted.acpi {
        stores.push((GuestPhys(FACS), tables::facs().to_vec()));
    }
    stores
}

/// The tables in one piece, for [`AT`].
fn segment(wanted: Wanted) -> Vec<u8> {
    let mut out = vec![0; FIRST_TABLE];
    if wanted.acpi {
        let at = AT + out.len() as u32;
        let t = tables::all(wanted.apic, Some(FACS));
        let rsdp = t.rsdp.placed(at);
        out[..rsdp.len()].copy_from_slice(&rsdp);
        out.extend(t.tables.placed(at));
    }
    if wanted.apic {
        let pointer = mp::pointer(AT + out.len() as u32);
        out[MP_POINTER..MP_POINTER + mp::POINTER].copy_from_slice(&pointer);
        out.extend(mp::table(wanted.cpu));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted { acpi: true, apic: true, cpu: Model::PentiumII };

    #[test]
    fn the_segment_begins_with_what_is_looked_for() {
        let all = segment(ALL);
        assert_eq!((&all[..8], &all[0x20..0x24]), (&b"RSD PTR "[..], &b"_MP_"[..]));
        assert!(all.len() <= ROM_ROOM, "{:#x} bytes", all.len());
        let plain = segment(Wanted { apic: false, ..ALL });
        assert_eq!(plain[0x20..0x24], [0; 4]);
        let none = segment(Wanted::default());
        assert!(none.iter().all(|b| *b == 0));
    }

    #[test]
    fn the_rom_keeps_its_code() {
        let mut image = vec![0x90; 0x1_0000];
        into_rom(&mut image, ALL);
        assert_eq!(image[..8], *b"RSD PTR ");
        assert!(image[ROM_ROOM..].iter().all(|b| *b == 0x90));
    }

    #[test]
    fn firmware_gets_files_only_with_acpi() {
        let names: Vec<_> = fw_cfg_files(ALL).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"]);
        assert!(fw_cfg_files(Wanted { acpi: false, ..ALL }).is_empty());
    }
}

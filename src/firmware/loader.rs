//! The tables for SeaBIOS: files of fw_cfg, and the list of what it is to do with them, "etc/table-loader" (QEMU,
//! `hw/acpi/bios-linker-loader.c` defines the format): allocate memory for a file, add a file's address to a field of
//! another, make a checksum.

use super::tables::{self, Blob, FACS};

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";
const SCRIPT: &str = "etc/table-loader";

/// Bytes of a command, and of a file's name in it.
const COMMAND: usize = 128;
const NAME: usize = 56;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
/// Zones: high memory, and the segment F000 where an RSDP is looked for.
const HIGH: u8 = 1;
const F_SEGMENT: u8 = 2;

/// The files, by name.
pub(super) fn files(apic: bool) -> Vec<(String, Vec<u8>)> {
    let t = tables::all(apic, None);
    let mut script = Vec::new();
    script.extend(command(ALLOCATE, &[&name(TABLES), &(FACS as u32).to_le_bytes(), &[HIGH]]));
    script.extend(command(ALLOCATE, &[&name(RSDP), &16u32.to_le_bytes(), &[F_SEGMENT]]));
    for (file, blob) in [(TABLES, &t.tables), (RSDP, &t.rsdp)] {
        script.extend(finish(file, blob));
    }
    [(TABLES, t.tables.bytes), (RSDP, t.rsdp.bytes), (SCRIPT, script)]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into()
}

/// The commands that turn offsets into addresses, and then make the sums zero.
fn finish(file: &str, blob: &Blob) -> Vec<u8> {
    let pointers = blob
        .pointers
        .iter()
        .map(|at| command(ADD_POINTER, &[&name(file), &name(TABLES), &(*at as u32).to_le_bytes(), &[4]]));
    let sums = blob.sums.iter().map(|&(byte, start, len)| {
        let numbers = [byte, start, len].map(|n| (n as u32).to_le_bytes()).concat();
        command(ADD_CHECKSUM, &[&name(file), &numbers])
    });
    pointers.chain(sums).flatten().collect()
}

fn name(name: &str) -> [u8; NAME] {
    let mut field = [0; NAME];
    field[..name.len()].copy_from_slice(name.as_bytes());
    field
}

fn command(code: u32, fields: &[&[u8]]) -> Vec<u8> {
    let mut c = code.to_le_bytes().to_vec();
    fields.iter().for_each(|field| c.extend(*field));
    c.resize(COMMAND, 0);
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries a script out as firmware does, the tables at `at`.
    fn carry_out(files: &[(String, Vec<u8>)], at: u32) -> (Vec<u8>, Vec<u8>) {
        let mut tables = files[0].1.clone();
        let mut rsdp = files[1].1.clone();
        for c in files[2].1.chunks(COMMAND) {
            let dword = |at: usize| u32::from_le_bytes(c[at..at + 4].try_into().unwrap());
            let of = c[4..].starts_with(b"etc/acpi/tables\0");
            let file = if of { &mut tables } else { &mut rsdp };
            match dword(0) {
                ALLOCATE => {}
                ADD_POINTER => {
                    let offset = dword(116) as usize;
                    let field = &mut file[offset..offset + 4];
                    let value = u32::from_le_bytes(field.try_into().unwrap()) + at;
                    field.copy_from_slice(&value.to_le_bytes());
                }
                ADD_CHECKSUM => {
                    let (byte, start, len) = (dword(60) as usize, dword(64) as usize, dword(68) as usize);
                    let sum = file[start..start + len].iter().fold(0u8, |s, b| s.wrapping_add(*b));
                    file[byte] = file[byte].wrapping_sub(sum);
                }
                other => panic!("command {other}"),
            }
        }
        (tables, rsdp)
    }

    #[test]
    fn firmware_that_carries_the_script_out_has_the_tables_that_we_place_ourselves() {
        const AT: u32 = 0x7f_e000;
        let t = tables::all(true, None);
        let (tables, rsdp) = carry_out(&files(true), AT);
        assert_eq!(tables, t.tables.placed(AT));
        assert_eq!(rsdp, t.rsdp.placed(AT));
    }
}

//! CD images as a user meets them: an El Torito image of our own boots by the built-in BIOS, goes into a snapshot and
//! comes back, and what cannot be attached is refused.

use std::process::Output;

use crate::common::program::{ends, refused, text};
use crate::common::scratch::Scratch;

const BLOCK: usize = 2048;
/// Blocks of the image: boot catalog, boot code, data.
const CATALOG: usize = 18;
const CODE: usize = 19;
const DATA: usize = 20;

/// What the CD starts. It writes a byte of block 20 to port F4h if all is well, else 99.
#[rustfmt::skip]
const PROGRAM: [u8; 75] = [
    0xbe, 0x00, 0x7e,               // mov si, 7E00h
    0xb8, 0x01, 0x4b, 0xcd, 0x13,   // mov ax, 4B01h; int 13h: how was it booted?
    0x72, 0x2c,                     // jc failed
    0x80, 0x3c, 0x13, 0x75, 0x27,   // cmp byte [si], 13h; jne failed: the size of the answer
    0x38, 0x54, 0x02, 0x75, 0x22,   // cmp [si+2], dl; jne failed: by this drive
    0xbe, 0x3b, 0x7c,               // mov si, packet
    0xb4, 0x42, 0xcd, 0x13,         // mov ah, 42h; int 13h: read
    0x72, 0x19,                     // jc failed
    0xbe, 0x40, 0x7e,               // mov si, 7E40h
    0xc7, 0x04, 0x1a, 0x00,         // mov word [si], 26
    0xb4, 0x48, 0xcd, 0x13,         // mov ah, 48h; int 13h: what kind of drive?
    0x72, 0x0c,                     // jc failed
    0x81, 0x7c, 0x18, 0x00, 0x08,   // cmp word [si+24], 2048
    0x75, 0x05,                     // jne failed
    0xa0, 0x00, 0x90, 0xe6, 0xf4,   // mov al, [9000h]; out 0F4h, al
    0xb0, 0x63, 0xe6, 0xf4, 0xf4,   // failed: mov al, 99; out 0F4h, al; hlt
    0x10, 0, 1, 0, 0, 0x90, 0, 0, DATA as u8, 0, 0, 0, 0, 0, 0, 0, // packet: one block to 0000:9000
];

/// An image that ends with `status`; `entry` is the first byte of the catalog's initial entry, `media` the second.
fn image(status: u8, entry: u8, media: u8) -> Vec<u8> {
    let mut iso = vec![0; 24 * BLOCK];
    let mut put = |block: usize, at: usize, bytes: &[u8]| {
        iso[block * BLOCK + at..][..bytes.len()].copy_from_slice(bytes);
    };
    put(16, 0, b"\x01CD001\x01");
    put(17, 0, b"\0CD001\x01EL TORITO SPECIFICATION");
    put(17, 0x47, &[CATALOG as u8]);
    put(CATALOG, 0, &[1]);
    // The checksum: all words add up to zero.
    put(CATALOG, 28, &(0u16.wrapping_sub(0x0001).wrapping_sub(0xaa55)).to_le_bytes());
    put(CATALOG, 30, &[0x55, 0xaa]);
    put(CATALOG, 32, &[entry, media, 0, 0, 0, 0, 4, 0, CODE as u8]);
    put(CODE, 0, &PROGRAM);
    put(DATA, 0, &[status]);
    iso
}

#[test]
fn an_el_torito_image_boots_by_the_built_in_bios() {
    let dir = Scratch::new("boots");
    let iso = dir.file("x.iso", &image(42, 0x88, 0));
    ends(&["run", &iso, "--time", "20s"], 42);
    // By the option it comes after a disk that does not boot.
    let disk = dir.file("d", &[0; 4096]);
    ends(&["run", "--cdrom", &iso, "--disk", &disk, "--time", "20s"], 42);
    // And a hybrid image is still a CD, or a disk when that is asked for.
    let mut hybrid = image(7, 0x88, 0);
    hybrid[..6].copy_from_slice(&[0xb0, 0x08, 0xe6, 0xf4, 0xf4, 0x90]);
    hybrid[510..512].copy_from_slice(&[0x55, 0xaa]);
    let hybrid = dir.file("h.iso", &hybrid);
    ends(&["run", &hybrid, "--time", "20s"], 7);
    ends(&["run", &hybrid, "--format", "disk", "--time", "20s"], 8);
}

#[test]
fn an_image_that_does_not_boot_leaves_the_bios_without_a_disk() {
    let dir = Scratch::new("boots-not");
    for (name, entry, media, words) in
        [("no-entry", 0x00, 0, "No bootable disk"), ("floppy", 0x88, 2, "wants a floppy or disk emulated")]
    {
        let iso = dir.file(name, &image(1, entry, media));
        let said = text(&ends(&["run", &iso, "--time", "20s", "--dump-screen"], 124).stdout);
        assert!(said.contains("CD-ROM drive") && said.contains(words), "{said}");
    }
}

#[test]
fn a_snapshot_with_a_cd_goes_on_and_knows_its_image() {
    let dir = Scratch::new("snapshot");
    let iso = dir.file("x.iso", &image(42, 0x88, 0));
    let whole = ends(&["run", &iso, "--json"], 42);
    let count = |output: Output| {
        let text = text(&output.stdout);
        let after =
            text.split("\"instructions\":").nth(1).or(text.split("\"retired\":").nth(1)).expect("a count");
        after.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    let all = count(whole);
    for cut in [all / 2, all - 3000, all - 500] {
        let file = dir.path("x.snap");
        ends(&["snapshot", &iso, "--at-instruction", &cut.to_string(), "--out", &file], 0);
        assert_eq!(count(ends(&["run", "--restore", &file, "--json"], 42)), all);
    }
    let file = dir.path("x.snap");
    std::fs::write(&iso, image(43, 0x88, 0)).unwrap();
    refused(&["run", "--restore", &file], 1, "has changed");
}

#[test]
fn what_cannot_be_a_cd_is_refused() {
    let dir = Scratch::new("refused");
    let iso = dir.file("x.iso", &image(42, 0x88, 0));
    let mut odd = image(42, 0x88, 0);
    odd.truncate(23 * BLOCK + 512);
    let odd = dir.file("odd.iso", &odd);
    refused(&["run", &odd], 1, "2048-byte CD blocks");
    refused(&["run", "--cdrom", &odd], 1, "2048-byte CD blocks");
    refused(&["run", &iso, "--cdrom", &iso], 2, "one CD-ROM drive");
    let disks: Vec<String> = (0..4).map(|n| dir.file(&format!("d{n}"), &[0; 512])).collect();
    let mut args = vec!["run", "--cdrom", &iso];
    disks.iter().for_each(|disk| args.extend(["--disk", disk]));
    refused(&args, 2, "3 disks");
    args.truncate(9);
    args.extend(["--time", "20s"]);
    ends(&args, 42);
}

#[test]
fn one_image_in_two_drives_is_refused_unless_nothing_is_written() {
    let dir = Scratch::new("twice");
    let disk = dir.file("d", &[0; 4096]);
    let other = dir.path("link");
    std::fs::hard_link(&disk, &other).unwrap();
    refused(&["run", "--disk", &disk, "--disk", &other], 1, "another run or drive");
    ends(&["run", "--disk", &disk, "--disk", &other, "--snapshot", "--time", "1ms"], 124);
    let iso = dir.file("x.iso", &image(42, 0x88, 0));
    refused(&["run", "--cdrom", &iso, "--disk", &iso], 1, "another run or drive");
    ends(&["run", "--cdrom", &iso, "--disk", &iso, "--snapshot", "--time", "20s"], 42);
}

//! SeaBIOS (package seabios): POST, its log on port 402h, and booting a disk and a floppy.

use super::fetch::{file, have, own};
use super::pc::{Lab, Monitor, Parts, in_order};
use std::path::PathBuf;
use subring::cli::pc::Outcome;

/// Its threads take turns by the clock: the order of their lines in the log depends on the frequency.
const HZ: u64 = 10_000_000;

/// SeaBIOS `name` with the VGA BIOS of an ISA adapter.
pub(crate) fn bios(name: &str) -> Option<(PathBuf, PathBuf)> {
    let of = |name: &str| file("seabios", &format!("usr/share/seabios/{name}"));
    Some((of(name), of("vgabios-isavga.bin")))
}

/// POST under SeaBIOS `name`, and what it boots.
pub(crate) fn boots_the_disk(name: &str, monitor: Monitor) -> Lab {
    let disks = vec![own("guest-programs/boot/boot.img")];
    let mut lab = Lab::new(Parts { bios: bios(name), disks, hz: HZ, monitor, ..Parts::default() });
    assert_eq!(lab.until_stop(30), Outcome::Exit(0), "{}", lab.text());
    in_order(
        &lab.log,
        &[
            "SeaBIOS (version 1.",
            "Running on QEMU (i440fx)",
            "Found 4 PCI devices (max PCI bus is 00)",
            "PIIX3/PIIX4 init: elcr=00 0c",
            "PCI: init bdf=00:01.3 id=8086:7113",
            "Using pmtimer, ioport 0x608",
            "Found 1 cpu(s) max supported 1 cpu(s)",
            "Running option rom at c000:0003",
            "Turning on vga text mode console",
            "ATA controller 1 at 1f0/3f4/0 (irq 14",
            "Found 0 lpt ports\nFound 2 serial ports",
            "ata0-0: SUBRING DISK ATA-6 Hard-Disk",
            "PS2 keyboard initialized",
            "e820 map has 6 items",
            "Booting from Hard Disk...\nBooting from 0000:7c00",
        ],
    );
    lab.has_rows(&[
        "Booting from Hard Disk...",
        "boot: first sector",
        "boot: drive 80",
        "639 KiB conventional memory",
        "e820: 0000000000100000 0000000001EFF000 1",
        "clock: 2000-01-01 00:00:00",
        "sector 3 by number: sum 0000",
        "boot: all is well",
    ]);
    assert!(lab.text().starts_with("SeaBIOS (version 1."), "{}", lab.text());
    assert!(lab.serial.ends_with("boot: all is well\r\n"), "{}", lab.serial);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn the_128k_bios_boots_the_disk() {
    if have(&["seabios"]) {
        boots_the_disk("bios.bin", None);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn the_256k_bios_boots_the_disk() {
    if have(&["seabios"]) {
        boots_the_disk("bios-256k.bin", None);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn it_boots_the_floppy() {
    if !have(&["seabios"]) {
        return;
    }
    let floppies = vec![own("guest-programs/boot/boot.img")];
    let mut lab = Lab::new(Parts { bios: bios("bios.bin"), floppies, hz: HZ, ..Parts::default() });
    assert_eq!(lab.until_stop(30), Outcome::Exit(0), "{}", lab.text());
    in_order(&lab.log, &["fdc@03f0/floppy@0", "PS2 keyboard initialized", "Booting from Floppy..."]);
    lab.has_rows(&[
        "Booting from Floppy...",
        "boot: drive 00",
        "disk: cylinders 80, heads 2, sectors 18",
        "sector 3 by cylinder, head, sector: sum 0000",
        "boot: all is well",
    ]);
}

#[test]
#[ignore = "needs packages from Debian"]
fn without_a_bootable_device_it_says_so() {
    if !have(&["seabios"]) {
        return;
    }
    let mut lab = Lab::new(Parts { bios: bios("bios.bin"), ..Parts::default() });
    lab.until("No bootable device.", 60);
    assert!(lab.shows("Boot failed"), "{}", lab.text());
}

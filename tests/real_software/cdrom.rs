//! Real CD images: GRUB's rescue CD (package grub-rescue-pc) and iPXE's (package ipxe), both booted by El Torito without
//! emulation, under SeaBIOS and under our own BIOS.

use super::fetch::{file, have};
use super::grub;
use super::pc::{Lab, Parts, in_order};
use super::seabios;
use std::path::PathBuf;

fn rescue() -> Option<PathBuf> {
    Some(file("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso"))
}

/// GRUB's commands on the CD that it came from.
fn commands(lab: &mut Lab) {
    grub::command(lab, "ls", "(cd)");
    // Straight from the CD's file system, which GRUB reads by INT 13h in blocks of 2048 bytes.
    grub::command(lab, "ls /boot/grub", "i386-pc/");
    // It names its root by the number of the drive that it was started from: E0h is 80h + 96.
    grub::command(lab, "echo $grub_cpu-$grub_platform $root", "i386-pc hd96");
}

#[test]
#[ignore = "needs packages from Debian"]
fn grubs_rescue_cd_under_seabios() {
    if !have(&["seabios", "grub-rescue-pc"]) {
        return;
    }
    let mut lab =
        grub::to_prompt(Parts { bios: seabios::bios("bios.bin"), cdrom: rescue(), ..Parts::default() });
    in_order(
        &lab.log,
        &[
            "ATA controller 2 at 170/374/0 (irq 15",
            "DVD/CD [ata1-0: SUBRING CD-ROM ATAPI-5 DVD/CD]",
            "Booting from DVD/CD...",
            "Booting from 0000:7c00",
        ],
    );
    commands(&mut lab);
}

fn own_bios() -> Lab {
    let mut lab = grub::to_prompt(Parts { cdrom: rescue(), ..Parts::default() });
    commands(&mut lab);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn grubs_rescue_cd_under_our_own_bios_twice_the_same() {
    if !have(&["grub-rescue-pc"]) {
        return;
    }
    assert_eq!(own_bios().end_state(), own_bios().end_state(), "two runs differ");
}

fn ipxe(parts: Parts) {
    let cdrom = Some(file("ipxe", "usr/lib/ipxe/ipxe.iso"));
    let mut lab = Lab::new(Parts { cdrom, hz: 10_000_000, ..parts });
    lab.until("iPXE initialising devices...", 120);
    lab.until("Open Source Network Boot Firmware", 60);
}

#[test]
#[ignore = "needs packages from Debian"]
fn ipxes_cd_under_our_own_bios() {
    if !have(&["ipxe"]) {
        return;
    }
    ipxe(Parts::default());
}

#[test]
#[ignore = "needs packages from Debian"]
fn ipxes_cd_under_seabios() {
    if !have(&["ipxe", "seabios"]) {
        return;
    }
    ipxe(Parts { bios: seabios::bios("bios.bin"), ..Parts::default() });
}

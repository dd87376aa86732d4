//! GRUB's rescue floppy (package grub-rescue-pc): menu, prompt, commands; under SeaBIOS and under our own BIOS, from a
//! floppy and from a disk.

use super::fetch::{file, have};
use super::pc::{Lab, Monitor, Parts};
use super::seabios;
use std::path::PathBuf;
use subring::cli::pc::Outcome;

fn rescue() -> PathBuf {
    file("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-floppy.img")
}

/// From a disk under SeaBIOS to the menu.
pub(crate) fn menu(monitor: Monitor) -> Lab {
    let bios = seabios::bios("bios.bin");
    let mut lab = Lab::new(Parts { bios, disks: vec![rescue()], monitor, ..Parts::default() });
    lab.until("will be executed automatically in", 120);
    lab.until(" │*GNU/Linux   ", 10);
    lab
}

/// From power-on to the prompt.
#[track_caller]
pub(crate) fn to_prompt(parts: Parts) -> Lab {
    let mut lab = Lab::new(parts);
    lab.until("will be executed automatically in", 120);
    assert!(lab.lines()[1].starts_with("                       GNU GRUB  version 2."), "{}", lab.text());
    lab.has_rows(&[
        " │*GNU/Linux                                                                  │",
        " │ Memtest86+                                                                 │",
        " │ Change the colors                                                          │",
    ]);
    // The menu's selection follows the keys.
    lab.keys("<Down><Down>");
    lab.until(" │*FreeBSD (or GNU/kFreeBSD), direct boot", 10);
    lab.keys("c");
    lab.until("grub>", 20);
    lab
}

/// Types a command and waits for the next prompt below its echo.
#[track_caller]
pub(crate) fn command(lab: &mut Lab, text: &str, answer: &str) {
    lab.keys(text);
    lab.until(&format!("grub> {text}"), 20);
    lab.keys("<Enter>");
    lab.until(answer, 60);
    let prompt =
        |lab: &Lab| lab.lines().iter().rev().find(|row| !row.is_empty()).is_some_and(|r| r == "grub>");
    for _ in 0..1000 {
        if prompt(lab) {
            return;
        }
        lab.wait_ms(10);
    }
    panic!("no prompt after `{text}`:\n{}", lab.text());
}

fn commands(lab: &mut Lab, root: &str, high: &[&str]) {
    command(lab, "ls", &format!("({root})"));
    command(lab, "echo hello", "hello");
    command(lab, "lsmmap", "reserved RAM");
    let low = [
        "grub> ls",
        "grub> echo hello",
        "hello",
        "grub> lsmmap",
        "base_addr = 0x0, length = 0x9fc00, available RAM",
        "base_addr = 0x9fc00, length = 0x400, reserved RAM",
        "base_addr = 0xf0000, length = 0x10000, reserved RAM",
    ];
    lab.has_rows(&[&low, high, &["grub>"]].concat());
    command(lab, "set root", root);
    command(lab, "echo $grub_cpu-$grub_platform $root", &format!("i386-pc {root}"));
}

/// Own BIOS's ROM is the last 64 KiB below 4 GiB, with the ACPI tables in it.
const OWN_ROM: [&str; 2] = [
    "base_addr = 0x100000, length = 0x1f00000, available RAM",
    "base_addr = 0xffff0000, length = 0x10000, reserved RAM",
];
/// SeaBIOS reports 256 KiB, and takes the last page of RAM for the ACPI tables.
const SEABIOS_ROM: [&str; 3] = [
    "base_addr = 0x100000, length = 0x1eff000, available RAM",
    "base_addr = 0x1fff000, length = 0x1000, reserved RAM",
    "base_addr = 0xfffc0000, length = 0x40000, reserved RAM",
];

/// From the rescue floppy under our own BIOS, with all commands.
pub(crate) fn own_bios_floppy(monitor: Monitor) -> Lab {
    let mut lab = to_prompt(Parts { floppies: vec![rescue()], monitor, ..Parts::default() });
    commands(&mut lab, "fd0", &OWN_ROM);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn from_a_floppy_under_our_own_bios_twice_the_same() {
    if !have(&["grub-rescue-pc"]) {
        return;
    }
    let mut lab = own_bios_floppy(None);
    assert_eq!(own_bios_floppy(None).end_state(), lab.end_state(), "two runs differ");
    lab.keys("halt<Enter>");
    // GRUB finds the tables, reads \_S5 from the DSDT's AML, and turns ACPI on and the machine off.
    assert_eq!(lab.until_stop(30), Outcome::PowerOff);
}

#[test]
#[ignore = "needs packages from Debian"]
fn from_a_disk_under_our_own_bios_and_reboots() {
    if !have(&["grub-rescue-pc"]) {
        return;
    }
    let mut lab = to_prompt(Parts { disks: vec![rescue()], ..Parts::default() });
    commands(&mut lab, "hd0", &OWN_ROM);
    lab.keys("reboot<Enter>");
    lab.until("subring BIOS", 30);
    lab.until("will be executed automatically in", 120);
}

#[test]
#[ignore = "needs packages from Debian"]
fn from_a_floppy_under_seabios() {
    if !have(&["seabios", "grub-rescue-pc"]) {
        return;
    }
    let parts = Parts { bios: seabios::bios("bios.bin"), floppies: vec![rescue()], ..Parts::default() };
    commands(&mut to_prompt(parts), "fd0", &SEABIOS_ROM);
}

#[test]
#[ignore = "needs packages from Debian"]
fn from_a_disk_under_the_larger_seabios() {
    if !have(&["seabios", "grub-rescue-pc"]) {
        return;
    }
    larger_seabios_disk(None);
}

/// From the rescue image as a disk under the larger SeaBIOS, with all commands and what only a disk has.
pub(crate) fn larger_seabios_disk(monitor: Monitor) -> Lab {
    let bios = seabios::bios("bios-256k.bin");
    let mut lab = to_prompt(Parts { bios, disks: vec![rescue()], monitor, ..Parts::default() });
    commands(&mut lab, "hd0", &SEABIOS_ROM);
    // Straight from the disk's file system, which GRUB reads by INT 13h.
    command(&mut lab, "ls /boot/grub", "i386-pc/");
    // The tables that SeaBIOS made from fw_cfg: GRUB checks their sums, and finds \\_S5 in the DSDT's AML.
    command(&mut lab, "lsacpi -1", "OEM=SUBRNG");
    lab.keys("halt<Enter>");
    assert_eq!(lab.until_stop(30), Outcome::PowerOff);
    lab
}

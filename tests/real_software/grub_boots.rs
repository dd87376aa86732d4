//! GRUB's own tests, and GRUB as a boot loader: from its rescue CD (package grub-rescue-pc), by `linux`, `linux16` and `multiboot`, kernels
//! that lie on the hard disk beside it. GRUB reads both by INT 13h and hands over in its own way: Linux by the 32-bit boot
//! protocol with the memory map of INT 15h, iPXE by its 16-bit setup code back in real mode, GNU Mach by Multiboot.

use super::fetch::{cache, file, have, skipped};
use super::pc::{Lab, Monitor, Parts, in_order};
use super::{grub, hard_disk, linux};
use std::path::PathBuf;
use subring::cli::pc::Outcome;

/// GRUB's prompt, with the disk.
fn prompt(disk: PathBuf, mem: u32, hz: u64, monitor: Monitor) -> Lab {
    let cdrom = Some(file("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso"));
    let mut lab = grub::to_prompt(Parts { cdrom, disks: vec![disk], mem, hz, monitor, ..Parts::default() });
    grub::command(&mut lab, "ls (hd0,msdos1)/", "vmlinuz");
    lab
}

/// Types the commands and boots.
fn boot(lab: &mut Lab, commands: &[&str]) {
    for command in commands {
        grub::command(lab, command, "grub>");
    }
    lab.keys("boot<Enter>");
}

/// A disk of kernels; what does not run Linux has no use for its file's content.
fn disk(name: &str, vmlinuz: PathBuf, initrd: PathBuf) -> PathBuf {
    hard_disk::disk(name, &[("vmlinuz", vmlinuz), ("initrd", initrd)])
}

/// A disk with the kernels that are none of Linux's.
pub(crate) fn kernels(name: &str) -> PathBuf {
    let small = file("syslinux-common", "usr/lib/syslinux/mbr/mbr.bin");
    disk(name, small.clone(), small)
}

/// GNU Mach from such a disk, to where it asks for its modules.
pub(crate) fn mach(image: PathBuf, monitor: Monitor) -> Lab {
    let mut lab = prompt(image, 64 << 20, 10_000_000, monitor);
    boot(&mut lab, &["multiboot (hd0,msdos1)/mach mach console=com0"]);
    let log = lab.until_serial("No bootstrap code loaded", 120);
    in_order(&log, &["GNU Mach 1.8"]);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn grub_boots_mach_and_ipxe_from_a_disk() {
    if !have(&hard_disk::PACKAGES) || !have(&["grub-rescue-pc"]) {
        return;
    }
    let image = kernels("grub-kernels.img");
    println!("GNU Mach by GRUB: {:?}", mach(image.clone(), None).marks);
    let mut lab = prompt(image, 64 << 20, 10_000_000, None);
    boot(&mut lab, &["linux16 (hd0,msdos1)/ipxe.krn"]);
    lab.until("Open Source Network Boot Firmware", 120);
}

#[test]
#[ignore = "needs packages from Debian"]
fn grub_boots_linux_from_a_disk() {
    if !super::full() {
        return skipped("it takes 4 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&hard_disk::PACKAGES) || !have(&["grub-rescue-pc"]) || !have(&linux::PACKAGES) {
        return;
    }
    let initrd = cache().join("grub-linux.initrd");
    std::fs::write(&initrd, linux::initrd()).unwrap();
    let mut lab = prompt(disk("grub-linux.img", linux::kernel(), initrd), 128 << 20, 100_000_000, None);
    boot(
        &mut lab,
        &["linux (hd0,msdos1)/vmlinuz console=ttyS0,115200 cryptomgr.notests", "initrd (hd0,msdos1)/initrd"],
    );
    lab.until_serial("Linux version 6.1", 100);
    let log = lab.until_serial("Run /init as init process", 200);
    // GRUB prepends what it booted, and its memory map is the BIOS's.
    in_order(
        &log,
        &[
            "BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable",
            "Kernel command line: BOOT_IMAGE=(hd0,msdos1)/vmlinuz console=ttyS0,115200",
        ],
    );
    lab.until_serial("shell> ", 20);
    lab.send("cat /proc/cmdline; poweroff -f\n");
    lab.until_serial("BOOT_IMAGE=(hd0,msdos1)/vmlinuz", 20);
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    println!("Linux by GRUB: {:?}", lab.marks);
}

/// Those of GRUB's own tests that are about the processor. The one that is loaded last runs first.
const OWN_TESTS: [&str; 10] =
    ["div", "mul", "shift", "cmp", "setjmp", "bswap", "ctz", "strtoull", "pbkdf2", "signature"];

#[test]
#[ignore = "needs packages from Debian"]
fn grubs_own_tests_of_the_processor_pass() {
    if !super::full() {
        return skipped("it takes 4 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&["grub-rescue-pc"]) {
        return;
    }
    let cdrom = Some(file("grub-rescue-pc", "usr/lib/grub-rescue/grub-rescue-cdrom.iso"));
    let mut lab = grub::to_prompt(Parts { cdrom, hz: 10_000_000, ..Parts::default() });
    for test in OWN_TESTS {
        grub::command(&mut lab, &format!("insmod {test}_test"), "grub>");
    }
    lab.keys("clear<Enter>functional_test<Enter>");
    lab.until("div_test: ", 2000);
    let passed: Vec<String> = OWN_TESTS.iter().rev().map(|test| format!("{test}_test: PASS")).collect();
    lab.has_rows(&passed.iter().map(String::as_str).collect::<Vec<_>>());
    println!("GRUB's own tests: {:?}", lab.marks.last());
}

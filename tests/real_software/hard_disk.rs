//! A hard disk as a distribution makes one: SYSLINUX's master boot record, a FAT partition with SYSLINUX and a menu of
//! kernels on it, made here with mtools. Whatever starts from it came through the BIOS's INT 13h: iPXE (package ipxe)
//! by the Linux boot protocol's real-mode entry, GNU Mach by Multiboot, a floppy image by MEMDISK, which then serves
//! INT 13h itself, and with `SUBRING_FULL=1` Debian's Linux.

use super::fetch::{cache, file, have, skipped};
use super::pc::{Lab, Parts};
use super::{gnumach, linux, seabios, syslinux};
use std::path::PathBuf;

pub(crate) const PACKAGES: [&str; 6] =
    ["syslinux", "syslinux-common", "mtools", "seabios", "ipxe", "gnumach-image-1.8-486:i386"];
/// Sectors of the disk, and those before the partition.
const SECTORS: u32 = 65_536;
const FIRST: u32 = 2048;

const MENU: &str = "\
PROMPT 1
LABEL ipxe
 KERNEL ipxe.krn
LABEL mach
 KERNEL mboot.c32
 APPEND mach console=com0
LABEL floppy
 KERNEL memdisk
 INITRD floppy.img
LABEL linux
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0
";

/// A partition table with one active FAT16 partition, behind SYSLINUX's boot record.
fn master_boot_record() -> Vec<u8> {
    let code = std::fs::read(file("syslinux-common", "usr/lib/syslinux/mbr/mbr.bin")).unwrap();
    let mut sector = code;
    sector.resize(446, 0);
    sector.extend([0x80, 0xfe, 0xff, 0xff, 0x06, 0xfe, 0xff, 0xff]);
    sector.extend(FIRST.to_le_bytes());
    sector.extend((SECTORS - FIRST).to_le_bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// A disk with the menu, its kernels, and `more` files.
pub(crate) fn disk(name: &str, more: &[(&str, PathBuf)]) -> PathBuf {
    let image = cache().join(name);
    let mut bytes = master_boot_record();
    bytes.resize(SECTORS as usize * 512, 0);
    std::fs::write(&image, bytes).unwrap();
    let (at, partition) = (image.to_str().unwrap(), format!("{}@@1M", image.display()));
    let size = (SECTORS - FIRST).to_string();
    syslinux::mtools(&["mformat", "-i", &partition, "-H", "2048", "-T", &size, "-h", "16", "-s", "63", "::"]);
    syslinux::host(&file("syslinux", "usr/bin/syslinux"), &["--install", "--offset", "1048576", at]);
    let menu = cache().join(format!("{name}.cfg"));
    std::fs::write(&menu, MENU).unwrap();
    let module = |name: &str| file("syslinux-common", &format!("usr/lib/syslinux/{name}"));
    let mut files = vec![
        ("syslinux.cfg", menu),
        ("memdisk", module("memdisk")),
        ("mboot.c32", module("modules/bios/mboot.c32")),
        ("libcom32.c32", module("modules/bios/libcom32.c32")),
        ("ipxe.krn", file("ipxe", "boot/ipxe.lkrn")),
        ("mach", gnumach::kernel()),
        ("floppy.img", syslinux::floppy(&format!("{name}.floppy"))),
    ];
    files.extend_from_slice(more);
    for (to, from) in files {
        syslinux::mtools(&["mcopy", "-i", &partition, from.to_str().unwrap(), &format!("::{to}")]);
    }
    image
}

/// The prompt of a machine that starts from the disk.
fn prompt(image: PathBuf, bios: Option<(PathBuf, PathBuf)>, mem: u32, hz: u64) -> Lab {
    let mut lab = Lab::new(Parts { bios, disks: vec![image], mem, hz, ..Parts::default() });
    lab.until("boot:", 60);
    lab
}

/// Starts each kernel but Linux.
fn starts_kernels(bios: Option<(PathBuf, PathBuf)>, name: &str) {
    let image = disk(name, &[]);
    let start = |label: &str| {
        let mut lab = prompt(image.clone(), bios.clone(), 64 << 20, 10_000_000);
        lab.keys(&format!("{label}<Enter>"));
        lab
    };
    let mut lab = start("ipxe");
    lab.until("Open Source Network Boot Firmware", 120);
    let mut lab = start("mach");
    lab.until_serial("No bootstrap code loaded", 120);
    // The second SYSLINUX is that of the floppy which MEMDISK serves.
    let mut lab = start("floppy");
    lab.until("No configuration file found", 120);
    lab.keys("ls.c32<Enter>");
    lab.until("meminfo.c32", 60);
}

#[test]
#[ignore = "needs packages from Debian"]
fn kernels_start_from_it_under_our_own_bios() {
    if have(&PACKAGES) {
        starts_kernels(None, "kernels-own.img");
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn kernels_start_from_it_under_seabios() {
    if have(&PACKAGES) {
        starts_kernels(seabios::bios("bios.bin"), "kernels-seabios.img");
    }
}

/// Linux by its real-mode setup code, which asks the BIOS for the memory map and the screen.
fn starts_linux(bios: Option<(PathBuf, PathBuf)>, name: &str) {
    if !super::full() {
        return skipped("it takes 8 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&PACKAGES) || !have(&linux::PACKAGES) {
        return;
    }
    let initrd = cache().join(format!("{name}.initrd"));
    std::fs::write(&initrd, linux::initrd()).unwrap();
    let image = disk(name, &[("vmlinuz", linux::kernel()), ("initrd", initrd)]);
    let mut lab = prompt(image, bios, 128 << 20, 100_000_000);
    lab.keys("linux<Enter>");
    lab.until_serial("Linux version 6.1", 100);
    lab.until_serial("shell> ", 200);
    lab.send("uname -s\n");
    lab.until_serial("Linux", 20);
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_starts_from_it_under_our_own_bios() {
    starts_linux(None, "linux-own.img");
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_starts_from_it_under_seabios() {
    starts_linux(seabios::bios("bios.bin"), "linux-seabios.img");
}

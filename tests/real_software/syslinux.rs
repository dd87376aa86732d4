//! SYSLINUX (package syslinux) on a floppy that is made here with mtools, under our own BIOS and under SeaBIOS: its
//! prompt, and programs that it loads from the FAT file system.

use super::fetch::{cache, file, have};
use super::pc::{Lab, Monitor, Parts};
use super::seabios;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const PACKAGES: [&str; 4] = ["syslinux", "syslinux-common", "mtools", "seabios"];

/// Runs a host program with the fetched mtools on its path.
#[track_caller]
pub(crate) fn host(program: &Path, args: &[&str]) {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", cache().join("mtools/usr/bin").display());
    let output = Command::new(program).args(args).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One of mtools.
#[track_caller]
pub(crate) fn mtools(args: &[&str]) {
    host(&file("mtools", "usr/bin/mtools"), &[&["-c"], args].concat());
}

/// A 1.44 MB floppy with SYSLINUX and four programs.
pub(crate) fn floppy(name: &str) -> PathBuf {
    let image = cache().join(name);
    let _ = std::fs::remove_file(&image);
    let at = image.to_str().unwrap();
    mtools(&["mformat", "-C", "-f", "1440", "-i", at, "::"]);
    host(&file("syslinux", "usr/bin/syslinux"), &["--install", at]);
    for module in ["ls.c32", "libcom32.c32", "libutil.c32", "meminfo.c32"] {
        let module = file("syslinux-common", &format!("usr/lib/syslinux/modules/bios/{module}"));
        mtools(&["mcopy", "-i", at, module.to_str().unwrap(), "::"]);
    }
    image
}

/// What its programs say of memory.
struct Memory {
    sizes: &'static str,
    high: &'static [&'static str],
}

/// To its prompt, and through two of its programs.
fn boots(parts: Parts, floppy: PathBuf, memory: &Memory) -> Lab {
    let mut lab = Lab::new(Parts { floppies: vec![floppy], hz: 4_000_000, ..parts });
    lab.until("boot:", 60);
    lab.has_rows(&["WARNING: No configuration file found"]);
    assert!(lab.shows("SYSLINUX 6.04 CHS"), "{}", lab.text());
    lab.keys("ls.c32<Enter>");
    lab.until("ldlinux.sys", 30);
    lab.keys("meminfo.c32<Enter>");
    lab.until(memory.high[memory.high.len() - 1], 30);
    let first = "       0 0000000000000000x 000000000009fc00x 000000000009fc00x 1 [-] usable";
    lab.has_rows(&[&["boot: ls.c32", "boot: meminfo.c32", memory.sizes, first], memory.high].concat());
    lab
}

pub(crate) fn under_our_own_bios(floppy: PathBuf, monitor: Monitor) -> Lab {
    let memory = Memory {
        sizes: "INT 15 88: 0x7c00 (31744K)  INT 15 E801: 0x3c00 (15360K) 0x0100 (16384K)",
        high: &[
            "       3 0000000000100000x 0000000001f00000x 0000000002000000x 1 [-] usable",
            "       4 00000000ffff0000x 0000000000010000x 0000000100000000x 2 [-] reserved",
        ],
    };
    boots(Parts { monitor, ..Parts::default() }, floppy, &memory)
}

pub(crate) fn under_seabios(floppy: PathBuf, monitor: Monitor) -> Lab {
    let memory = Memory {
        // A page at the end of RAM holds the ACPI tables.
        sizes: "INT 15 88: 0x7bfc (31740K)  INT 15 E801: 0x3c00 (15360K) 0x00ff (16320K)",
        high: &[
            "       3 0000000000100000x 0000000001eff000x 0000000001fff000x 1 [-] usable",
            "       4 0000000001fff000x 0000000000001000x 0000000002000000x 2 [-] reserved",
            "       5 00000000fffc0000x 0000000000040000x 0000000100000000x 2 [-] reserved",
        ],
    };
    let bios = seabios::bios("bios.bin");
    boots(Parts { bios, monitor, ..Parts::default() }, floppy, &memory)
}

#[test]
#[ignore = "needs packages from Debian"]
fn it_boots_under_our_own_bios() {
    if have(&PACKAGES) {
        under_our_own_bios(floppy("syslinux-own.img"), None);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn it_boots_under_seabios() {
    if have(&PACKAGES) {
        under_seabios(floppy("syslinux-seabios.img"), None);
    }
}

//! Images as a user has them: found by content or named, locked, behind `--snapshot`, moved beside a
//! snapshot.

use super::qemu::{here, img};
use crate::common::program::{ends, refused, text};
use crate::common::scratch::Scratch;
use std::process::{Command, Stdio};

pub(crate) const BOOT: &[u8] = include_bytes!("../../../guest-programs/boot/boot.img");

#[test]
fn each_format_boots() {
    if !here("each_format_boots") {
        return;
    }
    let dir = Scratch::new("boots");
    let raw = dir.file("boot.img", BOOT);
    for (format, option) in [
        ("qcow2", "compat=1.1"),
        ("vpc", "subformat=fixed,force_size=on"),
        ("vpc", "subformat=dynamic,force_size=on"),
        ("vmdk", "subformat=streamOptimized"),
    ] {
        let path = dir.path(&format!("boot.{format}"));
        img(&["convert", "-f", "raw", "-O", format, "-o", option, &raw, &path]);
        let before = std::fs::read(&path).unwrap();
        ends(&["run", &path, "--snapshot"], 0);
        ends(&["run", "--disk", &path, "--snapshot"], 0);
        assert!(std::fs::read(&path).unwrap() == before, "{format} stays as it is");
        if format == "qcow2" {
            ends(&["run", &path], 0);
            // Called raw, it is no boot disk.
            let told =
                ends(&["run", "--disk", &format!("{path},format=raw"), "--snapshot", "--time", "1s"], 124);
            assert!(!text(&told.stderr).contains("panicked"));
        } else {
            refused(&["run", &path], 1, "--snapshot");
        }
    }
    ends(&["run", "--disk", &format!("{raw},format=nonsense")], 2);
}

/// Writes a sector that begins with the header of a qcow2 image to sector 0 of the first disk, and ends with
/// 0.
#[rustfmt::skip]
pub(crate) const DISGUISE: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xfc,                      // CLI; DS = 0; CLD
    0xba, 0xf6, 0x01, 0xb0, 0xe0, 0xee,                      // device 0, LBA
    0xba, 0xf2, 0x01, 0xb0, 0x01, 0xee,                      // one sector
    0x42, 0x30, 0xc0, 0xee, 0x42, 0xee, 0x42, 0xee,          // number 0
    0xba, 0xf7, 0x01, 0xb0, 0x30, 0xee,                      // WRITE SECTORS
    0xec, 0xa8, 0x08, 0x74, 0xfb,                            // until DRQ
    0xba, 0xf0, 0x01, 0xbe, 0x3f, 0x7c, 0xb9, 0x00, 0x01, 0xf3, 0x6f, // REP OUTSW from 7C3Fh
    0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, 0x75, 0xfb,          // until not BSY
    0xb0, 0x00, 0xe6, 0xf4, 0xeb, 0xfe, 0x90,                // exit with status 0
    b'Q', b'F', b'I', 0xfb, 0, 0, 0, 3,                      // at 3Fh
];

#[test]
fn a_guest_cannot_make_its_raw_disk_another_format() {
    let dir = Scratch::new("disguise");
    assert_eq!(&DISGUISE[0x3f..0x42], b"QFI");
    let (guest, disk) = (dir.file("guest.bin", DISGUISE), dir.file("disk.img", &[0; 8192]));
    let said = text(&ends(&["run", &guest, "--mode", "real", "--disk", &disk], 1).stderr);
    assert!(said.contains("format=raw"), "{said}");
    assert_eq!(std::fs::read(&disk).unwrap(), [0; 8192]);
    ends(&["run", &guest, "--mode", "real", "--disk", &format!("{disk},format=raw")], 0);
    assert!(std::fs::read(&disk).unwrap().starts_with(b"QFI\xfb"));
}

#[test]
fn an_image_is_written_by_one_run_at_a_time() {
    let dir = Scratch::new("locks");
    let disk = dir.file("disk.img", &[0; 8192]);
    refused(&["run", "hello", "--disk", &disk, "--disk", &disk], 1, "in use");
    let forever = dir.file("forever.bin", &[0xeb, 0xfe]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["run", &forever, "--mode", "real", "--disk", &disk])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    refused(&["run", "hello", "--disk", &disk], 1, "in use");
    refused(&["run", "hello", "--disk", &disk, "--snapshot"], 1, "writes to the image");
    child.kill().unwrap();
    child.wait().unwrap();
    ends(&["run", "hello", "--disk", &disk], 0);
    ends(&["run", "hello", "--disk", &disk, "--disk", &disk, "--snapshot"], 0);
}

#[test]
fn a_moved_disk_is_named_beside_restore() {
    let dir = Scratch::new("moved");
    let (disk, snap, moved) = (dir.file("boot.img", BOOT), dir.path("s"), dir.path("moved.img"));
    ends(&["snapshot", &disk, "--at-instruction", "60000", "--out", &snap], 0);
    std::fs::rename(&disk, &moved).unwrap();
    refused(&["run", "--restore", &snap], 1, "cannot open");
    ends(&["run", "--restore", &snap, "--disk", &moved], 0);
    ends(&["run", "--restore", &snap, "--disk", &moved, "--disk", &moved], 2);
    let mut other = BOOT.to_vec();
    other[700] ^= 1;
    let other = dir.file("other.img", &other);
    refused(&["run", "--restore", &snap, "--disk", &other], 1, "has changed");
}

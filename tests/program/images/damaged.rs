//! Images that are not built, damaged, or a trap: each a sentence, none a panic, a hang or a large
//! allocation.

use super::formats::content;
use super::qemu::{here, img};
use crate::common::scratch::Scratch;
use crate::common::seed;
use subring::media::SECTOR;
use subring::media::{ImageFormat, image};

#[track_caller]
fn refused(path: &str, write: bool, words: &str) {
    let said = image::open(path.as_ref(), None, write).expect_err("refused").to_string();
    assert!(said.contains(words), "`{said}` does not say `{words}`");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_not_built_is_named() {
    if !here("what_is_not_built_is_named") {
        return;
    }
    let dir = Scratch::new("refused");
    let path = dir.path("i.qcow2");
    let create = |option: &str| img(&["create", "-q", "-f", "qcow2", "-o", option, &path, "1M"]);
    create("extended_l2=on");
    refused(&path, false, "extended L2");
    let data = format!("data_file={}", dir.path("data"));
    create(&data);
    refused(&path, false, "external file");
    create("compat=1.1");
    let whole = std::fs::read(&path).unwrap();
    let patched = |changes: &[(usize, u8)]| {
        let mut bytes = whole.clone();
        changes.iter().for_each(|(at, value)| bytes[*at] = *value);
        dir.file("patched", &bytes)
    };
    refused(&patched(&[(35, 1)]), false, "encrypted");
    refused(&patched(&[(35, 2)]), false, "encrypted");
    refused(&patched(&[(78, 1)]), false, "incompatible bit 8");
    refused(&patched(&[(7, 4)]), false, "version 4");
    for (bit, words) in [(1, "stale"), (2, "corrupt")] {
        let path = patched(&[(79, bit)]);
        refused(&path, true, words);
        image::open(path.as_ref(), None, false).expect("it can be read as it is");
    }
    let a = dir.path("a.qcow2");
    img(&["create", "-q", "-f", "qcow2", &a, "1M"]);
    img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "a.qcow2", &dir.path("b.qcow2")]);
    img(&["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "b.qcow2", &a]);
    refused(&a, false, "its own backing file");
    std::fs::remove_file(dir.path("b.qcow2")).unwrap();
    refused(&a, false, "cannot be opened");
    img(&["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://host/x", &a]);
    refused(&a, false, "no file of this host");
    let child = dir.path("child.vmdk");
    img(&["create", "-q", "-f", "vmdk", &dir.path("parent.vmdk"), "1M"]);
    img(&["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", &dir.path("parent.vmdk"), &child]);
    refused(&child, false, "stands on a parent");
}

/// Opens what may be anything, and reads and writes here and there.
fn exercise(path: &str, write: bool) -> bool {
    let Ok(mut image) = image::open(path.as_ref(), None, write) else { return false };
    let mut buf = [7; 3 * SECTOR];
    let sectors = image.disk.sectors();
    for n in 0..24 {
        let lba = n * 97 % sectors.max(1);
        let _ = image.disk.read(lba, &mut buf);
        if write && image.format == ImageFormat::Qcow2 {
            let _ = image.disk.write(lba, &buf);
        }
    }
    let _ = image.disk.read(sectors.saturating_sub(3), &mut buf);
    true
}

#[test]
fn damaged_images_do_no_harm() {
    if !here("damaged_images_do_no_harm") {
        return;
    }
    let dir = Scratch::new("fuzz");
    let raw = dir.file("raw", &content(4, 600));
    let kinds = [
        ("qcow2", "cluster_size=512", true),
        ("qcow2", "cluster_size=4k", false),
        ("qcow2", "cluster_size=4k,compression_type=zstd", true),
        ("qcow2", "compat=0.10,cluster_size=1k", false),
        ("vpc", "subformat=dynamic", false),
        ("vpc", "subformat=fixed", false),
        ("vmdk", "subformat=monolithicSparse", false),
        ("vmdk", "subformat=streamOptimized", false),
        ("vmdk", "subformat=monolithicFlat", false),
    ];
    for (format, option, packed) in kinds {
        let path = dir.path(&format!("seed.{format}"));
        let pack: &[&str] = if packed { &["-c"] } else { &[] };
        img(&[&["convert"], pack, &["-f", "raw", "-O", format, "-o", option, &raw, &path]].concat());
        let whole = std::fs::read(&path).unwrap();
        let opened = std::cell::Cell::new(0);
        seed::each(250, 64, |dice| {
            let mut bytes = whole.clone();
            for change in dice[..48].chunks(6).take(1 + usize::from(dice[48] % 8)) {
                let areas = [72, 128, 2048, bytes.len()];
                let area = areas[usize::from(change[0] % 4)].min(bytes.len());
                let at =
                    (usize::from(change[1]) << 8 | usize::from(change[2]) | usize::from(change[3]) << 16)
                        % area;
                // Structures at the end of a VHD or a stream, too.
                let at = if change[5] % 8 == 0 { bytes.len() - 1 - at } else { at };
                bytes[at] = [0, 1, 0xff, 0x80, change[4]][usize::from(change[5] % 5)];
            }
            if dice[49].is_multiple_of(6) {
                bytes.truncate((usize::from(dice[50]) << 8 | usize::from(dice[51])) * 7 % whole.len());
            }
            let file = dir.file("damaged", &bytes);
            let write = dice[52].is_multiple_of(2);
            opened.set(opened.get() + u32::from(exercise(&file, write)));
            exercise(&file, false);
            let len = std::fs::metadata(&file).unwrap().len();
            assert!(len < 1 << 32, "a small disk makes a file of {len} bytes");
        });
        assert!(opened.get() > 20, "{format} {option}: some open in spite of it: {}", opened.get());
        assert!(exercise(&path, false), "the undamaged image opens");
    }
}

//! Images that qemu-img makes read as the raw image they were made of, and what is written to them reads back
//! there.

use super::qemu::{check, here, img};
use crate::common::scratch::Scratch;
use crate::common::seed;
use subring::media::{Disk, SECTOR};
use subring::media::{ImageFormat, image};

/// Content with zeros, with what compresses, and with what does not.
pub(crate) fn content(seed: u64, sectors: usize) -> Vec<u8> {
    let mut bytes = seed::bytes(seed, sectors * SECTOR);
    for (n, piece) in bytes.chunks_mut(24 * SECTOR).enumerate() {
        match n % 4 {
            0 => piece.fill(0),
            1 => piece.chunks_mut(64).for_each(|c| c.fill(n as u8)),
            _ => {}
        }
    }
    bytes
}

pub(crate) fn read_all(disk: &mut dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.sectors() as usize * SECTOR];
    let mut at = 0;
    // Pieces that do not end with clusters.
    for len in [1, 7, 16, 129, 256].into_iter().cycle() {
        let len = (len * SECTOR).min(bytes.len() - at);
        if len == 0 {
            return bytes;
        }
        disk.read((at / SECTOR) as u64, &mut bytes[at..at + len]).unwrap();
        at += len;
    }
    bytes
}

#[track_caller]
fn reads(path: &str, format: ImageFormat, expected: &[u8]) {
    let mut image = image::open(path.as_ref(), None, false).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(image.format, format, "{path}");
    let read = read_all(&mut *image.disk);
    assert!(read.len() >= expected.len(), "{path}: {} sectors", read.len() / SECTOR);
    let wrong = read.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(wrong.map(|at| at / SECTOR), None, "{path}: the first sector that differs");
    // VHD rounds up to its geometry.
    assert!(read[expected.len()..].iter().all(|b| *b == 0), "{path}: zeros behind the end");
}

#[test]
fn what_qemu_img_converts_reads_as_the_raw_image() {
    if !here("what_qemu_img_converts_reads_as_the_raw_image") {
        return;
    }
    let dir = Scratch::new("convert");
    let raw_bytes = content(1, 8003);
    let raw = dir.file("raw.img", &raw_bytes);
    reads(&raw, ImageFormat::Raw, &raw_bytes);
    let kinds: &[(&str, ImageFormat, &[&str])] = &[
        ("qcow2", ImageFormat::Qcow2, &["compat=1.1"]),
        ("qcow2", ImageFormat::Qcow2, &["compat=0.10", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["cluster_size=512"]),
        ("qcow2", ImageFormat::Qcow2, &["cluster_size=512", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["cluster_size=4k,refcount_bits=1", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["cluster_size=2M"]),
        ("qcow2", ImageFormat::Qcow2, &["cluster_size=2M,refcount_bits=64", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["compression_type=zstd", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["compression_type=zstd,cluster_size=4k", "-c"]),
        ("qcow2", ImageFormat::Qcow2, &["preallocation=metadata"]),
        ("qcow2", ImageFormat::Qcow2, &["preallocation=full,lazy_refcounts=on"]),
        ("vpc", ImageFormat::Vhd, &["subformat=fixed"]),
        ("vpc", ImageFormat::Vhd, &["subformat=dynamic"]),
        ("vpc", ImageFormat::Vhd, &["subformat=fixed,force_size=on"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=monolithicSparse"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=monolithicSparse,zeroed_grain=on"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=streamOptimized"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=monolithicFlat"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=twoGbMaxExtentSparse"]),
        ("vmdk", ImageFormat::Vmdk, &["subformat=twoGbMaxExtentFlat"]),
    ];
    for (n, (name, format, options)) in kinds.iter().enumerate() {
        let out = dir.path(&format!("{n}.{name}"));
        let mut args = vec!["convert", "-f", "raw", "-O", name, "-o", options[0]];
        args.extend(&options[1..]);
        args.extend([raw.as_str(), out.as_str()]);
        img(&args);
        reads(&out, *format, &raw_bytes);
        if *format != ImageFormat::Qcow2 {
            let said = image::open(out.as_ref(), None, true).unwrap_err().to_string();
            assert!(said.contains("--snapshot"), "{said}");
        }
    }
}

/// What a property does to an image and to its model: single sectors, runs, and whole regions.
fn write_at_random(disk: &mut dyn Disk, model: &mut [u8], case: u64, writes: u64) {
    let sectors = (model.len() / SECTOR) as u64;
    for n in 0..writes {
        let dice = seed::bytes(case << 32 | n, 16);
        let number =
            |at: usize| u64::from_le_bytes([dice[at], dice[at + 1], dice[at + 2], dice[at + 3], 0, 0, 0, 0]);
        let len = [1, 1, 3, 16, 130][(dice[8] % 5) as usize].min(sectors);
        let lba = number(0) % (sectors - len + 1);
        let data = if dice[9].is_multiple_of(8) {
            vec![0; len as usize * SECTOR]
        } else {
            seed::bytes(number(4), len as usize * SECTOR)
        };
        disk.write(lba, &data).unwrap_or_else(|e| panic!("write {n}: {e}"));
        model[lba as usize * SECTOR..][..data.len()].copy_from_slice(&data);
        if dice[10].is_multiple_of(16) {
            disk.flush().unwrap();
        }
    }
}

/// Writes at random through us, and holds that qemu-img finds the image sound and of the model's content.
fn property(dir: &Scratch, path: &str, model: &mut [u8], case: u64) {
    for round in 0..2 {
        let mut image =
            image::open(path.as_ref(), Some(ImageFormat::Qcow2), true).unwrap_or_else(|e| panic!("{e}"));
        write_at_random(&mut *image.disk, model, case * 2 + round, 150);
        assert!(read_all(&mut *image.disk) == *model, "case {case}: it reads as written");
        image.disk.flush().unwrap();
        drop(image);
        check(path, false);
        let out = dir.path("back.raw");
        img(&["convert", "-f", "qcow2", "-O", "raw", path, &out]);
        assert!(std::fs::read(&out).unwrap() == *model, "case {case}: qemu-img reads as written");
    }
}

#[test]
fn random_writes_leave_a_sound_image_of_the_right_content() {
    if !here("random_writes_leave_a_sound_image_of_the_right_content") {
        return;
    }
    let dir = Scratch::new("random");
    let base_bytes = content(2, 9000);
    let base = dir.file("base.img", &base_bytes);
    let options = [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=512,compat=0.10",
        "cluster_size=512,refcount_bits=1",
        "cluster_size=1k,refcount_bits=64",
        "cluster_size=4k,refcount_bits=8",
        "cluster_size=2M",
        "preallocation=metadata",
        "cluster_size=4k,compression_type=zstd",
    ];
    for (n, option) in options.into_iter().enumerate() {
        let n = n as u64;
        let path = dir.path("image.qcow2");
        // Empty, converted, compressed, over a raw base, over a shorter qcow2 base by a relative name.
        img(&["create", "-q", "-f", "qcow2", "-o", option, &path, "6M"]);
        property(&dir, &path, &mut vec![0; 6 << 20], n * 10);
        img(&["convert", "-f", "raw", "-O", "qcow2", "-o", option, &base, &path]);
        property(&dir, &path, &mut base_bytes.clone(), n * 10 + 1);
        if option.contains("preallocation") {
            continue;
        }
        img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", option, &base, &path]);
        property(&dir, &path, &mut base_bytes.clone(), n * 10 + 2);
        img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img", "-o", option, &path]);
        property(&dir, &path, &mut base_bytes.clone(), n * 10 + 3);
        let middle = dir.path("middle.qcow2");
        std::fs::rename(&path, &middle).unwrap();
        let mut model = vec![0; 6 << 20];
        model[..base_bytes.len()].copy_from_slice(&{
            let mut image = image::open(middle.as_ref(), None, false).unwrap();
            read_all(&mut *image.disk)
        });
        img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "middle.qcow2", "-o", option, &path, "6M"]);
        let before = std::fs::read(&middle).unwrap();
        property(&dir, &path, &mut model, n * 10 + 4);
        assert!(std::fs::read(&middle).unwrap() == before, "the backing file stays");
    }
    assert!(std::fs::read(&base).unwrap() == base_bytes);
}

#[test]
fn internal_snapshots_stay_as_they_are() {
    if !here("internal_snapshots_stay_as_they_are") {
        return;
    }
    let dir = Scratch::new("internal");
    let bytes = content(3, 5000);
    let (raw, path, out) = (dir.file("raw", &bytes), dir.path("i.qcow2"), dir.path("out"));
    for option in ["cluster_size=512", "cluster_size=64k", "cluster_size=4k,compat=0.10"] {
        for packed in [false, true] {
            let pack: &[&str] = if packed { &["-c"] } else { &[] };
            img(&[&["convert"], pack, &["-f", "raw", "-O", "qcow2", "-o", option, &raw, &path]].concat());
            img(&["snapshot", "-c", "first", &path]);
            let mut model = bytes.clone();
            property(&dir, &path, &mut model, 900);
            img(&["snapshot", "-c", "second", &path]);
            let second = model.clone();
            property(&dir, &path, &mut model, 901);
            for (name, expected) in [("first", &bytes), ("second", &second)] {
                img(&["convert", "-l", name, "-f", "qcow2", "-O", "raw", &path, &out]);
                assert!(std::fs::read(&out).unwrap() == *expected, "{option}: snapshot {name}");
            }
            img(&["snapshot", "-d", "first", &path]);
            property(&dir, &path, &mut model, 902);
        }
    }
}

/// A qcow2 image of version 3: one empty disk of 64 sectors in clusters of 512 bytes, with bit 0 of its autoclear
/// features set.
fn with_bitmaps() -> Vec<u8> {
    let mut bytes = vec![0; 4 * SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb");
    for (at, field) in [(4, 3u32), (20, 9), (36, 1), (56, 1), (96, 4), (100, 104)] {
        put(at, &field.to_be_bytes());
    }
    // The disk's size, the L1 table and the refcount table; the block of refcounts, one for each cluster.
    for (at, field) in [(24, 64 * SECTOR), (40, 3 * SECTOR), (48, SECTOR), (88, 1), (SECTOR, 2 * SECTOR)] {
        put(at, &(field as u64).to_be_bytes());
    }
    (0..4).for_each(|cluster| put(2 * SECTOR + 2 * cluster, &1u16.to_be_bytes()));
    bytes
}

/// Bit 0 of the header's autoclear features says that dirty bitmaps are up to date. A writer that does not keep
/// bitmaps must clear the bit; a reader must not touch the file.
#[track_caller]
fn autoclear_features_go(dir: &Scratch, bytes: &[u8]) {
    let path = dir.file("a.qcow2", bytes);
    let mut image = image::open(path.as_ref(), None, true).unwrap();
    let mut model = vec![0; image.disk.sectors() as usize * SECTOR];
    assert!(read_all(&mut *image.disk) == model);
    image.disk.flush().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes, "a read changed the file");
    for lba in [3, 40] {
        image.disk.write(lba, &[7; SECTOR]).unwrap();
        model[lba as usize * SECTOR..][..SECTOR].fill(7);
        image.disk.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[88..96], [0; 8]);
    }
    drop(image);
    let mut again = image::open(path.as_ref(), None, false).unwrap();
    assert!(read_all(&mut *again.disk) == model);
    if here("the check of an image without autoclear features") {
        check(&path, false);
    }
}

#[test]
fn autoclear_features_go_with_the_first_write() {
    autoclear_features_go(&Scratch::new("autoclear"), &with_bitmaps());
}

#[test]
fn autoclear_features_of_an_image_of_qemus_go_with_the_first_write() {
    if !here("autoclear_features_of_an_image_of_qemus_go_with_the_first_write") {
        return;
    }
    let dir = Scratch::new("autoclear-qemu");
    let path = dir.path("made.qcow2");
    img(&["create", "-f", "qcow2", &path, "1M"]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[95] |= 1;
    autoclear_features_go(&dir, &bytes);
}

//! The program is killed while its guest writes: no image is damaged by that, every sector is whole, old or
//! new, and what was there at a FLUSH CACHE stays.

use super::qemu::{check, here, img};
use crate::common::scratch::Scratch;
use crate::common::seed;
use std::process::{Command, Stdio};
use std::time::Duration;
use subring::media::SECTOR;

/// Built from writer.asm; its header says what it does.
const WRITER: &[u8] = include_bytes!("writer.bin");
const SECTORS: usize = 0x2000;

/// The sector that each step of a run writes, from step 1 on.
fn steps(seed: u32) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .skip(1)
        .map(|x| x as usize >> 16 & (SECTORS - 1))
}

fn pattern(step: u32, run: u32, lba: usize) -> Vec<u8> {
    let pair = [(step | run << 24).to_le_bytes(), (lba as u32).to_le_bytes()].concat();
    pair.repeat(SECTOR / 8)
}

/// Lets the guest write to `image` for a while, and kills it. Gives the last step that it had flushed.
fn kill(dir: &Scratch, image: &str, run: u32, seed: u32, millis: u64) -> u32 {
    let mut guest = WRITER.to_vec();
    guest[4..8].copy_from_slice(&seed.to_le_bytes());
    guest[8..12].copy_from_slice(&(run << 24).to_le_bytes());
    let (guest, told) = (dir.file("guest.bin", &guest), dir.path("told"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["run", &guest, "--mode", "real", "--disk", image, "--debugcon", &told])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), None, "it was killed: {}", String::from_utf8_lossy(&output.stderr));
    let told = std::fs::read(&told).unwrap_or_default();
    told.chunks_exact(4).last().map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Holds that each sector of `now` is what a run of `seed` may have left of `before`. Gives the last step
/// seen.
fn judge(before: &[u8], now: &[u8], run: u32, seed: u32, flushed: u32) -> u32 {
    let tag = |sector: &[u8]| u32::from_le_bytes([sector[0], sector[1], sector[2], sector[3]]);
    let of_run = |sector: &[u8]| (tag(sector) >> 24 == run).then(|| tag(sector) & 0xff_ffff);
    let last = now.chunks(SECTOR).filter_map(of_run).max().unwrap_or(0);
    assert!(last >= flushed, "what was flushed is there");
    let mut lasting = vec![0; SECTORS];
    let mut written = Vec::from([usize::MAX]);
    for (step, lba) in (1..=last).zip(steps(seed)) {
        written.push(lba);
        if step <= flushed {
            lasting[lba] = step;
        }
    }
    for (lba, sector) in now.chunks(SECTOR).enumerate() {
        match of_run(sector) {
            Some(step) => {
                assert_eq!(
                    written[step as usize], lba,
                    "run {run}: sector {lba} holds another sector's step"
                );
                assert!(sector == pattern(step, run, lba), "run {run}: sector {lba} is in halves");
                assert!(step >= lasting[lba], "run {run}: sector {lba} lost what was flushed");
            }
            None => {
                assert!(
                    sector == &before[lba * SECTOR..][..SECTOR],
                    "run {run}: sector {lba} is neither old nor new"
                );
                assert_eq!(lasting[lba], 0, "run {run}: sector {lba} lost what was flushed");
            }
        }
    }
    last
}

#[test]
fn the_writer_is_built_from_its_source() {
    let (dir, source) =
        (Scratch::new("writer"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/images/writer.asm"));
    let built = dir.path("writer.bin");
    match Command::new("nasm").args(["-f", "bin", "-o", &built, source]).status() {
        Ok(status) => {
            assert!(status.success() && std::fs::read(built).unwrap() == WRITER, "writer.bin is stale")
        }
        Err(_) => eprintln!("SKIPPED: the_writer_is_built_from_its_source: no nasm on this machine"),
    }
}

#[test]
fn a_killed_program_leaves_its_images_whole() {
    if !here("a_killed_program_leaves_its_images_whole") {
        return;
    }
    let full = std::env::var_os("SUBRING_FULL").is_some();
    let runs = if full { 60 } else { 6 };
    let dir = Scratch::new("crash");
    // Top bytes of the first words of these are no run's.
    let old: Vec<u8> = (0..SECTORS).flat_map(|lba| pattern(lba as u32, 0xff, lba)).collect();
    let base = dir.file("base.img", &old);
    let (image, out) = (dir.path("image"), dir.path("out"));
    let over_base = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base];
    let packed = ["convert", "-c", "-f", "raw", "-O", "qcow2", &base];
    let makers: [(&str, Vec<&str>); 5] = [
        ("512 bytes over a base", [&over_base[..], &["-o", "cluster_size=512", &image]].concat()),
        ("64 KiB over a base", [&over_base[..], &[&image]].concat()),
        ("4 KiB compressed", [&packed[..6], &["-o", "cluster_size=4k", &base, &image]].concat()),
        (
            "512 bytes of version 2",
            [&packed[..1], &packed[2..6], &["-o", "cluster_size=512,compat=0.10", &base, &image]].concat(),
        ),
        ("raw", vec!["convert", "-f", "raw", "-O", "raw", &base, &image]),
    ];
    for (name, make) in makers {
        let _ = std::fs::remove_file(&image);
        img(&make);
        let (mut before, mut most) = (old.clone(), 0);
        for run in 1..=runs {
            let dice = seed::bytes(run.into(), 8);
            let seed = u32::from_le_bytes([dice[0], dice[1], dice[2], dice[3]]);
            let flushed = kill(&dir, &image, run, seed, 30 + u64::from(dice[4]));
            if name == "raw" {
                std::fs::copy(&image, &out).unwrap();
            } else {
                check(&image, true);
                img(&["convert", "-f", "qcow2", "-O", "raw", &image, &out]);
            }
            let now = std::fs::read(&out).unwrap();
            assert_eq!(now.len(), old.len(), "{name}");
            most = most.max(judge(&before, &now, run, seed, flushed));
            before = now;
            // Snapshots share clusters: the writes after this one copy.
            if name != "raw" && run % 3 == 2 {
                img(&["snapshot", "-c", &format!("run{run}"), &image]);
            }
        }
        assert!(most > 100, "{name}: the guest wrote: {most} sectors in its best run");
    }
}

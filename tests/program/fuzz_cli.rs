//! The program itself at the edges of its options: smallest and largest memories and clocks, damaged and odd-sized
//! images, random arguments. It ends with one of its documented statuses, and never by a panic.

use crate::common::seed;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// What a panic, or an abort on one, ends with.
const PANICS: [Option<i32>; 2] = [Some(101), None];

fn subring(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_subring"));
    let output = command.args(args).stdin(Stdio::null()).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !PANICS.contains(&output.status.code()) && !told.contains("panicked"),
        "subring {args:?}: {told}"
    );
    output
}

/// A file of `len` bytes of noise in the directory for tests.
fn noise(name: &str, len: usize) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, seed::bytes(7, len)).expect("the directory can be written");
    path
}

#[test]
fn memories_and_clocks_of_any_size_run() {
    for mem in ["64K", "68K", "636K", "640K", "1M", "1028K", "16M", "3G"] {
        for hz in ["1K", "32768", "100M", "100G"] {
            for guest in ["hello", "boot", "rings"] {
                let output =
                    subring(&["run", guest, "--mem", mem, "--hz", hz, "--budget", "150K", "--time", "3s"]);
                let status = output.status.code();
                assert!(matches!(status, Some(0 | 1 | 2 | 120..=124)), "{guest} {mem} {hz}: {status:?}");
            }
        }
    }
}

#[test]
fn disks_of_odd_sizes_are_taken_or_refused_with_a_sentence() {
    for len in
        [0, 1, 511, 512, 513, 1024, 63 * 512, 163_840, 368_640, 1_474_560, 1_474_561, 2_949_120, 3_000_000]
    {
        let path = noise(&format!("disk{len}"), len);
        let image = path.to_string_lossy();
        for kind in ["--disk", "--floppy"] {
            let output = subring(&["run", kind, &image, "--snapshot", "--budget", "400K", "--time", "1s"]);
            let told = !output.stderr.is_empty();
            assert!(output.status.code() != Some(1) || told, "{len}: a refusal says why");
        }
        subring(&["run", &image, "--snapshot", "--budget", "100K", "--time", "1s"]);
    }
}

#[test]
fn random_arguments_do_no_harm() {
    let file = noise("arguments", 2048);
    let file = file.to_string_lossy();
    #[rustfmt::skip]
    let words = [
        "run", "guests", "hello", "rings", "boot", "smc", "--mem", "64K", "1M", "0", "-1", "--hz", "1K", "--keys", "@1s:x<Enter>",
        "@", "--json", "--trace", "insn", "fault,port", "--append", "x y", "--at", "0x7c00", "0xffffffff", "--mode", "real",
        "--format", "flat", "multiboot", "--stats", "--epoch", "2099-12-31", "--module", "--bios", "--vgabios", "--disk",
        "--floppy", "--help", "--version", "--no-input", "--no-apic", "--no-acpi", "--", "", "\u{fffd}", file.as_ref(),
    ];
    seed::each(60, 32, |data| {
        let picked =
            data[1..].iter().take(usize::from(data[0] % 7)).map(|&n| words[usize::from(n) % words.len()]);
        let mut args: Vec<&str> = ["run"].into_iter().chain(picked).collect();
        // What is run at all is to end soon; options given twice are refused.
        if !args.contains(&"--") {
            args.extend(["--budget", "50K", "--time", "1s", "--snapshot"]);
        } else {
            args.insert(1, "--budget=50K");
            args.insert(1, "--time=1s");
        }
        subring(&args);
    });
}

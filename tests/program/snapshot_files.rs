//! `subring snapshot`, `run --restore`, `run --record` and `run --replay`, as a user has them.

use crate::common::program::{ends, program, refused, subring, text};
use crate::common::scratch::Scratch;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

/// What `--json` says of the end, but for what is counted behind the scenes.
fn end_of(args: &[&str]) -> serde_json::Value {
    let output = subring(&[args, &["--json"]].concat());
    let mut end: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", text(&output.stderr)));
    let stats = end["stats"].as_object_mut().unwrap();
    stats.remove("other");
    stats.remove("monitor");
    end.as_object_mut().unwrap().remove("guest");
    end.as_object_mut().unwrap().remove("notes");
    end.as_object_mut().unwrap().remove("serial");
    end
}

/// What was said of a run's end: notes are about options that a replay has not, such as steps of --keys.
fn without_notes(stderr: &[u8]) -> String {
    text(stderr).lines().filter(|line| !line.starts_with("subring: note: ")).collect::<Vec<_>>().join("\n")
}

/// Holds that `guest` (with its options), saved at each of `cuts` and restored, prints and ends as it does in
/// one run.
fn assert_restores(dir: &Scratch, guest: &[&str], cuts: &[&[&str]]) {
    let whole = subring(&[&["run"], guest].concat());
    let end = end_of(&[&["run"], guest].concat());
    let file = dir.path("machine.snap");
    for cut in cuts {
        let head = ends(&[&["snapshot", "--out", &file], *cut, guest].concat(), 0);
        let tail = subring(&["run", "--restore", &file]);
        let printed = [head.stdout, tail.stdout].concat();
        assert_eq!(text(&printed), text(&whole.stdout), "{guest:?} cut at {cut:?}");
        assert_eq!(tail.status.code(), whole.status.code());
        assert_eq!(end_of(&["run", "--restore", &file]), end, "{guest:?} cut at {cut:?}");
    }
}

#[test]
fn a_restored_kernel_prints_the_rest() {
    let dir = Scratch::new("rings");
    let cuts: [&[&str]; 4] = [
        &["--at-instruction", "0"],
        &["--at-instruction", "123457"],
        &["--at-time", "3ms"],
        &["--at-time", "9ms"],
    ];
    assert_restores(&dir, &["rings"], &cuts);
}

#[test]
fn firmware_and_its_disk_go_on() {
    let dir = Scratch::new("boot");
    let cuts: [&[&str]; 3] =
        [&["--at-instruction", "1000"], &["--at-instruction", "60000"], &["--at-time", "1ms"]];
    assert_restores(&dir, &["boot"], &cuts);
    let image = include_bytes!("../../guest-programs/boot/boot.img");
    let disk = dir.file("boot.img", image);
    assert_restores(&dir, &[&disk], &cuts);
    assert_restores(&dir, &[&disk, "--snapshot"], &cuts);
    assert_eq!(std::fs::read(&disk).unwrap(), image);
}

#[test]
fn snapshots_chain() {
    let dir = Scratch::new("chain");
    let (one, two, direct) = (dir.path("1"), dir.path("2"), dir.path("d"));
    ends(&["snapshot", "rings", "--at-instruction", "20001", "--out", &one], 0);
    ends(&["snapshot", "--restore", &one, "--at-instruction", "90001", "--out", &two], 0);
    ends(&["snapshot", "rings", "--at-instruction", "90001", "--out", &direct], 0);
    assert_eq!(end_of(&["run", "--restore", &two]), end_of(&["run", "--restore", &direct]));
}

#[test]
fn a_changed_disk_is_refused() {
    let dir = Scratch::new("changed");
    let disk = dir.file("boot.img", include_bytes!("../../guest-programs/boot/boot.img"));
    let file = dir.path("machine.snap");
    ends(&["snapshot", &disk, "--at-instruction", "1000", "--out", &file], 0);
    let mut image = std::fs::read(&disk).unwrap();
    image[700] ^= 1;
    std::fs::write(&disk, image).unwrap();
    refused(&["run", "--restore", &file], 1, "has changed since the snapshot");
    std::fs::remove_file(&disk).unwrap();
    refused(&["run", "--restore", &file], 1, "cannot open");
}

#[test]
fn damaged_snapshots_are_refused() {
    let dir = Scratch::new("damaged");
    let file = dir.path("machine.snap");
    ends(&["snapshot", "hello", "--at-instruction", "3000", "--out", &file], 0);
    let whole = std::fs::read(&file).unwrap();
    // The header byte by byte, then across the file.
    let across = (1..60).map(|n| 36 + (whole.len() - 37) * n / 59);
    for at in (0..36).chain(across) {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bad).unwrap();
        refused(&["run", "--restore", &file], 1, "snapshot");
    }
    for len in [0, 1, 35, 36, 1000, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        refused(&["run", "--restore", &file], 1, "snapshot");
    }
    std::fs::write(&file, [&whole[..], &[0]].concat()).unwrap();
    refused(&["run", "--restore", &file], 1, "damaged");
    let mut other = whole;
    other[8] = 0x7f;
    std::fs::write(&file, other).unwrap();
    refused(&["run", "--restore", &file], 1, "of version 127");
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let dir = Scratch::new("options");
    let file = dir.path("s");
    let usage = |args: &[&str], words: &str| {
        let output = ends(args, 2);
        assert!(text(&output.stderr).contains(words), "{args:?}: {}", text(&output.stderr));
    };
    usage(&["snapshot", "hello", "--out", &file], "--at-instruction");
    usage(&["snapshot", "hello", "--at-instruction", "5"], "--out");
    usage(
        &["snapshot", "hello", "--at-instruction", "5", "--at-time", "1s", "--out", &file],
        "cannot be used with",
    );
    usage(&["run", "hello", "--restore", &file], "cannot be used with");
    usage(&["run", "--restore", &file, "--mem", "64M"], "cannot be used with");
    usage(&["run", "hello", "--record", &file, "--replay", &file], "cannot be used with");
    let output = ends(&["snapshot", "hello", "--at-instruction", "100G", "--out", &file], 2);
    assert!(text(&output.stderr).contains("ended before the point"), "{}", text(&output.stderr));
    refused(&["run", "--restore", "/no/such"], 1, "cannot open /no/such");
    assert!(!std::path::Path::new(&file).exists());
}

/// Sends back what comes by the serial line, each byte with the low byte of the time-stamp counter, and what
/// the keyboard has; ends at a `q`. What it prints tells when its input came.
#[rustfmt::skip]
const ECHO: &[u8] = &[
    0xba, 0xfd, 0x03, 0, 0, 0xec, 0xa8, 0x01, 0x74, 0x15,   // the line status; no byte: to the keyboard
    0xba, 0xf8, 0x03, 0, 0, 0xec, 0xee,                     // IN AL; OUT AL
    0x3c, b'q', 0x74, 0x1a,                                 // q: to the end
    0x0f, 0x31, 0xba, 0xf8, 0x03, 0, 0, 0xee, 0xeb, 0xe1,   // RDTSC; OUT AL; again
    0xe4, 0x64, 0xa8, 0x01, 0x74, 0xdb,                     // the keyboard's status; nothing: again
    0xe4, 0x60, 0xba, 0xf8, 0x03, 0, 0, 0xee, 0xeb, 0xd1,   // its byte; OUT AL; again
    0xb0, 0, 0xe6, 0xf4,                                    // exit with status 0
];

/// A session with [`ECHO`]: some bytes by a pipe, some keys at their times.
fn record(dir: &Scratch, options: &[&str], pieces: &[&[u8]]) -> (String, String, Output) {
    let (guest, file) = (dir.file("echo.bin", ECHO), dir.path("session.rec"));
    let args = ["run", &guest, "--keys", "@20ms:ab@+30ms:<Enter>", "--record", &file];
    let mut child = program(&[&args, options].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for piece in pieces {
        std::thread::sleep(Duration::from_millis(40));
        // It may have ended by its budget before it read this.
        let _ = stdin.write_all(piece);
    }
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    (guest, file, output)
}

#[test]
fn a_session_replays_bit_by_bit() {
    let dir = Scratch::new("replay");
    let (guest, file, recorded) = record(&dir, &[], &[b"Hello", b", ", b"wor", b"ld", b"q"]);
    assert_eq!(recorded.status.code(), Some(0), "{}", text(&recorded.stderr));
    assert!(recorded.stdout.len() > 15);
    for _ in 0..2 {
        let replayed = ends(&["run", &guest, "--replay", &file], 0);
        assert_eq!(replayed.stdout, recorded.stdout);
        // It tells the instructions retired; that the state is the same the replay has asserted.
        assert_eq!(without_notes(&replayed.stderr), without_notes(&recorded.stderr));
    }
}

/// The same by interrupts: it halts between, and the session waits for its user at real time.
#[rustfmt::skip]
const IDLE: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8,                           // CLI; DS = 0
    0xc7, 0x06, 0x30, 0, 0x23, 0x7c, 0x8c, 0x0e, 0x32, 0,   // vector 0Ch: the handler
    0xb0, 0xef, 0xe6, 0x21,                                 // IRQ 4 only
    0xba, 0xfc, 0x03, 0xb0, 0x0b, 0xee,                     // OUT2
    0xba, 0xf9, 0x03, 0xb0, 0x01, 0xee,                     // interrupt on receive
    0xfb, 0xf4, 0xeb, 0xfd,                                 // STI; HLT for ever
    0xba, 0xf8, 0x03, 0xec, 0xee, 0x3c, b'q', 0x74, 0x0b,   // the handler: IN AL; OUT AL; q: to the end
    0x0f, 0x31, 0xba, 0xf8, 0x03, 0xee,                     // RDTSC; OUT AL
    0xb0, 0x20, 0xe6, 0x20, 0xcf,                           // end of interrupt; IRET
    0x30, 0xc0, 0xe6, 0xf4,                                 // exit with status 0
];

/// Runs the program at a terminal of its own, typing `keys` one by one. Gives its exit status and stdout.
fn at_a_terminal(args: &[&str], keys: &[u8]) -> (Option<i32>, Vec<u8>) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let mut terminal = std::fs::File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let far_end = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let child = program(args).stdin(far_end).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    for key in keys {
        std::thread::sleep(Duration::from_millis(90));
        terminal.write_all(&[*key]).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output.stdout)
}

#[test]
fn a_session_at_a_terminal_replays() {
    let dir = Scratch::new("terminal");
    let (guest, file) = (dir.file("idle.bin", IDLE), dir.path("r"));
    // With its own end, left with Ctrl-A X, and over when the time is.
    for (keys, options, status) in
        [(&b"ab cdq"[..], &[][..], 0), (b"xyz\x01x", &[], 130), (b"mn", &["--time", "500ms"], 124)]
    {
        let record = ["run", &guest, "--mode", "real", "--record", &file];
        let (code, printed) = at_a_terminal(&[&record, options].concat(), keys);
        assert_eq!(code, Some(status));
        assert!(printed.len() + 3 > keys.len(), "{printed:?}");
        let replayed = ends(&["run", &guest, "--mode", "real", "--replay", &file], status);
        assert_eq!(replayed.stdout, printed);
    }
}

#[test]
fn a_session_whose_program_was_killed_replays_as_far_as_it_got() {
    let dir = Scratch::new("killed");
    let (guest, file) = (dir.file("echo.bin", ECHO), dir.path("killed.rec"));
    let mut child = program(&["run", &guest, "--record", &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut printed = Vec::new();
    // Each byte comes back, with the time: then it was taken.
    for byte in b"abc" {
        stdin.write_all(&[*byte]).unwrap();
        let mut back = [0; 2];
        std::io::Read::read_exact(&mut stdout, &mut back).unwrap();
        printed.extend(back);
    }
    // And it lives for a guest second more.
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    while size() == before {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let replayed = ends(&["run", &guest, "--replay", &file], 130);
    assert_eq!(replayed.stdout, printed);
    let said = text(&replayed.stderr);
    assert!(said.contains("the recording breaks off") && said.contains("was killed"), "{said}");
}

#[test]
fn a_session_that_its_user_ended_replays() {
    let dir = Scratch::new("left");
    for (options, status) in [(&["--time", "300ms"][..], 124), (&["--budget", "12345678"], 124)] {
        let (guest, file, recorded) = record(&dir, options, &[b"x"]);
        assert_eq!(recorded.status.code(), Some(status), "{}", text(&recorded.stderr));
        let replayed = ends(&["run", &guest, "--replay", &file], status);
        assert_eq!(replayed.stdout, recorded.stdout);
        assert_eq!(without_notes(&replayed.stderr), without_notes(&recorded.stderr));
    }
}

#[test]
fn built_in_guests_replay() {
    let dir = Scratch::new("builtin");
    let file = dir.path("r");
    for name in ["rings", "boot", "smc"] {
        let recorded = ends(&["run", name, "--record", &file, "--keys", "@1ms:abc"], 0);
        let replayed = ends(&["run", name, "--replay", &file], 0);
        let end = |out: &Output| (text(&out.stdout), without_notes(&out.stderr));
        assert_eq!(end(&replayed), end(&recorded), "{name}");
    }
}

/// Each monitor, by its options.
const MONITORS: [&[&str]; 4] = [
    &["--strategy", "trap"],
    &["--strategy", "trap", "--coherence", "vtlb"],
    &["--strategy", "bt"],
    &["--strategy", "bt", "--coherence", "vtlb"],
];

/// The guest is one that even trap and emulate runs as the bare machine does.
#[test]
fn a_session_under_a_monitor_replays_and_is_that_of_the_bare_machine() {
    let dir = Scratch::new("monitors");
    let file = dir.path("r");
    let keys = ["--keys", "@1ms:abc"];
    let run = |how: &str, options: &[&str]| ends(&[&["run", "rings-clean", how, &file], options].concat(), 0);
    let bare = run("--record", &keys);
    for options in MONITORS {
        refused(
            &[&["run", "rings-clean", "--replay", &file], options].concat(),
            1,
            "made under another strategy",
        );
    }
    let (bt, without) = (["--strategy", "bt"], ["--strategy", "bt", "--without-rule", "SMSW"]);
    for (recorded, replayed) in [(&bt[..], &without[..]), (&without, &bt)] {
        run("--record", recorded);
        refused(&[&["run", "rings-clean", "--replay", &file], replayed].concat(), 1, "another set of rules");
    }
    for options in MONITORS {
        let recorded = run("--record", &[&keys, options].concat());
        let replayed = run("--replay", options);
        let end = |out: &Output| (text(&out.stdout), without_notes(&out.stderr));
        assert_eq!(end(&replayed), end(&recorded));
        // That replays come to the same state, replaying asserts.
        assert_eq!(end(&recorded), end(&bare), "{options:?}");
    }
}

/// From the bare machine to a monitor, and from a monitor to the next.
#[test]
fn a_snapshot_goes_on_under_any_monitor() {
    let dir = Scratch::new("under");
    let file = dir.path("machine.snap");
    let whole = ends(&["run", "rings-clean"], 0);
    let end = end_of(&["run", "rings-clean"]);
    let cells = [&[][..]].into_iter().chain(MONITORS);
    for (n, (from, to)) in cells.clone().zip(cells.cycle().skip(1)).enumerate() {
        let at = (123_457 + n * 1_000_003).to_string();
        let cut = ["snapshot", "rings-clean", "--at-instruction", &at, "--out", &file];
        let head = ends(&[&cut, from].concat(), 0);
        let restored = [&["run", "--restore", &file], to].concat();
        let tail = ends(&restored, 0);
        let printed = [head.stdout, tail.stdout].concat();
        assert_eq!(text(&printed), text(&whole.stdout), "{from:?} to {to:?} at {at}");
        assert_eq!(end_of(&restored), end, "{from:?} to {to:?} at {at}");
    }
}

#[test]
fn a_restored_machine_is_recorded_and_replayed() {
    let dir = Scratch::new("both");
    let (snap, file) = (dir.path("s"), dir.path("r"));
    ends(&["snapshot", "rings", "--at-instruction", "50000", "--out", &snap], 0);
    let recorded = ends(&["run", "--restore", &snap, "--record", &file, "--keys", "abc"], 0);
    let replayed = ends(&["run", "--restore", &snap, "--replay", &file], 0);
    assert_eq!(replayed.stdout, recorded.stdout);
    refused(&["run", "rings", "--replay", &file], 1, "another");
}

#[test]
fn another_guest_or_machine_is_refused() {
    let dir = Scratch::new("other");
    let (guest, file, _) = record(&dir, &["--budget", "1M"], &[]);
    refused(&["run", "hello", "--replay", &file], 1, "another guest");
    refused(&["run", &guest, "--mem", "64M", "--replay", &file], 1, "another memory size");
    refused(&["run", &guest, "--hz", "50M", "--replay", &file], 1, "another frequency");
    refused(&["run", &guest, "--epoch", "1", "--replay", &file], 1, "another date");
    refused(&["run", &guest, "--no-apic", "--replay", &file], 1, "another interrupt controller");
    refused(&["run", &guest, "--no-acpi", "--replay", &file], 1, "another power management");
    let disk = dir.file("disk", &[0; 1024]);
    refused(&["run", &guest, "--disk", &disk, "--replay", &file], 1, "another content of disk 0");
    let snap = dir.path("s");
    ends(&["snapshot", "hello", "--at-instruction", "9", "--out", &snap], 0);
    refused(&["run", &guest, "--replay", &snap], 1, "a snapshot, for --restore");
    refused(&["run", "--restore", &file], 1, "a recording, for --replay");
}

#[test]
fn damaged_recordings_are_refused() {
    let dir = Scratch::new("damage");
    let (guest, file, _) = record(&dir, &["--budget", "100K"], &[]);
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bad).unwrap();
        refused(&["run", &guest, "--replay", &file], 1, "recording");
    }
    // Cut within what the session started from, it is nothing; later it is one that was broken off.
    let head = 36 + u64::from_le_bytes(whole[12..20].try_into().unwrap()) as usize;
    for len in (0..head).step_by(7) {
        std::fs::write(&file, &whole[..len]).unwrap();
        refused(&["run", &guest, "--replay", &file], 1, "recording");
    }
    for len in [head, head + 5, head + 9, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        let said = text(&ends(&["run", &guest, "--replay", &file], 130).stderr);
        assert!(said.contains("the recording breaks off after 0 instructions"), "{said}");
    }
    std::fs::write(&file, [&whole[..], &[0]].concat()).unwrap();
    refused(&["run", &guest, "--replay", &file], 1, "something follows its end");
    let noise = dir.file("noise", &[0x5a; 500]);
    refused(&["run", &guest, "--replay", &noise], 1, "no recording");
}

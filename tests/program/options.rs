//! Which command takes which option: each shows just its own in its help, and refuses the others.

use crate::common::boot_sector::{COPIES_ITSELF, disk};
use crate::common::program::{ends, refused, text};
use crate::common::scratch::Scratch;
use serde_json::Value;

/// The options that every command with a guest takes.
const OF_THE_GUEST: [&str; 36] = [
    "--append",
    "--initrd",
    "--module",
    "--format",
    "--load-at",
    "--mode",
    "--mem",
    "--disk",
    "--floppy",
    "--cdrom",
    "--snapshot",
    "--bios",
    "--vgabios",
    "--no-apic",
    "--no-acpi",
    "--uart-pace",
    "--testdev",
    "--end-at-reset",
    "--hz",
    "--epoch",
    "--budget",
    "--time",
    "--keys",
    "--symbols",
    "--strategy",
    "--mmu",
    "--coherence",
    "--engine",
    "--no-adapt",
    "--machine-mem",
    "--shadow-frames",
    "--fragment-memory",
    "--frame-seed",
    "--without-rule",
    "--list-rules",
    "--help",
];

/// The options of `run` alone, with a value if they take one.
const OF_RUN: [&[&str]; 17] = [
    &["--record", "none/r"],
    &["--replay", "none/r"],
    &["--display", "vga"],
    &["--dump-screen"],
    &["--debugcon", "none/e9"],
    &["--bioscon", "none/402"],
    &["--trace", "insn"],
    &["--trace-file", "none/t"],
    &["--trace-range", "main"],
    &["--trace-last", "1"],
    &["--stop-on", "fault:GP"],
    &["--post-mortem"],
    &["--gdb", "0"],
    &["--gdb-history", "0"],
    &["--stats"],
    &["--dump-state", "none/s"],
    &["--dump-memory", "0:1=none/m"],
];

/// The other commands with a guest, and which of `--restore` and `--json` they take.
const OTHERS: [(&str, bool, bool); 4] =
    [("compare", false, true), ("translate", false, true), ("mmu", true, true), ("snapshot", true, false)];

/// The long options that `subring COMMAND --help` shows.
fn options(command: &str) -> Vec<String> {
    let help = text(&ends(&[command, "--help"], 0).stdout);
    let flags = help.lines().filter_map(|line| line.trim_start().split_once("--"));
    let flags = flags.filter(|(before, _)| before.is_empty() || before.ends_with(", "));
    let name =
        |rest: &str| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().map(str::to_owned);
    flags.filter_map(|(_, rest)| Some(format!("--{}", name(rest)?))).collect()
}

#[test]
fn each_command_shows_the_options_of_a_guest_and_its_own() {
    let run = options("run");
    for option in OF_THE_GUEST.iter().copied().chain(OF_RUN.iter().map(|args| args[0])) {
        assert!(run.iter().any(|shown| shown == option), "run --help: {option}");
    }
    for (command, restores, json) in OTHERS {
        let shown = options(command);
        let shows = |option: &str| shown.iter().any(|shown| shown == option);
        for option in OF_THE_GUEST {
            assert!(shows(option), "{command} --help: {option}");
        }
        for args in OF_RUN {
            assert!(!shows(args[0]), "{command} --help: {}", args[0]);
        }
        assert_eq!((shows("--restore"), shows("--json")), (restores, json), "{command} --help");
    }
}

/// Asserts that a command does not know this option.
#[track_caller]
fn unknown(args: &[&str], option: &str) {
    let said = text(&ends(args, 2).stderr);
    assert!(said.contains(&format!("unexpected argument '{option}'")), "{args:?}: {said}");
}

#[test]
fn what_is_about_one_run_is_refused_elsewhere() {
    for (command, restores, json) in OTHERS {
        for args in OF_RUN {
            unknown(&[&[command, "hello"], args].concat(), args[0]);
        }
        if !restores {
            unknown(&[command, "--restore", "none/snapshot"], "--restore");
        }
        if !json {
            unknown(&[command, "hello", "--json"], "--json");
        }
    }
    refused(&["mmu", "--restore", "none/snapshot"], 1, "none/snapshot");
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    for command in ["", "run", "compare", "mmu", "translate", "snapshot", "guests", "theorem", "classify"] {
        let args: &[&str] = if command.is_empty() { &["--help"] } else { &[command, "--help"] };
        for line in text(&ends(args, 0).stdout).lines() {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
    }
}

/// A flat binary is loaded at `--load-at` in every command; `--at` is a place to look at where a command has
/// one.
#[test]
fn a_flat_binary_has_one_option_for_its_address() {
    let dir = Scratch::new("load-at");
    // mov al, 7; out 0xf4, al
    let flat = dir.file("flat.bin", &[0xb0, 7, 0xe6, 0xf4]);
    ends(&["run", &flat, "--load-at", "0x5000"], 7);
    ends(&["run", &flat, "--at", "0x5000"], 7);
    for (command, _, _) in OTHERS.iter().filter(|other| other.0 != "snapshot") {
        let shown = text(&ends(&[command, &flat, "--load-at", "0x5000"], 0).stdout);
        assert!(shown.contains("status 7"), "{command}: {shown}");
    }
}

#[test]
fn rules_are_listed_by_each_command_that_takes_the_option() {
    let list = ends(&["run", "--list-rules"], 0).stdout;
    assert!(text(&list).starts_with("rule "));
    for command in ["compare", "mmu", "translate", "snapshot"] {
        assert!(ends(&[command, "--list-rules"], 0).stdout == list, "{command}");
    }
}

#[test]
fn one_rule_is_taken_away_at_a_time() {
    let two = ["--without-rule", "POPF", "--without-rule", "PUSHF"];
    for args in [
        &["run", "hello", "--strategy", "bt"][..],
        &["compare", "hello"],
        &["translate", "hello"],
        &["mmu", "hello", "--strategy", "bt"],
    ] {
        refused(&[args, &two].concat(), 2, "takes one rule away");
    }
}

/// What only looks at a guest leaves its disk alone, whether the machine is new or goes on from a snapshot.
#[test]
fn no_image_is_written_to_by_what_only_looks() {
    let dir = Scratch::new("image");
    let image = disk(COPIES_ITSELF, 16);
    let (disk, snapshot) = (dir.file("disk.img", &image), dir.path("snapshot"));
    ends(&["snapshot", "--disk", &disk, "--at-instruction", "1000", "--out", &snapshot], 0);
    let commands: [&[&str]; 5] = [
        &["compare", &disk, "--strategy", "trap"],
        &["translate", &disk],
        &["mmu", &disk],
        &["mmu", "--restore", &snapshot],
        &["mmu", "--restore", &snapshot, "--strategy", "bare"],
    ];
    for args in commands {
        assert!(text(&ends(args, 0).stdout).contains("the guest ended with status 0"), "{args:?}");
        assert!(std::fs::read(&disk).unwrap() == image, "{args:?} wrote to the image");
    }
    ends(&["run", "--restore", &snapshot], 0);
    assert!(std::fs::read(&disk).unwrap() != image, "`run` writes");
}

/// The bare machine on each engine is one machine: the snapshot is the same to the byte, and so is the report but
/// for what the interpreter decoded.
#[test]
fn the_engine_shows_nowhere_in_a_run() {
    let scratch = Scratch::new("engine-axis");
    let [interp, portable] = ["interp", "portable"].map(|engine| {
        let file = scratch.path(engine);
        let saved = ["snapshot", "rings-clean", "--engine", engine, "--at-instruction", "1M", "--out", &file];
        ends(&saved, 0);
        let run = text(&ends(&["run", "rings-clean", "--json", "--engine", engine], 0).stdout);
        let on = text(&ends(&["run", "--restore", &file, "--json", "--engine", engine], 0).stdout);
        let reports = [run, on].map(|report| {
            let mut report: Value = serde_json::from_str(&report).unwrap();
            let decoded = report["stats"]["other"].as_object_mut().unwrap().remove("traces decoded");
            assert!(decoded.is_some(), "{report}");
            report.as_object_mut().unwrap().remove("guest");
            report
        });
        (reports, std::fs::read(&file).unwrap())
    });
    assert_eq!(interp.0, portable.0);
    assert!(interp.1 == portable.1, "what is saved differs");
    refused(&["run", "rings", "--strategy", "trap", "--engine", "portable"], 2, "--strategy bare or bt");
    refused(&["run", "rings", "--strategy", "bt", "--engine", "interp"], 2, "--engine portable");
}

//! Options of `run` in the commands that take its options: each is known here as one that means there what it means in `run`, or as one
//! that is refused in a sentence. A new option has to become one of the two.

use crate::common::boot_sector::{COPIES_ITSELF, disk};
use crate::common::program::{ends, refused, subring, text};
use crate::common::scratch::Scratch;

/// Those that mean something wherever a guest is run: what it is, what its machine has, how long it runs, its monitor, the form of
/// what is printed.
const HONOURED: [&str; 35] = [
    "--append",
    "--initrd",
    "--module",
    "--format",
    "--at",
    "--mode",
    "--mem",
    "--disk",
    "--floppy",
    "--cdrom",
    "--snapshot",
    "--bios",
    "--vgabios",
    "--budget",
    "--time",
    "--hz",
    "--epoch",
    "--no-apic",
    "--no-acpi",
    "--uart-pace",
    "--keys",
    "--strategy",
    "--mmu",
    "--coherence",
    "--no-adapt",
    "--machine-mem",
    "--shadow-frames",
    "--fragment-memory",
    "--frame-seed",
    "--without-rule",
    "--list-rules",
    "--json",
    "--help",
    // Only beside --trace and --gdb, which are refused.
    "--trace-file",
    "--gdb-history",
];

/// Those that are about one run: with a value that `run` takes, if they have one.
const OF_ONE_RUN: [&[&str]; 13] = [
    &["--record", "none/r"],
    &["--replay", "none/r"],
    &["--display", "vga"],
    &["--dump-screen"],
    &["--debugcon", "none/e9"],
    &["--bioscon", "none/402"],
    &["--trace", "insn"],
    &["--gdb", "0"],
    &["--stats"],
    &["--dump-state", "none/s"],
    &["--dump-memory", "0:1=none/m"],
    // Here there is no file to go on from; `mmu` goes on from one.
    &["--restore", "none/snapshot"],
    &["--debugcon", "-"],
];

/// The long options of `subring run`, by its help.
fn options() -> Vec<String> {
    let help = text(&subring(&["run", "--help"]).stdout);
    let flags = help.lines().filter_map(|line| line.trim_start().split_once("--"));
    let flags = flags.filter(|(before, _)| before.is_empty() || before.ends_with(", "));
    let name =
        |rest: &str| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().map(str::to_owned);
    flags.filter_map(|(_, rest)| Some(format!("--{}", name(rest)?))).collect()
}

#[test]
fn each_option_of_run_is_known_here() {
    let options = options();
    assert!(options.len() > 40, "{options:?}");
    let gone = HONOURED.iter().find(|known| !options.iter().any(|option| option == *known));
    assert_eq!(gone, None, "`run` has it no longer");
    for option in options {
        let refused = OF_ONE_RUN.iter().any(|args| args[0] == option);
        assert!(refused != HONOURED.contains(&option.as_str()), "{option}: honoured or refused?");
    }
}

#[test]
fn what_is_about_one_run_is_refused_elsewhere() {
    for args in OF_ONE_RUN {
        let guest: &[&str] = if args[0] == "--restore" { &[] } else { &["hello"] };
        for command in ["compare", "translate"] {
            refused(&[&[command], guest, args].concat(), 2, args[0]);
        }
        let (status, words) = if guest.is_empty() { (1, args[1]) } else { (2, args[0]) };
        refused(&[&["mmu"], guest, args].concat(), status, words);
    }
    for (command, goes_on) in [("compare", false), ("translate", false), ("mmu", true)] {
        let help = text(&ends(&[command, "--help"], 0).stdout);
        let shown =
            |option: &str| help.lines().any(|line| line.split_whitespace().any(|word| word == option));
        assert!(shown("--strategy"), "{command}");
        for args in OF_ONE_RUN {
            assert_eq!(shown(args[0]), goes_on && args[0] == "--restore", "{command} --help: {}", args[0]);
        }
    }
    for option in ["--stats", "--json", "--dump-screen"] {
        refused(&["snapshot", "hello", "--at-instruction", "9", "--out", "none/s", option], 2, option);
    }
}

#[test]
fn rules_are_listed_by_each_command_that_takes_the_option() {
    let list = ends(&["run", "--list-rules"], 0).stdout;
    assert!(text(&list).starts_with("rule "));
    for command in ["compare", "mmu", "translate"] {
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

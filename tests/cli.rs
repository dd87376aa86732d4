//! The program as a user meets it: help, bad input, exit statuses.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("subring-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn subring(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_subring")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Asserts that a run is refused with `status` and one sentence that contains `words`.
#[track_caller]
fn refused(args: &[&str], status: i32, words: &str) {
    let output = subring(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
    assert!(text.contains(words), "{args:?}: `{text}` does not say `{words}`");
    assert!(!text.contains("panicked"), "{text}");
    assert!(output.stdout.is_empty(), "nothing on stdout");
}

#[test]
fn help_documents_flags_and_statuses() {
    let output = subring(&["run", "--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let words = [
        "--append",
        "--module",
        "--mem",
        "--disk",
        "--snapshot",
        "--keys",
        "--trace",
        "0xF4",
        "121",
        "Ctrl-A X",
    ];
    for word in words {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(subring(&["--version"]).status.code(), Some(0));
    assert_eq!(subring(&["guests"]).status.code(), Some(0));
}

#[test]
fn bad_options_are_status_2() {
    refused(&["frobnicate"], 2, "unrecognized subcommand");
    refused(&["run"], 2, "required");
    refused(&["run", "x", "--frobnicate"], 2, "unexpected argument");
    for (option, value, words) in [
        ("--mem", "1T", "none of K, M, G"),
        ("--mem", "4G", "from 64K to 3G"),
        ("--mem", "70000", "multiple of 4 KiB"),
        ("--mem", "", "start with a number"),
        ("--budget", "many", "start with a number"),
        ("--budget", "99999999999999999999", "too large"),
        ("--hz", "0", "from 1K to 100G"),
        ("--epoch", "yesterday", "seconds since 1970"),
        ("--at", "0x100000000", "below 4 GiB"),
        ("--mode", "long", "invalid value"),
        ("--trace", "insn,everything", "`everything` is none of"),
        ("--keys", "<Bogus>", "no key is called <Bogus>"),
        ("--keys", "@soon:x", "a text goes in quotes"),
        ("--time", "1 fortnight", "duration"),
        ("--display", "sdl", "invalid value"),
    ] {
        refused(&["run", "x", option, value], 2, words);
    }
    refused(&["run", "x", "--trace-file", "f"], 2, "--trace");
    refused(&["run", "x", "--display", "vga"], 2, "terminal");
    refused(&["run", "x", "--json", "--debugcon", "-"], 2, "standard output");
    refused(&["run", "--bios", "b", "--append", "x"], 2, "need a GUEST");
}

#[test]
fn missing_and_odd_files_are_status_1() {
    let dir = Scratch::new("odd");
    let flat = dir.file("flat.bin", &[0xf4; 64]);
    let root = dir.0.to_str().unwrap();
    refused(&["run", "no-such-guest"], 1, "subring guests");
    refused(&["run", "/no/such/file"], 1, "cannot open /no/such/file");
    refused(&["run", root], 1, "directory");
    refused(&["run", "/dev/null"], 1, "no regular file");
    refused(&["run", &dir.file("empty", b"")], 1, "empty");
    refused(&["run", &dir.file("a.gz", b"\x1f\x8b\x08\0")], 1, "gzip");
    refused(&["run", &dir.file("big", &vec![0x90; 0x2_0000]), "--mem", "64K"], 1, "do not fit");
    refused(&["run", &dir.file("short.elf", b"\x7fELF\x01\x01\x01")], 1, "cut short");
    refused(&["run", &flat, "--format", "elf"], 1, "not an ELF");
    refused(&["run", &flat, "--format", "multiboot"], 1, "no Multiboot header");
    refused(&["run", &flat, "--format", "disk"], 1, "512-byte sectors");
    refused(&["run", &flat, "--append", "x"], 2, "--append");
    refused(&["run", &flat, "--module", "/no/such"], 1, "cannot open /no/such");
    refused(&["run", &flat, "--disk", "/no/such"], 1, "cannot open /no/such");
    refused(&["run", &flat, "--disk", &flat], 1, "512-byte sectors");
    refused(&["run", &flat, "--floppy", root], 1, "directory");
    refused(&["run", &flat, "--bios", &dir.file("rom", b"")], 1, "firmware image");
    refused(&["run", &flat, "--trace", "int", "--trace-file", "/no/such/dir/t"], 1, "cannot create");
}

#[test]
fn too_many_disks_are_refused() {
    let dir = Scratch::new("disks");
    let disk = dir.file("d", &[0; 512]);
    let mut args = vec!["run", "--snapshot"];
    for _ in 0..5 {
        args.extend(["--disk", disk.as_str()]);
    }
    refused(&args, 2, "4 disks");
}

#[test]
fn a_closed_pipe_ends_help_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["run", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

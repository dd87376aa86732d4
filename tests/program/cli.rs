//! The program as a user meets it: help, bad input, exit statuses, and every option on real guests.

use crate::common::boot_sector::{COPIES_ITSELF, disk};
use crate::common::program::ends;
use crate::common::scratch::Scratch;
use std::process::{Command, Output, Stdio};

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
        "--dump-state",
        "--dump-memory",
        "--gdb",
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
    refused(&["run"], 2, "there is no guest");
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
        ("--load-at", "0x100000000", "below 4 GiB"),
        ("--mode", "long", "invalid value"),
        ("--trace", "insn,everything", "`everything` is none of"),
        ("--keys", "<Bogus>", "no key is called <Bogus>"),
        ("--keys", "@soon:x", "a text goes in quotes"),
        ("--time", "1 fortnight", "duration"),
        ("--display", "sdl", "invalid value"),
        ("--dump-memory", "0x1000:16", "like 0x100000:64K=memory.bin"),
        ("--dump-memory", "0xfffff000:8K=x", "beyond 4 GiB"),
        ("--dump-memory", "0:0=x", "a length like"),
    ] {
        refused(&["run", "x", option, value], 2, words);
    }
    refused(&["run", "x", "--trace-file", "f"], 2, "--trace");
    refused(&["run", "x", "--display", "vga"], 2, "terminal");
    refused(&["run", "x", "--json", "--debugcon", "-"], 2, "standard output");
    refused(&["run", "x", "--json", "--dump-state", "-"], 2, "standard output");
    refused(&["run", "--bios", "b", "--append", "x"], 2, "need a GUEST");
}

#[test]
fn a_guest_that_waits_for_keys_that_cannot_come_has_halted_for_ever() {
    let dir = Scratch::new("waits");
    // Both 8259As are set up anew, and only IRQ 1 is let through; STI; HLT.
    let mut code = Vec::new();
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xfd)] {
        code.extend([0xb0, value, 0xe6, port]);
    }
    code.extend([0xfb, 0xf4, 0xeb, 0xfd]);
    let flat = dir.file("waits.bin", &code);
    for budget in [&["--budget", "1000"][..], &[]] {
        let end = ends(&[&["run", &flat, "--format", "flat"], budget].concat(), 121);
        assert!(text(&end.stderr).contains("halted for ever"), "{}", text(&end.stderr));
    }
    let recording = dir.path("r");
    ends(&["run", &flat, "--format", "flat", "--record", &recording], 121);
    ends(&["run", &flat, "--format", "flat", "--replay", &recording], 121);
    // As long as a key may come HLT goes on, and only a limit ends it.
    let end = ends(&["run", &flat, "--format", "flat", "--keys", "@100s:a", "--limit", "10M"], 124);
    assert!(
        text(&end.stderr).contains("the limit on instructions and halted ticks"),
        "{}",
        text(&end.stderr)
    );
}

#[test]
fn keys_may_wait_for_what_comes_on_the_serial_port() {
    let dir = Scratch::new("heard");
    // Sends `ok` on COM1, waits for a key, and ends with its scan code.
    let code = [
        0x66, 0xba, 0xf8, 0x03, 0xb0, b'o', 0xee, 0xb0, b'k', 0xee, // MOV DX, 3F8h; OUT 'o', 'k'
        0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xe4, 0x60, 0xe6,
        0xf4, // until status bit 0; IN 60h; OUT F4h
    ];
    let flat = dir.file("asks.bin", &code);
    ends(&["run", &flat, "--format", "flat", "--keys", "@\"ok\":a", "--time", "5s"], 0x1e);
    let end = ends(&["run", &flat, "--format", "flat", "--keys", "@\"no\":a", "--time", "1s"], 124);
    assert!(text(&end.stderr).contains("\"no\" did not appear"), "{}", text(&end.stderr));
}

#[test]
fn a_kernel_may_lean_on_the_loaders_gdt_and_hears_of_it() {
    let dir = Scratch::new("loader");
    // MOV AX, 10h; MOV DS, AX; FNSTCW; ends with the low byte of the control word.
    let code = [0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0xd9, 0x7c, 0x24, 0xfc, 0x8a, 0x44, 0x24, 0xfc, 0xe6, 0xf4];
    let flat = dir.file("leans.bin", &code);
    for strategy in ["bare", "bt", "trap"] {
        let end = ends(&["run", &flat, "--format", "flat", "--strategy", strategy], 0x7f);
        let said = text(&end.stderr);
        assert!(said.contains("selector 10h from the GDT that boot loaders leave"), "{strategy}: {said}");
    }
    let end = ends(&["run", &flat, "--format", "flat", "--strict"], 120);
    assert!(!text(&end.stderr).contains("boot loaders leave"), "{}", text(&end.stderr));
    let end = ends(&["run", "hello"], 0);
    assert!(!text(&end.stderr).contains("boot loaders leave"), "{}", text(&end.stderr));
}

#[test]
fn files_that_are_no_guests_get_a_sentence() {
    let dir = Scratch::new("kinds");
    refused(&["run", &dir.file("script", b"#!/bin/sh\nexec qemu kernel\n")], 1, "a script");
    refused(&["run", &dir.file("text", b"What a kernel should do\n")], 1, "a text file");
    refused(&["run", &dir.file("blank", &[0; 20480])], 1, "nothing but zeros");
    refused(&["run", &dir.file("dos.exe", b"MZ\x90\0\x03\0\0\0")], 1, "a DOS executable");
    refused(&["run", "helo"], 1, "did you mean `hello`?");
    let flat = ends(&["run", &dir.file("flat", &[0xb0, 0, 0xe6, 0xf4])], 0);
    assert!(text(&flat.stderr).contains("no header that is known"), "{}", text(&flat.stderr));
    let mut image = disk(COPIES_ITSELF, 4);
    image.truncate(1300);
    let floppy = subring(&["run", &dir.file("floppy.img", &image), "--budget", "1M"]);
    assert!(text(&floppy.stderr).contains("padded with zeros to 3 sectors"), "{}", text(&floppy.stderr));
}

#[test]
fn missing_and_odd_files_are_status_1() {
    let dir = Scratch::new("odd");
    let flat = dir.file("flat.bin", &[0xf4; 64]);
    let root = dir.path("");
    refused(&["run", "no-such-guest"], 1, "subring guests");
    refused(&["run", "/no/such/file"], 1, "cannot open /no/such/file");
    refused(&["run", &root], 1, "directory");
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
    refused(&["run", &flat, "--floppy", &root], 1, "directory");
    refused(&["run", &flat, "--bios", &dir.file("rom", b"")], 1, "firmware image");
    refused(&["run", &flat, "--dump-state", "/no/such/dir/s"], 1, "cannot create");
    refused(&["run", &flat, "--dump-memory", "0:1=/no/such/dir/m"], 1, "cannot create");
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
fn a_reader_that_leaves_ends_the_program_quietly() {
    for args in [["run", "--help"], ["run", "rings"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
    }
}

// ---- Runs of real guests -------------------------------------------------------------------------------------------

/// Runs a flat binary in protected mode, with these options.
fn flat(name: &str, code: &[u8], options: &[&str]) -> Output {
    let dir = Scratch::new(name);
    let file = dir.file("flat.bin", code);
    subring(&[&["run", file.as_str()], options].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The object that `--json` prints.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

const SPIN: &[u8] = &[0xeb, 0xfe];

#[test]
fn each_way_of_ending_has_its_status() {
    /// Name, code, options, exit status, what is said.
    type Case = (&'static str, &'static [u8], &'static [&'static str], i32, &'static str);
    let cases: [Case; 9] = [
        ("exit", &[0xb0, 3, 0xe6, 0xf4], &[], 3, "ended with status 3"),
        ("exit255", &[0xb0, 0xff, 0xe6, 0xf4], &[], 255, "ended with status 255"),
        ("triple", &[0x0f, 0x0b], &[], 120, "triple fault: #UD at 0008:00100000"),
        ("halted", &[0xfa, 0xf4], &[], 121, "halted for ever"),
        ("off", OFF, &[], 0, "the guest turned the machine off"),
        ("reset", &[0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe], &[], 122, "asked for a reset"),
        ("budget", SPIN, &["--budget", "12345"], 124, "after 12,345 instructions"),
        ("nothing", SPIN, &["--budget", "0"], 124, "after 0 instructions"),
        ("time", SPIN, &["--time", "3ms", "--hz", "1M"], 124, "after 3,000 instructions"),
    ];
    for (name, code, options, status, words) in cases {
        let output = flat(name, code, options);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

/// MOV DX, 604h; MOV AX, 2000h; OUT DX, AX: SLP_EN with the type of S5. Then a byte to port F4h.
const OFF: &[u8] = &[0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0, 0x20, 0x66, 0xef, 0xb0, 9, 0xe6, 0xf4];

#[test]
fn a_machine_that_is_turned_off_says_so_and_without_acpi_it_goes_on() {
    let off = json(&flat("off-json", OFF, &["--json"]));
    assert_eq!((&off["outcome"]["kind"], off["status"].as_u64()), (&"power-off".into(), Some(0)));
    let stats = text(&flat("off-stats", OFF, &["--stats"]).stderr);
    assert!(stats.contains("power management 1 ("), "{stats}");
    let on = json(&flat("on-json", OFF, &["--json", "--no-acpi"]));
    assert_eq!((&on["outcome"]["kind"], on["status"].as_u64()), (&"exit".into(), Some(9)));
}

#[test]
fn without_an_apic_cpuid_shows_none_and_there_is_no_mp_table() {
    // MOV EAX, 1; CPUID; SHR EDX, 9; AND EDX, 1; SHL EDX, 1; SUB DL, [F0020h]; MOV EAX, EDX; OUT F4h, AL
    let code = [
        &[0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0xc1, 0xea, 9, 0x83, 0xe2, 1, 0xd1, 0xe2][..],
        &[0x2a, 0x15, 0x20, 0, 0x0f, 0, 0x89, 0xd0, 0xe6, 0xf4],
    ]
    .concat();
    let status = |options: &[&str]| flat("cpuid", &code, options).status.code();
    assert_eq!(status(&[]), Some(0x100 + 2 - i32::from(b'_')), "feature bit, and the `_` of `_MP_`");
    assert_eq!(status(&["--no-apic"]), Some(0));
}

#[test]
fn a_guest_that_dies_gets_a_post_mortem() {
    let died = text(&flat("mortem", &[0x0f, 0x0b], &[]).stderr);
    let parts = ["post-mortem: triple fault: #UD came", "likely: no IDT was loaded", "=> 00100000  0f 0b"];
    assert!(parts.into_iter().all(|p| died.contains(p)), "{died}");
    for (name, code) in [("exits", &[0xb0, 3, 0xe6, 0xf4][..]), ("works", &[0x40, 0xeb, 0xfd])] {
        let well = text(&flat(name, code, &["--budget", "1000"]).stderr);
        assert!(!well.contains("post-mortem"), "{well}");
    }
}

#[test]
fn json_says_how_it_ended_and_repeats_to_the_byte() {
    let run = || flat("json", &[0x0f, 0x0b], &["--json"]);
    let (one, two) = (json(&run()), json(&run()));
    assert_eq!(one["outcome"]["kind"], "triple-fault");
    assert_eq!((one["status"].as_u64(), one["retired"].as_u64()), (Some(120), Some(0)));
    assert_eq!((&one["schema"], &one["registers"]["eip"]), (&2.into(), &"0x00100000".into()));
    assert_eq!(one["post_mortem"]["diagnoses"][0]["rule"], "idt-not-loaded");
    assert_eq!(one["post_mortem"]["chain"][0]["event"], "first #UD, EIP 0x00100000");
    assert_eq!(one["stats"], two["stats"]);

    let (a, b) = (subring(&["run", "rings", "--json"]), subring(&["run", "rings", "--json"]));
    assert_eq!(a.stdout, b.stdout);
    assert!(a.stderr.is_empty(), "{}", text(&a.stderr));
    let object = json(&a);
    assert_eq!((object["status"].as_u64(), &object["outcome"]["kind"]), (Some(0), &"exit".into()));
    assert_eq!(object["stats"]["exceptions"]["13"], 5, "five #GP, by its transcript");
    let serial = object["serial"].as_str().unwrap();
    assert!(serial.contains("Good: all tasks ended"), "{serial}");
}

#[test]
fn built_in_guests_print_their_transcripts() {
    for name in ["rings", "rings-clean", "sensitive", "smc"] {
        let folder = name.trim_end_matches("-clean");
        let file = if name == folder { "expected.txt" } else { "expected-clean.txt" };
        let path = format!("{}/guest-programs/{folder}/{file}", env!("CARGO_MANIFEST_DIR"));
        let output = subring(&["run", name]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), text(&std::fs::read(path).unwrap()), "{name}");
    }
}

#[test]
fn every_guest_of_the_list_runs() {
    let list = text(&subring(&["guests"]).stdout);
    let names: Vec<&str> = list.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert!(names.len() >= 9, "{list}");
    for name in names {
        // A hypervisor wants a processor with VMX. The benches run for long; their start is enough here.
        let cpu = if name == "vmx" { "yonah" } else { "pentium-ii" };
        let output = subring(&["run", name, "--cpu", cpu, "--budget", "100M"]);
        let status = output.status.code();
        let fine = status == Some(0) || name == "bench" && status == Some(124);
        assert!(fine, "{name}: {status:?} {}", text(&output.stderr));
        assert!(!output.stdout.is_empty(), "{name}");
    }
}

#[test]
fn alone_it_runs_two_guests_and_counts() {
    let output = subring(&[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let words =
        ["Hello from ring 0", "Good: all tasks ended", "instructions", "#PF 239", "timer", "subring guests"];
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(output.stderr.is_empty());
}

#[test]
fn a_multiboot_kernel_gets_its_command_line_and_modules() {
    let dir = Scratch::new("module");
    let module = dir.file("module.txt", b"content");
    let output = subring(&["run", "hello", "--append", "colour=blue", "--module", &format!("{module},x y")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("hello colour=blue"), "{}", text(&output.stdout));
}

#[test]
fn the_boot_sector_runs_as_disk_and_as_floppy() {
    let output = subring(&["run", "boot", "--json"]);
    let object = json(&output);
    let (serial, screen) = (object["serial"].as_str().unwrap(), object["screen"].to_string());
    for shown in [serial, &screen] {
        assert!(shown.contains("boot: drive 80") && shown.contains("boot: all is well"), "{shown}");
    }

    let dir = Scratch::new("floppy");
    let image = format!("{}/guest-programs/boot/boot.img", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = std::fs::read(image).unwrap();
    bytes.resize(1_474_560, 0);
    let floppy = dir.file("floppy.img", &bytes);
    for options in [&["run", "--floppy", &floppy][..], &["run", &floppy]] {
        let output = subring(options);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("boot: drive 00"), "{}", text(&output.stdout));
    }
    let output = subring(&["run", "boot", "--dump-screen"]);
    assert_eq!(text(&output.stdout).matches("boot: all is well").count(), 2, "serial port and screen");
}

#[test]
fn a_guest_writes_to_its_disk_unless_it_is_a_snapshot() {
    let dir = Scratch::new("snapshot");
    let image = disk(COPIES_ITSELF, 16);
    let path = dir.file("disk.img", &image);
    let output = subring(&["run", &path, "--snapshot"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(std::fs::read(&path).unwrap() == image, "a snapshot leaves the file alone");
    let output = subring(&["run", "--disk", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let after = std::fs::read(&path).unwrap();
    assert!(after[512..1024] == image[..512], "the sector was written");
    assert!(after[1024..] == image[1024..] && after.len() == image.len());
}

/// Prints "K>" by INT 10h AH=0Eh, waits for a key by INT 16h AH=0, and ends with its ASCII code.
#[rustfmt::skip]
const WAITS_FOR_A_KEY: &[u8] = &[
    0xb8, b'K', 0x0e, 0xcd, 0x10, 0xb8, b'>', 0x0e, 0xcd, 0x10,
    0xb4, 0x00, 0xcd, 0x16, 0xe6, 0xf4,
];

#[test]
fn scripted_keys_reach_the_guest() {
    let dir = Scratch::new("keys");
    let path = dir.file("disk.img", &disk(WAITS_FOR_A_KEY, 16));
    for (script, status) in [
        ("@\"K>\":q", i32::from(b'q')),
        ("@\"K>\":<Ctrl-c>", 3),
        ("@2s:Q", i32::from(b'Q')),
        ("@1s:<Shift-a>", i32::from(b'A')),
        ("@\"never shown\":q", 124),
    ] {
        let output = subring(&["run", &path, "--keys", script, "--time", "10s"]);
        assert_eq!(output.status.code(), Some(status), "{script}: {}", text(&output.stderr));
    }
}

#[test]
fn the_debug_console_goes_where_it_is_told() {
    let code = [0xb0, b'!', 0xe6, 0xe9, 0xb0, 0, 0xe6, 0xf4];
    assert_eq!(flat("e9", &code, &["--debugcon", "-"]).stdout, b"!");
    let dir = Scratch::new("e9file");
    let log = dir.path("log");
    assert!(flat("e9b", &code, &["--debugcon", &log]).stdout.is_empty());
    assert_eq!(std::fs::read(log).unwrap(), b"!");
}

#[test]
fn traces_have_a_line_per_event() {
    let dir = Scratch::new("trace");
    let file = dir.path("trace");
    let kinds = |options: &[&str]| {
        let output = subring(&[options, &["--trace-file", &file]].concat());
        let trace = std::fs::read_to_string(&file).unwrap();
        let count =
            |kind: &str| trace.lines().filter(|l| l.split_whitespace().nth(1) == Some(kind)).count() as u64;
        (output, ["insn", "fault", "int", "port", "mem"].map(count), trace)
    };
    let (output, [insn, fault, int, port, mem], trace) =
        kinds(&["run", "hello", "--trace", "insn,port,mem", "--budget", "5000"]);
    assert_eq!(output.status.code(), Some(124));
    // A repeated string instruction has one line, and each of its iterations counts: the console's REP OUTSB. The first
    // byte for the data port sets the divisor.
    let repeated = trace.lines().filter(|l| l.contains("rep outsb")).count() as u64;
    let iterations = trace.matches("port  03f8 <- ").count() as u64 - 1;
    assert_eq!(insn - repeated + iterations, 5000, "one per instruction of the budget");
    assert!(fault == 0 && int == 0 && port > 10 && mem > 10, "{fault} {int} {port} {mem}");
    assert!(trace.contains("port  03f8 <- "), "the first character");

    let (output, [insn, fault, int, port, mem], trace) =
        kinds(&["run", "rings", "--trace", "fault, int", "--json"]);
    let stats = &json(&output)["stats"];
    let sum =
        |what: &str| stats[what].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum::<u64>();
    assert_eq!((fault, int), (sum("exceptions"), sum("interrupts")));
    assert_eq!((insn, port, mem), (0, 0, 0));
    assert!(trace.contains("#PF") && trace.contains("vector 20"), "{trace}");
    let plain = json(&subring(&["run", "rings", "--json"]));
    assert_eq!(json(&output)["retired"], plain["retired"], "looking on changes nothing");

    let output = flat("trace-stderr", SPIN, &["--trace", "insn", "--budget", "3"]);
    assert_eq!(text(&output.stderr).matches(" insn ").count(), 3, "{}", text(&output.stderr));
}

#[test]
fn stats_name_exceptions_chips_and_ports() {
    let output = subring(&["run", "rings", "--stats"]);
    let said = text(&output.stderr);
    for word in ["#PF 239", "INT n", "COM1", "interrupt controller", "0x3fd", "traces decoded", "TLB fills"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // XORPS XMM0,XMM0: the machine has no SSE, and says so at the end.
    let said = text(&flat("unbuilt", &[0x0f, 0x57, 0xc0], &["--stats"]).stderr);
    assert!(said.contains("xorps raised #UD 1 times"), "{said}");
}

/// MOV AL,'R'; OUT E9h,AL; then reads the second sector for ever.
#[rustfmt::skip]
const READS_FOR_EVER: &[u8] = &[
    0xb0, b'R', 0xe6, 0xe9, 0x31, 0xdb, 0x8e, 0xc3,
    0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xbb, 0x00, 0x80, 0xcd, 0x13, 0xeb, 0xf0,
];

#[test]
fn a_disk_that_vanishes_ends_the_run_with_a_sentence() {
    use std::io::Read;
    let dir = Scratch::new("vanish");
    let path = dir.file("disk.img", &disk(READS_FOR_EVER, 16));
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["run", &path, "--debugcon", "-", "--time", "1000s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    std::fs::write(&path, b"").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("disk.img: the image became shorter than it was"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_live_screen_is_drawn_on_a_terminal() {
    let command = format!("{} run boot --display vga --time 1s", env!("CARGO_BIN_EXE_subring"));
    let terminal = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output();
    let Ok(output) = terminal else {
        eprintln!("SKIPPED: no `script` to make a terminal");
        return;
    };
    let said = text(&output.stdout);
    assert!(said.contains("\x1b[?1049h") && said.contains("\x1b[?1049l"), "the alternate screen: {said:?}");
    assert!(said.contains("boot: all is well"), "{said:?}");
}

// ---- Bad images ----------------------------------------------------------------------------------------------------

/// An ELF32 executable with one segment: `at` file offset 84, `filesz` and `memsz` bytes.
fn elf(entry: u32, at: u32, filesz: u32, memsz: u32) -> Vec<u8> {
    let mut f = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    f.extend([2u16, 3].iter().flat_map(|v| v.to_le_bytes()));
    f.extend([1, entry, 52, 0, 0].iter().flat_map(|v: &u32| v.to_le_bytes()));
    f.extend([52u16, 32, 1, 40, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
    f.extend([1, 84, at, at, filesz, memsz, 7, 4096].iter().flat_map(|v: &u32| v.to_le_bytes()));
    f.extend([0xb0, 7, 0xe6, 0xf4]);
    f
}

#[test]
fn absurd_elf_files_are_refused_in_a_sentence() {
    let dir = Scratch::new("elf");
    let good = elf(0x10_0000, 0x10_0000, 4, 4);
    let output = subring(&["run", &dir.file("good", &good)]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));

    let changed = |at: usize, bytes: &[u8]| {
        let mut f = good.clone();
        f[at..at + bytes.len()].copy_from_slice(bytes);
        f
    };
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("cut", good[..60].to_vec(), "program headers"),
        ("class64", changed(4, &[2]), "64-bit"),
        ("big-endian", changed(5, &[2]), "big-endian"),
        ("machine", changed(18, &[40]), "another processor"),
        ("object", changed(16, &[1]), "object file"),
        ("no-segments", changed(44, &[0, 0]), "no program headers"),
        ("many-segments", changed(44, &[0xff, 0xff]), "beyond the end"),
        ("far-headers", changed(28, &[0xf0, 0xff, 0xff, 0xff]), "beyond the end"),
        ("entry", elf(0xdead_0000, 0x10_0000, 4, 4), "in none of its segments"),
        ("filesz", elf(0x10_0000, 0x10_0000, 400, 4), "more bytes in the file"),
        ("huge", elf(0x10_0000, 0x10_0000, 4, 0xffff_0000), "4 GiB"),
        ("beyond", elf(0x7000_0000, 0x7000_0000, 4, 4), "do not fit"),
    ];
    for (name, bytes, words) in cases {
        refused(&["run", &dir.file(name, &bytes)], 1, words);
    }
    refused(&["run", &dir.file("vga", &elf(0xb_8000, 0xb_8000, 4, 4))], 1, "VGA window");
    for cut in 1..good.len() {
        let output = subring(&["run", &dir.file("prefix", &good[..cut]), "--budget", "10"]);
        assert!(!text(&output.stderr).contains("panicked"), "cut at {cut}");
    }
}

#[test]
fn a_multiboot_header_out_of_reach_is_named() {
    let dir = Scratch::new("far-header");
    let mut bytes = vec![0x90; 16384];
    let header = [0x1bad_b002u32, 0, 0u32.wrapping_sub(0x1bad_b002)];
    for (i, word) in header.iter().enumerate() {
        bytes[12288 + 4 * i..][..4].copy_from_slice(&word.to_le_bytes());
    }
    refused(&["run", &dir.file("kernel", &bytes)], 1, "out of reach: it must be in the first 8 KiB");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let dir = Scratch::new("conflicts");
    let image = dir.file("disk.img", &disk(SPIN, 16));
    refused(&["run", "boot", "--append", "x"], 2, "--append is for a Multiboot or Linux kernel");
    refused(&["run", "boot", "--module", &image], 2, "--module is for a Multiboot kernel");
    refused(&["run", "--disk", &image, "--at", "0x1000"], 2, "need a GUEST");
    refused(&["run", "hello", "--format", "elf", "--append", "x"], 2, "--append");
    refused(&["run", "hello", "--mem", "64K"], 1, "give at least --mem");
    refused(&["run", "boot", "--mem", "64K"], 2, "firmware needs 1 MiB");
    let odd = dir.file("odd.rom", &[0; 5000]);
    refused(&["run", "boot", "--bios", &odd], 2, "multiple of 4 KiB");
    refused(&["run", "boot", "--vgabios", &dir.path("none")], 1, "cannot open");
    refused(&["run", "boot", "--budget", "-1"], 2, "unexpected argument");
}

#[cfg(unix)]
#[test]
fn unreadable_and_write_protected_disks_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new("rights");
    let path = dir.file("disk.img", &disk(&[0xb0, 0, 0xe6, 0xf4], 16));
    let rights = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    rights(0o400);
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        eprintln!("SKIPPED: this user may write to any file");
        return;
    }
    refused(&["run", &path], 1, "give --snapshot");
    assert_eq!(subring(&["run", &path, "--snapshot"]).status.code(), Some(0));
    rights(0);
    refused(&["run", &path], 1, "cannot open");
}

/// Interrupts are on, but none can come: the run ends there, and not with its budget.
#[test]
fn a_guest_that_halts_behind_masked_interrupts_has_halted_for_ever() {
    let dir = Scratch::new("masked");
    // The master 8259 from vector 20h on, and a timer that runs.
    let writes = [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x43, 0x34), (0x40, 0), (0x40, 4)];
    let mask = |value| [(0x21, value), (0xa1, 0xff)];
    let halts = |mask: [(u8, u8); 2]| {
        let mut code: Vec<u8> =
            writes.into_iter().chain(mask).flat_map(|(port, value)| [0xb0, value, 0xe6, port]).collect();
        code.extend([0xfb, 0xf4, 0xeb, 0xfd]); // STI; HLT; JMP back
        code
    };
    // With its interrupt on, the keyboard may wake it. COM1 has its own off.
    let keyboard_on = [0xb0, 0x60, 0xe6, 0x64, 0xb0, 0x01, 0xe6, 0x60];
    let keyboard = [&keyboard_on, halts(mask(0xfd)).as_slice()].concat();
    // The keyboard may wake it as long as there is something to type.
    let typed = &["--keys", "@2s:a"][..];
    let cases = [
        (halts(mask(0xff)), typed, 121),
        (halts(mask(0xef)), typed, 121),
        (keyboard.clone(), typed, 124),
        (keyboard, &[], 121),
    ];
    for (n, (code, keys, status)) in cases.iter().enumerate() {
        let flat = dir.file(&format!("{n}.bin"), code);
        let output = subring(&[&["run", &flat, "--time", "1s"], *keys].concat());
        assert_eq!(output.status.code(), Some(*status), "{n}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_dump_shows_registers_and_memory_at_the_end() {
    let dir = Scratch::new("dump");
    // mov eax, 0x12345678; mov [0x2000], eax; push 0; popf; hlt
    let code = [0xb8, 0x78, 0x56, 0x34, 0x12, 0xa3, 0, 0x20, 0, 0, 0x6a, 0, 0x9d, 0xf4];
    let flat = dir.file("dump.bin", &code);
    let memory = dir.path("memory");
    let range = format!("0x1ffe:8={memory}");
    let output = subring(&["run", &flat, "--dump-state", "-", "--dump-memory", &range]);
    assert_eq!(output.status.code(), Some(121));
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(state["registers"]["eax"], "0x12345678");
    assert_eq!(state["registers"]["eip"], "0x0010000e");
    assert_eq!(state["registers"]["eflags"], "0x00000002");
    assert_eq!(state["segments"]["cs"]["limit"], "0xffffffff");
    assert_eq!((&state["retired"], &state["cpl"]), (&5.into(), &0.into()));
    assert_eq!(std::fs::read(&memory).unwrap(), [0, 0, 0x78, 0x56, 0x34, 0x12, 0, 0]);
}

/// What goes to standard error may have nowhere to go; the run still ends as it ended.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_error_is_no_crash() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (args, status) in [(&["run", "hello", "--stats"][..], 0), (&["run", "no-such-guest"][..], 1)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_subring"));
        let command = command.args(args).stdin(std::process::Stdio::null());
        let output = command.stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn a_monitor_runs_a_clean_kernel_as_the_bare_machine_does() {
    let bare = subring(&["run", "rings-clean", "--json", "--budget", "3M"]);
    let trap = subring(&["run", "rings-clean", "--json", "--budget", "3M", "--strategy", "trap"]);
    let part = |out: &Output, key: &str| {
        let object: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        object[key].clone()
    };
    for key in ["serial", "retired", "ticks", "registers", "screen", "outcome"] {
        assert_eq!(part(&bare, key), part(&trap, key), "{key}");
    }
}

#[test]
fn a_snapshot_goes_on_under_another_strategy() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let whole = subring(&["run", "rings-clean", "--json"]);
    let monitored = ["--strategy", "trap", "--coherence", "vtlb"];
    for (from, to) in [(&monitored[..], &[][..]), (&[], &monitored), (&monitored, &monitored[..2])] {
        let file = dir.join(format!("strategies-{}-{}.snapshot", from.len(), to.len()));
        let file = file.to_str().expect("a name");
        let saved =
            subring(&[&["snapshot", "rings-clean", "--at-instruction", "3M", "--out", file], from].concat());
        assert!(saved.status.success(), "{saved:?}");
        let end = subring(&[&["run", "--restore", file, "--json"], to].concat());
        let part = |out: &Output, key: &str| {
            let object: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
            object[key].clone()
        };
        for key in ["retired", "ticks", "registers", "outcome"] {
            assert_eq!(part(&whole, key), part(&end, key), "{from:?} to {to:?}: {key}");
        }
    }
}

#[test]
fn a_recording_under_a_monitor_replays() {
    for strategy in ["trap", "bt"] {
        let file = format!("{}/{strategy}.recording", env!("CARGO_TARGET_TMPDIR"));
        let args = ["run", "rings-clean", "--json", "--budget", "2M", "--strategy", strategy];
        let made = subring(&[&args[..], &["--record", &file]].concat());
        assert!(made.status.code() == Some(124), "{made:?}");
        let args = ["run", "rings-clean", "--json", "--strategy", strategy, "--replay", &file];
        let again = subring(&args);
        assert_eq!(made.stdout, again.stdout, "{again:?}");
        let bare = subring(&["run", "rings-clean", "--json", "--replay", &file]);
        let text = String::from_utf8_lossy(&bare.stderr);
        assert!(!bare.status.success() && text.contains("--strategy"), "{text}");
    }
}

#[test]
fn exits_are_traced_with_symbol_and_cost() {
    let out = subring(&["run", "rings-clean", "--budget", "200K", "--strategy", "trap", "--trace", "exit"]);
    let text = String::from_utf8_lossy(&out.stderr);
    let first = text.lines().find(|l| l.contains("port-io")).expect("an exit");
    assert!(
        first.contains(" exit  0008:") && first.contains("1300 cycles  ") && first.contains("+0x"),
        "{first}"
    );
}

/// What the guest does shows the same, whoever runs it: instructions, faults, interrupts and ports; of accesses to memory none is the
/// monitor's own.
#[test]
fn a_guest_has_the_same_trace_under_a_monitor() {
    let trace = |filter: &str, budget: &str, options: &[&str]| {
        let args = ["run", "rings-clean", "--budget", budget, "--trace", filter];
        let said = text(&subring(&[&args, options].concat()).stderr);
        said.lines().filter(|l| !l.starts_with("subring: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = |options: &[&str]| trace("insn,fault,int,port", "1M", options);
    let bare = all(&[]);
    assert!(
        bare.iter().any(|line| line.contains("rep stos")),
        "which is cut in other places under a monitor"
    );
    for strategy in ["trap", "bt"] {
        let other = all(&["--strategy", strategy]);
        let parts = bare.iter().zip(&other).find(|(a, b)| a != b);
        assert_eq!((parts, bare.len()), (None, other.len()), "{strategy}");
        let memory = trace("mem", "200K", &["--strategy", strategy]);
        let monitors = memory.iter().find(|line| line.contains(" mem   ffc"));
        assert!(monitors.is_none() && memory.len() > 1000, "{} accesses, {monitors:?}", memory.len());
    }
}

#[test]
fn stats_say_what_a_monitor_did() {
    let run = |options: &[&str]| subring(&[&["run", "rings-clean", "--budget", "1M"], options].concat());
    for (strategy, words) in [("trap", "direct"), ("bt", "translated")] {
        let said = text(&run(&["--stats", "--strategy", strategy, "--coherence", "vtlb"]).stderr);
        assert!(said.contains(&format!("monitor       {strategy} shadow/vtlb")), "{said}");
        assert_eq!(said.contains("  callouts "), strategy == "bt", "{said}");
        let monitor = &json(&run(&["--json", "--strategy", strategy]))["stats"]["monitor"];
        let count = |name: &str| monitor[name].as_u64().unwrap();
        assert!(
            count(words) > 100_000 && count("exits") > 0 && count("modelled_cycles") > 1_000_000,
            "{monitor}"
        );
        let ran: u64 = ["direct", "translated", "emulated", "interpreted"].map(count).iter().sum();
        assert_eq!(ran, 1_000_000, "{monitor}");
        let causes = monitor["by_cause"].as_object().unwrap().values().map(|n| n.as_u64().unwrap());
        assert_eq!(causes.sum::<u64>(), count("exits"));
    }
    assert!(json(&run(&["--json"]))["stats"].get("monitor").is_none());
}

#[test]
fn what_says_how_it_starts_takes_no_options_of_a_flat_binary() {
    for options in [&["--at", "0x200000"][..], &["--mode", "real"]] {
        refused(&[&["run", "rings"], options].concat(), 2, "--format flat");
        refused(&[&["compare", "rings"], options].concat(), 2, "--format flat");
        let options = if options[0] == "--at" { &["--load-at", "0x200000"] } else { options };
        refused(&[&["mmu", "rings"], options].concat(), 2, "--format flat");
        refused(&[&["translate", "rings"], options].concat(), 2, "--format flat");
    }
    let flat = subring(&["run", "rings", "--mode", "real", "--format", "flat", "--budget", "10"]);
    assert_eq!(flat.status.code(), Some(124), "its bytes as they are: {}", text(&flat.stderr));
    refused(&["classify", "--explain", "--umip"], 2, "leave --umip out");
}

#[test]
fn compare_names_the_first_instruction_that_goes_wrong() {
    let out = subring(&["compare", "rings", "--json", "--budget", "1M"]);
    let table: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 8);
    assert_eq!(rows[0]["outcome"], "reference");
    for row in &rows[5..] {
        assert_eq!((&row["strategy"], &row["outcome"]), (&"hvm".into(), &"same".into()));
        assert!(row["exits"]["I/O instruction"].as_u64().is_some_and(|n| n > 0), "{row}");
    }
    for row in &rows[3..5] {
        assert_eq!((&row["strategy"], &row["outcome"]), (&"bt".into(), &"same".into()));
        assert_eq!(row["instructions"], rows[0]["instructions"]);
        assert!(row["translation"]["callouts"]["PORT-IO"].as_u64().is_some_and(|n| n > 0));
    }
    for row in &rows[1..3] {
        assert_eq!(row["outcome"], "diverged");
        assert_eq!(row["divergence"]["symbol"], "kernel_main+0xd8");
        assert_eq!(row["divergence"]["where"]["sensitive_unprivileged"], true);
        assert!(row["exits"]["port-io"].as_u64().is_some_and(|n| n > 0));
    }
    let clean = subring(&["compare", "rings-clean", "--budget", "1M", "--csv"]);
    let text = String::from_utf8(clean.stdout).expect("text");
    assert_eq!(text.lines().skip(2).filter(|l| l.contains(",same,")).count(), 7, "{text}");
    let one = subring(&["compare", "sensitive", "--strategy", "bt", "--coherence", "vtlb", "--csv"]);
    let text = String::from_utf8(one.stdout).expect("text");
    assert!(text.lines().count() == 3 && text.contains(",bt,shadow,vtlb,portable,,true,same,"), "{text}");
}

/// Nano looks at its flags behind an interrupt gate, as kernels do; its clean build does not.
#[test]
fn nano_goes_wrong_at_a_pushf_and_its_clean_build_nowhere() {
    let rows = |guest: &str| {
        let out = subring(&["compare", guest, "--json"]);
        let table: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        let rows = table["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 8);
        rows.clone()
    };
    let nano = rows("nano");
    for row in &nano[1..3] {
        assert_eq!((&row["strategy"], &row["outcome"]), (&"trap".into(), &"diverged".into()), "{row}");
        let divergence = &row["divergence"];
        assert!(divergence["symbol"].as_str().is_some_and(|s| s.starts_with("trap+")), "{row}");
        assert_eq!(divergence["where"]["disassembly"], "pushf", "{row}");
        assert_eq!(divergence["where"]["sensitive_unprivileged"], true, "{row}");
        let why = divergence["where"]["why"].as_str().expect("a sentence");
        assert!(why.contains("PUSHFD: it pushes the real IF"), "{why}");
    }
    for row in nano[3..].iter().chain(&rows("nano-clean")[1..]) {
        assert_eq!(row["outcome"], "same", "{row}");
    }
    assert_eq!(subring(&["run", "nano"]).status.code(), Some(0));
    let panicked = subring(&["run", "nano", "--strategy", "trap"]);
    assert_eq!(panicked.status.code(), Some(2));
    let said = String::from_utf8(panicked.stdout).expect("text");
    assert!(said.contains("panic: interrupts are on behind an interrupt gate"), "{said}");
}

/// With these costs the table is refused in one sentence.
#[test]
fn a_cost_table_with_a_negative_cost_is_refused() {
    let dir = Scratch::new("costs");
    let table = include_str!("../../src/vmm/costs.toml");
    let refused = |name: &str, from: &str, to: &str, words: &str| {
        assert!(table.contains(from), "{from}");
        let file = dir.file(name, table.replace(from, to).as_bytes());
        refused(&["compare", "hello", "--budget", "10K", "--costs", &file], 1, words);
    };
    refused("negative", "\nport-io = 1300", "\nport-io = -1300", "the cost of `port-io` is negative");
    refused("word", "\ncallout = 214", "\ncallout = \"two\"", "this is no cost table");
    refused("free-instruction", "\ninstruction = 1\n# An", "\ninstruction = 0\n#", "give 1 or more");
    refused("dear", "\nhalt = 1300", "\nhalt = 9223372036854775807", "`halt` is larger than 1000000 cycles");
    refused("unknown", "\nhalt = 1300", "\nhalt = 1300\nhelt = 1", "`helt` in [exits] is no kind of exit");
    let free = table.replace("\nport-io = 1300", "\nport-io = 0");
    let file = dir.file("free", free.as_bytes());
    let out = subring(&["compare", "hello", "--budget", "100K", "--costs", &file, "--json"]);
    assert!(out.status.success(), "an exit may cost nothing: {}", text(&out.stderr));
}

/// A table names what differs; the rest is built in. Its identity stands beside the figures.
#[test]
fn a_cost_table_may_name_only_what_differs() {
    let dir = Scratch::new("some-costs");
    let file = dir.file("halt.toml", b"[exits]\nport-io = 1301\n");
    let compare = |more: &[&str]| {
        let args = ["compare", "hello", "--strategy", "trap", "--budget", "100K", "--json"];
        json(&subring(&[&args[..], more].concat()))
    };
    let (usual, other) = (compare(&[]), compare(&["--costs", &file]));
    assert_eq!(
        (&usual["costs"]["name"], &other["costs"]["name"]),
        (&"built-in".into(), &file.clone().into())
    );
    assert_ne!(usual["costs"]["hash"], other["costs"]["hash"]);
    assert_eq!(usual["guest_hash"], other["guest_hash"]);
    let (usual, other) = (&usual["rows"][1], &other["rows"][1]);
    let number = |row: &serde_json::Value, of: &str| row[of].as_u64().expect("a number");
    let outs = usual["exits"]["port-io"].as_u64().expect("a count");
    assert!(outs > 0);
    assert_eq!(number(usual, "modelled_cycles") + outs, number(other, "modelled_cycles"));
    let terms = other["cycles_by_term"].as_object().expect("terms");
    let sum: u64 = terms.values().map(|term| number(term, "cycles")).sum();
    assert_eq!(sum, number(other, "modelled_cycles"));
    assert_eq!(terms["port-io"]["cycles"], 1301 * outs);
}

/// A guest on a disk is called by the disk's name.
#[test]
fn a_guest_on_a_disk_is_called_by_its_disk() {
    let dir = Scratch::new("disk-name");
    let image = dir.file("spins.img", &disk(SPIN, 16));
    let printed = text(&subring(&["compare", "--disk", &image, "--budget", "1M", "--strategy", "bt"]).stdout);
    assert!(printed.starts_with(&format!("{image}: ")), "{printed}");
}

/// What --expect says decides over the exit status.
#[test]
fn expected_outcomes_set_the_status() {
    let status = |guest: &str, strategy: &str, expected: &str| {
        let args = ["compare", guest, "--budget", "1M", "--strategy", strategy, "--expect", expected];
        subring(&args).status.code()
    };
    assert_eq!(status("sensitive", "bt", "same"), Some(0));
    assert_eq!(status("sensitive", "bt", "diverged"), Some(3));
    assert_eq!(status("sensitive", "trap", "same"), Some(3));
    assert_eq!(status("sensitive", "trap", "diverged"), Some(0));
}

/// The table fits a terminal, and says what comes first.
#[test]
fn the_table_fits_80_columns_and_the_answer_comes_first() {
    for args in
        [&["compare", "sensitive", "--legend"][..], &["compare", "rings", "--budget", "1M", "--exits"]]
    {
        let printed = text(&subring(args).stdout);
        assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
        let lines: Vec<_> = printed.lines().collect();
        assert!(lines[1].starts_with("the same as bare: bt shadow/trace, bt shadow/vtlb"), "{printed}");
        assert_eq!(lines[2], "  shadow/vtlb, hvm nested", "{printed}");
        assert!(lines[3].starts_with("diverged: trap shadow/trace"), "{printed}");
    }
    let wide = text(&subring(&["compare", "hello", "--budget", "100K", "--wide", "--legend"]).stdout);
    let heads: Vec<_> = wide
        .lines()
        .filter(|line| line.starts_with("strategy ") || line.starts_with("translation "))
        .collect();
    for head in heads.iter().flat_map(|line| line.split("  ")).map(str::trim).filter(|head| !head.is_empty())
    {
        let explained =
            head == "translation" || wide.lines().any(|line| line.starts_with(&format!("  {head} ")));
        assert!(explained, "{head}: {wide}");
    }
}

#[test]
fn a_cost_table_is_read_up_to_a_mebibyte() {
    let dir = Scratch::new("long-costs");
    let table = include_str!("../../src/vmm/costs.toml").to_owned() + "#";
    let of =
        |len: usize| dir.file(&len.to_string(), (table.clone() + &"x".repeat(len - table.len())).as_bytes());
    let compare = |file: &str| ["compare", "hello", "--budget", "1K", "--costs", file].map(str::to_owned);
    let args = compare(&of(1 << 20));
    let out = subring(&args.each_ref().map(String::as_str));
    assert!(out.status.success(), "{}", text(&out.stderr));
    let args = compare(&of((1 << 20) + 1));
    refused(&args.each_ref().map(String::as_str), 1, "longer than 1048576 bytes");
    let args = compare(&dir.file("bytes", b"instruction = \xff"));
    refused(&args.each_ref().map(String::as_str), 1, "it is no text in UTF-8");
}

/// Nothing by nothing is no slowdown.
#[test]
fn a_comparison_of_no_instructions_has_no_slowdown() {
    let compare = |more: &[&str]| {
        let out = subring(&[&["compare", "hello", "--strategy", "bt", "--budget", "0"], more].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let printed = compare(&[]);
    let rows = |strategy| printed.lines().filter(move |line| line.starts_with(strategy));
    let slowdowns: Vec<_> = rows("bare direct  ").chain(rows("bt shadow/")).collect();
    let dashes = slowdowns.iter().filter(|row| row.split_whitespace().nth_back(1) == Some("-"));
    assert_eq!(dashes.count(), 3, "{printed}");
    let table: serde_json::Value = serde_json::from_str(&compare(&["--json"])).expect("one JSON object");
    assert!(table["rows"].as_array().expect("rows").iter().all(|row| row["slowdown"].is_null()), "{table}");
    let csv = compare(&["--csv"]);
    let column = csv.lines().next().expect("names").split(',').position(|name| name == "slowdown");
    for row in csv.lines().skip(1) {
        assert_eq!(row.split(',').nth(column.expect("a column")), Some(""), "{row}");
    }
}

#[test]
fn shares_of_nothing_are_not_printed() {
    let compare = |more: &[&str]| {
        let out = subring(&[&["compare", "hello", "--budget", "0"], more].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let printed = compare(&["--wide"]);
    // Without host seconds.
    let rows = printed.lines().filter(|line| line.contains("  reference") || line.contains("  same"));
    let rows: Vec<_> = rows.map(|row| row.rsplit_once(' ').expect("columns").0).collect();
    assert_eq!(rows.len(), 8, "{printed}");
    assert!(rows.iter().all(|row| !row.contains('.') && row.matches(" -").count() == 4), "{printed}");
    let translation: Vec<_> = printed.lines().skip_while(|line| !line.starts_with("translation ")).collect();
    for row in &translation[1..3] {
        assert!(!row.contains('.') && row.matches(" -").count() == 4, "{printed}");
    }
    let csv = compare(&["--csv"]);
    let names: Vec<_> = csv.lines().next().expect("names").split(',').collect();
    for row in csv.lines().skip(1) {
        for (name, field) in names.iter().zip(row.split(',')) {
            let quotient = name.ends_with("_percent") || ["exits_per_1000", "expansion"].contains(name);
            assert!(!quotient || field.is_empty(), "{name}: {row}");
        }
    }
}

#[test]
fn programs_get_the_causes_of_exits_always_and_their_places_if_asked() {
    let compare = ["compare", "hello", "--strategy", "trap", "--coherence", "trace", "--budget", "100K"];
    let row = |more: &[&str]| json(&subring(&[&compare[..], &["--json"], more].concat()))["rows"][1].clone();
    let (plain, whole) = (row(&[]), row(&["--exits"]));
    assert_eq!((&plain["exits"], &plain["exits_by_place"]), (&whole["exits"], &serde_json::Value::Null));
    let places = whole["exits_by_place"].as_array().expect("places");
    let of = |cause: &str| -> u64 {
        places.iter().filter(|p| p["cause"] == cause).filter_map(|p| p["exits"].as_u64()).sum()
    };
    for (cause, n) in whole["exits"].as_object().expect("causes") {
        assert_eq!(Some(of(cause)), n.as_u64(), "{cause}");
    }
    let printed = text(&subring(&[&compare[..], &["--exits"]].concat()).stdout);
    let first = format!("at {:#010x}: {}", places[0]["at"].as_u64().expect("one"), "port-io");
    assert!(printed.contains(&first), "{first}: {printed}");
    refused(&[&compare[..], &["--exits", "--csv"]].concat(), 2, "--csv has a column for each cause");
}

/// Whatever runs a guest says what its loader had to say, once.
#[test]
fn notes_of_the_loader_are_told_by_each_command() {
    let bios = concat!(env!("CARGO_MANIFEST_DIR"), "/guest-programs/bios/bios.bin");
    for command in ["run", "compare", "mmu", "translate"] {
        let out = subring(&[command, "hello", "--bios", bios, "--budget", "1K"]);
        let told = text(&out.stderr);
        assert_eq!(told.matches("subring: note: the BIOS is in its place").count(), 1, "{command}: {told}");
        assert!(!text(&out.stdout).contains("the BIOS is in"), "{command}");
    }
}

/// At a terminal a line says how far a long comparison is, and goes; elsewhere there is none.
#[test]
fn lockstep_says_how_far_it_is_at_a_terminal() {
    use std::io::Read;
    let args = "compare rings-clean --lockstep --strategy trap --coherence trace --budget 1M --json";
    let args: Vec<_> = args.split(' ').collect();
    let plain = subring(&args);
    assert!(plain.stderr.is_empty(), "{}", text(&plain.stderr));
    let (mut terminal, far_end) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(far_end)
        .spawn()
        .unwrap();
    // Ends with an error once nobody has the far end any more.
    let mut told = Vec::new();
    let _ = terminal.read_to_end(&mut told);
    let told = text(&told);
    let mut printed = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<_> = told.split("\r\u{1b}[K").filter(|line| !line.is_empty()).collect();
    let (name, end) = ("lockstep trap shadow/trace: ", " of 1,000,000 instructions, ");
    assert!(lines.iter().any(|line| line.starts_with(name) && line.contains(end)), "{told:?}");
    for line in lines {
        let doing =
            ["running", "comparing", "lockstep", "measuring"].iter().any(|doing| line.starts_with(doing));
        assert!(doing && line.ends_with(" s"), "{told:?}");
    }
    assert!(told.ends_with("\u{1b}[K"), "the last one goes: {told:?}");
    let without_host_time = |printed: &[u8]| {
        let mut table: serde_json::Value = serde_json::from_slice(printed).expect("one JSON object");
        let rows = table["rows"].as_array_mut().expect("rows");
        rows.iter_mut().for_each(|row| row["host_seconds"] = serde_json::Value::Null);
        table
    };
    assert_eq!(without_host_time(&plain.stdout), without_host_time(&printed), "what is printed is the same");
}

/// A terminal: our end, and the program's.
fn terminal() -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = std::fs::File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    (ours, theirs)
}

/// Says of a run under trap that went on until it was cut, or died, what finds the fault; and says it once.
#[test]
fn a_run_under_trap_that_may_have_gone_wrong_is_told_of_compare() {
    let dir = Scratch::new("hint");
    let file = |name: &str, code: &[u8]| dir.file(name, code);
    let (spins, dies) = (file("spins", SPIN), file("dies", &[0x0f, 0x0b]));
    let (resets, ends) =
        (file("resets", &[0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe]), file("ends", &[0xb0, 0, 0xe6, 0xf4]));
    let fails = file("fails and says so", &[0xb0, 3, 0xe6, 0xf4]);
    let said = |args: &[&str], strategy: &str| {
        let out = subring(&[&["run"], args, &["--strategy", strategy]].concat());
        assert!(!text(&out.stdout).contains("subring compare"), "{args:?}");
        text(&out.stderr).matches("subring compare").count()
    };
    let doubtful: [&[&str]; 7] = [
        &["rings", "--budget", "2M"],
        &["nano"],
        &[&fails],
        &[&spins, "--time", "3ms", "--stats"],
        &[&dies],
        &[&resets],
        &["--disk", &dir.file("disk", &disk(SPIN, 16)), "--budget", "1M"],
    ];
    for args in doubtful {
        assert_eq!(["trap", "bt", "bare"].map(|strategy| said(args, strategy)), [1, 0, 0], "{args:?}");
    }
    assert_eq!(said(&[&ends], "trap"), 1, "it ended by itself, and well: that proves nothing");
    for strategy in ["trap", "bt"] {
        let out = subring(&["run", &ends, "--strategy", strategy]);
        let told = text(&out.stderr).contains("the guest can have gone wrong unseen");
        assert_eq!((out.status.code(), told), (Some(0), strategy == "trap"));
    }
    let out = subring(&["run", &fails, "--strategy", "trap"]);
    assert!(text(&out.stderr).contains(&format!("compare '{fails}' ")), "{}", text(&out.stderr));
    assert_eq!(said(&[&spins, "--budget", "9", "--json"], "trap"), 0, "a program reads this");
    let out = subring(&["run", &dies, "--strategy", "trap"]);
    let words = format!(
        "subring: note: trap lets sensitive unprivileged instructions run on the real state, where they go wrong: \
         `subring compare {dies} --strategy trap`, "
    );
    let said = text(&out.stderr);
    let (note, end) = (said.find(&words), said.find("triple fault"));
    assert!(note.is_some() && note < end, "before it runs: {said}");
}

/// The same when a signal ends it.
#[cfg(unix)]
#[test]
fn an_interrupted_run_under_trap_is_told_of_compare() {
    use std::io::Read;
    let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(["run", "rings", "--strategy", "trap"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 500]).expect("it runs for ever");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    std::io::copy(&mut stdout, &mut std::io::sink()).expect("a pipe");
    let out = child.wait_with_output().expect("it ends");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("`subring compare rings --strategy trap`").count(), 1, "{said}");
}

/// For ever: OUT 80h, AL; JMP back. Each OUT is an exit or a callout, and nothing on the bare machine.
#[cfg(unix)]
#[test]
fn an_interrupted_compare_prints_the_rows_that_are_finished() {
    let dir = Scratch::new("interrupted");
    let guest = dir.file("ports.bin", &[0xe6, 0x80, 0xeb, 0xfc]);
    let compare = |millis: u64| {
        let child = Command::new(env!("CARGO_BIN_EXE_subring"))
            .args(["compare", &guest, "--mem", "4M", "--budget", "20M", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(millis));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        let out = child.wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(130), "after {millis} ms");
        let table: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        assert_eq!(table["interrupted"], true);
        table
    };
    // Until the signal comes when the bare machine is through, and not all monitors are.
    let finished = |table: &serde_json::Value| {
        let rows = table["rows"].as_array().expect("rows");
        (1..5).contains(&rows.len()) && rows[0]["instructions"] == 20_000_000
    };
    let table = (0..8).map(|n| compare(300 << n)).find(finished).expect("rows");
    for row in &table["rows"].as_array().expect("rows")[1..] {
        assert_eq!((&row["outcome"], &row["instructions"]), (&"same".into(), &20_000_000.into()));
    }
}

#[test]
fn strategies_that_mean_nothing_get_a_sentence() {
    let table: &[(&[&str], &str)] = &[
        (&["run", "hello", "--mmu", "shadow"], "needs a monitor"),
        (&["run", "hello", "--strategy", "trap", "--mmu", "direct"], "guest-physical frames"),
        (&["run", "hello", "--coherence", "vtlb"], "bare machine has none"),
        (&["run", "hello", "--strategy", "trap", "--machine-mem", "16M"], "KiB of memory"),
        (&["run", "hello", "--strategy", "trap", "--shadow-frames", "3"], "too few"),
        (&["compare", "hello", "--strategy", "bare"], "compares with the bare machine"),
        (&["run", "hello", "--trace", "exit"], "bare machine has none"),
        (&["run", "hello", "--strategy", "trap", "--mem", "3G", "--machine-mem", "1G"], "KiB of memory"),
        (&["compare", "hello", "--costs", "/nonexistent"], "cannot open"),
        (&["run", "hello", "--strategy", "bt", "--mmu", "direct"], "guest-physical frames"),
        (&["run", "hello", "--fragment-memory", "1M"], "bare machine has none"),
        (&["run", "hello", "--strategy", "trap", "--fragment-memory", "1M"], "translates none"),
        (&["compare", "hello", "--mem", "64M", "--machine-mem", "32M"], "KiB of memory"),
        (&["compare", "/nonexistent"], "cannot open"),
        (&["translate", "/nonexistent"], "cannot open"),
    ];
    for (args, sentence) in table {
        let out = subring(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && text.contains(sentence), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    }
}

//! What `run` offers to find out why a guest goes wrong: `--stop-on`, `--post-mortem`, `--symbols`, `--trace-range`,
//! `--trace-last`; and that each count shown can be given back.

use crate::common::program::{ends, refused, subring, text};
use crate::common::scratch::Scratch;

const NESTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest-programs/nested/nested.elf");

/// Twelve NOPs and UD2 at 100000h; the ELF file of `nested` has `_start` at 10000Ch.
fn guest(dir: &Scratch) -> String {
    dir.file("guest.bin", &[[0x90; 12].as_slice(), &[0x0f, 0x0b, 0xf4]].concat())
}

/// MOV AL, 3; OUT F4h, AL.
fn ending(dir: &Scratch) -> String {
    dir.file("ending.bin", &[0x90, 0x90, 0xb0, 3, 0xe6, 0xf4, 0xf4])
}

fn said(args: &[&str], status: i32) -> String {
    text(&ends(args, status).stderr)
}

#[test]
fn a_run_stops_before_an_event() {
    let dir = Scratch::new("stop-on");
    let guest = guest(&dir);
    for stop in ["fault:UD", "fault:6", "fault:#ud"] {
        let said = said(&["run", &guest, "--stop-on", stop], 124);
        assert!(said.contains(":0010000c after 12 instructions"), "{said}");
        assert!(
            said.contains("post-mortem: stopped at 0x0010000c, where #UD is about to be delivered"),
            "{said}"
        );
    }
    for cell in [&["--strategy", "bt"][..], &["--strategy", "trap"]] {
        let args = [&["run", &guest, "--stop-on", "fault:UD"], cell].concat();
        assert!(said(&args, 124).contains(":0010000c after 12 instructions"), "{cell:?}");
    }
    // Another event does not stop it.
    ends(&["run", &guest, "--stop-on", "fault:PF"], 120);
    let wrong = subring(&["run", &guest, "--stop-on", "fault:XX", "--budget", "1"]);
    let told = text(&wrong.stderr);
    assert!(wrong.status.code() == Some(2) && told.contains("`XX` is no exception"), "{told}");
}

#[test]
fn a_post_mortem_comes_when_asked_for() {
    let dir = Scratch::new("always");
    let guest = ending(&dir);
    assert!(!said(&["run", &guest], 3).contains("post-mortem"), "a status that is no death");
    let told = said(&["run", &guest, "--post-mortem"], 3);
    assert!(told.contains("post-mortem: the guest ended the run with status 3"), "{told}");
}

#[test]
fn another_file_names_addresses() {
    let dir = Scratch::new("symbols");
    let guest = guest(&dir);
    let told = said(&["run", &guest, "--symbols", NESTED], 120);
    assert!(told.contains("EIP at 0x0010000c (_start)"), "{told}");
    assert!(told.contains("boot.S"), "source lines, too: {told}");
    let moved = said(&["run", &guest, "--symbols", &format!("{NESTED},0x1000")], 120);
    assert!(!moved.contains("(_start)"), "{moved}");
    refused(&["run", &guest, "--symbols", &guest], 1, "it is not an ELF file");
}

#[test]
fn a_trace_may_be_of_a_range_or_of_the_end() {
    let dir = Scratch::new("window");
    let guest = guest(&dir);
    let lines = |args: &[&str]| {
        let all = [&["run", &guest, "--trace", "insn", "--budget", "10"], args].concat();
        let said = said(&all, 124);
        said.lines().filter(|l| l.contains(" insn ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 10);
    assert_eq!(lines(&["--trace-range", "0x100002-0x100004"]), all[2..5]);
    assert_eq!(lines(&["--trace-last", "3"]), all[7..]);
    assert_eq!(lines(&["--trace-range", "0x100000-0x100005", "--trace-last", "2"]), all[4..6]);
    assert_eq!(lines(&["--trace-last", "0"]), Vec::<String>::new());
    let faults =
        said(&["run", &guest, "--trace", "fault", "--trace-range", "_start", "--symbols", NESTED], 120);
    assert!(faults.contains(":0010000c  #UD") && !faults.contains(" insn "), "{faults}");
    refused(&["run", &guest, "--trace", "insn", "--trace-range", "nobody"], 2, "there are no symbols");
}

#[test]
fn the_count_of_a_trace_can_be_given_back() {
    let dir = Scratch::new("count");
    let guest = guest(&dir);
    let trace = said(&["run", &guest, "--trace", "fault"], 120);
    let line = trace.lines().find(|l| l.contains("#UD")).expect("the fault");
    let count = line.split_whitespace().next().unwrap();
    let budget = said(&["run", &guest, "--budget", count, "--post-mortem"], 124);
    assert!(budget.contains("=> 0010000c  0f 0b"), "{budget}");
}

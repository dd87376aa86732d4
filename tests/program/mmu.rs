//! `subring mmu`: its text and its objects on built-in guests and on one with PAE, what it refuses, and that looking changes
//! nothing. GOLDEN=write in the environment writes the files of tests/mmu.

use crate::common::guest;
use crate::common::program;
use crate::common::program::{ends, text};
use crate::common::scratch::Scratch;
use serde_json::Value;
use std::path::Path;
use subring::cell::{Cell, Coherence};
use subring::lab::mappings::View;
use subring::lab::state;
use subring::load::builtin;
use subring::machine::{Limits, Machine, Outcome};
use subring::report::Journal;
use subring::vmm::{self, Config};

/// What `subring mmu` prints.
#[track_caller]
fn shown(args: &str) -> String {
    let all: Vec<&str> = std::iter::once("mmu").chain(args.split_whitespace()).collect();
    text(&ends(&all, 0).stdout)
}

#[track_caller]
fn golden(name: &str, args: &str) {
    let text = shown(args);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/mmu").join(name);
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

/// The object of `subring mmu --json`.
#[track_caller]
fn object(args: &str) -> Value {
    serde_json::from_str(&shown(&format!("{args} --json"))).unwrap()
}

/// Asserts that `subring mmu ARGS` is refused with one sentence that contains `words`.
#[track_caller]
fn refused(args: &[&str], words: &str) {
    program::refused(&[&["mmu"], args].concat(), 2, words);
}

/// The address of the first page that the running task of `rings-clean` has touched on its heap.
const HEAP: &str = "0x60040000..0x60050000";

#[test]
fn all_that_is_mapped_in_runs() {
    golden("rings-clean.txt", "rings-clean --at 3M");
    golden("rings-clean-vtlb.txt", "rings-clean --at 3M --coherence vtlb");
    golden("nano-clean.txt", "nano-clean --at exit:trace-page#1000");
}

#[test]
fn a_range_page_by_page_with_its_history() {
    // The kernel takes a task's writes away, to share its pages with a child.
    golden("fork.txt", &format!("rings-clean --at entry:synced#2 --address {HEAP}"));
    // It takes a page away, and INVLPG is next: a trace has synced the shadow, a virtual TLB is stale until then.
    let before = "nano-clean --at pgfault+0x1a#3 --address 0xc00000";
    golden("invlpg-trace.txt", before);
    golden("invlpg-vtlb.txt", &format!("{before} --coherence vtlb"));
    let marks = |args: &str| object(args)["pages"][0]["marks"].to_string();
    assert_eq!(marks(before), "[]");
    assert!(marks(&format!("{before} --coherence vtlb")).contains("stale"));
}

/// Two tables for each address, and the walk through both: one level of the guest's costs a walk of the extended
/// tables and a reference, so (2 + 1) * (4 + 1) - 1 references, with a large page (1 + 1) * (4 + 1) - 1, and 4
/// without paging.
#[test]
fn nested_page_tables_and_the_walk_through_both() {
    let nested = "--strategy hvm --mmu nested";
    golden("nested.txt", &format!("rings-clean {nested} --at 3M"));
    golden("nested-walk.txt", &format!("rings-clean {nested} --at 3M --address 0x60040000"));
    golden(
        "nested-large.txt",
        &format!("guest-programs/vmx/vmx-guest.elf {nested} --at trap#6 --address 0x900000"),
    );
    golden("nested-unpaged.txt", &format!("hello {nested} --address 0x100000"));
    for (file, references) in [("nested-walk", 14), ("nested-large", 9), ("nested-unpaged", 4)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/program/mmu/{file}.txt"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("a walk takes {references} references:")), "{text}");
    }
}

#[test]
fn changes_as_they_come() {
    golden("watch-trace.txt", &format!("rings-clean --watch --address {HEAP} --budget 6M"));
    golden(
        "watch-vtlb.txt",
        "rings-clean --watch --address 0x40000000..0x40002000 --budget 3M --coherence vtlb",
    );
    let lines = shown(&format!("rings-clean --watch --address {HEAP} --budget 6M --json"));
    let changes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(changes.iter().any(|c| c["change"] == "synced" && c["about"]["written"].is_u64()), "{lines}");
    assert!(changes.iter().all(|c| (0x6004_0000..0x6005_0000).contains(&c["linear"].as_u64().unwrap())));
}

#[test]
fn a_small_shadow_loses_entries() {
    let text = shown("rings-clean --watch --shadow-frames 16 --machine-mem 64M --budget 5M");
    assert!(text.contains("evicted") && text.contains("its place was needed"), "{text}");
}

/// The BIOS runs from its ROM: reads and fetches go to a copy, and need no exit.
#[test]
fn a_rom_is_mapped_by_a_copy_that_cannot_be_written() {
    let shown = shown("boot --at 150K --address 0xfd000");
    assert!(shown.contains(" r-u   which is guest frame 000fd000"), "{shown}");
    assert!(shown.contains("a copy of a ROM's page"), "{shown}");
    let marks = object("boot --at 150K --address 0xfe000")["pages"][0]["marks"].clone();
    assert_eq!(marks, serde_json::json!(["rom"]));
    let compared = program::subring(&["compare", "boot", "--budget", "150K", "--json"]);
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    for row in &compared["rows"].as_array().unwrap()[1..] {
        assert_eq!(row["outcome"], "same", "{row}");
        assert!(row["exits"]["mmio"].as_u64() < Some(1000), "{row}");
    }
}

#[test]
fn other_strategies_and_no_paging_are_said() {
    let translated = shown("rings-clean --strategy bt --at 1M");
    assert!(translated.starts_with("rings-clean, bt shadow/trace: after 1,000,000"), "{translated}");
    let bare = shown("rings-clean --strategy bare --at kernel_main");
    assert!(bare.contains("none: this is the bare machine"), "{bare}");
    let off = shown("hello");
    assert!(off.contains("paging is off: linear addresses are guest-physical"), "{off}");
    assert!(off.contains("(no paging)") && off.contains("filled"), "{off}");
}

#[test]
fn events_stop_where_they_say() {
    let at = |event: &str| object(&format!("rings-clean --address 0x100000 --at {event}"));
    assert_eq!(at("1_000_000")["instructions"], 1_000_000);
    let main = at("kernel_main");
    assert_eq!((main["symbol"].as_str(), main["paging"].as_bool()), (Some("kernel_main"), Some(false)));
    assert_eq!(at(&format!("{:#x}", main["eip"].as_u64().unwrap()))["instructions"], main["instructions"]);
    let switch = |n: u32| at(&format!("space_switch#{n}"))["instructions"].as_u64().unwrap();
    assert!(switch(1) < switch(2) && switch(2) < switch(3));
    let exit = |n: u32| at(&format!("exit:trace-page#{n}"))["instructions"].as_u64().unwrap();
    assert!(exit(1) < exit(2));
}

#[test]
fn nonsense_is_refused_in_a_sentence() {
    refused(&["rings-clean", "--at", "nosuch"], "no symbol `nosuch`");
    refused(&["boot", "--at", "main"], "has no symbols");
    refused(&["rings-clean", "--at", "exit:coffee"], "no cause of exits");
    refused(&["rings-clean", "--at", "entry:lost"], "no change of an entry");
    refused(&["rings-clean", "--at", "exit:trace#0"], "from 1 on");
    refused(&["smc", "--at", "exit:true#1000000"], "the guest ended with status 0");
    refused(
        &["rings-clean", "--at", "kernel_main#2", "--budget", "1M"],
        "did not happen (the event did, once)",
    );
    refused(
        &["rings-clean", "--at", "kernel_main#2", "--budget", "1M"],
        "the budget is spent after 1,000,000 instructions: give a smaller number behind #, or a larger --budget or --time",
    );
    refused(
        &["rings-clean", "--at", "2G", "--budget", "1M"],
        "--at 2G counts retired instructions, and the budget is spent after 1,000,000 of them: give a smaller count, or a larger \
         --budget or --time",
    );
    let after = object("smc")["instructions"].as_u64().unwrap();
    refused(&["smc", "--at", &(after + 1).to_string()], "the guest ended with status 0 after");
    refused(
        &["smc", "--at", "99999999"],
        "of them: give a smaller count, or leave --at out to see the end of the run",
    );
    refused(&["rings-clean", "--at", "12parsecs"], "none of K, M, G, T");
    refused(&["rings-clean", "--address", "0x5000..0x4000"], "the range is empty");
    refused(&["rings-clean", "--address", "0x5000..0x5000"], "the range is empty");
    refused(&["rings-clean", "--address", "0x1ffffffff"], "below 4 GiB");
    refused(&["rings-clean", "--address", "nosuch..0x5000"], "no symbol `nosuch`");
    refused(&["rings-clean", "--strategy", "bare", "--watch"], "no monitor");
    refused(&["rings-clean", "--strategy", "bare", "--at", "exit:any"], "no monitor");
    let whole = object("rings-clean --at 3M --address 0x0..0x100000000");
    let default = object("rings-clean --at 3M");
    assert_eq!(whole["pages"], default["pages"], "4 GiB are everything");
}

/// A kernel with PAE, as a flat binary at 1 MiB: 2 MiB identically mapped by one page, and one page by a table. It writes to the
/// page, sets a reserved bit in its entry, and halts.
fn pae_kernel() -> Vec<u8> {
    let store = |at: u32, value: u32| [&[0xc7, 0x05][..], &at.to_le_bytes(), &value.to_le_bytes()].concat();
    let control =
        |n: u8, value: u32| [&[0xb8][..], &value.to_le_bytes(), &[0x0f, 0x22, 0xc0 | n << 3]].concat();
    [
        store(0x1_0000, 0x1_1001),  // the first pointer
        store(0x1_1000, 0x83),      // the first directory entry: a 2 MiB page
        store(0x1_1010, 0x1_2003),  // the third: a table
        store(0x1_2008, 0x18_0003), // its second entry
        control(4, 0x20),
        control(3, 0x1_0000),
        control(0, 0x8001_0011),
        store(0x40_1000, 1),
        store(0x1_200c, 0x8000_0000), // bit 63, in the upper half
        vec![0xfa, 0xf4],
    ]
    .concat()
}

#[test]
fn three_levels() {
    let scratch = Scratch::new("pae");
    let name = scratch.file("kernel.bin", &pae_kernel());
    let range = "--address 0x400000..0x402000";
    let before = object(&format!("{name} --at entry:filled {range}"));
    assert_eq!(
        (&before["pae"], before["pages"].as_array().unwrap().len()),
        (&Value::Bool(true), 1),
        "{before}"
    );
    let page = &before["pages"][0];
    assert_eq!(
        (page["guest"]["entry"].as_u64(), page["shadow"]["guest_frame"].as_u64()),
        (Some(0x1_2008), Some(0x18_0000))
    );
    assert_eq!(
        (page["guest"]["dirty"].as_bool(), page["marks"].as_array().unwrap().len()),
        (Some(true), 0),
        "{page}"
    );
    let after = object(&format!("{name} {range}"));
    let page = &after["pages"][0];
    assert_eq!(
        (page["guest"]["reserved"].as_bool(), page["shadow"].is_null()),
        (Some(true), true),
        "{after}"
    );
    assert_eq!(page["history"][1]["about"]["written"].as_u64(), Some(0x1_200c), "{after}");
    let large = object(&format!("{name} --address 0x100000"));
    assert_eq!(large["pages"][0]["guest"]["size"], "large2-m", "{large}");
    let text = shown(&name);
    assert!(
        text.contains("page directory of 00000000-3fffffff")
            && text.contains("page table of 00400000-005fffff"),
        "{text}"
    );
}

fn run_to(m: &mut Machine, ticks: u64) -> Option<Outcome> {
    while m.cpu.now < ticks {
        match m.run(Limits::until(ticks)) {
            Outcome::Reached => {}
            ended => return Some(ended),
        }
    }
    None
}

#[test]
fn looking_changes_nothing() {
    for name in ["rings-clean", "nano-clean", "smc"] {
        for coherence in [Coherence::Trace, Coherence::Vtlb] {
            let monitored = || {
                let mut m = guest::machine(builtin::find(name).unwrap());
                vmm::install(&mut m, &Config { cell: Cell::trap(coherence), ..Config::default() }).unwrap();
                m
            };
            let (mut alone, mut watched) = (monitored(), monitored());
            watched
                .monitor_mut()
                .unwrap()
                .shadow_mut()
                .unwrap()
                .keep_journal(Journal::new(0..=0xf_ffff, true));
            let mut seen = 0;
            for step in 1..=20 {
                let ends = (run_to(&mut alone, step * 300_007), run_to(&mut watched, step * 300_007));
                watched.follow();
                seen += View::of(&watched).pages(0..=0xf_ffff).len();
                assert_eq!(ends.0, ends.1, "{name} {coherence}");
                assert_eq!(state::digest(&alone), state::digest(&watched), "{name} {coherence}, step {step}");
                if ends.0.is_some() {
                    break;
                }
            }
            let (a, b) = (alone.monitor().unwrap().report(), watched.monitor().unwrap().report());
            assert_eq!(
                (a.exits, a.counts.direct, a.shadow.unwrap().counts),
                (b.exits, b.counts.direct, b.shadow.unwrap().counts)
            );
            let changes = watched.monitor_mut().unwrap().shadow_mut().unwrap().take_changes();
            assert!(seen > 0 && !changes.is_empty());
        }
    }
}

//! The report itself: its parts, and the text of a few.

use super::guest::{CODE, Guest, HANDLER};
use std::fs;
use std::path::Path;
use subring::debug::{explain, rules};

/// Compares with a file of tests/program/post_mortem/golden; GOLDEN=write in the environment writes it.
#[track_caller]
pub(super) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/post_mortem/golden").join(name);
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn text_of_a_gate_with_the_data_segment() {
    let mut g = Guest::flat();
    g.gate(6, 0x10, HANDLER, 0x8e).symbol("start", CODE, 0x24).symbol("die", CODE + 0x24, 8);
    g.start().run(&[0x0f, 0x0b]);
    golden("gate-selector-data.txt", &explain(&g.report().unwrap()));
}

#[test]
fn text_of_a_user_page_fault() {
    let mut g = Guest::flat();
    g.tables(3).start().task().paging().user(0x1b, &[0x0f, 0x0b]);
    golden("pte-not-user.txt", &explain(&g.report().unwrap()));
}

#[test]
fn text_of_a_backtrace_to_hlt() {
    // PUSH 0; MOV EBP, ESP; CALL a; a: PUSH EBP; MOV EBP, ESP; CALL b; b: PUSH EBP; MOV EBP, ESP; CLI; HLT
    let mut g = Guest::flat();
    g.symbol("start", CODE, 0x2d).symbol("a", CODE + 0x2d, 8).symbol("b", CODE + 0x35, 5);
    g.start().run(&[0x6a, 0, 0x89, 0xe5, 0xe8, 0, 0, 0, 0]);
    g.run(&[0x55, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x55, 0x89, 0xe5, 0xfa, 0xf4]);
    golden("halted.txt", &explain(&g.report().unwrap()));
}

#[test]
fn what_no_call_pushed_is_no_caller() {
    // PUSH 110000h, a pointer to data; PUSH 0; MOV EBP, ESP; CALL a; a: PUSH EBP; MOV EBP, ESP; CLI; HLT
    let mut g = Guest::flat();
    g.start().run(&[0x68, 0, 0, 0x11, 0, 0x6a, 0, 0x89, 0xe5, 0xe8, 0, 0, 0, 0]);
    g.run(&[0x55, 0x89, 0xe5, 0xfa, 0xf4]);
    let eips: Vec<u32> = g.report().unwrap().backtrace.iter().map(|c| c.eip).collect();
    assert_eq!(eips, [CODE + 0x37, CODE + 0x32], "HLT, and the one CALL");
}

#[test]
fn the_chain_has_every_link() {
    let mut g = Guest::flat();
    let report = g.start().run(&[0x0f, 0x0b]).report().unwrap();
    let events: Vec<&str> = report.chain.iter().map(|s| s.event.as_str()).collect();
    assert_eq!(events.len(), 5, "{events:#?}");
    assert!(events[0].starts_with("first #UD, EIP 0x00100024"), "{events:#?}");
    assert!(events[1].starts_with("then #GP(0x0033)"), "{events:#?}");
    assert!(report.chain[1].code.iter().any(|c| c.contains("IDT=1")), "{:#?}", report.chain[1]);
    assert!(report.chain[1].walk[0].contains("all zero"), "{:#?}", report.chain[1]);
    assert!(events[4].contains("shuts down"), "{events:#?}");
}

#[test]
fn at_least_twenty_five_mistakes_are_known_and_each_has_its_guest() {
    let tests =
        concat!(include_str!("mistakes.rs"), include_str!("handled.rs"), include_str!("hypervisors.rs"));
    let without: Vec<&str> = rules::names().filter(|n| !tests.contains(&format!("\"{n}\""))).collect();
    assert!(without.is_empty(), "no guest makes {without:?}");
    assert!(rules::names().count() >= 25);
}

//! Guests with handlers of their own: an exception is delivered, its handler prints or halts, and the guest ends by itself
//! much later. The post-mortem is about the exception, not about the end.

use super::guest::{CODE, Guest, IDT, STACK, TABLE};
use subring::debug::{Ending, explain};
use subring::machine::Limits;

/// MOV AL, 13; OUT F4h, AL; HLT: what a panic does.
const PANIC: [u8; 5] = [0xb0, 13, 0xe6, 0xf4, 0xf4];
/// The same, a few calls deep and with locals: CALL +0; PUSH EAX eight times.
const DEEP_PANIC: [u8; 18] =
    [0xe8, 0, 0, 0, 0, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0x50, 0xb0, 13, 0xe6, 0xf4, 0xf4];
/// CLI; HLT.
const HALT: [u8; 2] = [0xfa, 0xf4];
/// CLI; JMP $.
const SPIN: [u8; 3] = [0xfa, 0xeb, 0xfe];

/// The usual mistakes of guests that have a handler for what follows from them: the guest, the rule, and words of its
/// sentence. `end` is what each of the handlers does.
fn mistakes(end: &[u8]) -> Vec<(Guest, &'static str, &'static str)> {
    let with = |vector: u32, make: &dyn Fn(&mut Guest)| {
        let mut g = Guest::flat();
        g.handler(vector, end);
        make(&mut g);
        g
    };
    let timer = [0xb0, 0x34, 0xe6, 0x43, 0xb0, 4, 0xe6, 0x40, 0xe6, 0x40, 0xb0, 0xfe, 0xe6, 0x21];
    let bad_selector = [0x66, 0xb8, 0x58, 0, 0x8e, 0xd8];
    let mut all = vec![
        (with(8, &|g| _ = g.start().run(&timer).run(&[0xfb, 0xeb, 0xfe])), "pic-not-remapped", "IRQ0"),
        (
            with(13, &|g| _ = g.idtr(IDT, 0xfe).start().timer().run(&[0xfb, 0xeb, 0xfe])),
            "idt-limit-short",
            "the IDT ends before vector 0x20",
        ),
        (
            with(13, &|g| _ = g.idtr(IDT, 0xff).start().run(&[0xcd, 0x80])),
            "idt-limit-entries",
            "the number of gates",
        ),
        (with(13, &|g| _ = g.start().run(&[0xcd, 0x80])), "gate-empty", "vector 0x80 is empty"),
        (with(13, &|g| _ = g.start().run(&bad_selector)), "selector-beyond-gdt", "selector 0x58"),
        (
            with(13, &|g| _ = g.start().run(&[0xea, 0, 0, 0x10, 0, 0x10, 0])),
            "jump-to-data-segment",
            "which is a data segment",
        ),
        (
            with(11, &|g| _ = g.descriptor(0x20, 0x00cf_7200_0000_ffff).start().run(&LOAD_20)),
            "segment-not-present",
            "selector 0x20",
        ),
        (
            with(13, &|g| _ = g.start().run(&[0x31, 0xc0, 0x8e, 0xd8, 0xa1, 8, 0, 0, 0])),
            "null-segment",
            "DS, which holds the null selector",
        ),
        (with(13, &|g| _ = g.start().task().user(0x1b, &[0xf4])), "privileged-in-user", "ring 3 ran HLT"),
        (with(13, &|g| _ = g.start().task().user(0x1b, &[0xe6, 0x80])), "io-in-user", "ring 3 used a port"),
        (
            with(14, &|g| _ = g.tables(3).pte(0, 0).start().paging().run(&[0xa1, 8, 0, 0, 0])),
            "null-pointer",
            "the access is at 0x8",
        ),
        (
            with(14, &|g| _ = g.tables(3).start().task().paging().user(0x1b, &[0x90])),
            "pte-not-user",
            "present but not user",
        ),
        (with(6, &|g| _ = g.start().run(&[0x0f, 0x58, 0xc0])), "unbuilt-instruction", "has no ADDPS"),
    ];
    // The handler of #PF leaves the error code on the stack: IRET raises #GP, and that handler ends the guest.
    let mut popped = Guest::flat();
    popped.handler(13, end).handler(14, &[0xcf]).tables(3).pte(0x20_0000, 0).start().paging();
    popped.run(&[0xa1, 0, 0, 0x20, 0]);
    all.push((popped, "error-code-not-popped", "the handler of #PF"));
    all
}

/// MOV AX, 20h; MOV DS, AX.
const LOAD_20: [u8; 6] = [0x66, 0xb8, 0x20, 0, 0x8e, 0xd8];

#[test]
fn a_panic_in_a_handler_is_blamed_on_the_exception() {
    for end in [&PANIC[..], &DEEP_PANIC, &HALT, &SPIN] {
        for (guest, rule, words) in mistakes(end) {
            let report = guest.dies_of(rule, words);
            assert!(report.what.contains("its handler never returned"), "{rule}: {}", report.what);
        }
    }
}

#[test]
fn the_report_shows_the_place_of_the_exception_and_ends_with_the_likely_cause() {
    let mut g = Guest::flat();
    g.handler(13, &DEEP_PANIC).symbol("start", CODE, 0x24).symbol("die", CODE + 0x24, 0x20);
    g.start().run(&[0x31, 0xc0, 0x8e, 0xd8, 0xa1, 8, 0, 0, 0]);
    let report = g.report().expect("a post-mortem");
    assert!(
        report.what.starts_with("#GP(0x0000) came at 0x00100028 (die+0x4), after 10 instructions"),
        "{}",
        report.what
    );
    assert!(
        report.what.ends_with("the guest ended the run with status 13, at 0x00108351"),
        "{}",
        report.what
    );
    assert!(report.registers.contains(&format!("esp {STACK:08x}")), "{}", report.registers);
    assert!(report.code.iter().any(|line| line.current && line.eip == CODE + 0x28), "{:#?}", report.code);
    assert_eq!(report.backtrace[0].symbol.as_deref(), Some("die+0x4"));
    let text = explain(&report);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("likely: ") && last.ends_with("[null-segment]"), "{last}");
}

#[test]
fn a_handled_exception_is_not_blamed_for_a_later_end() {
    // #PF: ADD ESP, 4; MOV DWORD [the PTE], 200003h; INVLPG [200000h]; IRET. Then some calls, and status 1.
    let pte = (TABLE + 4 * 0x200).to_le_bytes();
    let mut handler = vec![0x83, 0xc4, 4, 0xc7, 0x05];
    handler.extend(pte);
    handler.extend([3, 0, 0x20, 0, 0x0f, 0x01, 0x3d, 0, 0, 0x20, 0, 0xcf]);
    let exit = |status: u8| [0xe8, 0, 0, 0, 0, 0x50, 0x50, 0x50, 0x50, 0xb0, status, 0xe6, 0xf4, 0xf4];
    let mut g = Guest::flat();
    g.handler(14, &handler).tables(3).pte(0x20_0000, 0).start().paging();
    g.run(&[0xa1, 0, 0, 0x20, 0]).run(&exit(1));
    assert_eq!(g.end().1, Ending::Exit(1));
    assert_eq!(g.report().map(|r| r.what), None);
    // No exception at all; and one whose handler ends the guest with success, as a test's may.
    let mut g = Guest::flat();
    g.start().run(&exit(1));
    assert_eq!(g.report().map(|r| r.what), None);
    let mut g = Guest::flat();
    g.handler(6, &[0xb0, 0, 0xe6, 0xf4, 0xf4]).start().run(&[0x0f, 0x0b]);
    assert_eq!(g.end().1, Ending::Exit(0));
    assert_eq!(g.report().map(|r| r.what), None);
}

#[test]
fn an_x87_that_waits_for_ever_is_named() {
    // FLD1; FLDPI; FMULP, with the control word of power-on
    let mut g = Guest::flat();
    g.start().run(&[0xd9, 0xe8, 0xd9, 0xeb, 0xde, 0xc9, 0xf4]);
    g.dies_of("fpu-not-initialised", "run FNINIT");
    // FNINIT; FLDCW [500h] with everything unmasked; FLDZ; FLD1; FDIVRP; FWAIT
    let mut g = Guest::flat();
    g.put(0x600, &[0x40, 0x03]).start();
    g.run(&[0xdb, 0xe3, 0xd9, 0x2d, 0, 6, 0, 0, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b, 0xf4]);
    g.dies_of("fpu-error-unheard", "set CR0.NE");
}

#[test]
fn a_handler_that_faults_in_itself_is_named() {
    // #GP with DS null, whose handler pushes EAX and reads by DS, too, on a 16-bit stack that wraps.
    let mut g = Guest::flat();
    g.handler(13, &[0x50, 0xa1, 0, 0x50, 0, 0, 0x58, 0xcf]).descriptor(0x18, 0x0000_9302_0000_ffff).start();
    g.run(&[0xb8, 0x18, 0, 0, 0, 0x8e, 0xd0, 0xbc, 0, 0x80, 0, 0]);
    g.run(&[0x31, 0xc0, 0x8e, 0xd8, 0xa1, 0, 0x50, 0, 0, 0xf4]);
    let report = g.report().expect("a post-mortem");
    let rules: Vec<&str> = report.diagnoses.iter().map(|d| d.rule).collect();
    assert!(rules.contains(&"exception-repeats"), "{}", explain(&report));
    let repeats = report.diagnoses.iter().find(|d| d.rule == "exception-repeats").unwrap();
    assert!(repeats.sentence.contains("meets the same exception itself"), "{}", repeats.sentence);
}

#[test]
fn a_count_that_is_shown_can_be_given_back() {
    // A timer and HLT, so that ticks and instructions differ; then #UD, with a handler that panics.
    let mut g = Guest::flat();
    g.handler(0x20, &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]).handler(6, &PANIC).start().timer();
    g.run(&[0xfb, 0xf4, 0xf4, 0xfa, 0x0f, 0x0b]);
    let (ended, _) = g.end();
    assert!(ended.cpu.idle > 1000, "the guest slept for {} ticks", ended.cpu.idle);
    let report = g.report().expect("a post-mortem");
    let line = report.events.iter().rev().find(|line| line.contains("#UD")).expect("the exception");
    let count: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(report.what.contains(&format!("after {count} instructions")), "{}", report.what);
    let mut again = g.machine();
    again.run(Limits::instructions(count));
    assert_eq!(again.cpu.retired(), count);
    assert!(again.registers().contains("ud2"), "{}", again.registers());
    let interrupt = report.events.iter().find(|line| line.contains("hardware interrupt")).expect("a tick");
    assert!(interrupt.contains("  tick "), "{interrupt}");
}

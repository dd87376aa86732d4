//! The rewriting rules and the translation microscope: what breaks without each rule, on a small guest of its own
//! (`tests/program/translate/rules.txt`), and listings of translated code held to golden files. `SUBRING_BLESS=1` writes
//! those anew.

use crate::common::guest;
use crate::common::program::{ends, refused, subring, text};
use crate::common::scratch::Scratch;
use serde_json::Value;
use std::collections::BTreeSet;
use subring::cell::Cell;
use subring::load::builtin;
use subring::machine::{Limits, Machine, Monitor, Outcome, World};
use subring::translate::{TranslatedCode, Why};
use subring::vmm;
use subring::vmm::bt::rules::RULES;

/// A line of the table.
struct Case {
    rule: &'static str,
    broken: &'static str,
    image: Vec<u8>,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("two digits"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

fn cases() -> Vec<Case> {
    let lines = include_str!("translate/rules.txt").lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().expect("rule, property, bytes");
            Case { rule: word(), broken: word(), image: bytes(word()) }
        })
        .collect()
}

fn object(args: &[&str]) -> Value {
    let output = subring(args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", text(&output.stderr)))
}

/// `text` without its line ends.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The one finding of `compare GUEST --without-rule RULE`.
fn finding(guest: &[&str], rule: &str) -> (String, String) {
    let args =
        ["--json", "--mem", "4M", "--coherence", "trace", "--shadow-frames", "64", "--without-rule", rule];
    let object = object(&[&["compare"], guest, &args].concat());
    let found = &object["without_rule"];
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{object}");
    let of = |key: &str| found[0][key].as_str().expect("a string").to_owned();
    (of("broken"), of("sentence"))
}

#[test]
fn without_each_rule_what_the_table_says_breaks() {
    let scratch = Scratch::new("rules");
    let cases = cases();
    for rule in RULES {
        assert_eq!(cases.iter().filter(|c| c.rule == rule.name).count(), 1, "{} has one line", rule.name);
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let file = scratch.file(&format!("{}.bin", case.rule), &case.image);
        let (broken, sentence) = finding(&[&file], case.rule);
        assert!(sentence.starts_with(&format!("without {} ", case.rule)), "{sentence}");
        if broken != case.broken {
            wrong.push(format!("{} is {}: {sentence}", case.rule, case.broken));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_missing_rule_is_told_by_property_and_place() {
    let (broken, sentence) = finding(&["sensitive"], "POPF");
    assert_eq!(broken, "equivalence", "{sentence}");
    assert!(sentence.contains("popf") && sentence.contains("eflags is"), "{sentence}");
    let (broken, sentence) = finding(&["hello"], "X87-STATE");
    assert_eq!(broken, "not-met", "{sentence}");
    let out = ends(&["compare", "hello", "--without-rule", "PORT-IO", "--budget", "300K"], 0);
    let table = one_line(&text(&out.stdout));
    assert!(
        table.contains("bt shadow/vtlb without PORT-IO") && table.contains("port-io from 0 to "),
        "{table}"
    );
    assert!(table.contains("no monitor state changed in") && table.contains("of them at 0x"), "{table}");
}

#[test]
fn each_of_several_findings_names_its_machine() {
    let with = |more: &[&str]| {
        let args = ["compare", "hello", "--mem", "4M", "--without-rule", "PORT-IO", "--budget", "100K"];
        let printed = text(&ends(&[&args[..], more].concat(), 0).stdout);
        let findings = object(&[&args[..], more, &["--json"]].concat())["without_rule"].clone();
        (printed, findings)
    };
    let (printed, findings) = with(&[]);
    for (n, coherence) in ["trace", "vtlb"].into_iter().enumerate() {
        let line = format!("\nbt shadow/{coherence}: without PORT-IO efficiency breaks: ");
        assert_eq!(printed.matches(&line).count(), 1, "{printed}");
        assert_eq!((&findings[n]["coherence"], &findings[n]["adaptive"]), (&coherence.into(), &true.into()));
    }
    let (printed, findings) = with(&["--no-adapt", "--coherence", "vtlb"]);
    assert!(printed.contains("\nbt shadow/vtlb without adaptation: without PORT-IO efficiency"), "{printed}");
    assert!(printed.contains("\nbt shadow/vtlb without adaptation and PORT-IO\n"), "{printed}");
    assert_eq!((findings.as_array().map(Vec::len), &findings[0]["adaptive"]), (Some(1), &false.into()));
    let (printed, _) = with(&["--coherence", "trace"]);
    assert!(printed.contains("\nwithout PORT-IO efficiency breaks: "), "{printed}");
}

#[test]
fn rules_are_listed_and_unknown_ones_refused() {
    for command in ["run", "compare", "translate"] {
        let list = text(&ends(&[command, "--list-rules"], 0).stdout);
        assert!(RULES.iter().all(|rule| list.contains(rule.name) && list.contains(rule.why)), "{list}");
    }
    let out = ends(&["compare", "hello", "--without-rule", "POPE"], 2);
    let said = text(&out.stderr);
    assert!(said.contains("no rewriting rule is called POPE; there are CLI, STI, "), "{said}");
    refused(&["compare", "hello", "--strategy", "trap", "--without-rule", "CLI"], 2, "trap rewrites nothing");
    refused(&["run", "hello", "--strategy", "trap", "--without-rule", "CLI"], 2, "trap rewrites nothing");
    refused(&["run", "hello", "--without-rule", "CLI"], 2, "bare machine has none");
}

#[test]
fn a_run_without_a_rule_goes_wrong_as_compare_says() {
    let scratch = Scratch::new("run");
    // PUSHF; POP EAX; the status is IF, which is off in the guest and on in the real processor.
    let file = scratch.file("pushf.bin", &bytes("9c58c1e80924012401e6f4ebfe"));
    let run = |more: &[&str]| subring(&[&["run", &file, "--strategy", "bt"], more].concat()).status.code();
    assert_eq!((run(&[]), run(&["--without-rule", "PUSHF"])), (Some(0), Some(1)));
}

/// The rows of `bt` for a guest that runs beyond truncated segments, each the same as bare without an exit for that.
fn beyond_truncation(name: &str, code: &str) -> Vec<Value> {
    let scratch = Scratch::new(name);
    let file = scratch.file("wrap.bin", &bytes(code));
    let compared = object(&["compare", &file, "--mem", "4M", "--strategy", "bt", "--json"]);
    let rows = compared["rows"].as_array().expect("rows")[1..].to_vec();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((&row["outcome"], &row["exits"]["truncated"]), (&"same".into(), &0.into()), "{row}");
    }
    rows
}

/// A kernel at the end of a segment whose base makes it wrap, as GNU Mach is before it has page tables: its code is beyond where
/// the monitor truncates segments, and in no way near the monitor.
#[test]
fn code_beyond_a_truncated_segment_is_translated() {
    // lgdt [gdtr]; jmp 8:wrapped-0x40000000; wrapped: mov ecx,20000; again: dec ecx; jnz again;
    // mov eax,[cs:value-0x40000000]; sub eax,42; out 0xf4,al +gdt, its code segment with base 0x40000000; value: 42
    let wrapped = "0f011523001000ea0e0010c00800b9204e00004975fd2ea1480010c083e82ae6f4ebfe170030001000909090909090900000000000000000ffff0000009bcf40ffff00000093cf002a000000";
    for row in beyond_truncation("wrap", wrapped) {
        assert!(row["translated"].as_u64() > Some(40_000), "{row}");
        assert_eq!(row["translation"]["callouts"]["CODE-READ"], 1, "{row}");
    }
}

/// IRET there, again and again: CS is as wide afterwards as it was, and the monitor is not asked.
#[test]
fn a_return_beyond_a_truncated_segment_is_inline() {
    // lgdt [gdtr]; jmp 8:wrapped-0x40000000; wrapped: mov ecx,20000; again: push dword 2; push byte 8;
    // push dword next-0x40000000; iret; next: dec ecx; jnz again; mov al,0; out 0xf4,al +gdt, its code segment with base 0x40000000
    let wrapped = "0f011527001000ea0e0010c00800b9204e000068020000006a0868200010c0cf4975f0b000e6f417002d0010000000000000000000ffff0000009bcf40ffff00000093cf00";
    for row in beyond_truncation("wrapped-return", wrapped) {
        assert_eq!(row["translation"]["inlined"]["IRET"], 20_000, "{row}");
        assert_eq!(row["translation"]["callouts"]["IRET"], Value::Null, "{row}");
    }
}

/// Nano's ptemod writes to its page tables time and again: with traces each write would be an exit.
#[test]
fn what_adaptation_does_stands_beside_what_it_costs_without() {
    let compared = object(&["compare", "nano", "--no-adapt", "--coherence", "trace", "--json"]);
    let rows = compared["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3, "bare, with, without");
    let (with, without) = (&rows[1], &rows[2]);
    assert_eq!((&with["outcome"], &without["outcome"]), (&"same".into(), &"same".into()));
    assert_eq!((&with["adaptive"], &without["adaptive"]), (&true.into(), &false.into()));
    let traces = |row: &Value| row["exits"]["trace-page-table"].as_u64().expect("a count");
    assert!(traces(with) * 4 < traces(without), "{with} {without}");
    assert!(with["modelled_cycles"].as_u64() < without["modelled_cycles"].as_u64());
    assert!(with["translation"]["adapted"].as_u64() > Some(0) && without["translation"]["adapted"] == 0);
    let sentence = compared["adaptation"][0].as_str().expect("a sentence");
    assert!(sentence.contains("trace-page-table "), "{sentence}");

    let table = text(&ends(&["compare", "hello", "--no-adapt", "--budget", "100K", "--wide"], 0).stdout);
    let of_it = table.lines().filter(|line| line.starts_with("bt shadow/trace without adaptation"));
    assert_eq!(of_it.count(), 3, "{table}");
    assert!(table.contains("retranslated  taken back"), "{table}");
    assert!(one_line(&table).contains("adaptation changes nothing"), "{table}");
    refused(&["compare", "hello", "--strategy", "trap", "--no-adapt"], 2, "trap-and-emulate translates none");
}

#[test]
fn a_load_from_a_table_in_the_monitors_region_calls_out() {
    let scratch = Scratch::new("tables");
    // lgdt [gdtr]; mov eax,0x10; mov ds,ax; the status 0; the GDT is at FFD00000, where reads give ones: a descriptor of
    // conforming code. The real processor would read the monitor's memory there.
    let file = scratch.file("tables.bin", &bytes("0f011514001000b8100000008ed8b000e6f4ebfe17000000d0ff"));
    let out = text(&ends(&["compare", &file, "--strategy", "bt", "--mem", "4M"], 0).stdout);
    assert_eq!(out.matches("LOAD-SEG 1").count(), 2, "under both policies of coherence: {out}");
    assert_eq!(out.matches("  same  ").count(), 2, "{out}");
}

#[test]
fn lockstep_finds_what_heals() {
    let scratch = Scratch::new("heals");
    // PUSHF; JMP to the next: the flags are memory's, of which the guest makes nothing. ADD ESP, 4; PUSH 0; ADD ESP, 4; status 0.
    let file = scratch.file("heals.bin", &bytes("9ceb0083c4046a0083c40401c0b000e6f4ebfe"));
    let rows = |more: &[&str]| {
        let args =
            ["compare", &file, "--json", "--mem", "4M", "--coherence", "trace", "--without-rule", "PUSHF"];
        object(&[&args[..], more].concat())["rows"].clone()
    };
    let strides = rows(&[]);
    assert_eq!(strides[2]["outcome"], "same", "{strides}");
    let found = rows(&["--lockstep"]);
    assert_eq!((&found[1]["outcome"], &found[2]["outcome"]), (&"same".into(), &"diverged".into()), "{found}");
    let at = &found[2]["divergence"]["where"];
    assert_eq!((&at["after"], &at["disassembly"]), (&0.into(), &"pushf".into()), "{at}");
    assert!(found[1]["boundaries"].as_u64().is_some_and(|n| n > 2), "{found}");
}

/// Holds `text` to the golden file `name`.
fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/program/translate/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (n, (is, was)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, was, "{name}, line {}", n + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{name}");
}

/// What `translate` prints, without the guest's name.
fn listing(guest: &str, args: &[&str]) -> String {
    let args = [&["translate", guest, "--mem", "4M", "--shadow-frames", "64"], args].concat();
    let text = text(&ends(&args, 0).stdout);
    text.lines().skip(2).map(|line| format!("{line}\n")).collect()
}

#[test]
fn each_rule_has_its_golden_listing() {
    let scratch = Scratch::new("listings");
    let mut all = String::new();
    for case in &cases() {
        let file = scratch.file(&format!("{}.bin", case.rule), &case.image);
        let text = listing(&file, &["--hot", "99"]);
        let tag = |kind: &str| text.contains(&format!("| {kind} {}", case.rule));
        assert!(tag("inline") || tag("callout"), "{} is at work in\n{text}", case.rule);
        all += &format!("== {}{text}", case.rule);
    }
    golden("listings.txt", &all);
}

#[test]
fn typical_blocks_have_golden_listings() {
    golden("rings.txt", &listing("rings", &["--at", "kernel_main", "--budget", "3M"]));
    golden("smc.txt", &listing("smc", &["--hot", "6"]));
    golden("boot.txt", &listing("boot", &["--at", "0x7c00", "--budget", "3M"]));
}

#[test]
fn the_hottest_units_come_first_and_chains_lead_to_units() {
    let object = object(&["translate", "rings", "--json", "--budget", "3M", "--hot", "5"]);
    let units = object["units"].as_array().expect("units");
    assert_eq!(units.len(), 5);
    let runs: Vec<_> = units.iter().map(|u| u["runs"].as_u64().expect("a count")).collect();
    assert!(runs.is_sorted_by(|a, b| a >= b) && runs[0] > 1000, "{runs:?}");
    let ways = units.iter().flat_map(|u| u["ways_out"].as_array().expect("ways"));
    assert!(ways.filter(|way| way["unit"].is_u64() && way["linear"].is_u64()).count() > 2);
    for unit in units {
        let bytes: usize = unit["lines"]
            .as_array()
            .expect("lines")
            .iter()
            .map(|l| l["bytes"].as_str().expect("hex").split(' ').count())
            .sum();
        assert_eq!(unit["bytes"].as_u64(), Some(bytes as u64));
    }
}

/// The translator under `machine`.
fn translator_of(machine: &mut Machine) -> &mut dyn TranslatedCode<World> {
    let translation = machine.monitor_mut().and_then(Monitor::translation_mut);
    translation.expect("it translates").translator_mut()
}

/// Rings under bt, with room for so few fragments that all are dropped time and again, after a million instructions.
fn crowded(kept: usize) -> Machine {
    let mut machine = guest::machine(builtin::find("rings").expect("a built-in guest"));
    let config = vmm::Config { cell: Cell::BT_TRACE, ..vmm::Config::default() };
    vmm::install(&mut machine, &config).expect("a monitor");
    let translator = translator_of(&mut machine);
    translator.limits_mut().fragments = 8 << 10;
    translator.keep_dropped(kept);
    assert_eq!(machine.run(Limits::instructions(1_000_000)), Outcome::Reached);
    machine
}

#[test]
fn units_that_were_dropped_with_all_others_are_kept_under_their_numbers() {
    let mut machine = crowded(usize::MAX);
    let translator = translator_of(&mut machine);
    assert!(translator.counts().dropped[Why::Full as usize] > 100, "{:?}", translator.counts());
    let units: Vec<_> = translator.all_units().collect();
    assert_eq!(units.len() as u64, translator.counts().translated);
    assert!(units.iter().map(|u| u.number).eq(0..units.len() as u32));
    assert_eq!(units.iter().map(|u| u.runs).sum::<u64>(), translator.runs().units);
    for why in Why::ALL {
        let gone = units.iter().filter(|u| u.gone == Some(why)).count();
        assert_eq!(gone as u64, translator.counts().dropped[why as usize], "{}", why.name());
    }
    // A way out of a unit led to where a unit was.
    for unit in &units {
        for to in unit.links.iter().flatten() {
            assert!(translator.unit(*to).is_some_and(|to| to.number < units.len() as u32), "{to}");
        }
    }

    let mut bounded = crowded(50);
    let translator = translator_of(&mut bounded);
    let kept: Vec<_> = translator.all_units().map(|u| u.number).collect();
    assert_eq!(kept.len(), translator.units().count() + 50);
    assert!(kept.iter().copied().eq(translator.lost_units()..units.len() as u32));
    assert!(translator.unit(translator.lost_units() - 1).is_none());
    let mut forgetful = crowded(0);
    assert_eq!(translator_of(&mut forgetful).all_units().next().map(|u| u.number), kept.get(50).copied());
}

/// How often each instruction of a unit of `object` ran.
fn line_runs(unit: &Value) -> Vec<u64> {
    let lines = unit["lines"].as_array().expect("lines").iter();
    lines.map(|line| line["runs"].as_u64().expect("a count")).collect()
}

#[test]
fn each_instruction_counts_the_runs_that_came_through_it() {
    let scratch = Scratch::new("counts");
    // mov ecx,100; again: test cl,3; jz skip; inc eax; skip: dec ecx; jnz again; xor eax,eax; out 0xf4,al
    let file = scratch.file("counts.bin", &bytes("b964000000f6c1037401404975f731c0e6f4ebfe"));
    let object = object(&["translate", &file, "--json", "--mem", "4M", "--hot", "99"]);
    let units = object["units"].as_array().expect("units");
    let at = |linear: u32| {
        let unit = units.iter().find(|unit| unit["linear"] == linear);
        line_runs(unit.unwrap_or_else(|| panic!("no unit at {linear:#x}: {object}")))
    };
    // Of 99 passes with ECX below 100, 24 have it divisible by four; so has the first one of all.
    assert_eq!(at(0x10_0000), [1, 1, 1, 0, 0, 0]);
    assert_eq!(at(0x10_0005), [99, 99, 75, 75, 75]);
    assert_eq!(at(0x10_000b), [25, 25]);

    // The store to a page table faults until it is a callout, and nothing behind it runs.
    let object =
        self::object(&["translate", "nano", "--at", "ptemod+0x28", "--coherence", "trace", "--json"]);
    let units = object["units"].as_array().expect("units");
    let adapted = units.iter().find(|u| u["thrown_away"] == "adapted" && u["symbol"] == "ptemod+0x28");
    let adapted = adapted.unwrap_or_else(|| panic!("none was adapted: {object}"));
    let runs = adapted["runs"].as_u64().expect("a count");
    assert_eq!(line_runs(adapted), [runs, runs, runs, runs, runs, runs, 0, 0]);
}

/// All instructions that were counted, and those that ran outside of units, are all that ran.
#[test]
fn counted_instructions_are_those_that_ran_translated() {
    let object = object(&["translate", "sensitive", "--json", "--budget", "3M", "--hot", "1000000"]);
    let mut counted = object["translation"]["singles"].as_u64().expect("a count");
    for unit in object["units"].as_array().expect("units") {
        let lines = unit["lines"].as_array().expect("lines").iter();
        let runs = lines.zip(line_runs(unit)).filter(|(line, _)| line["tag"] != "callout");
        counted += runs.map(|(_, runs)| runs).sum::<u64>();
    }
    let translated = object["translated"].as_u64().expect("a count");
    println!("{counted} counted, {translated} ran");
    assert!(counted.abs_diff(translated) * 10_000 < translated, "{counted} counted, {translated} ran");
}

/// What a guest translated before it closed the A20 gate, which drops all translations.
#[test]
fn units_from_before_the_memory_map_changed_are_shown() {
    let scratch = Scratch::new("gate");
    // mov ecx,3; again: mov al,0; out 0x92,al; mov al,2; out 0x92,al; dec ecx; jnz again; xor eax,eax; out 0xf4,al
    let file = scratch.file("gate.bin", &bytes("b903000000b000e692b002e6924975f531c0e6f4ebfe"));
    let object = object(&["translate", &file, "--load-at", "0x8000", "--json", "--hot", "99"]);
    let units = object["units"].as_array().expect("units");
    let numbers: BTreeSet<_> = units.iter().map(|u| u["number"].as_u64().expect("a number")).collect();
    assert!(numbers.into_iter().eq(0..object["translation"]["units"].as_u64().expect("a count")));
    let gone = units.iter().filter(|u| u["thrown_away"] == "map-changed").count() as u64;
    assert_eq!(object["translation"]["dropped"]["map-changed"], gone);
    assert!(gone > 5, "{object}");
    let first = text(&ends(&["translate", &file, "--load-at", "0x8000", "--at", "0x8000"], 0).stdout);
    assert!(first.contains("unit 0 at 00008000") && first.contains("thrown away: map-changed"), "{first}");
}

#[test]
fn what_cannot_be_shown_gets_a_sentence() {
    let at = |place: &str, words: &str, status| {
        refused(&["translate", "hello", "--budget", "100K", "--at", place], status, words);
    };
    at("0x00000010", "the guest did not come there", 2);
    at("no_such_function", "hello has no symbol `no_such_function`", 2);
    at("kernel_main+x", "give an address", 2);
    at("0x100000000", "below 4 GiB", 2);
    refused(&["translate", "hello", "--strategy", "trap"], 2, "give --strategy bt");
    refused(&["translate", "hello", "--hot", "0"], 2, "shows nothing");
    let output = subring(&["translate", "hello", "--trace", "insn"]);
    assert!(
        output.status.code() == Some(2) && text(&output.stderr).contains("unexpected argument '--trace'")
    );
    refused(&["translate", "boot", "--at", "main", "--budget", "1K"], 2, "boot has no symbols");
}

/// The units that `translate rings-clean --json` shows with these options.
fn shown(args: &[&str]) -> Vec<Value> {
    let out = subring(&[&["translate", "rings-clean", "--budget", "2M", "--json"], args].concat());
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    report["units"].as_array().unwrap().clone()
}

#[test]
fn units_are_chosen_by_the_rule_that_ends_them() {
    let units = shown(&["--rule", "IRET"]);
    assert!(!units.is_empty());
    for unit in &units {
        let last = unit["lines"].as_array().unwrap().last().unwrap();
        assert_eq!(last["rule"], "IRET", "{unit}");
        assert!(last["steps"].as_array().unwrap().len() >= 3, "{unit}");
    }
    refused(&["translate", "rings-clean", "--rule", "NOPE"], 2, "--list-rules");
}

/// `trap_return` is an assembly routine whose symbol has no size: its code goes on behind its first instruction.
#[test]
fn a_symbol_without_a_size_has_all_of_its_routine() {
    let all = shown(&["--symbol", "trap_return"]);
    let first = shown(&["--at", "trap_return+0"]);
    assert!(all.len() > first.len() && !first.is_empty(), "{} {}", all.len(), first.len());
    refused(&["translate", "rings-clean", "--symbol", "nowhere"], 2, "no symbol `nowhere`");
}

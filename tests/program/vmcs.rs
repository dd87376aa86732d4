//! `subring vmcs`: the control structure of a guest's own hypervisor at a point of its run, its last exit,
//! and why an entry failed. The kernel `vmx-test` has VM exits of every reason, and a thousand entries that
//! are refused. SUBRING_BLESS=1 in the environment writes the files of tests/program/vmcs anew.

use crate::common::program::{ends, refused, text};
use serde_json::Value;
use std::path::Path;

const KERNEL: &str = "guest-programs/vmx-test/vmx-test.elf";

/// What `vmcs` prints of the kernel on `model` at `event`.
#[track_caller]
fn shown(model: &str, event: &str) -> String {
    let shown = text(&ends(&["vmcs", KERNEL, "--cpu", model, "--at", event], 0).stdout);
    let wide = shown.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "a line is too wide");
    shown
}

/// The answer's sentences, each on one line.
fn answer(shown: &str) -> String {
    shown.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn golden(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/vmcs").join(name);
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let parted = shown.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(shown == golden, "not {} (SUBRING_BLESS=1 writes it anew): {parted:?}", path.display());
}

#[test]
fn every_field_is_shown_after_an_exit() {
    golden("exit.txt", &shown("yonah", "exit:i/o#3"));
}

#[test]
fn the_model_with_more_controls_has_more_fields() {
    golden("ept.txt", &shown("yonah-ept", "exit:vmx-preemption"));
}

#[test]
fn exits_are_decoded() {
    for (event, words) in [
        ("exit", "reason 10, CPUID; instruction of 2 bytes"),
        ("exit:control", "reason 28, Control-register access: MOV to CR"),
        ("exit:task switch#3", "reason 9, Task switch: to the TSS of selector 0x0030, by"),
        ("exit:exception or nmi#2", "reason 0, Exception or NMI: #"),
        ("exit:invlpg", "reason 14, INVLPG: linear address 0x00401234; instruction of 7 bytes"),
    ] {
        let answer = answer(&shown("yonah", event));
        assert!(answer.contains(words), "{event}: {answer}");
    }
}

/// The kernel's refused entries, of every kind.
#[test]
fn a_refused_entry_is_explained() {
    for (event, words) in [
        (
            "refused",
            "VM-entry failure, exit reason 34 (MSR loading) Entry 2 of the VM-entry MSR-load area, at 0x00218010",
        ),
        ("refused#7", "VMfailInvalid (CF=1) There is no current VMCS: VMPTRLD makes one current"),
        (
            "refused#9",
            "VM-instruction error 5 The processor refused VMRESUME with a VMCS that is not launched",
        ),
        (
            "refused#10",
            "VM-instruction error 7 The field CR3-target count (400ah), which is 0x00000005, is more than 4",
        ),
        (
            "refused#11",
            "VM-instruction error 8 The field Host TR selector (0c0ch), which is 0x0000, is the null selector",
        ),
        ("refused#13", "VM-instruction error 26 The processor refused a VM entry right after MOV SS"),
        (
            "refused#19",
            "which is 0x00000012, has bits set or clear that this processor does not allow: bit 2 must be 1",
        ),
        ("refused#21", "bit 5 (virtual NMIs) must be 0 (IA32_VMX_PINBASED_CTLS; SDM vol. 3, 26.2.1.1)."),
        (
            "refused#900",
            "exit reason 33 (invalid guest state) The field Guest interruptibility state (4824h), which is",
        ),
    ] {
        let answer = answer(&shown("yonah", event));
        assert!(answer.contains(words) && answer.contains("SDM vol. 3, "), "{event}: {answer}");
    }
}

#[test]
fn the_last_refused_entry_stands_until_another_succeeds() {
    let end = answer(&text(&ends(&["vmcs", KERNEL, "--cpu", "yonah"], 0).stdout));
    assert!(end.contains("last entry  refused: VMLAUNCH at 0x00102406 (enter+0x2e)"), "{end}");
    assert!(end.contains("SDM vol. 3, 26.3.1.6"), "{end}");
    let exit = answer(&shown("yonah", "exit:vmcall#200"));
    assert!(!exit.contains("last entry"), "{exit}");
}

/// Before VMLAUNCH: what the entry will be refused for.
#[test]
fn the_checks_are_made_before_the_entry() {
    let before = answer(&shown("yonah", "0x102406#700"));
    let after = answer(&shown("yonah", "0x102406"));
    assert!(
        after.contains("next entry  passes the checks of controls, host state and guest state"),
        "{after}"
    );
    assert!(before.contains("next entry  fails, as the VMCS is now: VM"), "{before}");
    assert!(
        before.contains("0x800002ff, has a vector that does not go with its interruption type"),
        "{before}"
    );
}

#[test]
fn a_guest_without_vmx_operation_has_no_structure() {
    let shown = text(&ends(&["vmcs", "hello", "--cpu", "yonah"], 0).stdout);
    assert!(shown.starts_with("VMCS        none: the processor is not in VMX operation"), "{shown}");
    assert_eq!(answer(&shown), shown.lines().map(str::trim).collect::<Vec<_>>().join(" "), "and no fields");
}

/// `run --trace exit`: a line for each exit, in words, and for each refused entry.
#[test]
fn exits_and_refused_entries_are_traced_in_words() {
    let trace = text(&ends(&["run", KERNEL, "--cpu", "yonah", "--trace", "exit"], 0).stderr);
    let lines: Vec<&str> = trace.lines().filter_map(|line| line.get(13..)).collect();
    for words in [
        "exit  0008:00200000  CPUID",
        "exit  0023:00200000  CPUID",
        "exit  0008:00200000  INVLPG: linear address 0x00401234",
        "exit  0023:00200000  Exception or NMI: #PF (hardware exception), error code 0x7; linear address 0x00402ffe",
        "; linear address 0x004017fc; during delivery of #PF (hardware exception), error code 0x0",
        "entry 0008:00103420  VMfailInvalid (CF=1): There is no current VMCS: VMPTRLD",
        "entry 0008:00102406  VM-entry failure, exit reason 33 (invalid guest state): The field Guest CR0 (6800h), which",
    ] {
        assert!(lines.iter().any(|line| line.contains(words)), "no `{words}`");
    }
    assert!(!trace.contains("cycles"), "the exits of a guest's own hypervisor have no modelled cost");
    let count = |kind| lines.iter().filter(|line| line.starts_with(kind)).count();
    assert!(count("exit ") > 900 && count("entry ") > 900);
}

#[test]
fn a_post_mortem_tells_of_the_last_refused_entry() {
    let run =
        |options: &[&str]| text(&ends(&[&["run", KERNEL, "--cpu", "yonah"], options].concat(), 0).stderr);
    let asked = run(&["--post-mortem"]);
    assert!(
        asked.contains("likely: VMLAUNCH at 0x00102406 (enter+0x2e) did not begin the guest: VM-entry"),
        "{asked}"
    );
    assert!(!run(&[]).contains("post-mortem"), "the kernel ended well");
}

#[test]
fn json_has_the_same() {
    let run = |event| -> Value {
        let args = ["vmcs", KERNEL, "--cpu", "yonah", "--at", event, "--json"];
        serde_json::from_slice(&ends(&args, 0).stdout).unwrap()
    };
    let exit = run("exit:i/o#3");
    assert_eq!((&exit["vmcs"], &exit["launched"]), (&0x21_1000.into(), &true.into()));
    assert_eq!(exit["last_exit"]["number"], 30);
    let field = |encoding: u32| {
        let fields = exit["fields"].as_array().unwrap();
        fields.iter().find(|field| field["encoding"] == encoding).unwrap().clone()
    };
    assert_eq!(field(0x4402)["value"], 30);
    assert_eq!(field(0x4012)["set"], serde_json::json!(["load debug controls"]));
    let refused = run("refused#10");
    assert_eq!(refused["refused_entry"]["check"]["field"], "CR3-target count");
    assert_eq!(refused["refused_entry"]["error"], 7);
    assert_eq!(refused["refused_entry"]["check"]["section"], "26.2.1.1");
}

#[test]
fn bad_options_are_refused() {
    for (args, words) in [
        (&["hello"][..], "no VMX, so no guest can have a VMCS: give --cpu yonah"),
        (&["hello", "--cpu", "yonah", "--strategy", "hvm"], "leave --strategy out"),
        (&[KERNEL, "--cpu", "yonah", "--at", "exit:nothing"], "no exit reason begins with `nothing`"),
        (&[KERNEL, "--cpu", "yonah", "--at", "exit:cpuid#9999"], "(the event did, "),
        (&[KERNEL, "--cpu", "yonah", "--at", "exit#0"], "from 1 on"),
        (&[KERNEL, "--cpu", "yonah", "--at", "nowhere"], "no symbol `nowhere`"),
        (&["hello", "--cpu", "yonah", "--at", "refused"], "this did not happen"),
    ] {
        refused(&[&["vmcs"], args].concat(), 2, words);
    }
}

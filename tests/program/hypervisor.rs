//! The built-in guest `vmx`, a hypervisor: its guest runs as on a machine of its own, with shadow page tables and
//! with nested ones, and the exits that each costs. GOLDEN=write in the environment writes the files of
//! tests/program/hypervisor.

use crate::common::program::{ends, text};
use std::path::Path;

/// The guest of the hypervisor, as a kernel of its own.
const ALONE: &str = "guest-programs/vmx/vmx-guest.elf";

/// What a run of `args` that ends with `status` sends.
#[track_caller]
fn sent(args: &[&str], status: i32) -> String {
    text(&ends(&[&["run"], args].concat(), status).stdout).replace('\r', "")
}

/// Holds a run of the hypervisor to the file `name`, and its guest to what that prints alone.
#[track_caller]
fn transcript(name: &str, args: &[&str]) -> String {
    let ran = sent(&[&["vmx"], args].concat(), 0);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/hypervisor").join(name);
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &ran).unwrap();
    }
    assert_eq!(ran, std::fs::read_to_string(&path).unwrap(), "{name}");
    assert_eq!(guest_part(&ran), sent(&[ALONE], 0), "{name}");
    ran
}

/// What the guest sent, between the hypervisor's first line and its last ones.
fn guest_part(transcript: &str) -> &str {
    let (_, rest) = transcript.split_once('\n').expect("the hypervisor's first line");
    rest.split_once("[hypervisor]").expect("its last ones").0
}

/// The count of one exit reason in the hypervisor's table; 0 if there is no line for it.
fn count(transcript: &str, reason: &str) -> u32 {
    let (_, table) = transcript.split_once("VM exits by reason:\n").expect("a table");
    let mut lines = table.lines().filter_map(|line| line.split_once(&format!("  {reason}  ")));
    let count = lines.next().map(|(_, rest)| rest.split_whitespace().next().expect("a count"));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn a_guest_on_shadow_page_tables() {
    let yonah = transcript("shadow.txt", &["--cpu", "yonah"]);
    assert_eq!(transcript("shadow.txt", &["--cpu", "yonah-ept", "--append", "shadow"]), yonah);
}

/// What nested paging is for: no exit for the guest's page tables, but one for each page that it touches first.
#[test]
fn a_guest_on_nested_page_tables() {
    let shadow = sent(&["vmx", "--cpu", "yonah-ept"], 0);
    let ept = transcript("ept.txt", &["--cpu", "yonah-ept", "--append", "ept"]);
    for reason in ["page fault", "INVLPG", "control register"] {
        assert!(count(&shadow, reason) > 0, "{reason}: {shadow}");
        assert_eq!(count(&ept, reason), 0, "{reason}: {ept}");
    }
    assert_eq!(count(&shadow, "EPT violation"), 0);
    assert!(count(&ept, "EPT violation") > 64, "{ept}");
    for reason in ["external interrupt", "interrupt window", "CPUID", "HLT", "I/O", "RDMSR", "WRMSR"] {
        assert!(count(&ept, reason) > 0, "{reason}: {ept}");
        assert_eq!(count(&shadow, reason), count(&ept, reason), "{reason}");
    }
}

/// QEMU sends these bytes, too (guest-programs/run-qemu.sh).
#[test]
fn the_guest_alone_sends_its_transcript() {
    let expected = std::fs::read_to_string("guest-programs/vmx/expected.txt").unwrap();
    assert_eq!(sent(&[ALONE], 0), expected.replace('\r', ""));
}

/// A kernel of the user's as the guest: ring 3, preemption, copy on write, self-modifying code, sensitive
/// instructions.
#[test]
fn other_kernels_run_as_they_do_alone() {
    for (kernel, expected) in [
        ("rings/rings.elf", "rings/expected.txt"),
        ("rings/rings-clean.elf", "rings/expected-clean.txt"),
        ("sensitive/sensitive.elf", "sensitive/expected.txt"),
        ("smc/smc.elf", "smc/expected.txt"),
    ] {
        let [kernel, expected] = [kernel, expected].map(|file| format!("guest-programs/{file}"));
        let alone = std::fs::read_to_string(expected).unwrap().replace('\r', "");
        for args in [&["--cpu", "yonah"][..], &["--cpu", "yonah-ept", "--append", "ept"]] {
            let ran = sent(&[&["vmx", "--module", &kernel], args].concat(), 0);
            assert_eq!(guest_part(&ran), alone, "{kernel} {args:?}");
        }
    }
}

/// The module's words are its command line.
#[test]
fn a_guest_gets_its_command_line() {
    let said = sent(&["vmx", "--cpu", "yonah", "--module", "guest-programs/hello/hello.elf,one two=2"], 0);
    assert!(said.contains("Command line  hello.elf one two=2\n"), "{said}");
    let said = sent(&["vmx", "--cpu", "yonah", "--module", "guest-programs/README.md"], 1);
    assert!(said.contains("The guest is no ELF file"), "{said}");
}

#[test]
fn a_triple_fault_of_the_guest_is_a_sentence() {
    for (cpu, mode) in [("yonah", "shadow"), ("yonah-ept", "ept")] {
        let said = sent(&["vmx", "--cpu", cpu, "--append", &format!("{mode} triple-fault")], 1);
        assert!(said.contains("The guest had a triple fault"), "{mode}: {said}");
        assert!(said.contains("IDT 00000000 with limit 0"), "{mode}: {said}");
    }
}

#[test]
fn an_entry_that_fails_is_a_sentence() {
    for (cpu, mode) in [("yonah", "shadow"), ("yonah-ept", "ept")] {
        let said = sent(&["vmx", "--cpu", cpu, "--append", &format!("{mode} bad-entry")], 1);
        assert!(said.contains("VM exit 33") && said.contains("VM entry failed"), "{mode}: {said}");
    }
}

#[test]
fn what_the_processor_lacks_is_said() {
    let said = sent(&["vmx"], 1);
    assert_eq!(said.trim_end(), "This processor has no VMX: choose one that has, as --cpu yonah.");
    let said = sent(&["vmx", "--cpu", "yonah", "--append", "ept"], 1);
    assert!(said.contains("choose `shadow`, or --cpu yonah-ept") && said.lines().count() == 1, "{said}");
    let said = sent(&["vmx", "--cpu", "yonah", "--append", "fish"], 1);
    assert!(said.contains("shadow, ept, triple-fault, bad-entry") && said.lines().count() == 1, "{said}");
}

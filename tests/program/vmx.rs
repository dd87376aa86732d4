//! VMX as the kernel `vmx-test` finds it on each processor model that has it: its transcript, which
//! `tests/differential/vmx.py` compares with Bochs's. GOLDEN=write in the environment writes the files of
//! tests/program/vmx.

use crate::common::program::{ends, text};
use std::path::Path;

const KERNEL: &str = "guest-programs/vmx-test/vmx-test.elf";

#[track_caller]
fn transcript(model: &str) {
    let ran = text(&ends(&["run", KERNEL, "--cpu", model], 0).stdout).replace('\r', "");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/program/vmx/{model}.txt"));
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &ran).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let parted = ran.lines().zip(golden.lines()).find(|(ours, golden)| ours != golden);
    assert_eq!(parted, None, "the first line that differs from {}", path.display());
    assert_eq!(ran.lines().count(), golden.lines().count());
    assert!(golden.ends_with("done\n"));
}

#[test]
fn exits_and_entries_on_a_core_duo() {
    transcript("yonah");
}

#[test]
fn exits_and_entries_on_the_model_with_more_controls() {
    transcript("yonah-ept");
}

#[test]
fn the_kernel_says_that_a_processor_has_no_vmx() {
    let said = text(&ends(&["run", KERNEL], 1).stdout);
    assert_eq!(said.trim_end(), "this processor has no VMX");
}

//! A generated kernel that parts from the bare machine shrinks to a few instructions, and is written out as a guest that
//! everybody can run: `subring compare` shows the same parting. The case is one that has to fail: sensitive unprivileged
//! instructions under trap and emulate.

#[path = "../monitor/kernel/mod.rs"]
#[allow(dead_code, reason = "the monitor's own tests use the rest")]
mod kernel;
#[path = "../monitor/printed.rs"]
#[allow(dead_code, reason = "the monitor's own tests use the rest")]
mod printed;

use kernel::{Op, any_kernels, machine};
use printed::Printed;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::process::Command;
use subring::lab::state;
use subring::machine::{Limits, Machine};
use subring::vmm;

const TICKS: u64 = 20_000;

fn end(mut m: Machine) -> Machine {
    m.run(Limits::until(TICKS));
    m
}

/// Whether a kernel ends the same bare and under trap and emulate.
fn same(ops: &[Op]) -> bool {
    let mut trap = machine(ops);
    vmm::install(&mut trap, &vmm::Config { shadow_frames: 24, seed: 3, ..vmm::Config::default() })
        .expect("a monitor");
    state::differences(&end(machine(ops)), &end(trap)).is_empty()
}

#[test]
fn a_kernel_that_parts_is_printed_and_parts_when_it_is_run() {
    let config =
        Config { cases: 200, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]));
    let result = runner.run(&any_kernels(), |ops| {
        if same(&ops) { Ok(()) } else { Err(TestCaseError::fail("it ends otherwise")) }
    });
    let Err(TestError::Fail(_, ops)) = result else { panic!("no kernel parted: {result:?}") };
    assert!(matches!(ops[..], [Op::Sensitive(_)]), "shrunk to one operation: {ops:?}");

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    let printed = Printed::new(&folder, "parts", &ops, (TICKS, 24, 3)).expect("it can be written");
    println!("{printed}");
    let output = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(&printed.arguments)
        .arg("--json")
        .output()
        .expect("subring runs");
    assert!(output.status.success(), "{output:?}");
    let table: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let place = &table["rows"][1]["divergence"]["where"];
    assert_eq!(table["rows"][1]["strategy"], "trap");
    assert_eq!(table["rows"][1]["outcome"], "diverged");
    assert_eq!(place["sensitive_unprivileged"], true);
    // It is one of the instructions that were printed.
    let line = format!(
        "{:08x}  {}",
        place["eip"].as_u64().unwrap_or(0),
        place["disassembly"].as_str().unwrap_or("")
    );
    assert!(printed.listing.contains(&line), "{line} is not in\n{}", printed.listing);
}

#[test]
fn a_kernel_that_keeps_the_rules_is_the_same_when_it_is_run() {
    let ops =
        [Op::Real, Op::V86, Op::Remap { page: 1, frame: 2, flags: 7 }, Op::SmallStack, Op::Interrupts(true)];
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    let printed = Printed::new(&folder, "same", &ops, (TICKS, 24, 3)).expect("it can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_subring"))
        .args(&printed.arguments)
        .arg("--json")
        .output()
        .expect("subring runs");
    let table: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for row in [1, 2] {
        assert_eq!(table["rows"][row]["outcome"], "same", "{table}");
    }
}

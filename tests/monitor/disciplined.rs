//! **Equivalence** of kernels that keep the rules: bit for bit, under both policies, audited as they run. And the seeded
//! bugs: each is noticed, by something that this table in the output names.

use super::audit::audit;
use super::equivalence::runner;
use super::kernel::{self, Op};
use super::pair::{config, run_to};
use crate::vmm::bug::{self, Bug};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use subring::lab::state;
use subring::vmm;
use subring::vmm::strategy::Coherence;

/// Ticks that a kernel runs at most, and between two audits.
const TICKS: u64 = 60_000;
const STRIDE: u64 = 97;

/// Runs `ops` on the bare machine and under a monitor.
fn same(ops: &[Op], coherence: Coherence) -> Result<(), String> {
    let mut bare = kernel::machine(ops);
    let mut trap = kernel::machine(ops);
    vmm::trap(&mut trap, &config(coherence, 3)).expect("a monitor");
    let mut to = 0;
    loop {
        to += STRIDE;
        let (a, b) = (run_to(&mut bare, to), run_to(&mut trap, to));
        audit(&trap, coherence == Coherence::Trace).map_err(|e| format!("audit: {e}"))?;
        if trap.world.escapes() != 0 {
            return Err("control: the real processor reached a chip".into());
        }
        if a != b || bare.cpu.eip != trap.cpu.eip || to % (64 * STRIDE) == 0 || a.is_some() {
            let differences = state::differences(&bare, &trap);
            if a != b || !differences.is_empty() {
                return Err(format!("equivalence: by tick {to} {a:?} {b:?} {differences:#?}"));
            }
        }
        if a.is_some() || to > TICKS {
            return Ok(());
        }
    }
}

fn holds(coherence: Coherence) {
    let result = runner(60).run(&kernel::kernels(), |ops| {
        same(&ops, coherence).map_err(proptest::test_runner::TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_with_traces() {
    holds(Coherence::Trace);
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_with_a_virtual_tlb() {
    holds(Coherence::Vtlb);
}

/// The bugs, and the policy that each concerns.
const BUGS: [(Bug, Coherence); 12] = [
    (Bug::SkipTrace, Coherence::Trace),
    (Bug::ForgetDirty, Coherence::Trace),
    (Bug::WrongUser, Coherence::Trace),
    (Bug::WrongWrite, Coherence::Trace),
    (Bug::ForgetSync, Coherence::Trace),
    (Bug::ForgetInvlpg, Coherence::Vtlb),
    (Bug::ForgetCr3, Coherence::Vtlb),
    (Bug::StaleTlb, Coherence::Vtlb),
    (Bug::ForgetDescriptor, Coherence::Trace),
    (Bug::SkipTruncation, Coherence::Trace),
    (Bug::PassIopl, Coherence::Trace),
    (Bug::LoseIf, Coherence::Trace),
];

#[test]
fn every_seeded_bug_is_noticed() {
    let mut missed = Vec::new();
    for (bug, coherence) in BUGS {
        let config =
            Config { cases: 300, failure_persistence: None, max_shrink_iters: 8, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]));
        let result = runner.run(&kernel::kernels(), |ops| {
            bug::with(Some(bug), || same(&ops, coherence)).map_err(proptest::test_runner::TestCaseError::fail)
        });
        match result {
            Err(TestError::Fail(reason, ops)) => {
                let what = reason.message().split(':').next().unwrap_or_default().to_owned();
                println!("{bug:?} ({coherence}): noticed by {what}, in {} operations", ops.len());
            }
            _ => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

//! **Equivalence**: under a monitor a guest ends as on the bare machine, bit for bit, unless it runs a sensitive
//! instruction that does not fault; then the first difference is at such an instruction.

use super::pair::{Cell, Pair, TRACE, Tested, VTLB, shadow};
use super::seed;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell as Counter;
use subring::cell::Coherence;
use subring::report::Change;

/// Bytes of a case.
const LEN: usize = 16_000;
/// Ticks that a case runs.
const TICKS: u64 = 400;

/// Cases by default, ten times as many with `SUBRING_FULL=1`, or as many as `PROPTEST_CASES` says.
pub(super) fn cases(default: u32) -> u32 {
    let full = std::env::var_os("SUBRING_FULL").is_some_and(|v| v == "1");
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    cases.unwrap_or(if full { 10 * default } else { default })
}

/// A runner whose cases are the same in every run. `SUBRING_SHARD` gives others, so that many cases can be split over runs.
pub(super) fn runner(default: u32) -> TestRunner {
    let shard = std::env::var("SUBRING_SHARD").ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    let mut seed = [7; 32];
    seed[..4].iter_mut().zip(shard.to_le_bytes()).for_each(|(byte, n)| *byte ^= n);
    let config = Config {
        cases: cases(default),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// Runs random guests in `cell`; each parts from the bare machine at a sensitive unprivileged instruction, or not
/// at all.
fn random_guests(cell: Cell) {
    let (same, parted) = (Counter::new(0u32), Counter::new(0u32));
    let check = |seed: u64| {
        let data = seed::bytes(seed, LEN);
        let mut pair = Pair::new(&data, cell);
        match pair.run(TICKS) {
            Ok(()) => same.set(same.get() + 1),
            Err(_) if cell.coherence() == Some(Coherence::Vtlb) && forgets_to_flush(&data) => {}
            Err(parting) => {
                let expected = cell.parts_at_sensitive() && parting.verdict.sensitive_unprivileged;
                prop_assert!(expected, "{parting}");
                parted.set(parted.get() + 1);
            }
        }
        prop_assert_eq!(pair.trap.world.escapes(), 0, "the real processor reached a chip");
        Ok(())
    };
    if let Err(failure) = runner(150).run(&any::<u64>().no_shrink(), check) {
        panic!("{failure}");
    }
    println!("{cell}: {} guests the same, {} parted at a sensitive instruction", same.get(), parted.get());
    assert!(
        same.get() > 0 && (parted.get() > 0) == cell.parts_at_sensitive(),
        "the generator makes both kinds"
    );
}

/// Whether the guest changes a page-table entry that is in use: what it sees of that before it flushes is left open by the
/// architecture (SDM vol. 3, 4.10.4), and a virtual TLB answers otherwise than no TLB.
fn forgets_to_flush(data: &[u8]) -> bool {
    let mut pair = Pair::new(data, TRACE);
    let same = match pair.run(TICKS) {
        Ok(()) => true,
        Err(parting) => parting.verdict.sensitive_unprivileged,
    };
    same && shadow(&pair.trap).counts().changes.contains_key(&Change::Synced)
}

#[test]
fn random_guests_part_only_at_sensitive_unprivileged_instructions_with_a_virtual_tlb() {
    random_guests(VTLB);
}

#[test]
fn random_guests_part_only_at_sensitive_unprivileged_instructions_with_traces() {
    random_guests(TRACE);
}

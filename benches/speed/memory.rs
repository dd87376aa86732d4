//! Memory: guest-programs/bench/memory.c.

use super::guest::workloads;
use criterion::Criterion;

/// A copy by a loop, by REP (an iteration counts as an instruction), and a pointer chase.
pub(crate) fn benches(criterion: &mut Criterion) {
    workloads(criterion, "memory", &["copyloop", "copyrep", "chase"]);
}

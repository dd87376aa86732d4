//! Control flow: guest-programs/bench/branches.c.

use super::guest::workloads;
use criterion::Criterion;

/// A recursion; calls through a table and jumps through one.
pub(crate) fn benches(criterion: &mut Criterion) {
    workloads(criterion, "control", &["calls", "indirect"]);
}

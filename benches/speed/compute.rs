//! Computing: guest-programs/bench/compute.c.

use super::guest::workloads;
use criterion::Criterion;

/// A sieve over bytes; lists, matrices, a state machine and a CRC.
pub(crate) fn benches(criterion: &mut Criterion) {
    workloads(criterion, "compute", &["sieve", "mix"]);
}

//! What an operating system adds: guest-programs/bench/system.c.

use super::guest::workloads;
use criterion::Criterion;

/// System calls from ring 3, page faults with a flush per 64 of them, port reads.
pub(crate) fn benches(criterion: &mut Criterion) {
    workloads(criterion, "system", &["syscalls", "pagefaults", "portio"]);
}

//! Speed benches: `cargo bench`. How to run and read them: benches/README.md.
//!
//! The workloads are those of guest-programs/bench, one file per family; [`micro`] holds the steps that they are made of.

mod compute;
mod control;
mod guest;
mod hvm;
mod memory;
mod micro;
mod mmu;
mod monitor;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod native;
mod system;
mod translation;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// Short, since a guest's speed varies little; the whole takes about four minutes.
fn settings() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

/// The prototype of the backend for x86-64 hosts, where there is one.
fn generated_code(c: &mut Criterion) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    native::benches(c);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let _ = c;
}

criterion_group!(
    name = benches;
    config = settings();
    targets = compute::benches, memory::benches, control::benches, system::benches, micro::benches,
        mmu::benches, monitor::benches, hvm::benches, translation::benches, generated_code
);
criterion_main!(benches);

//! The library as a program would use it: whole machines, their state, what is loaded into them and saved of
//! them.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fuzz/mod.rs"]
mod fuzz;

mod after_post;
mod announced;
mod apic;
mod determinism;
mod engines;
mod forged_snapshots;
mod fuzz_decoder;
mod fuzz_loaders;
mod fuzz_machine;
mod loaders;
mod looks;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod native;
mod rewind;
mod snapshot;
mod vmx;
mod x87;

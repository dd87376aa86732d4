//! Random machines run random code: no panic, no hang, limits kept. See `tests/fuzz/machine.rs` for what is random,
//! and `fuzz/` for the same under a coverage-guided fuzzer.

#[path = "fuzz/bytes.rs"]
mod bytes;
#[path = "fuzz/endurance.rs"]
mod endurance;
#[path = "fuzz/machine.rs"]
mod machine;
#[path = "common/seed.rs"]
mod seed;

#[test]
fn no_guest_harms_the_machine() {
    seed::each(400, 24_000, endurance::run);
}

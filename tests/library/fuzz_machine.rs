//! Random machines run random code: no panic, no hang, limits kept. See `tests/fuzz/machine.rs` for what is random,
//! and `fuzz/` for the same under a coverage-guided fuzzer.

use crate::common::seed;
use crate::fuzz::endurance;
#[test]
fn no_guest_harms_the_machine() {
    seed::each(400, 24_000, endurance::run);
}

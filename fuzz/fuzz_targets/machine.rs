//! Random machines with random code.
#![no_main]

#[path = "../../tests/fuzz/bytes.rs"]
mod bytes;
#[path = "../../tests/fuzz/endurance.rs"]
mod endurance;
#[path = "../../tests/fuzz/machine.rs"]
mod machine;

libfuzzer_sys::fuzz_target!(|data: &[u8]| endurance::run(data));

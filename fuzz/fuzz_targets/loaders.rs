//! Noise and damaged images to the loaders.
#![no_main]

#[path = "../../tests/fuzz/bytes.rs"]
mod bytes;
#[path = "../../tests/fuzz/loaders.rs"]
mod loaders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| loaders::run(data));

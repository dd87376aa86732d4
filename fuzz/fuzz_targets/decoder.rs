//! Any bytes to the decoder and the disassembler.
#![no_main]

#[path = "../../tests/fuzz/decoder.rs"]
mod decoder;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoder::run(data));

//! Random bytes through the decoder, and every start of an instruction of up to three bytes.

use crate::common::seed;
use crate::fuzz::decoder;
#[test]
fn any_bytes_decode_or_say_why_not() {
    seed::each(20_000, 18, decoder::run);
}

#[test]
fn every_opcode_decodes_or_says_why_not() {
    for n in 0..0x1_0000u32 {
        let [a, b, ..] = n.to_le_bytes();
        for third in [0x00, 0x05, 0x44, 0x94, 0xc0, 0xff] {
            decoder::run(&[
                a, b, third, 0x25, 0x80, 0x01, 0xfe, 0x77, 0x10, 0x00, 0x12, 0x34, 0x56, 0x78, 0x9a,
            ]);
        }
    }
}

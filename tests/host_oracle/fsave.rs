//! The x87's state as FSAVE stores it in 32-bit protected mode, read and written.

pub const CONTROL: usize = 0;
pub const STATUS_WORD: usize = 4;
pub const TAGS: usize = 8;
pub const FIP: usize = 12;
pub const FOP: usize = 18;
pub const FDP: usize = 20;
pub const REGISTERS: usize = 28;
pub const SIZE: usize = 108;

pub const C1: u16 = 0x200;
pub const CODES: u16 = 0x4500;
pub const PE: u16 = 0x20;
pub const UE: u16 = 0x10;
pub const ES_B: u16 = 0x8080;

/// A number of the double extended format.
pub type Extended = [u8; 10];

pub fn extended(sign_exp: u16, significand: u64) -> Extended {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&sign_exp.to_le_bytes());
    bytes
}

pub fn parts(x: &[u8]) -> (u16, u64) {
    let significand = x[..8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    (u16::from(x[8]) | u16::from(x[9]) << 8, significand)
}

pub fn put(image: &mut [u8], i: usize, x: Extended) {
    image[REGISTERS + 10 * i..REGISTERS + 10 * (i + 1)].copy_from_slice(&x);
}

/// Whether an unmasked exception is pending.
pub fn pending(image: &[u8]) -> bool {
    image.get(STATUS_WORD).is_some_and(|status| status & 0x80 != 0)
}

pub fn register(image: &[u8], i: usize) -> &[u8] {
    &image[REGISTERS + 10 * i..REGISTERS + 10 * (i + 1)]
}

pub fn word(image: &[u8], at: usize) -> u16 {
    u16::from(image[at]) | u16::from(image[at + 1]) << 8
}

pub fn set_word(image: &mut [u8], at: usize, value: u16) {
    image[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// The number of the register that is ST(0).
fn top(image: &[u8]) -> usize {
    usize::from(word(image, STATUS_WORD) >> 11 & 7)
}

/// Sets the tag of ST(i).
fn set_tag(image: &mut [u8], i: usize, tag: u16) {
    let shift = 2 * ((top(image) + i) & 7);
    let tags = word(image, TAGS) & !(3 << shift) | tag << shift;
    set_word(image, TAGS, tags);
}

/// Whether there is an underflow, and unmasked.
pub fn underflows(image: &[u8]) -> bool {
    word(image, STATUS_WORD) & !word(image, CONTROL) & UE != 0
}

/// Whether the registers hold the same, and the same one is the top.
pub fn same_registers(a: &[u8], b: &[u8]) -> bool {
    a[REGISTERS..] == b[REGISTERS..] && top(a) == top(b)
}

/// Whether ST(0) holds the same.
pub fn same_top(a: &[u8], b: &[u8]) -> bool {
    register(a, 0) == register(b, 0)
}

/// Whether ST(0) is a denormal number.
pub fn top_is_denormal(image: &[u8]) -> bool {
    let (sign_exp, significand) = parts(register(image, 0));
    sign_exp & 0x7fff == 0 && significand != 0
}

/// `image` with register 0 as the top; the registers and their tags are as they were.
pub fn with_top_at_0(image: &[u8]) -> Vec<u8> {
    let mut after = image.to_vec();
    after[REGISTERS..].rotate_right(10 * top(image));
    set_word(&mut after, STATUS_WORD, word(image, STATUS_WORD) & !0x3800);
    after
}

/// `image` with ST(0), a denormal number, as in `before`, and no underflow.
pub fn without_underflow(image: &[u8], before: &[u8]) -> Vec<u8> {
    let mut after = image.to_vec();
    after[REGISTERS..REGISTERS + 10].copy_from_slice(register(before, 0));
    set_tag(&mut after, 0, 2);
    let status = word(image, STATUS_WORD) & !UE;
    let unmasked = status & !word(image, CONTROL) & 0x3f;
    set_word(&mut after, STATUS_WORD, if unmasked == 0 { status & !ES_B } else { status });
    after
}

/// Whether ST(i) is the smallest normal number, of either sign.
pub fn is_smallest(image: &[u8], i: usize) -> bool {
    let (sign_exp, significand) = parts(register(image, i));
    (sign_exp & 0x7fff, significand) == (1, 1 << 63)
}

/// `image` with the result in ST(i) rounded up to the smallest normal number, which is no underflow, if it lies right below.
pub fn rounded_up(image: &[u8], i: usize) -> Vec<u8> {
    let mut after = image.to_vec();
    let (sign_exp, significand) = parts(register(image, i));
    if (sign_exp & 0x7fff, significand) == (0, (1 << 63) - 1) {
        put(&mut after, i, extended(sign_exp | 1, 1 << 63));
        set_tag(&mut after, i, 0);
        set_word(&mut after, STATUS_WORD, word(image, STATUS_WORD) & !UE);
    }
    after
}

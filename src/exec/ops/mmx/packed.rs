//! The arithmetic of MMX: functions of two packed operands (SDM vol. 1, 9.4; vol. 2). Element 0 is the
//! lowest.

fn bytes(x: u64) -> [u8; 8] {
    x.to_le_bytes()
}
fn words(x: u64) -> [u16; 4] {
    std::array::from_fn(|n| (x >> (16 * n)) as u16)
}
fn dwords(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}
fn from_words(w: [u16; 4]) -> u64 {
    w.iter().rev().fold(0, |x, &w| x << 16 | u64::from(w))
}
fn from_dwords([a, b]: [u32; 2]) -> u64 {
    u64::from(b) << 32 | u64::from(a)
}

/// Element by element.
fn each_byte(a: u64, b: u64, f: impl Fn(u8, u8) -> u8) -> u64 {
    let (a, b) = (bytes(a), bytes(b));
    u64::from_le_bytes(std::array::from_fn(|n| f(a[n], b[n])))
}
fn each_word(a: u64, b: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    let (a, b) = (words(a), words(b));
    from_words(std::array::from_fn(|n| f(a[n], b[n])))
}
fn each_dword(a: u64, b: u64, f: impl Fn(u32, u32) -> u32) -> u64 {
    let (a, b) = (dwords(a), dwords(b));
    from_dwords(std::array::from_fn(|n| f(a[n], b[n])))
}

/// Functions element by element, a line each: the instruction, its elements, what it does with two of them.
macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident: $each:ident, $f:expr;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(a: u64, b: u64) -> u64 {
            $each(a, b, $f)
        }
    )*};
}

elementwise! {
    /// PADDB, PADDW, PADDD: wrapping around
    paddb:   each_byte,  u8::wrapping_add;
    paddw:   each_word,  u16::wrapping_add;
    paddd:   each_dword, u32::wrapping_add;
    /// PADDSB, PADDSW: signed, saturating
    paddsb:  each_byte,  |a, b| (a as i8).saturating_add(b as i8) as u8;
    paddsw:  each_word,  |a, b| (a as i16).saturating_add(b as i16) as u16;
    /// PADDUSB, PADDUSW: unsigned, saturating
    paddusb: each_byte,  u8::saturating_add;
    paddusw: each_word,  u16::saturating_add;
    /// PSUBB, PSUBW, PSUBD: wrapping around
    psubb:   each_byte,  u8::wrapping_sub;
    psubw:   each_word,  u16::wrapping_sub;
    psubd:   each_dword, u32::wrapping_sub;
    /// PSUBSB, PSUBSW: signed, saturating
    psubsb:  each_byte,  |a, b| (a as i8).saturating_sub(b as i8) as u8;
    psubsw:  each_word,  |a, b| (a as i16).saturating_sub(b as i16) as u16;
    /// PSUBUSB, PSUBUSW: unsigned, saturating
    psubusb: each_byte,  u8::saturating_sub;
    psubusw: each_word,  u16::saturating_sub;
    /// PMULLW, PMULHW: the lower and the upper halves of the products
    pmullw:  each_word,  |a, b| product(a, b) as u16;
    pmulhw:  each_word,  |a, b| (product(a, b) >> 16) as u16;
    /// PCMPEQB, PCMPEQW, PCMPEQD: ones where the elements are equal
    pcmpeqb: each_byte,  |a, b| if a == b { !0 } else { 0 };
    pcmpeqw: each_word,  |a, b| if a == b { !0 } else { 0 };
    pcmpeqd: each_dword, |a, b| if a == b { !0 } else { 0 };
    /// PCMPGTB, PCMPGTW, PCMPGTD: ones where the first is greater, signed
    pcmpgtb: each_byte,  |a, b| if a as i8 > b as i8 { !0 } else { 0 };
    pcmpgtw: each_word,  |a, b| if a as i16 > b as i16 { !0 } else { 0 };
    pcmpgtd: each_dword, |a, b| if a as i32 > b as i32 { !0 } else { 0 };
}

/// The signed product of two words.
fn product(a: u16, b: u16) -> i32 {
    i32::from(a as i16) * i32::from(b as i16)
}

/// PMADDWD: sums of neighbouring products; only -2^15 four times wraps around
pub(super) fn pmaddwd(a: u64, b: u64) -> u64 {
    let (a, b) = (words(a), words(b));
    let sum = |n: usize| product(a[n], b[n]).wrapping_add(product(a[n + 1], b[n + 1])) as u32;
    from_dwords([sum(0), sum(2)])
}

/// The words of the first operand and then those of the second, each made a byte.
fn pack_words(a: u64, b: u64, f: impl Fn(i16) -> u8) -> u64 {
    let (a, b) = (words(a), words(b));
    u64::from_le_bytes(std::array::from_fn(|n| f(if n < 4 { a[n] } else { b[n - 4] } as i16)))
}

/// PACKSSWB: words to bytes, signed saturation
pub(super) fn packsswb(a: u64, b: u64) -> u64 {
    pack_words(a, b, |w| w.clamp(-0x80, 0x7f) as u8)
}

/// PACKUSWB: signed words to unsigned bytes, saturating
pub(super) fn packuswb(a: u64, b: u64) -> u64 {
    pack_words(a, b, |w| w.clamp(0, 0xff) as u8)
}

/// PACKSSDW: doublewords to words, signed saturation
pub(super) fn packssdw(a: u64, b: u64) -> u64 {
    let (a, b) = (dwords(a), dwords(b));
    let word = |d: u32| (d as i32).clamp(-0x8000, 0x7fff) as u16;
    from_words([word(a[0]), word(a[1]), word(b[0]), word(b[1])])
}

/// PUNPCKLBW, PUNPCKLWD, PUNPCKLDQ: elements of the lower halves in turn, the first operand's first
pub(super) fn punpcklbw(a: u64, b: u64) -> u64 {
    let (a, b) = (bytes(a), bytes(b));
    u64::from_le_bytes(std::array::from_fn(|n| if n % 2 == 0 { a[n / 2] } else { b[n / 2] }))
}
pub(super) fn punpcklwd(a: u64, b: u64) -> u64 {
    let (a, b) = (words(a), words(b));
    from_words([a[0], b[0], a[1], b[1]])
}
pub(super) fn punpckldq(a: u64, b: u64) -> u64 {
    from_dwords([a as u32, b as u32])
}

/// PUNPCKHBW, PUNPCKHWD, PUNPCKHDQ: the same of the upper halves
pub(super) fn punpckhbw(a: u64, b: u64) -> u64 {
    punpcklbw(a >> 32, b >> 32)
}
pub(super) fn punpckhwd(a: u64, b: u64) -> u64 {
    punpcklwd(a >> 32, b >> 32)
}
pub(super) fn punpckhdq(a: u64, b: u64) -> u64 {
    punpckldq(a >> 32, b >> 32)
}

/// PAND, PANDN (the first operand is inverted), POR, PXOR
pub(super) fn pand(a: u64, b: u64) -> u64 {
    a & b
}
pub(super) fn pandn(a: u64, b: u64) -> u64 {
    !a & b
}
pub(super) fn por(a: u64, b: u64) -> u64 {
    a | b
}
pub(super) fn pxor(a: u64, b: u64) -> u64 {
    a ^ b
}

/// PSLLW, PSLLD, PSLLQ: a count beyond the element's bits leaves zero
pub(super) fn psllw(a: u64, count: u64) -> u64 {
    each_word(a, 0, |w, _| if count < 16 { w << count } else { 0 })
}
pub(super) fn pslld(a: u64, count: u64) -> u64 {
    each_dword(a, 0, |d, _| if count < 32 { d << count } else { 0 })
}
pub(super) fn psllq(a: u64, count: u64) -> u64 {
    if count < 64 { a << count } else { 0 }
}

/// PSRLW, PSRLD, PSRLQ: the same to the right
pub(super) fn psrlw(a: u64, count: u64) -> u64 {
    each_word(a, 0, |w, _| if count < 16 { w >> count } else { 0 })
}
pub(super) fn psrld(a: u64, count: u64) -> u64 {
    each_dword(a, 0, |d, _| if count < 32 { d >> count } else { 0 })
}
pub(super) fn psrlq(a: u64, count: u64) -> u64 {
    if count < 64 { a >> count } else { 0 }
}

/// PSRAW, PSRAD: a count beyond the element's bits leaves copies of its sign
pub(super) fn psraw(a: u64, count: u64) -> u64 {
    each_word(a, 0, |w, _| (w as i16 >> count.min(15)) as u16)
}
pub(super) fn psrad(a: u64, count: u64) -> u64 {
    each_dword(a, 0, |d, _| (d as i32 >> count.min(31)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturation_ends_at_the_elements_bounds() {
        assert_eq!(paddsb(0x7f80, 0x01ff), 0x7f80);
        assert_eq!(paddusw(0xffff_0001, 0x0001_0001), 0xffff_0002);
        assert_eq!(packsswb(0x8000_7fff_0080_ff80, 0), 0x807f_7f80);
        assert_eq!(packuswb(0, 0x8000_7fff_0080_ff80), 0x00ff_8000_0000_0000);
    }

    #[test]
    fn the_one_sum_of_products_that_wraps_around() {
        assert_eq!(pmaddwd(0x8000_8000, 0x8000_8000), 0x8000_0000);
    }

    #[test]
    fn counts_are_whole_quadwords() {
        assert_eq!(psllq(1, 1 << 32), 0);
        assert_eq!(psraw(0x8000_7fff, !0), 0xffff_0000);
    }
}

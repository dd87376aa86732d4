//! Rounding (SDM vol. 1, 4.8.4, 4.9.1): from an exact or sticky-ended 128-bit significand to a format's
//! precision, with the masked and unmasked responses to overflow, underflow and inexact results. Tininess is
//! seen after rounding.

use super::operand::BIAS;
use super::{Control, Outcome};
use crate::cpu::F80;
use crate::cpu::fpu::status::{OE, PE, UE};

/// A rounding mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// Toward zero.
    Zero,
}

impl Rounding {
    /// Whether a magnitude with fraction `fraction` of a unit (the top bit is a half) rounds up.
    fn away(self, negative: bool, odd: bool, fraction: u128, half: u128) -> bool {
        match self {
            Rounding::Nearest => fraction > half || fraction == half && odd,
            Rounding::Down => negative && fraction != 0,
            Rounding::Up => !negative && fraction != 0,
            Rounding::Zero => false,
        }
    }
    /// Whether what is too large becomes infinity, and not the largest number.
    fn overflows_to_infinity(self, negative: bool) -> bool {
        match self {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        }
    }
}

/// `x` shifted right by `n`; what falls out stays as the lowest bit.
pub fn shift_right_jam(x: u128, n: u32) -> u128 {
    match n {
        0 => x,
        1..128 => x >> n | u128::from(x << (128 - n) != 0),
        _ => u128::from(x != 0),
    }
}

/// A significand cut to some bits.
pub struct Cut {
    /// The bits, from the top.
    pub sig: u64,
    /// Rounding carried out of the top: `sig` is that of the next exponent.
    pub carry: bool,
    /// Something was lost.
    pub inexact: bool,
    /// The magnitude grew.
    pub up: bool,
}

/// The top `keep` bits (1 to 64) of `sig`, rounded.
pub fn cut(sig: u128, keep: u32, negative: bool, rounding: Rounding) -> Cut {
    let unit = 1u128 << (128 - keep);
    let fraction = sig & (unit - 1);
    let up = rounding.away(negative, sig & unit != 0, fraction, unit >> 1);
    let (sum, carry) = (sig - fraction).overflowing_add(if up { unit } else { 0 });
    let sig = if carry { 1 << 63 } else { (sum >> 64) as u64 };
    Cut { sig, carry, inexact: fraction != 0, up }
}

/// A number format.
pub struct Format {
    /// Bits of significand.
    pub precision: u32,
    /// The exponent's bias.
    pub bias: i32,
    /// The largest biased exponent of a finite number.
    pub max: i32,
}

/// A rounded number: biased exponent and significand.
pub struct Rounded {
    /// The biased exponent; 0 for denormals, `max + 1` for infinity.
    pub biased: i32,
    /// The significand with its integer bit at the top.
    pub sig: u64,
}

/// By how much the exponent is moved into range when an overflow or underflow is not masked.
const WRAP: i32 = 0x6000;

/// Rounds `sig * 2^(exp - 127)`, whose top bit is set, to `format`.
pub fn round_to(negative: bool, exp: i32, sig: u128, format: &Format, c: &Control) -> Outcome<Rounded> {
    let biased = exp.saturating_add(format.bias);
    let bounded = cut(sig, format.precision, negative, c.rounding);
    let carried = biased.saturating_add(i32::from(bounded.carry));
    let inexact = if bounded.inexact { PE } else { 0 };
    if carried > format.max {
        if !c.masks(OE) {
            return wrapped(carried - WRAP, &bounded, OE, format);
        }
        let infinite = c.rounding.overflows_to_infinity(negative);
        return Outcome { value: largest(infinite, format), flags: OE | PE, up: infinite };
    }
    if biased >= 1 {
        let value = Rounded { biased: carried, sig: bounded.sig };
        return Outcome { value, flags: inexact, up: bounded.up };
    }
    let tiny = carried < 1;
    if tiny && !c.masks(UE) {
        return wrapped(carried.saturating_add(WRAP), &bounded, UE, format);
    }
    let shifted = shift_right_jam(sig, 1i32.saturating_sub(biased) as u32);
    let cut = cut(shifted, format.precision, negative, c.rounding);
    let underflow = if tiny { UE | PE } else { PE };
    let value = Rounded { biased: (cut.sig >> 63) as i32, sig: cut.sig };
    Outcome { value, flags: if cut.inexact { underflow } else { 0 }, up: cut.up }
}

/// The answer to an exception that is not masked: the result with its exponent moved into range. If it is out
/// of range still (FSCALE), infinity or zero, which is not exact.
fn wrapped(biased: i32, cut: &Cut, flag: u16, format: &Format) -> Outcome<Rounded> {
    let (value, inexact, up) = match biased {
        ..1 => (Rounded { biased: 0, sig: 0 }, true, false),
        b if b > format.max => (Rounded { biased: format.max + 1, sig: 1 << 63 }, true, true),
        biased => (Rounded { biased, sig: cut.sig }, cut.inexact, cut.up),
    };
    Outcome { value, flags: flag | if inexact { PE } else { 0 }, up }
}

fn largest(infinite: bool, format: &Format) -> Rounded {
    if infinite {
        return Rounded { biased: format.max + 1, sig: 1 << 63 };
    }
    Rounded { biased: format.max, sig: !0 << (64 - format.precision) }
}

/// Rounds `sig * 2^(exp - 127)`, whose top bit is set, to `precision` bits in the double extended format.
pub fn round(negative: bool, exp: i32, sig: u128, precision: u32, c: &Control) -> Outcome {
    let r = round_to(negative, exp, sig, &Format { precision, bias: BIAS, max: 0x7ffe }, c);
    let value = F80::new(r.value.biased as u16, r.value.sig).with_sign(negative);
    Outcome { value, flags: r.flags, up: r.up }
}

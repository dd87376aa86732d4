//! Operands: what class of number an operand is, its value in normalised form, and which NaN an operation on
//! NaNs gives (SDM vol. 1, 4.8.3, 8.2 and table 4-7).

use super::Outcome;
use crate::cpu::F80;
use crate::cpu::fpu::status::{DE, IE};

/// The exponent's bias in the double extended format.
pub const BIAS: i32 = 16383;
const QUIET: u64 = 1 << 62;

/// A class of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Zero.
    Zero,
    /// Finite and not zero.
    Finite,
    /// Infinity.
    Infinity,
    /// A quiet NaN.
    Quiet,
    /// A signalling NaN.
    Signalling,
    /// A pseudo-NaN, a pseudo-infinity or an unnormal: invalid since the 387.
    Unsupported,
}

/// An operand, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The number in the double extended format.
    pub raw: F80,
    /// Its class.
    pub class: Class,
    /// The unbiased exponent of the significand's top bit, if finite.
    pub exp: i32,
    /// The significand, its top bit set, if finite.
    pub sig: u64,
    /// A denormal in the format that it came in (pseudo-denormals too).
    pub denormal: bool,
}

impl Operand {
    /// Takes a register's contents apart.
    pub fn new(raw: F80) -> Self {
        let s = raw.significand;
        let shift = s.leading_zeros();
        let (class, exp, sig) = match raw.biased() {
            0 if s == 0 => (Class::Zero, 0, 0),
            0 => (Class::Finite, 1 - BIAS - shift as i32, s << shift),
            _ if shift != 0 => (Class::Unsupported, 0, 0),
            0x7fff if s << 1 == 0 => (Class::Infinity, 0, 0),
            0x7fff if s & QUIET != 0 => (Class::Quiet, 0, 0),
            0x7fff => (Class::Signalling, 0, 0),
            e => (Class::Finite, i32::from(e) - BIAS, s),
        };
        Self { raw, class, exp, sig, denormal: class == Class::Finite && raw.biased() == 0 }
    }

    /// The operand in a memory format of `exponent` bits of exponent and `fraction` bits of fraction.
    fn from_real(bits: u64, exponent: u32, fraction: u32) -> Self {
        let negative = bits >> (exponent + fraction) & 1 != 0;
        let max = (1u64 << exponent) - 1;
        let (e, f) = (bits >> fraction & max, (bits & ((1 << fraction) - 1)) << (63 - fraction));
        let bias = (max >> 1) as i32;
        let sign = u16::from(negative) << 15;
        if e == 0 && f != 0 {
            let shift = f.leading_zeros();
            let biased = BIAS + 1 - bias - shift as i32;
            let raw = F80::new(sign | biased as u16, f << shift);
            return Self { denormal: true, ..Self::new(raw) };
        }
        Self::new(match e {
            0 => F80::zero(negative),
            _ if e == max => F80::new(sign | 0x7fff, 1 << 63 | f),
            _ => F80::new(sign | (e as i32 - bias + BIAS) as u16, 1 << 63 | f),
        })
    }

    /// A single-precision operand. A signalling NaN stays one.
    pub fn from_single(bits: u32) -> Self {
        Self::from_real(u64::from(bits), 8, 23)
    }

    /// A double-precision operand.
    pub fn from_double(bits: u64) -> Self {
        Self::from_real(bits, 11, 52)
    }

    /// An integer.
    pub fn from_int(value: i64) -> Self {
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return Self::new(F80::ZERO);
        }
        let shift = magnitude.leading_zeros();
        let biased = (BIAS + 63 - shift as i32) as u16;
        Self::new(F80::new(biased, magnitude << shift).with_sign(value < 0))
    }

    /// Whether the sign bit is set.
    pub fn negative(&self) -> bool {
        self.raw.negative()
    }
    /// Zero.
    pub fn is_zero(&self) -> bool {
        self.class == Class::Zero
    }
    /// Infinity.
    pub fn is_infinite(&self) -> bool {
        self.class == Class::Infinity
    }
    /// Neither a finite number nor infinity.
    pub fn is_nan(&self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signalling | Class::Unsupported)
    }
    /// DE, if it is a denormal.
    pub fn de(&self) -> u16 {
        if self.denormal { DE } else { 0 }
    }
}

fn quieted(x: F80) -> F80 {
    F80::new(x.sign_exp, x.significand | QUIET)
}

/// What an operation on one operand gives if that is no number.
pub fn nan(x: &Operand) -> Option<Outcome> {
    match x.class {
        Class::Unsupported => Some(Outcome::invalid()),
        Class::Signalling => Some(Outcome::exact(quieted(x.raw)).with(IE)),
        Class::Quiet => Some(Outcome::exact(x.raw)),
        _ => None,
    }
}

/// What an operation on two operands gives if one is no number: of two NaNs of a kind the one with the larger
/// significand (if equal, the positive one), of a signalling and a quiet one the quiet one.
pub fn nan_of_two(a: &Operand, b: &Operand) -> Option<Outcome> {
    if a.class == Class::Unsupported || b.class == Class::Unsupported {
        return Some(Outcome::invalid());
    }
    let (one, other) = (nan(a), nan(b));
    let (Some(x), Some(y)) = (one, other) else { return one.or(other) };
    let order = (a.raw.significand, !a.negative()).cmp(&(b.raw.significand, !b.negative()));
    let first = if a.class == b.class { order.is_ge() } else { a.class == Class::Quiet };
    Some(if first { x.with(y.flags) } else { y.with(x.flags) })
}

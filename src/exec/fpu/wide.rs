//! Floating point with 128-bit significands and an exponent without bounds: what the transcendental functions
//! are computed in. Each operation is off by less than two units of its last place; what is lost is kept as
//! the lowest bit, so that an exact result stays exact and another one does not look so.

use super::Operand;
use super::round::shift_right_jam;
use std::cmp::Ordering;

/// ±`sig * 2^(exp - 127)`, the top bit of `sig` set, or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    /// Whether the number is below zero.
    pub negative: bool,
    /// The exponent of the top bit.
    pub exp: i32,
    /// The significand.
    pub sig: u128,
}

impl Wide {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, exp: 0, sig: 0 };
    /// One.
    pub const ONE: Self = Self { negative: false, exp: 0, sig: 1 << 127 };
    /// π
    pub const PI: Self = Self { negative: false, exp: 1, sig: 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1 };
    /// ln 2
    pub const LN_2: Self = Self { negative: false, exp: -1, sig: 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af };
    /// 1 / ln 2
    pub const LOG2_E: Self = Self { negative: false, exp: 0, sig: 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88 };

    /// `value * 2^unit`
    pub fn new(negative: bool, value: u128, unit: i32) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        let shift = value.leading_zeros();
        Self { negative, exp: unit + 127 - shift as i32, sig: value << shift }
    }

    /// A finite operand.
    pub fn from(x: &Operand) -> Self {
        if x.is_zero() { Self::ZERO } else { Self::new(x.negative(), u128::from(x.sig), x.exp - 63) }
    }

    /// An integer.
    pub fn from_int(n: i32) -> Self {
        Self::new(n < 0, u128::from(n.unsigned_abs()), 0)
    }

    /// Whether the number is zero.
    pub fn is_zero(self) -> bool {
        self.sig == 0
    }

    /// −x
    #[must_use]
    pub fn minus(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    /// |x|
    #[must_use]
    pub fn abs(self) -> Self {
        Self { negative: false, ..self }
    }

    /// x × 2^n
    #[must_use]
    pub fn scaled(self, n: i32) -> Self {
        Self { exp: self.exp + n, ..self }
    }

    /// Compares magnitudes.
    pub fn cmp_abs(self, other: Self) -> Ordering {
        let key = |w: Self| (w.sig != 0, if w.sig == 0 { 0 } else { w.exp }, w.sig);
        key(self).cmp(&key(other))
    }

    /// x + y
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() { other } else { self };
        }
        let (big, small) = if self.cmp_abs(other).is_ge() { (self, other) } else { (other, self) };
        let (x, y) = (big.sig, shift_right_jam(small.sig, (big.exp - small.exp) as u32));
        if big.negative != small.negative {
            return Self::new(big.negative, x - y, big.exp - 127);
        }
        match x.overflowing_add(y) {
            (sum, false) => Self { sig: sum, ..big },
            (sum, true) => Self { sig: 1 << 127 | shift_right_jam(sum, 1), exp: big.exp + 1, ..big },
        }
    }

    /// x × y
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::ZERO;
        }
        let (high, low) = product(self.sig, other.sig);
        let shift = high.leading_zeros();
        let (high, low) = if shift == 0 { (high, low) } else { (high << 1 | low >> 127, low << 1) };
        Self {
            negative: self.negative != other.negative,
            exp: self.exp + other.exp + 1 - shift as i32,
            sig: high | u128::from(low != 0),
        }
    }

    /// x / y, by long division; y is not zero
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        if self.is_zero() {
            return Self::ZERO;
        }
        let less = self.sig < other.sig;
        let (mut rest, mut quotient) = (self.sig, 0u128);
        if !less {
            (rest, quotient) = (rest - other.sig, 1);
        }
        for _ in 0..127 + u32::from(less) {
            let carry = rest >> 127 != 0;
            rest <<= 1;
            quotient <<= 1;
            if carry || rest >= other.sig {
                rest = rest.wrapping_sub(other.sig);
                quotient |= 1;
            }
        }
        Self {
            negative: self.negative != other.negative,
            exp: self.exp - other.exp - i32::from(less),
            sig: quotient | u128::from(rest != 0),
        }
    }

    /// x / n
    #[must_use]
    pub fn over_int(self, n: u32) -> Self {
        let n = u128::from(n);
        let (quotient, rest) = (self.sig / n, self.sig % n);
        let shift = quotient.leading_zeros();
        if shift >= 128 {
            return Self::ZERO;
        }
        let more = (rest << shift) / n;
        let lost = (rest << shift) % n != 0;
        Self { exp: self.exp - shift as i32, sig: quotient << shift | more | u128::from(lost), ..self }
    }

    /// √x for x ≥ 0: 64 bits from the integer root, the rest by a step of Newton's
    #[must_use]
    pub fn root(self) -> Self {
        if self.is_zero() {
            return self;
        }
        let odd = self.exp.rem_euclid(2);
        let root = (self.sig >> (1 - odd)).isqrt();
        let guess = Self::new(false, root, self.exp.div_euclid(2) - 63);
        guess.plus(self.over(guess)).scaled(-1)
    }
}

/// The 256-bit product.
fn product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (ah, al, bh, bl) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (hl, lh, ll) = (ah * bl, al * bh, al * bl);
    let middle = (ll >> 64) + (hl & LOW) + (lh & LOW);
    (ah * bh + (hl >> 64) + (lh >> 64) + (middle >> 64), middle << 64 | ll & LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Wide, b: Wide) -> bool {
        let difference = a.plus(b.minus());
        difference.is_zero() || difference.exp < a.exp - 122
    }

    #[test]
    fn the_constants_agree_with_each_other() {
        assert!(close(Wide::LN_2.times(Wide::LOG2_E), Wide::ONE));
    }

    #[test]
    fn operations_undo_each_other() {
        for (a, b) in [(3, 7), (1, 10), (-355, 113), (1 << 30, 3)] {
            let (x, y) = (Wide::from_int(a), Wide::from_int(b));
            assert!(close(x.over(y).times(y), x), "{a} / {b}");
            assert!(close(x.over_int(b as u32), x.over(y)), "{a} / {b}");
            assert!(close(x.plus(y).plus(y.minus()), x), "{a} + {b}");
            assert!(close(x.abs().root().times(x.abs().root()), x.abs()), "√{a}");
        }
        assert_eq!(Wide::from_int(12).over(Wide::from_int(4)), Wide::from_int(3));
        assert_eq!(Wide::from_int(9).root(), Wide::from_int(3));
    }
}

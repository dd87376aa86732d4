//! Addition, subtraction, multiplication, division, square root and comparison: exact, then rounded once (SDM
//! vol. 2, FADD, FSUB, FMUL, FDIV, FSQRT, FCOM).

use super::operand::{nan, nan_of_two};
use super::round::shift_right_jam;
use super::{Class, Control, Operand, Outcome, Rounding, round};
use crate::cpu::F80;
use crate::cpu::fpu::status::{IE, ZE};
use std::cmp::Ordering;

fn de(a: &Operand, b: &Operand) -> u16 {
    a.de() | b.de()
}

/// a + b
pub fn add(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    nan_of_two(a, b).unwrap_or_else(|| sum(a, b, b.negative(), c))
}

/// a - b
pub fn sub(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    nan_of_two(a, b).unwrap_or_else(|| sum(a, b, !b.negative(), c))
}

/// b - a
pub fn subr(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    sub(b, a, c)
}

/// `a` plus `b` with its sign as given.
fn sum(a: &Operand, b: &Operand, b_negative: bool, c: &Control) -> Outcome {
    let same = a.negative() == b_negative;
    let flags = de(a, b);
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) if !same => return Outcome::invalid(),
        (Class::Infinity, _) => return Outcome::exact(a.raw).with(flags),
        (_, Class::Infinity) => return Outcome::exact(F80::infinity(b_negative)).with(flags),
        (Class::Zero, Class::Zero) if same => return Outcome::exact(a.raw),
        (Class::Zero, Class::Zero) => return Outcome::exact(nothing(c)),
        (_, Class::Zero) => return round(a.negative(), a.exp, wide(a.sig), c.precision, c).with(flags),
        (Class::Zero, _) => return round(b_negative, b.exp, wide(b.sig), c.precision, c).with(flags),
        _ => {}
    }
    let swap = (a.exp, a.sig) < (b.exp, b.sig);
    let (big, small, negative) = if swap { (b, a, b_negative) } else { (a, b, a.negative()) };
    // One bit of room above for the carry.
    let x = wide(big.sig) >> 1;
    let y = shift_right_jam(wide(small.sig) >> 1, (big.exp - small.exp) as u32);
    let total = if same { x + y } else { x - y };
    if total == 0 {
        return Outcome::exact(nothing(c)).with(flags);
    }
    let shift = total.leading_zeros();
    round(negative, big.exp + 1 - shift as i32, total << shift, c.precision, c).with(flags)
}

/// What exact cancellation leaves.
fn nothing(c: &Control) -> F80 {
    F80::zero(c.rounding == Rounding::Down)
}

fn wide(sig: u64) -> u128 {
    u128::from(sig) << 64
}

/// a × b
pub fn mul(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(a, b) {
        return nan;
    }
    let negative = a.negative() != b.negative();
    match (a.class, b.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return Outcome::invalid(),
        (Class::Infinity, _) | (_, Class::Infinity) => {
            return Outcome::exact(F80::infinity(negative)).with(de(a, b));
        }
        (Class::Zero, _) | (_, Class::Zero) => return Outcome::exact(F80::zero(negative)).with(de(a, b)),
        _ => {}
    }
    let product = u128::from(a.sig) * u128::from(b.sig);
    let shift = product.leading_zeros();
    round(negative, a.exp + b.exp + 1 - shift as i32, product << shift, c.precision, c).with(de(a, b))
}

/// a / b
pub fn div(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(a, b) {
        return nan;
    }
    let negative = a.negative() != b.negative();
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => return Outcome::invalid(),
        (Class::Infinity, _) => return Outcome::exact(F80::infinity(negative)).with(de(a, b)),
        (_, Class::Infinity) | (Class::Zero, _) => return Outcome::exact(F80::zero(negative)).with(de(a, b)),
        (_, Class::Zero) => return Outcome::exact(F80::infinity(negative)).with(ZE),
        _ => {}
    }
    let less = u32::from(a.sig < b.sig);
    let divisor = u128::from(b.sig);
    let dividend = u128::from(a.sig) << (63 + less);
    let (high, rest) = (dividend / divisor, (dividend % divisor) << 64);
    let quotient = (high << 64) | (rest / divisor) | u128::from(rest % divisor != 0);
    round(negative, a.exp - b.exp - less as i32, quotient, c.precision, c).with(de(a, b))
}

/// b / a
pub fn divr(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    div(b, a, c)
}

/// √a
pub fn sqrt(a: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan(a) {
        return nan;
    }
    match a.class {
        Class::Zero => return Outcome::exact(a.raw),
        _ if a.negative() => return Outcome::invalid(),
        Class::Infinity => return Outcome::exact(a.raw),
        _ => {}
    }
    let square = u128::from(a.sig) << (63 + a.exp.rem_euclid(2));
    let root = square.isqrt();
    let rest = square - root * root;
    // (root + ½)² = root² + root + ¼
    let half = u128::from(rest > root) << 63;
    let sig = root << 64 | half | u128::from(rest != 0);
    round(false, a.exp.div_euclid(2), sig, c.precision, c).with(a.de())
}

/// Compares: `None` if unordered. A quiet comparison is invalid for signalling NaNs only.
pub fn compare(a: &Operand, b: &Operand, quiet: bool) -> Outcome<Option<Ordering>> {
    if let Some(nan) = nan_of_two(a, b) {
        return Outcome::exact(None).with(if quiet { nan.flags } else { IE });
    }
    Outcome::exact(Some(rank(a).cmp(&rank(b)))).with(de(a, b))
}

/// A key that orders numbers as their values.
fn rank(x: &Operand) -> (i32, i128, i128) {
    let sign = if x.negative() { -1 } else { 1 };
    match x.class {
        Class::Zero => (0, 0, 0),
        Class::Infinity => (2 * sign, 0, 0),
        _ => (sign, i128::from(sign) * (i128::from(x.exp) + 0x1_0000), i128::from(sign) * i128::from(x.sig)),
    }
}

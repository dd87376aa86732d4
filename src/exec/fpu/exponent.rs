//! Operations on exponents and whole parts: FPREM, FPREM1, FSCALE, FXTRACT, FRNDINT (SDM vol. 2).

use super::convert::to_magnitude;
use super::operand::{BIAS, nan, nan_of_two};
use super::{Class, Control, Operand, Outcome, round};
use crate::cpu::F80;
use crate::cpu::fpu::status::{PE, ZE};

/// A partial remainder.
pub struct Remainder {
    /// It.
    pub result: Outcome,
    /// The quotient's low three bits, if there is a whole one.
    pub quotient: Option<u8>,
    /// The remainder is less than the divisor; else the operation is to be repeated.
    pub complete: bool,
}

/// What FPREM (quotient rounded toward zero) or FPREM1 (`nearest`) leaves of `a` by `b`. At most 63 bits of
/// quotient are taken off at a time.
pub fn remainder(a: &Operand, b: &Operand, nearest: bool, c: &Control) -> Remainder {
    let whole = |result| Remainder { result, quotient: Some(0), complete: true };
    let none = |result| Remainder { result, quotient: None, complete: true };
    if let Some(nan) = nan_of_two(a, b) {
        return none(nan);
    }
    let flags = a.de() | b.de();
    match (a.class, b.class) {
        (Class::Infinity, _) | (_, Class::Zero) => return none(Outcome::invalid()),
        (Class::Zero, _) => return whole(Outcome::exact(a.raw).with(flags)),
        (_, Class::Infinity) => return whole(same(a, c).with(flags)),
        _ => {}
    }
    let distance = a.exp - b.exp;
    if distance < -1 || distance < 0 && !nearest {
        return whole(same(a, c).with(flags));
    }
    if distance >= 64 {
        let step = 32 + distance % 32;
        let rest = (u128::from(a.sig) << step) % u128::from(b.sig);
        let result = exact(a.negative(), b.exp + distance - step - 63, rest, c).with(flags);
        return Remainder { result, quotient: None, complete: false };
    }
    // In units of half the divisor's last bit, so that a distance of -1 is an integer too.
    let (dividend, divisor) = (u128::from(a.sig) << (distance + 1), u128::from(b.sig) << 1);
    let (mut quotient, mut rest, mut negative) = (dividend / divisor, dividend % divisor, a.negative());
    let beyond_half = rest * 2 > divisor || rest * 2 == divisor && quotient & 1 != 0;
    if nearest && beyond_half {
        (quotient, rest, negative) = (quotient + 1, divisor - rest, !negative);
    }
    let result = if rest == 0 {
        Outcome::exact(F80::zero(a.negative())).with(flags)
    } else {
        exact(negative, b.exp - 64, rest, c).with(flags)
    };
    Remainder { result, quotient: Some((quotient & 7) as u8), complete: true }
}

/// `value * 2^unit`, which the format holds unless it is tiny.
fn exact(negative: bool, unit: i32, value: u128, c: &Control) -> Outcome {
    if value == 0 {
        return Outcome::exact(F80::zero(negative));
    }
    let shift = value.leading_zeros();
    round(negative, unit + 127 - shift as i32, value << shift, 64, c)
}

/// A finite operand as a result: in normal form, or tiny.
fn same(x: &Operand, c: &Control) -> Outcome {
    round(x.negative(), x.exp, u128::from(x.sig) << 64, 64, c)
}

/// a × 2^trunc(b)
pub fn scale(a: &Operand, b: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(a, b) {
        return nan;
    }
    let flags = a.de() | b.de();
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) if b.negative() => return Outcome::invalid(),
        (Class::Zero, Class::Infinity) if !b.negative() => return Outcome::invalid(),
        (_, Class::Infinity) if b.negative() => return Outcome::exact(F80::zero(a.negative())).with(flags),
        (_, Class::Infinity) => return Outcome::exact(F80::infinity(a.negative())).with(flags),
        (Class::Infinity | Class::Zero, _) => return Outcome::exact(a.raw).with(flags),
        (_, Class::Zero) => return same(a, c).with(flags),
        _ => {}
    }
    let magnitude = match b.exp {
        ..0 => 0,
        0..=17 => (b.sig >> (63 - b.exp)) as i32,
        // Out of range by itself.
        _ => 1 << 18,
    };
    let by = if b.negative() { -magnitude } else { magnitude };
    round(a.negative(), a.exp + by, u128::from(a.sig) << 64, 64, c).with(flags)
}

/// The exponent as a number, and the significand.
pub fn extract(x: &Operand) -> (Outcome, F80) {
    if let Some(nan) = nan(x) {
        return (nan, nan.value);
    }
    match x.class {
        Class::Zero => (Outcome::exact(F80::infinity(true)).with(ZE), x.raw),
        Class::Infinity => (Outcome::exact(F80::infinity(false)), x.raw),
        _ => {
            let exponent = Operand::from_int(i64::from(x.exp)).raw;
            let significand = F80::new(BIAS as u16, x.sig).with_sign(x.negative());
            (Outcome::exact(exponent).with(x.de()), significand)
        }
    }
}

/// Rounded to an integer.
pub fn round_to_integer(x: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan(x) {
        return nan;
    }
    if x.class != Class::Finite || x.exp >= 63 {
        return Outcome::exact(x.raw);
    }
    let Some(cut) = to_magnitude(x, c) else { return Outcome::exact(x.raw) };
    let flags = x.de() | if cut.inexact { PE } else { 0 };
    let shift = cut.sig.leading_zeros();
    let value = match cut.sig {
        0 => F80::ZERO,
        sig => F80::new((BIAS + 63 - shift as i32) as u16, sig << shift),
    };
    Outcome { value: value.with_sign(x.negative()), flags, up: cut.up }
}

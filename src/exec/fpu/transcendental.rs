//! The transcendental functions (SDM vol. 1, 8.3.7 to 8.3.11; vol. 2): FSIN, FCOS, FPTAN, FPATAN, F2XM1,
//! FYL2X, FYL2XP1.
//!
//! Each is computed by a power series in [`Wide`], to some 120 bits, and rounded once to 64 as RC says: the
//! result is within 0.5001 units in the last place of the exact one (the processors promise less than one).
//! Arguments of sine, cosine and tangent are reduced by the 66-bit π that Intel's processors use: near a
//! multiple of π the result is that of the argument so reduced.

use super::operand::{nan, nan_of_two};
use super::wide::Wide;
use super::{Class, Control, Operand, Outcome, round};
use crate::cpu::F80;
use crate::cpu::fpu::status::ZE;

/// π with 64 bits of fraction: the 66-bit constant of SDM vol. 1, 8.3.8.
const PI_66: u128 = 0x3_243f_6a88_85a3_08d3;

/// Rounds a result that cannot be exact.
fn inexact(w: Wide, c: &Control) -> Outcome {
    round(w.negative, w.exp, w.sig | 1, 64, c)
}

/// Rounds a result that may be exact.
fn finish(w: Wide, c: &Control) -> Outcome {
    if w.is_zero() {
        return Outcome::exact(F80::zero(w.negative));
    }
    round(w.negative, w.exp, w.sig, 64, c)
}

/// Sums `first`, and the terms that `next` makes of the one before, until they no longer count.
fn series(first: Wide, mut next: impl FnMut(Wide, u32) -> Wide) -> Wide {
    let (mut sum, mut term) = (first, first);
    for k in 1..200 {
        term = next(term, k);
        // The first that does not count still says on which side of the sum the exact value is.
        sum = sum.plus(term);
        if term.is_zero() || term.exp < sum.exp - 130 {
            break;
        }
    }
    sum
}

/// sin r, |r| ≤ π/4
fn sine(r: Wide) -> Wide {
    let square = r.times(r);
    series(r, |term, k| term.times(square).minus().over_int(2 * k * (2 * k + 1)))
}

/// cos r, |r| ≤ π/4
fn cosine(r: Wide) -> Wide {
    let square = r.times(r);
    series(Wide::ONE, |term, k| term.times(square).minus().over_int((2 * k - 1) * 2 * k))
}

/// |x| as a multiple of π/2 and a rest of at most π/4. `None` from 2^63 on.
fn reduce(x: &Operand) -> Option<(u32, Wide)> {
    match x.exp {
        63.. => None,
        ..-1 => Some((0, Wide::from(x).abs())),
        // In units of 2^-65, in which PI_66 is π/2.
        exp => {
            let value = u128::from(x.sig) << (exp + 2);
            let (quotient, rest) = (value / PI_66, value % PI_66);
            let (quotient, over) = (quotient as u32, rest * 2 > PI_66);
            Some(if over {
                (quotient.wrapping_add(1), Wide::new(true, PI_66 - rest, -65))
            } else {
                (quotient, Wide::new(false, rest, -65))
            })
        }
    }
}

fn sine_of(x: &Operand, (quadrant, r): (u32, Wide)) -> Wide {
    let w = if quadrant & 1 == 0 { sine(r) } else { cosine(r) };
    if (quadrant & 2 != 0) != x.negative() { w.minus() } else { w }
}

fn cosine_of((quadrant, r): (u32, Wide)) -> Wide {
    let w = if quadrant & 1 == 0 { cosine(r) } else { sine(r) };
    if quadrant.wrapping_add(1) & 2 != 0 { w.minus() } else { w }
}

/// What sine, cosine and tangent have in common: `None` if the operand is out of range (C2).
fn of_angle(x: &Operand, zero: F80, c: &Control, f: impl FnOnce((u32, Wide)) -> Wide) -> Option<Outcome> {
    if let Some(nan) = nan(x) {
        return Some(nan);
    }
    match x.class {
        Class::Infinity => Some(Outcome::invalid()),
        Class::Zero => Some(Outcome::exact(zero)),
        _ => reduce(x).map(|r| inexact(f(r), c).with(x.de())),
    }
}

/// sin x; `None` if |x| ≥ 2^63
pub fn sin(x: &Operand, c: &Control) -> Option<Outcome> {
    of_angle(x, x.raw, c, |r| sine_of(x, r))
}

/// cos x; `None` if |x| ≥ 2^63
pub fn cos(x: &Operand, c: &Control) -> Option<Outcome> {
    of_angle(x, F80::ONE, c, cosine_of)
}

/// tan x; `None` if |x| ≥ 2^63
pub fn tan(x: &Operand, c: &Control) -> Option<Outcome> {
    of_angle(x, x.raw, c, |r| sine_of(x, r).over(cosine_of(r)))
}

/// atan t, 0 ≤ t ≤ 1: atan t = 2 atan(t / (1 + √(1 + t²))), three times, then the series
fn arctangent(t: Wide) -> Wide {
    let halved = (0..3).fold(t, |t, _| t.over(Wide::ONE.plus(Wide::ONE.plus(t.times(t)).root())));
    let square = halved.times(halved).minus();
    let mut power = halved;
    let sum = series(halved, |_, k| {
        power = power.times(square);
        power.over_int(2 * k + 1)
    });
    sum.scaled(3)
}

/// The angle of the point (x, y): ST(0) is x, ST(1) is y.
pub fn atan(y: &Operand, x: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(x, y) {
        return nan;
    }
    let flags = x.de() | y.de();
    let quarter = Wide::PI.scaled(-2);
    let angle = match (y.class, x.class) {
        (Class::Infinity, Class::Infinity) if x.negative() => quarter.times(Wide::from_int(3)),
        (Class::Infinity, Class::Infinity) => quarter,
        (Class::Infinity, _) => quarter.scaled(1),
        (Class::Zero, _) | (_, Class::Infinity) if x.negative() => Wide::PI,
        (Class::Zero, _) | (_, Class::Infinity) => {
            return Outcome::exact(F80::zero(y.negative())).with(flags);
        }
        (_, Class::Zero) => quarter.scaled(1),
        _ => angle_of(Wide::from(y).abs(), Wide::from(x)),
    };
    inexact(Wide { negative: y.negative(), ..angle }, c).with(flags)
}

fn angle_of(y: Wide, x: Wide) -> Wide {
    let steep = y.cmp_abs(x).is_gt();
    let first = if steep { arctangent(x.abs().over(y)) } else { arctangent(y.over(x.abs())) };
    let half = Wide::PI.scaled(-1);
    match (steep, x.negative) {
        (false, false) => first,
        (false, true) => Wide::PI.plus(first.minus()),
        (true, false) => half.plus(first.minus()),
        (true, true) => half.plus(first),
    }
}

/// 2^x - 1 for |x| ≤ 1. Beyond that the manual leaves the result undefined: x stays.
pub fn exp2_minus_1(x: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan(x) {
        return nan;
    }
    match x.class {
        Class::Infinity if x.negative() => return Outcome::exact(F80::ONE.with_sign(true)),
        Class::Infinity | Class::Zero => return Outcome::exact(x.raw),
        _ if x.exp > 0 || x.exp == 0 && x.sig << 1 != 0 => return Outcome::exact(x.raw).with(x.de()),
        _ if x.exp == 0 && x.negative() => return Outcome::exact(F80::new(0xbffe, 1 << 63)),
        _ if x.exp == 0 => return Outcome::exact(F80::ONE),
        _ => {}
    }
    let power = Wide::from(x).times(Wide::LN_2);
    let sum = series(power, |term, k| term.times(power).over_int(k + 1));
    inexact(sum, c).with(x.de())
}

/// ln((1 + z) / (1 - z)) = 2 atanh z, for small z
fn twice_atanh(z: Wide) -> Wide {
    let square = z.times(z);
    let mut power = z;
    let sum = series(z, |_, k| {
        power = power.times(square);
        power.over_int(2 * k + 1)
    });
    sum.scaled(1)
}

/// log2 of a positive number.
fn log2(x: Wide) -> Wide {
    // Around 1: from √½ to √2, so that little cancels.
    let above = x.sig >> 64 > 0xb504_f333_f9de_6484;
    let exponent = x.exp + i32::from(above);
    let m = Wide { exp: if above { -1 } else { 0 }, ..x };
    let z = m.plus(Wide::ONE.minus()).over(m.plus(Wide::ONE));
    Wide::from_int(exponent).plus(twice_atanh(z).times(Wide::LOG2_E))
}

/// y × log2 x: ST(0) is x, ST(1) is y.
pub fn y_log2_x(y: &Operand, x: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(x, y) {
        return nan;
    }
    let flags = x.de() | y.de();
    let below_one = x.exp < 0 || x.is_zero();
    let one = x.raw == F80::ONE;
    let infinite = |negative: bool| Outcome::exact(F80::infinity(negative)).with(flags);
    match (y.class, x.class) {
        (_, Class::Zero) if y.is_zero() => return Outcome::invalid(),
        (Class::Infinity, Class::Zero) => return infinite(!y.negative()),
        (_, Class::Zero) => return Outcome::exact(F80::infinity(!y.negative())).with(ZE),
        _ if x.negative() => return Outcome::invalid(),
        (Class::Zero, Class::Infinity) => return Outcome::invalid(),
        (_, Class::Infinity) => return infinite(y.negative()),
        (Class::Infinity, _) if one => return Outcome::invalid(),
        (Class::Infinity, _) => return infinite(y.negative() != below_one),
        (Class::Zero, _) => {
            return Outcome::exact(F80::zero(y.negative() != (below_one && !one))).with(flags);
        }
        _ => {}
    }
    let log = log2(Wide::from(x));
    if log.is_zero() {
        return Outcome::exact(F80::zero(y.negative())).with(flags);
    }
    finish(log.times(Wide::from(y)), c).with(flags)
}

/// y × log2(x + 1): ST(0) is x, ST(1) is y. From -1 down the manual leaves the result undefined: x stays.
pub fn y_log2_x_plus_1(y: &Operand, x: &Operand, c: &Control) -> Outcome {
    if let Some(nan) = nan_of_two(x, y) {
        return nan;
    }
    let flags = x.de() | y.de();
    let negative = x.negative() != y.negative();
    match (y.class, x.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return Outcome::invalid(),
        (_, Class::Infinity) if x.negative() => return Outcome::invalid(),
        (_, Class::Infinity) => return Outcome::exact(F80::infinity(y.negative())).with(flags),
        (Class::Infinity, _) => return Outcome::exact(F80::infinity(negative)).with(flags),
        (Class::Zero, _) | (_, Class::Zero) => return Outcome::exact(F80::zero(negative)).with(flags),
        _ if x.negative() && x.exp >= 0 => return Outcome::exact(x.raw).with(flags),
        _ => {}
    }
    let w = Wide::from(x);
    // 1 + x = (1 + z) / (1 - z) with z = x / (2 + x); far from 0 the sum itself is exact enough.
    let log = if x.exp < -1 {
        twice_atanh(w.over(Wide::from_int(2).plus(w))).times(Wide::LOG2_E)
    } else {
        log2(Wide::ONE.plus(w))
    };
    finish(log.times(Wide::from(y)), c).with(flags)
}

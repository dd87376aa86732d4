//! Conversions to the memory formats: integers, packed decimals, single and double (SDM vol. 1, 4.9; vol. 2,
//! FIST, FBSTP, FST), and packed decimals from memory (FBLD).

use super::operand::{BIAS, nan};
use super::round::{Cut, Format, cut, round_to, shift_right_jam};
use super::{Class, Control, Operand, Outcome};
use crate::cpu::fpu::status::{IE, PE};

/// The magnitude of a finite number below 2^64, rounded to an integer. `None` if it is larger.
pub fn to_magnitude(x: &Operand, c: &Control) -> Option<Cut> {
    if x.exp > 63 {
        return None;
    }
    let sig = if x.is_zero() { 0 } else { u128::from(x.sig) << 64 };
    let fixed = shift_right_jam(sig, (63 - x.exp) as u32);
    Some(cut(fixed, 64, x.negative(), c.rounding))
}

fn rounded<T>(value: T, cut: &Cut) -> Outcome<T> {
    Outcome { value, flags: if cut.inexact { PE } else { 0 }, up: cut.up }
}

/// An integer of `bits` bits; what does not fit, and what is no number, is the integer indefinite: the least
/// one.
pub fn to_int(x: &Operand, bits: u32, c: &Control) -> Outcome<i64> {
    let least = i64::MIN >> (64 - bits);
    let invalid = Outcome::exact(least).with(IE);
    if x.is_nan() || x.is_infinite() {
        return invalid;
    }
    let Some(cut) = to_magnitude(x, c).filter(|cut| !cut.carry) else { return invalid };
    let value = if x.negative() { -i128::from(cut.sig) } else { i128::from(cut.sig) };
    match i64::try_from(value) {
        Ok(v) if v >= least && v <= !least => rounded(v, &cut),
        _ => invalid,
    }
}

/// 18 decimal digits and a sign; what does not fit is the packed decimal indefinite.
pub fn to_decimal(x: &Operand, c: &Control) -> Outcome<[u8; 10]> {
    let invalid = Outcome::exact([0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff]).with(IE);
    if x.is_nan() || x.is_infinite() {
        return invalid;
    }
    let fits = |cut: &Cut| !cut.carry && cut.sig < 1_000_000_000_000_000_000;
    let Some(cut) = to_magnitude(x, c).filter(fits) else { return invalid };
    let mut bytes = [0; 10];
    let mut rest = cut.sig;
    for b in &mut bytes[..9] {
        let (ones, tens) = (rest % 10, rest / 10 % 10);
        *b = (ones | tens << 4) as u8;
        rest /= 100;
    }
    bytes[9] = u8::from(x.negative()) << 7;
    rounded(bytes, &cut)
}

/// The value of a packed decimal. Digits above nine count as what they are, as the processors have it.
pub fn from_decimal(bytes: &[u8; 10]) -> Operand {
    let value =
        bytes[..9].iter().rev().fold(0u64, |v, b| v * 100 + u64::from(b >> 4) * 10 + u64::from(b & 15));
    let magnitude = Operand::from_int(value as i64);
    Operand::new(magnitude.raw.with_sign(bytes[9] >> 7 != 0))
}

/// The bits of a single-precision number.
pub fn to_single(x: &Operand, c: &Control) -> Outcome<u32> {
    let bits = to_real(x, &Format { precision: 24, bias: 127, max: 0xfe }, c);
    Outcome { value: bits.value as u32, flags: bits.flags, up: bits.up }
}

/// The bits of a double-precision number.
pub fn to_double(x: &Operand, c: &Control) -> Outcome<u64> {
    to_real(x, &Format { precision: 53, bias: 1023, max: 0x7fe }, c)
}

fn to_real(x: &Operand, f: &Format, c: &Control) -> Outcome<u64> {
    let pack = |negative: bool, biased: i32, sig: u64| {
        let fraction = (sig << 1) >> (65 - f.precision);
        let sign = u64::from(negative) << if f.precision == 24 { 31 } else { 63 };
        sign | (biased as u64) << (f.precision - 1) | fraction
    };
    if let Some(nan) = nan(x) {
        let v = nan.value;
        return Outcome::exact(pack(v.negative(), f.max + 1, v.significand)).with(nan.flags);
    }
    match x.class {
        Class::Zero => Outcome::exact(pack(x.negative(), 0, 0)),
        Class::Infinity => Outcome::exact(pack(x.negative(), f.max + 1, 0)),
        // A denormal of the double extended format is far below the least of these.
        _ => {
            debug_assert!(x.exp > -2 * BIAS);
            let r = round_to(x.negative(), x.exp, u128::from(x.sig) << 64, f, c);
            Outcome { value: pack(x.negative(), r.value.biased, r.value.sig), flags: r.flags, up: r.up }
        }
    }
}

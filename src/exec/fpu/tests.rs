//! The arithmetic against the host's single and double formats, whose operations IEEE 754 fixes to the last
//! bit, and properties that hold of any rounding. (The host's x87 judges every form in tests/host_oracle.)

use super::{Control, Operand, Outcome, Rounding, arith, convert, exponent, transcendental};
use crate::cpu::F80;
use crate::cpu::fpu::status::PE;
use proptest::prelude::*;

const MODES: [Rounding; 4] = [Rounding::Nearest, Rounding::Down, Rounding::Up, Rounding::Zero];

fn control(precision: u32, rounding: Rounding) -> Control {
    Control { precision, rounding, masks: 0x3f }
}

fn double(x: f64) -> Operand {
    Operand::from_double(x.to_bits())
}

/// A result in double precision: exact, if the operation was made with 53 bits and stays in range.
fn as_double(o: Outcome) -> u64 {
    convert::to_double(&Operand::new(o.value), &control(53, Rounding::Nearest)).value
}

/// Doubles whose sums, products and quotients stay in the normal range.
fn ordinary() -> impl Strategy<Value = f64> {
    (any::<u64>(), 1023u64 - 300..1023 + 300, any::<bool>()).prop_map(|(fraction, e, negative)| {
        f64::from_bits(u64::from(negative) << 63 | e << 52 | fraction >> 12)
    })
}

/// Anything that a register may hold.
fn any_bits() -> impl Strategy<Value = F80> {
    (any::<u16>(), any::<u64>()).prop_map(|(s, m)| F80::new(s, m))
}

/// A normal number.
fn normal() -> impl Strategy<Value = F80> {
    (1u16..0x7fff, any::<u64>(), any::<bool>())
        .prop_map(|(e, m, negative)| F80::new(e, m | 1 << 63).with_sign(negative))
}

proptest! {
    #[test]
    fn double_precision_is_the_hosts(a in ordinary(), b in ordinary()) {
        let c = control(53, Rounding::Nearest);
        let (x, y) = (double(a), double(b));
        prop_assert_eq!(as_double(arith::add(&x, &y, &c)), (a + b).to_bits());
        prop_assert_eq!(as_double(arith::sub(&x, &y, &c)), (a - b).to_bits());
        prop_assert_eq!(as_double(arith::mul(&x, &y, &c)), (a * b).to_bits());
        prop_assert_eq!(as_double(arith::div(&x, &y, &c)), (a / b).to_bits());
        prop_assert_eq!(as_double(arith::sqrt(&double(a.abs()), &c)), a.abs().sqrt().to_bits());
    }

    #[test]
    fn the_memory_formats_are_the_hosts(bits in any::<u64>()) {
        let c = control(64, Rounding::Nearest);
        let (x, o) = (f64::from_bits(bits), double(f64::from_bits(bits)));
        prop_assume!(!x.is_nan());
        prop_assert_eq!(convert::to_double(&o, &c).value, bits);
        prop_assert_eq!(convert::to_single(&o, &c).value, (x as f32).to_bits());
        let ordered = arith::compare(&o, &double(1.0), false).value;
        prop_assert_eq!(ordered, x.partial_cmp(&1.0));
    }

    #[test]
    fn integers_come_back(n in any::<i64>(), digits in 0u64..1_000_000_000_000_000_000) {
        let c = control(64, Rounding::Nearest);
        prop_assert_eq!(convert::to_int(&Operand::from_int(n), 64, &c), Outcome::exact(n));
        let packed = convert::to_decimal(&Operand::from_int(digits as i64), &c);
        prop_assert_eq!(convert::from_decimal(&packed.value).raw, Operand::from_int(digits as i64).raw);
    }

    #[test]
    fn directed_modes_enclose_the_exact_result(a in normal(), b in normal(), precision in 0usize..3) {
        let (x, y) = (Operand::new(a), Operand::new(b));
        for f in [arith::add, arith::mul, arith::div] {
            let [_, down, up, zero] =
                MODES.map(|mode| f(&x, &y, &control([24, 53, 64][precision], mode)));
            let order = arith::compare(&Operand::new(down.value), &Operand::new(up.value), true).value;
            let inexact = down.flags & PE != 0;
            prop_assert_eq!(order, Some(if inexact { std::cmp::Ordering::Less } else { std::cmp::Ordering::Equal }));
            prop_assert!(zero.value == down.value || zero.value == up.value);
            // C1 says which of the two went away from zero.
            prop_assert_eq!(up.up != down.up, inexact);
        }
    }

    #[test]
    fn a_partial_remainder_is_less_than_the_divisor_or_says_so(a in normal(), b in normal()) {
        let c = control(64, Rounding::Nearest);
        let y = Operand::new(b);
        let (mut x, mut steps) = (Operand::new(a), 0);
        loop {
            let r = exponent::remainder(&x, &y, false, &c);
            x = Operand::new(r.result.value);
            steps += 1;
            prop_assert!(steps <= 32768 / 32 + 1, "each step takes at least 32 bits off");
            if r.complete {
                break;
            }
        }
        let rest = Operand::new(x.raw.with_sign(false));
        let order = arith::compare(&rest, &Operand::new(b.with_sign(false)), true).value;
        prop_assert_eq!(order, Some(std::cmp::Ordering::Less));
    }

    #[test]
    fn nothing_panics_and_every_result_is_canonical(a in any_bits(), b in any_bits(), word in any::<u16>()) {
        let c = Control::new(word);
        let (x, y) = (Operand::new(a), Operand::new(b));
        let mut results = vec![
            arith::add(&x, &y, &c), arith::sub(&x, &y, &c), arith::mul(&x, &y, &c), arith::div(&x, &y, &c),
            arith::sqrt(&x, &c), exponent::scale(&x, &y, &c), exponent::round_to_integer(&x, &c),
            exponent::remainder(&x, &y, true, &c).result, exponent::extract(&x).0,
            transcendental::atan(&x, &y, &c), transcendental::exp2_minus_1(&x, &c),
            transcendental::y_log2_x(&x, &y, &c), transcendental::y_log2_x_plus_1(&x, &y, &c),
        ];
        results.extend(transcendental::sin(&x, &c));
        results.extend(transcendental::cos(&x, &c));
        results.extend(transcendental::tan(&x, &c));
        for r in results {
            let made = Operand::new(r.value);
            prop_assert!(made.class != super::Class::Unsupported && made.class != super::Class::Signalling);
        }
        convert::to_decimal(&x, &c);
        convert::to_single(&x, &c);
    }

    #[test]
    fn sine_and_cosine_lie_on_the_circle(bits in any::<u64>(), e in 0x3fff - 20u16..0x3fff + 40) {
        let c = control(64, Rounding::Nearest);
        let x = Operand::new(F80::new(e, bits | 1 << 63));
        let square = |o: Option<Outcome>| {
            let o = Operand::new(o.expect("in range").value);
            Operand::new(arith::mul(&o, &o, &c).value)
        };
        let sum = arith::add(&square(transcendental::sin(&x, &c)), &square(transcendental::cos(&x, &c)), &c).value;
        prop_assert!((0x3fff, 0) == (sum.sign_exp, sum.significand & !3 & !(1 << 63))
            || (0x3ffe, !0) == (sum.sign_exp, sum.significand | 7), "{sum:x?}");
    }
}

#[test]
fn known_values_of_the_transcendental_functions() {
    let c = control(64, Rounding::Nearest);
    let half = Operand::new(F80::new(0x3ffe, 1 << 63));
    let one = Operand::new(F80::ONE);
    let three = Operand::from_int(3);
    // π/4, log2 3, √2 - 1, sin 1, cos 1, tan 1, to 64 bits
    assert_eq!(transcendental::atan(&one, &one, &c).value, F80::new(0x3ffe, 0xc90f_daa2_2168_c235));
    assert_eq!(transcendental::y_log2_x(&one, &three, &c).value, F80::new(0x3fff, 0xcae0_0d1c_fdeb_43d0));
    assert_eq!(transcendental::exp2_minus_1(&half, &c).value, F80::new(0x3ffd, 0xd413_cccf_e779_9211));
    let at_one = [transcendental::sin, transcendental::cos, transcendental::tan].map(|f| f(&one, &c));
    let values = at_one.map(|o| o.expect("in range").value);
    assert_eq!(values[0], F80::new(0x3ffe, 0xd76a_a478_4867_7021));
    assert_eq!(values[1], F80::new(0x3ffe, 0x8a51_407d_a834_5c92));
    assert_eq!(values[2], F80::new(0x3fff, 0xc759_22e5_f71d_2dc5));
    let far = Operand::new(F80::new(0x3fff + 63, 1 << 63));
    assert!(transcendental::sin(&far, &c).is_none(), "2^63 is out of range");
}

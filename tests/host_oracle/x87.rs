//! The x87's forms: how its state and its operands are drawn, and how two states are compared. A state is FSAVE's image
//! in 32-bit protected mode, which needs no wait: unmasked exceptions are met, answered and compared without a trap.

use super::case::*;
use super::forms::Table;
use super::fsave::*;
use super::generate::Gen;
use super::models;
use super::rng::Rng;
use std::fmt::Write;

pub(super) fn quad(rng: &mut Rng) -> u64 {
    u64::from(rng.next()) << 32 | u64::from(rng.next())
}

/// A significand: any, or near where 24, 53 or 64 bits end or carry.
fn significand(rng: &mut Rng) -> u64 {
    let any = quad(rng);
    let end = [0, 11, 40][rng.below(3) as usize];
    let tail = (1u64 << end).wrapping_sub(1);
    let near = u64::from(rng.below(3)).wrapping_sub(1);
    let bits = match rng.below(8) {
        0 => 0,
        1 => !0,
        2 => any & !tail,
        3 => (any & !tail | 1 << end >> 1).wrapping_add(near),
        4 => (!tail | 1 << end >> 1).wrapping_add(near),
        5 => any << rng.below(64),
        _ => any,
    };
    bits | 1 << 63
}

/// A number of any class.
fn number(rng: &mut Rng) -> Extended {
    let sign = (rng.next() as u16) << 15;
    let s = significand(rng);
    let (exponent, s) = match rng.below(32) {
        0 | 1 => (0, 0),
        2 => (0, s >> (1 + rng.below(63))),
        3 => (0, s),
        4 => (rng.below(0x7fff) as u16, s << 1 >> 1),
        5 => (0x7fff, 1 << 63),
        6 => (0x7fff, s | 1 << 62),
        7 => (0x7fff, s & !(1 << 62) | u64::from(rng.next()) | 1),
        8 => (0x7fff, s << 1 >> (1 + rng.below(63))),
        9 | 10 => (0x7ffe - rng.below(70) as u16, s),
        11 | 12 => (1 + rng.below(70) as u16, s),
        13 => (rng.below(0x8000) as u16, s),
        14..18 => {
            let n = u64::from(1 + rng.next() % [8, 1000, u32::MAX][rng.below(3) as usize]);
            (0x3fff + 63 - n.leading_zeros() as u16, n << n.leading_zeros())
        }
        18 => (0x3fff, 1 << 63),
        19..22 => (0x3fff + 8 + rng.below(70) as u16, s),
        _ => (0x3fff - 70 + rng.below(140) as u16, s),
    };
    extended(sign | exponent, s)
}

/// A number of `bytes` bytes in memory: bits with all classes of the single, double and extended formats.
fn real(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let sign = u64::from(rng.next() & 1);
    match bytes {
        4 | 8 => {
            let (exponent, fraction) = if bytes == 4 { (8, 23) } else { (11, 52) };
            let (bias, max) = ((1u64 << (exponent - 1)) - 1, (1u64 << exponent) - 1);
            let e = match rng.below(8) {
                0 => 0,
                1 => max,
                2 => 1 + u64::from(rng.below(30)),
                3 => max - 1 - u64::from(rng.below(30)),
                4 => u64::from(rng.next()) & max,
                _ => bias - 30 + u64::from(rng.below(60)),
            };
            let f = if rng.one_in(6) { 0 } else { significand(rng) << 1 >> (64 - fraction) };
            (sign << (exponent + fraction) | e << fraction | f).to_le_bytes()[..bytes].to_vec()
        }
        _ => number(rng).to_vec(),
    }
}

/// An integer of `bytes` bytes.
fn integer(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let any = quad(rng);
    let value = match rng.below(4) {
        0 => u64::from(rng.value()),
        1 => (any as i64 >> rng.below(64)) as u64,
        2 => 1u64 << rng.below(64),
        _ => any,
    };
    value.to_le_bytes()[..bytes].to_vec()
}

/// A packed decimal of proper digits.
fn decimal(rng: &mut Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..10).map(|_| (rng.below(10) | rng.below(10) << 4) as u8).collect();
    let zeros = rng.below(10) as usize;
    bytes[9 - zeros..].fill(0);
    bytes[9] = (rng.next() & 0x80) as u8;
    bytes
}

/// What the x87 holds before an instruction.
pub(super) fn state(rng: &mut Rng) -> Vec<u8> {
    let mut image = vec![0; SIZE];
    let masks = if rng.one_in(3) { rng.next() as u16 & 0x3f } else { 0x3f };
    let precision = [0, 2, 3, 3, 3, 1][rng.below(6) as usize] << 8;
    let control = 0x40 | masks | precision | (rng.next() as u16 & 0xc00);
    let flags = rng.next() as u16 & if rng.one_in(24) { 0x7f } else { masks | 0x40 };
    let flags = if rng.one_in(2) { 0 } else { flags };
    let status = flags | rng.next() as u16 & 0x7f00;
    let tags = (0..8).filter(|_| rng.one_in(12)).fold(0u16, |tags, n| tags | 3 << (2 * n));
    set_word(&mut image, CONTROL, control);
    set_word(&mut image, STATUS_WORD, status);
    set_word(&mut image, TAGS, tags);
    image[FIP..FIP + 4].copy_from_slice(&rng.next().to_le_bytes());
    image[FOP..FOP + 2].copy_from_slice(&(rng.next() as u16 & 0x7ff).to_le_bytes());
    image[FDP..FDP + 4].copy_from_slice(&rng.next().to_le_bytes());
    for i in 0..8 {
        put(&mut image, i, number(rng));
    }
    if rng.one_in(3) {
        relate(rng, &mut image);
    }
    image
}

/// Makes the first two registers near each other.
fn relate(rng: &mut Rng, image: &mut [u8]) {
    let (sign_exp, s) = parts(&image[REGISTERS..REGISTERS + 10]);
    let sign = (rng.next() as u16) << 15;
    let exponent = sign_exp.wrapping_add(rng.below(5) as u16).wrapping_sub(2);
    let s = if rng.one_in(2) { s ^ 1 << rng.below(64) } else { s };
    put(image, 1, extended(exponent ^ sign, s));
}

/// Empties the register that a push takes.
fn make_room(image: &mut [u8]) {
    let top = image[STATUS_WORD + 1] >> 3 & 7;
    let n = u32::from(top.wrapping_sub(1) & 7);
    let tags = word(image, TAGS) | 3 << (2 * n);
    set_word(image, TAGS, tags);
}

/// Draws the state; three times in four there is room for a push.
fn begin(g: &mut Gen) {
    g.case.fpu = state(g.rng);
    if !g.rng.one_in(4) {
        make_room(&mut g.case.fpu);
    }
}

/// Where the manual leaves a bit open, or AMD's processors are known to differ from what it says.
fn host_difference(g: &mut Gen, name: &str) {
    let starts = |names: &[&str]| names.iter().any(|n| name.starts_with(n));
    let case = &mut g.case;
    // SDM vol. 2, FCOM: codes are not set if the invalid operation is not masked. AMD sets them.
    if starts(&["FCOM", "FUCOM", "FTST", "FICOM"]) {
        case.fpu_undefined_pending |= CODES;
    }
    // SDM vol. 2, FCOMI: C1 is cleared, and the flags are not set if the invalid operation is not masked. AMD leaves
    // the one and sets the others.
    if starts(&["FCOMI", "FUCOMI"]) {
        case.fpu_undefined |= C1;
        case.undefined_pending = STATUS;
    }
    // SDM vol. 1, 8.5.6 does not say whether an exact logarithm is inexact: AMD says it is, we do not.
    let (_, significand) = parts(&case.fpu[REGISTERS..REGISTERS + 10]);
    if name == "FYL2X" && significand.is_power_of_two() {
        case.fpu_undefined |= PE | UE | ES_B;
    }
}

/// All forms in one code size.
pub(super) fn forms(t: &mut Table) {
    registers(t);
    memory(t);
    transcendental(t);
    environments(t);
}

/// Forms without a memory operand, by opcode byte and ModRM; `i` for eight of ST(i).
#[rustfmt::skip]
const REGISTER_FORMS: &[(&str, u8, u8, bool)] = &[
    ("FADD st0,i", 0xd8, 0xc0, true), ("FMUL st0,i", 0xd8, 0xc8, true), ("FCOM st0,i", 0xd8, 0xd0, true),
    ("FCOMP st0,i", 0xd8, 0xd8, true), ("FSUB st0,i", 0xd8, 0xe0, true), ("FSUBR st0,i", 0xd8, 0xe8, true),
    ("FDIV st0,i", 0xd8, 0xf0, true), ("FDIVR st0,i", 0xd8, 0xf8, true),
    ("FADD i,st0", 0xdc, 0xc0, true), ("FMUL i,st0", 0xdc, 0xc8, true), ("FCOM2 i", 0xdc, 0xd0, true),
    ("FCOMP3 i", 0xdc, 0xd8, true), ("FSUBR i,st0", 0xdc, 0xe0, true), ("FSUB i,st0", 0xdc, 0xe8, true),
    ("FDIVR i,st0", 0xdc, 0xf0, true), ("FDIV i,st0", 0xdc, 0xf8, true),
    ("FADDP i,st0", 0xde, 0xc0, true), ("FMULP i,st0", 0xde, 0xc8, true), ("FCOMP5 i", 0xde, 0xd0, true),
    ("FCOMPP", 0xde, 0xd9, false), ("FSUBRP i,st0", 0xde, 0xe0, true), ("FSUBP i,st0", 0xde, 0xe8, true),
    ("FDIVRP i,st0", 0xde, 0xf0, true), ("FDIVP i,st0", 0xde, 0xf8, true),
    ("FCMOVB st0,i", 0xda, 0xc0, true), ("FCMOVE st0,i", 0xda, 0xc8, true), ("FCMOVBE st0,i", 0xda, 0xd0, true),
    ("FCMOVU st0,i", 0xda, 0xd8, true), ("FUCOMPP", 0xda, 0xe9, false),
    ("FCMOVNB st0,i", 0xdb, 0xc0, true), ("FCMOVNE st0,i", 0xdb, 0xc8, true),
    ("FCMOVNBE st0,i", 0xdb, 0xd0, true), ("FCMOVNU st0,i", 0xdb, 0xd8, true),
    ("FUCOMI st0,i", 0xdb, 0xe8, true), ("FCOMI st0,i", 0xdb, 0xf0, true),
    ("FFREE i", 0xdd, 0xc0, true), ("FXCH4 i", 0xdd, 0xc8, true), ("FST i", 0xdd, 0xd0, true),
    ("FSTP i", 0xdd, 0xd8, true), ("FUCOM i", 0xdd, 0xe0, true), ("FUCOMP i", 0xdd, 0xe8, true),
    ("FFREEP i", 0xdf, 0xc0, true), ("FXCH7 i", 0xdf, 0xc8, true), ("FSTP8 i", 0xdf, 0xd0, true),
    ("FSTP9 i", 0xdf, 0xd8, true), ("FNSTSW ax", 0xdf, 0xe0, false), ("FUCOMIP st0,i", 0xdf, 0xe8, true),
    ("FCOMIP st0,i", 0xdf, 0xf0, true),
    ("FLD i", 0xd9, 0xc0, true), ("FXCH i", 0xd9, 0xc8, true), ("FNOP", 0xd9, 0xd0, false),
    ("FCHS", 0xd9, 0xe0, false), ("FABS", 0xd9, 0xe1, false), ("FTST", 0xd9, 0xe4, false),
    ("FXAM", 0xd9, 0xe5, false), ("FLD1", 0xd9, 0xe8, false), ("FLDL2T", 0xd9, 0xe9, false),
    ("FLDL2E", 0xd9, 0xea, false), ("FLDPI", 0xd9, 0xeb, false), ("FLDLG2", 0xd9, 0xec, false),
    ("FLDLN2", 0xd9, 0xed, false), ("FLDZ", 0xd9, 0xee, false), ("FXTRACT", 0xd9, 0xf4, false),
    ("FPREM1", 0xd9, 0xf5, false), ("FDECSTP", 0xd9, 0xf6, false), ("FINCSTP", 0xd9, 0xf7, false),
    ("FPREM", 0xd9, 0xf8, false), ("FSQRT", 0xd9, 0xfa, false), ("FRNDINT", 0xd9, 0xfc, false),
    ("FSCALE", 0xd9, 0xfd, false), ("FNCLEX", 0xdb, 0xe2, false), ("FNINIT", 0xdb, 0xe3, false),
    ("FNENI", 0xdb, 0xe0, false), ("FNDISI", 0xdb, 0xe1, false), ("FNSETPM", 0xdb, 0xe4, false),
];

fn registers(t: &mut Table) {
    for &(name, opcode, modrm, any) in REGISTER_FORMS {
        t.add(name, 8, move |g| {
            begin(g);
            host_difference(g, name);
            let i = if any { g.rng.below(8) as u8 } else { 0 };
            g.op(false, &[opcode, modrm | i]);
        });
    }
    t.add("WAIT", 8, |g| {
        begin(g);
        g.op(false, &[0x9b]);
    });
}

/// What a memory operand is before the instruction.
#[derive(Clone, Copy)]
enum Operand {
    Real,
    Integer,
    Decimal,
    /// Only written.
    Target,
}

/// Forms with a memory operand: opcode, ModRM's digit, bytes, contents.
#[rustfmt::skip]
const MEMORY_FORMS: &[(&str, u8, u8, usize, Operand)] = &[
    ("FLD m32", 0xd9, 0, 4, Operand::Real), ("FLD m64", 0xdd, 0, 8, Operand::Real),
    ("FLD m80", 0xdb, 5, 10, Operand::Real), ("FILD m16", 0xdf, 0, 2, Operand::Integer),
    ("FILD m32", 0xdb, 0, 4, Operand::Integer), ("FILD m64", 0xdf, 5, 8, Operand::Integer),
    ("FBLD", 0xdf, 4, 10, Operand::Decimal),
    ("FST m32", 0xd9, 2, 4, Operand::Target), ("FSTP m32", 0xd9, 3, 4, Operand::Target),
    ("FST m64", 0xdd, 2, 8, Operand::Target), ("FSTP m64", 0xdd, 3, 8, Operand::Target),
    ("FSTP m80", 0xdb, 7, 10, Operand::Target), ("FIST m16", 0xdf, 2, 2, Operand::Target),
    ("FISTP m16", 0xdf, 3, 2, Operand::Target), ("FIST m32", 0xdb, 2, 4, Operand::Target),
    ("FISTP m32", 0xdb, 3, 4, Operand::Target), ("FISTP m64", 0xdf, 7, 8, Operand::Target),
    ("FBSTP", 0xdf, 6, 10, Operand::Target), ("FNSTCW", 0xd9, 7, 2, Operand::Target),
    ("FNSTSW m16", 0xdd, 7, 2, Operand::Target), ("FLDCW", 0xd9, 5, 2, Operand::Integer),
];

const ARITHMETIC: [&str; 8] = ["FADD", "FMUL", "FCOM", "FCOMP", "FSUB", "FSUBR", "FDIV", "FDIVR"];

fn memory(t: &mut Table) {
    for &(name, opcode, digit, bytes, operand) in MEMORY_FORMS {
        memory_form(t, name, (opcode, digit), bytes, operand);
    }
    for (digit, name) in ARITHMETIC.iter().enumerate() {
        let digit = digit as u8;
        let (real, integer) = (Operand::Real, Operand::Integer);
        memory_form(t, &format!("{name} m32"), (0xd8, digit), 4, real);
        memory_form(t, &format!("{name} m64"), (0xdc, digit), 8, real);
        memory_form(t, &format!("{name} m32int"), (0xda, digit), 4, integer);
        memory_form(t, &format!("{name} m16int"), (0xde, digit), 2, integer);
    }
}

fn memory_form(t: &mut Table, name: &str, (opcode, digit): (u8, u8), bytes: usize, operand: Operand) {
    let owned = name.to_owned();
    t.add(name, 8, move |g| {
        begin(g);
        host_difference(g, &owned);
        g.len = bytes as u32;
        g.op(true, &[opcode]);
        let at = g.rm_mem(digit);
        let contents = match operand {
            Operand::Real => real(g.rng, bytes),
            Operand::Integer => integer(g.rng, bytes),
            Operand::Decimal => decimal(g.rng),
            Operand::Target => return,
        };
        g.fill(at, &contents);
    });
}

/// The bound on the difference from the host's results: what Intel and AMD promise is less than one unit, and ours is
/// within half a unit.
const ULPS: u64 = 1;

/// A number in ±2^-70..2^`top`, or of any class.
fn within(rng: &mut Rng, top: u32) -> Extended {
    if rng.one_in(4) {
        let any = number(rng);
        let (sign_exp, _) = parts(&any);
        if sign_exp & 0x7fff < (0x3fff + top) as u16 || sign_exp & 0x7fff == 0x7fff {
            return any;
        }
    }
    let sign = (rng.next() as u16) << 15;
    extended(sign | (0x3fff + top - 1 - rng.below(70)) as u16, significand(rng))
}

#[rustfmt::skip]
fn transcendental(t: &mut Table) {
    // With the exponent below which the first operand stays: what lies above it is undefined.
    for (name, modrm, top) in [
        ("F2XM1", 0xf0u8, 0), ("FYL2X", 0xf1, 0x3fff), ("FPTAN", 0xf2, 70), ("FPATAN", 0xf3, 0x3fff), ("FYL2XP1", 0xf9, -2),
        ("FSINCOS", 0xfb, 70), ("FSIN", 0xfe, 70), ("FCOS", 0xff, 70),
    ] {
        t.add(name, 8, move |g| {
            begin(g);
            g.case.ulps = ULPS;
            g.case.fpu_undefined = C1;
            host_difference(g, name);
            if top < 0x3fff {
                let x = within_signed(g.rng, top);
                put(&mut g.case.fpu, 0, x);
            }
            g.op(false, &[0xd9, modrm]);
        });
    }
}

fn within_signed(rng: &mut Rng, top: i32) -> Extended {
    let x = within(rng, 0);
    let (sign_exp, s) = parts(&x);
    if sign_exp & 0x7fff == 0x7fff || sign_exp & 0x7fff == 0 {
        return x;
    }
    let exponent = i32::from(sign_exp & 0x7fff) + top;
    extended(sign_exp & 0x8000 | exponent.max(1) as u16, s)
}

/// FLDENV, FNSTENV, FRSTOR, FNSAVE in both operand sizes.
fn environments(t: &mut Table) {
    for size in [16, 32] {
        for (name, opcode, digit, words, registers) in [
            ("FLDENV", 0xd9u8, 4, 7, 0),
            ("FNSTENV", 0xd9, 6, 7, 0),
            ("FRSTOR", 0xdd, 4, 7, 80),
            ("FNSAVE", 0xdd, 6, 7, 80),
        ] {
            t.add(name, size, move |g| {
                begin(g);
                g.len = words * size / 8 + registers;
                g.op(true, &[opcode]);
                // Within a page: which byte beyond its end is missed first is the processor's choice.
                let at = [DATA.start, DATA.start, DATA.start, READ_ONLY.start, 0x1000]
                    [g.rng.below(5) as usize]
                    + 0x100
                    + g.rng.below(0xe00);
                g.window(at - 8, at + g.len + 8);
                g.rm_mem_at(digit, at);
                let regs: Vec<u8> = (0..registers / 10).flat_map(|_| number(g.rng)).collect();
                g.fill(at + words * size / 8, &regs);
            });
        }
    }
}

/// Whether two states agree, and by how much registers differ. Selectors are left out: a 64-bit kernel saves none. AMD's
/// processors forget the other pointers, too, when the kernel saves and loads the state after a fault, unless an
/// exception is pending: a zero there is not compared. Newer ones of Intel's note some of them only when an exception is unmasked
/// (SDM vol. 1, 8.1.8 and 8.1.9): what they left as it was is not compared either.
pub(super) fn compare(case: &Case, host: &[u8], ours: &[u8]) -> (bool, u64) {
    if host.len() != ours.len() || host.len() < SIZE {
        return (host == ours, 0);
    }
    let undefined = case.fpu_undefined | if pending(host) { case.fpu_undefined_pending } else { 0 };
    let status = (word(host, STATUS_WORD) ^ word(ours, STATUS_WORD)) & !undefined;
    let pointer = |range: std::ops::Range<usize>| {
        let kept = models::host().keeps_pointers && host[range.clone()] == case.fpu[range.clone()];
        kept || host[range.clone()] == ours[range.clone()] || host[range].iter().all(|&byte| byte == 0)
    };
    let mut same = status == 0 && pointer(FIP..FIP + 4) && pointer(FOP..FOP + 2) && pointer(FDP..FDP + 4);
    same &= [CONTROL, TAGS].iter().all(|&at| word(host, at) == word(ours, at));
    let mut worst = 0;
    for i in 0..8 {
        worst = worst.max(distance(register(host, i), register(ours, i)));
    }
    (same && worst <= case.ulps, worst)
}

/// How far two numbers are apart, in units in the last place; numbers of other sign or class are far.
fn distance(a: &[u8], b: &[u8]) -> u64 {
    let (x, y) = (parts(a), parts(b));
    if x.0 == y.0 {
        return x.1.abs_diff(y.1);
    }
    // The next binade goes on where this one ends.
    let (low, high) = if x.0 & 0x7fff < y.0 & 0x7fff { (x, y) } else { (y, x) };
    if low.0.wrapping_add(1) != high.0 || high.1 >> 63 == 0 {
        return u64::MAX;
    }
    let rest = if low.0 & 0x7fff == 0 { (1u64 << 63).wrapping_sub(low.1) } else { low.1.wrapping_neg() };
    rest.saturating_add(high.1 - (1 << 63))
}

/// A state as text: all of it, or what differs from `other`.
pub(super) fn describe(image: &[u8], other: &[u8]) -> String {
    let mut text = String::new();
    if image.len() < SIZE {
        return text;
    }
    let differs = |from: usize, to: usize| other.get(from..to) != Some(&image[from..to]);
    for (name, at, bytes) in [
        ("cw", CONTROL, 2),
        ("sw", STATUS_WORD, 2),
        ("tw", TAGS, 2),
        ("fip", FIP, 4),
        ("fop", FOP, 2),
        ("fdp", FDP, 4),
    ] {
        if differs(at, at + bytes) {
            let value = image[at..at + bytes].iter().rev().fold(0u32, |v, b| v << 8 | u32::from(*b));
            let _ = write!(text, " {name}={value:x}");
        }
    }
    for i in 0..8 {
        let at = REGISTERS + 10 * i;
        if differs(at, at + 10) {
            let (sign_exp, significand) = parts(&image[at..at + 10]);
            let _ = write!(text, " st{i}={sign_exp:04x}:{significand:016x}");
        }
    }
    text
}

//! MMX's forms: packed operands drawn element by element, on a state of the x87 as `x87` draws it.

use super::forms::Table;
use super::fsave::{REGISTERS, extended, put};
use super::generate::Gen;
use super::rng::Rng;
use super::x87::{quad, state};

/// A packed operand: elements of one width at and near the bounds, or any bits.
fn packed(rng: &mut Rng) -> u64 {
    let bits = [8u32, 16, 32, 64][rng.below(4) as usize];
    if rng.one_in(8) {
        return quad(rng);
    }
    let mask = !0u64 >> (64 - bits);
    (0..64 / bits).fold(0, |x, n| {
        let any = quad(rng);
        let top = 1u64 << (bits - 1);
        let element = match rng.below(10) {
            0 => 0,
            1 => !0,
            2 => top,
            3 => top - 1,
            4 => 1,
            5 => top + (any & 3),
            6 => any & 0xf,
            7 => (u64::from(bits) >> (any & 3)).wrapping_add((any >> 8) % 3).wrapping_sub(1),
            _ => any,
        };
        x | (element & mask) << (bits * n)
    })
}

/// A count of a shift: mostly one that leaves something.
fn count(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => quad(rng),
        1 => 1 << rng.below(64),
        2 => u64::from(rng.below(256)),
        _ => u64::from(rng.below(70)),
    }
}

/// Draws the state: the x87's own, and packed operands in most of its registers.
fn begin(g: &mut Gen) {
    g.case.fpu = state(g.rng);
    for i in 0..8 {
        if !g.rng.one_in(8) {
            let (sign_exp, value) = (g.rng.next() as u16, packed(g.rng));
            put(&mut g.case.fpu, i, extended(sign_exp, value));
        }
    }
    // Equal operands, for comparisons.
    if g.rng.one_in(4) {
        let (from, to) = (REGISTERS + 10 * g.rng.below(8) as usize, g.rng.below(8) as usize);
        let mut value = [0; 10];
        value.copy_from_slice(&g.case.fpu[from..from + 10]);
        put(&mut g.case.fpu, to, value);
    }
}

/// `MNEMONIC mm, mm/m64`: name and opcode byte behind 0F.
#[rustfmt::skip]
const BINARY: &[(&str, u8)] = &[
    ("MOVQ mm,", 0x6f),
    ("PADDB", 0xfc), ("PADDW", 0xfd), ("PADDD", 0xfe), ("PADDSB", 0xec), ("PADDSW", 0xed), ("PADDUSB", 0xdc),
    ("PADDUSW", 0xdd), ("PSUBB", 0xf8), ("PSUBW", 0xf9), ("PSUBD", 0xfa), ("PSUBSB", 0xe8), ("PSUBSW", 0xe9),
    ("PSUBUSB", 0xd8), ("PSUBUSW", 0xd9), ("PMULLW", 0xd5), ("PMULHW", 0xe5), ("PMADDWD", 0xf5),
    ("PCMPEQB", 0x74), ("PCMPEQW", 0x75), ("PCMPEQD", 0x76), ("PCMPGTB", 0x64), ("PCMPGTW", 0x65),
    ("PCMPGTD", 0x66), ("PACKSSWB", 0x63), ("PACKSSDW", 0x6b), ("PACKUSWB", 0x67), ("PUNPCKHBW", 0x68),
    ("PUNPCKHWD", 0x69), ("PUNPCKHDQ", 0x6a), ("PAND", 0xdb), ("PANDN", 0xdf), ("POR", 0xeb), ("PXOR", 0xef),
];

/// `MNEMONIC mm, mm/m32`.
const LOW: &[(&str, u8)] = &[("PUNPCKLBW", 0x60), ("PUNPCKLWD", 0x61), ("PUNPCKLDQ", 0x62)];

/// Shifts: by a packed operand, and the opcode byte and ModRM digit of those by an immediate.
#[rustfmt::skip]
const SHIFTS: &[(&str, u8, u8, u8)] = &[
    ("PSLLW", 0xf1, 0x71, 6), ("PSLLD", 0xf2, 0x72, 6), ("PSLLQ", 0xf3, 0x73, 6), ("PSRLW", 0xd1, 0x71, 2),
    ("PSRLD", 0xd2, 0x72, 2), ("PSRLQ", 0xd3, 0x73, 2), ("PSRAW", 0xe1, 0x71, 4), ("PSRAD", 0xe2, 0x72, 4),
];

/// All forms in one code size.
pub(super) fn forms(t: &mut Table) {
    for &(name, opcode) in BINARY {
        form(t, name, opcode, 8, packed);
    }
    for &(name, opcode) in LOW {
        form(t, name, opcode, 4, packed);
    }
    for &(name, opcode, immediate, digit) in SHIFTS {
        form(t, name, opcode, 8, count);
        t.add(&format!("{name} mm,imm8"), MM, move |g| {
            begin(g);
            g.op(false, &[0x0f, immediate]);
            g.rm_reg(digit);
            let value = count(g.rng) as u8;
            g.emit(&[value]);
        });
    }
    form(t, "MOVD mm,", 0x6e, 4, packed);
    store(t, "MOVD", 0x7e, 4);
    store(t, "MOVQ", 0x7f, 8);
    t.add("EMMS", MM, |g| {
        begin(g);
        g.op(false, &[0x0f, 0x77]);
    });
}

/// The operand size: 64 bits whatever the code segment. The prefix 66 would make another instruction of it.
const MM: u32 = 64;

/// Register and memory forms; `draw` draws the second operand.
fn form(t: &mut Table, name: &str, opcode: u8, bytes: u32, draw: fn(&mut Rng) -> u64) {
    t.add(&format!("{name} mm/r32"), MM, move |g| {
        begin(g);
        let value = draw(g.rng);
        g.op(false, &[0x0f, opcode]);
        let reg = g.any_reg();
        let rm = g.rm_reg(reg);
        // MMn lies in physical register n; the image begins with ST(0).
        let (top, sign_exp) = (usize::from(g.case.fpu[5] >> 3 & 7), g.rng.next() as u16);
        if rm != usize::from(reg) || g.rng.one_in(2) {
            put(&mut g.case.fpu, rm.wrapping_sub(top) & 7, extended(sign_exp, value));
        }
    });
    t.add(&format!("{name} mem"), MM, move |g| {
        begin(g);
        g.len = bytes;
        g.op(true, &[0x0f, opcode]);
        let reg = g.any_reg();
        let at = g.rm_mem(reg);
        let value = draw(g.rng).to_le_bytes();
        g.fill(at, &value[..bytes as usize]);
    });
}

/// Moves out of an MMX register.
fn store(t: &mut Table, name: &str, opcode: u8, bytes: u32) {
    t.add(&format!("{name} mm/r32,mm"), MM, move |g| {
        begin(g);
        g.op(false, &[0x0f, opcode]);
        let reg = g.any_reg();
        g.rm_reg(reg);
    });
    t.add(&format!("{name} mem,mm"), MM, move |g| {
        begin(g);
        g.len = bytes;
        g.op(true, &[0x0f, opcode]);
        let reg = g.any_reg();
        g.rm_mem(reg);
    });
}

//! What CPUID says: exactly what is built (SDM vol. 2, CPUID).
//!
//! The signature is that of family 6, model 3, stepping 3: the first one that software takes SYSENTER from
//! (SDM vol. 2, SYSENTER: before signature 633H the SEP bit is not to be believed). The feature bits are
//! those of a Pentium II of this board: no MTRR, no PAT, no machine check; FXSAVE, which came with the next
//! signature, is there because kernels save by it.

use crate::cpu::Features;
use crate::cpu::control::SIGNATURE;

/// Feature bits in EDX of leaf 1.
#[allow(missing_docs, reason = "the manual's names")]
pub mod feature {
    pub const FPU: u32 = 1 << 0;
    pub const DE: u32 = 1 << 2;
    pub const PSE: u32 = 1 << 3;
    pub const TSC: u32 = 1 << 4;
    pub const MSR: u32 = 1 << 5;
    /// Page tables of 64-bit entries.
    pub const PAE: u32 = 1 << 6;
    pub const CX8: u32 = 1 << 8;
    /// The local APIC, while IA32_APIC_BASE enables it.
    pub const APIC: u32 = 1 << 9;
    pub const SEP: u32 = 1 << 11;
    pub const PGE: u32 = 1 << 13;
    pub const CMOV: u32 = 1 << 15;
    pub const MMX: u32 = 1 << 23;
    pub const FXSR: u32 = 1 << 24;
}

const FEATURES: u32 = feature::FPU
    | feature::DE
    | feature::PSE
    | feature::TSC
    | feature::MSR
    | feature::PAE
    | feature::CX8
    | feature::SEP
    | feature::PGE
    | feature::CMOV
    | feature::MMX
    | feature::FXSR;

/// UMIP in ECX of leaf 7.
const UMIP: u32 = 1 << 2;

/// EAX, EBX, ECX, EDX for leaf `eax`, with the feature bits `more`. Leaves beyond the highest give the
/// highest one's data, as Intel's processors do. Leaf 7 is there for what only it reports; between it and
/// leaf 1 nothing is.
pub fn leaf(eax: u32, features: Features, more: u32) -> [u32; 4] {
    let highest = if features.umip { 7 } else { 1 };
    if (EXTENDED..=ADDRESS_SIZES).contains(&eax) {
        return extended(eax);
    }
    match if eax == 0 { 0 } else { eax.min(highest) } {
        0 => [highest, word(b"Genu"), word(b"ntel"), word(b"ineI")],
        1 => [SIGNATURE, 0, 0, FEATURES | more],
        7 => [0, 0, UMIP, 0],
        _ => [0; 4],
    }
}

/// The first extended leaf, and the last one.
const EXTENDED: u32 = 0x8000_0000;
const ADDRESS_SIZES: u32 = 0x8000_0008;

/// The processor's name, in leaves 80000002h to 80000004h: whoever finds leaves beyond these believes it.
const NAME: &[u8; 48] = b"Pentium II (Klamath)\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const NAME_FIRST: u32 = 0x8000_0002;
const NAME_LAST: u32 = 0x8000_0004;

/// A Pentium II has no extended leaves, and 36 bits of physical address with PAE. This one has 32, like its
/// buses, and so has to say so: the last leaf is there for it; those before it report a name and nothing else
/// (no execute-disable).
fn extended(eax: u32) -> [u32; 4] {
    match eax {
        EXTENDED => [ADDRESS_SIZES, 0, 0, 0],
        ADDRESS_SIZES => [0x2020, 0, 0, 0],
        NAME_FIRST..=NAME_LAST => {
            let at = (eax - NAME_FIRST) as usize * 16;
            [0, 4, 8, 12].map(|n| {
                let four = &NAME[at + n..at + n + 4];
                word(&[four[0], four[1], four[2], four[3]])
            })
        }
        _ => [0; 4],
    }
}

fn word(s: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*s)
}

//! What CPUID says: exactly what is built (SDM vol. 2, CPUID).
//!
//! Every model has the feature bits of a Pentium II of this board, without machine checks and MTRRs, and only the
//! later models VME and PAT; and FXSAVE, which came with the next signature, because kernels save by it.

use crate::cpu::control::{APIC_ENABLE, MISC_LIMIT_CPUID};
use crate::cpu::{Cpu, Features};

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

/// VME in EDX of leaf 1.
const VME: u32 = 1 << 1;
/// PAT in EDX of leaf 1.
const PAT: u32 = 1 << 16;
/// VMX in ECX of leaf 1.
const VMX: u32 = 1 << 5;
/// UMIP in ECX of leaf 7.
const UMIP: u32 = 1 << 2;
/// Execute-disable in EDX of leaf 80000001h.
const NX: u32 = 1 << 20;

/// The highest basic leaf: the last with something in it. Leaf 7 is there for what only it reports.
fn highest(cpu: &Cpu) -> u32 {
    let highest = if cpu.features.contains(Features::UMIP) { 7 } else { 1 };
    if cpu.msrs.misc_enable & MISC_LIMIT_CPUID != 0 { highest.min(3) } else { highest }
}

/// EAX, EBX, ECX, EDX of `cpu` for leaf `eax`. Leaves beyond the highest give the highest one's data, as Intel's
/// processors do.
pub fn leaf(cpu: &Cpu, eax: u32) -> [u32; 4] {
    if (EXTENDED..=ADDRESS_SIZES).contains(&eax) {
        return extended(cpu, eax);
    }
    let features = cpu.features;
    let highest = highest(cpu);
    match if eax == 0 { 0 } else { eax.min(highest) } {
        0 => [highest, word(b"Genu"), word(b"ntel"), word(b"ineI")],
        1 => [cpu.model.signature(), 0, features_ecx(features), features_edx(cpu)],
        7 => [0, 0, UMIP, 0],
        _ => [0; 4],
    }
}

/// `bit` if `features` have `feature`.
fn bit(features: Features, feature: Features, bit: u32) -> u32 {
    if features.contains(feature) { bit } else { 0 }
}

fn features_ecx(features: Features) -> u32 {
    bit(features, Features::VMX, VMX)
}

/// The APIC's bit follows its enable bit (SDM vol. 3, 10.4.3).
fn features_edx(cpu: &Cpu) -> u32 {
    let apic = if cpu.msrs.apic_base & APIC_ENABLE != 0 { feature::APIC } else { 0 };
    FEATURES | apic | bit(cpu.features, Features::VME, VME) | bit(cpu.features, Features::PAT, PAT)
}

/// The first extended leaf, the one of the feature bits, and the last one.
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_FEATURES: u32 = 0x8000_0001;
const ADDRESS_SIZES: u32 = 0x8000_0008;

/// The leaves of the brand string: whoever finds leaves beyond these believes it.
const BRAND_FIRST: u32 = 0x8000_0002;
const BRAND_LAST: u32 = 0x8000_0004;

/// A Pentium II has no extended leaves, and 36 bits of physical address with PAE. This one has 32, like its buses,
/// and so has to say so: the last leaf is there for it. A Core Duo has both.
fn extended(cpu: &Cpu, eax: u32) -> [u32; 4] {
    match eax {
        EXTENDED => [ADDRESS_SIZES, 0, 0, 0],
        EXTENDED_FEATURES => [0, 0, 0, if cpu.has_nx() { NX } else { 0 }],
        BRAND_FIRST..=BRAND_LAST => {
            let brand = cpu.model.traits().brand.as_bytes();
            let at = (eax - BRAND_FIRST) as usize * 16;
            let byte = |n: usize| brand.get(n).copied().unwrap_or(0);
            [0, 4, 8, 12].map(|n| u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(at + n + i))))
        }
        ADDRESS_SIZES => [0x2020, 0, 0, 0],
        _ => [0; 4],
    }
}

fn word(s: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*s)
}

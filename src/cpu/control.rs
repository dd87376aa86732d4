//! Control, debug, table and model-specific registers (SDM vol. 3, 2.4, 2.5, 17.2; vol. 4).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Control register 0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Cr0: u32 {
        /// Protection enable.
        const PE = 1 << 0;
        /// Monitor coprocessor: WAIT heeds TS.
        const MP = 1 << 1;
        /// Emulation: no x87.
        const EM = 1 << 2;
        /// Task switched.
        const TS = 1 << 3;
        /// Extension type: reads as one.
        const ET = 1 << 4;
        /// Numeric error.
        const NE = 1 << 5;
        /// Write protect: supervisor writes heed R/W.
        const WP = 1 << 16;
        /// Alignment mask.
        const AM = 1 << 18;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
        /// After reset.
        const RESET = Self::CD.bits() | Self::NW.bits() | Self::ET.bits();
    }

    /// Control register 4: what some model has. [`super::Features::cr4`] has the bits that exist.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Cr4: u32 {
        /// Virtual-8086 mode extensions. Only with [`super::Features::VME`], as PVI.
        const VME = 1 << 0;
        /// Virtual interrupts of protected mode.
        const PVI = 1 << 1;
        /// RDTSC is privileged.
        const TSD = 1 << 2;
        /// Debugging extensions: DR4 and DR5 are undefined, I/O breakpoints.
        const DE = 1 << 3;
        /// 4 MiB pages.
        const PSE = 1 << 4;
        /// Page tables of 64-bit entries.
        const PAE = 1 << 5;
        /// Global pages.
        const PGE = 1 << 7;
        /// RDPMC at any privilege.
        const PCE = 1 << 8;
        /// The system saves by FXSAVE. Without SSE there is nothing that it changes.
        const OSFXSR = 1 << 9;
        /// SGDT, SIDT, SLDT, STR and SMSW are privileged. Only with [`super::Features::UMIP`].
        const UMIP = 1 << 11;
        /// VMX is enabled: VMXON is an instruction. Only with [`super::Features::VMX`].
        const VMXE = 1 << 13;
    }
}

/// DR6 bits that read as one.
pub const DR6_ONES: u32 = 0xffff_0ff0;
/// DR6: a single-step trap.
pub const DR6_BS: u32 = 1 << 14;
/// DR6: a task switch to a TSS with its T bit set.
pub const DR6_BT: u32 = 1 << 15;
/// DR6: an access to a debug register while DR7.GD was set.
pub const DR6_BD: u32 = 1 << 13;
/// DR7 bits that read as one.
pub const DR7_ONES: u32 = 1 << 10;
/// DR7 bits that read as zero.
pub const DR7_ZEROS: u32 = 0xd800;
/// DR7: general detect.
pub const DR7_GD: u32 = 1 << 13;

/// Debug register 7, read field by field (SDM vol. 3, 17.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dr7(pub u32);

/// What a breakpoint watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Instruction execution.
    Code,
    /// Data writes.
    Write,
    /// Port I/O (with CR4.DE).
    Io,
    /// Data reads and writes.
    Access,
}

impl Dr7 {
    /// Whether breakpoint `n` is enabled, locally or globally.
    pub fn enabled(self, n: usize) -> bool {
        (self.0 >> (2 * n)) & 3 != 0
    }
    /// What breakpoint `n` watches.
    pub fn watch(self, n: usize) -> Watch {
        match (self.0 >> (16 + 4 * n)) & 3 {
            0 => Watch::Code,
            1 => Watch::Write,
            2 => Watch::Io,
            _ => Watch::Access,
        }
    }
    /// Bytes that breakpoint `n` covers: 1, 2 or 4 (the undefined length 2 counts as 4).
    pub fn len(self, n: usize) -> u32 {
        match (self.0 >> (18 + 4 * n)) & 3 {
            0 => 1,
            1 => 2,
            _ => 4,
        }
    }
    /// Whether any code breakpoint is enabled.
    pub fn any_code(self) -> bool {
        self.0 & 0xff != 0 && (0..4).any(|n| self.enabled(n) && self.watch(n) == Watch::Code)
    }
    /// Whether any data or I/O breakpoint is enabled.
    pub fn any_data(self) -> bool {
        self.0 & 0xff != 0 && (0..4).any(|n| self.enabled(n) && self.watch(n) != Watch::Code)
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableReg {
    /// Linear address of the table.
    pub base: u32,
    /// Offset of its last byte.
    pub limit: u16,
}

/// The model-specific registers that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Msrs {
    /// The time-stamp counter is `Cpu::now` plus this.
    pub tsc_offset: u64,
    /// IA32_APIC_BASE; 0 without a local APIC.
    pub apic_base: u32,
    /// SYSENTER_CS.
    pub sysenter_cs: u32,
    /// SYSENTER_ESP.
    pub sysenter_esp: u32,
    /// SYSENTER_EIP.
    pub sysenter_eip: u32,
    /// IA32_DEBUGCTL.
    pub debugctl: u32,
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_EFER.
    pub efer: u32,
    /// IA32_FEATURE_CONTROL.
    pub feature_control: u32,
    /// What software has set in IA32_MISC_ENABLE.
    pub misc_enable: u64,
}

impl Msrs {
    /// The registers after a reset.
    pub fn reset() -> Self {
        Self { pat: PAT_RESET, ..Self::default() }
    }
}

/// IA32_PAT after a reset: write-back, write-through, UC- and uncacheable, twice (SDM vol. 3, table 11-12).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// IA32_MISC_ENABLE: CPUID's highest basic leaf is 3 at most.
pub const MISC_LIMIT_CPUID: u64 = 1 << 22;
/// IA32_MISC_ENABLE: there are no execute-disable pages.
pub const MISC_XD_DISABLE: u64 = 1 << 34;

/// IA32_EFER.NXE: execute-disable pages (SDM vol. 3, 2.2.1).
pub const EFER_NXE: u32 = 1 << 11;
/// IA32_APIC_BASE (SDM vol. 3, 10.4.4): this is the bootstrap processor.
pub const APIC_FIRST: u32 = 1 << 8;
/// The local APIC is enabled.
pub const APIC_ENABLE: u32 = 1 << 11;
/// The page of its registers.
pub const APIC_PAGE: u32 = 0xffff_f000;
/// IA32_APIC_BASE after a reset.
pub const APIC_BASE_RESET: u32 = 0xfee0_0000 | APIC_ENABLE | APIC_FIRST;

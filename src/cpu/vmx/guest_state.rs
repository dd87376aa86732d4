//! Bits and values of the guest-state area that are no register's (SDM vol. 3, 24.4).

/// Segment access rights (SDM vol. 3, table 24-2).
#[allow(missing_docs, reason = "the manual's names")]
pub mod rights {
    pub const TYPE: u32 = 15;
    /// The S flag: code or data.
    pub const CODE_OR_DATA: u32 = 1 << 4;
    pub const PRESENT: u32 = 1 << 7;
    pub const GRANULAR: u32 = 1 << 15;
    pub const UNUSABLE: u32 = 1 << 16;
    pub const RESERVED: u32 = 0xfffe_0f00;
    /// What a segment has in virtual-8086 mode.
    pub const V86: u32 = 0xf3;
}

/// Interruptibility state (SDM vol. 3, table 24-3).
#[allow(missing_docs, reason = "the manual's names")]
pub mod blocking {
    pub const STI: u32 = 1;
    pub const MOV_SS: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const NMI: u32 = 1 << 3;
    pub const RESERVED: u32 = !15;
}

/// Activity state (SDM vol. 3, 24.4.2), and the place in IA32_VMX_MISC of the bits that tell which exist.
#[allow(missing_docs, reason = "the manual's names")]
pub mod activity {
    pub const ACTIVE: u32 = 0;
    pub const HLT: u32 = 1;
    pub const SHUTDOWN: u32 = 2;
    pub const WAIT_FOR_SIPI: u32 = 3;
    pub const MISC_SHIFT: u32 = 5;
}

/// Pending debug exceptions (SDM vol. 3, table 24-4).
#[allow(missing_docs, reason = "the manual's names")]
pub mod pending {
    pub const BREAKPOINTS: u32 = 15;
    pub const ENABLED_BREAKPOINT: u32 = 1 << 12;
    pub const BS: u32 = 1 << 14;
    pub const RESERVED: u32 = !(BREAKPOINTS | ENABLED_BREAKPOINT | BS);
}

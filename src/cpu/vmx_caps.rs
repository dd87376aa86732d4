//! TEMPORARY
use serde::{Deserialize, Serialize};
/// caps
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct VmxCaps {
    pub basic: u64,
    pub pin: (u32, u32),
    pub primary: (u32, u32),
    pub secondary: Option<(u32, u32)>,
    pub exit: (u32, u32),
    pub entry: (u32, u32),
    pub misc: u64,
    pub cr0_fixed: (u32, u32),
    pub cr4_fixed: (u32, u32),
    pub vmcs_enum: u64,
    pub ept_vpid: u64,
}
impl VmxCaps {
    /// The VMCS revision identifier (bits 30-0 of IA32_VMX_BASIC).
    pub fn revision(&self) -> u32 {
        self.basic as u32 & 0x7fff_ffff
    }
    /// log2 of the ticks of the time-stamp counter in one of the VMX-preemption timer (bits 4-0 of IA32_VMX_MISC).
    pub fn timer_rate(&self) -> u32 {
        self.misc as u32 & 31
    }
}

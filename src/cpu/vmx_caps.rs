//! What a processor's VMX can do: the constants behind the IA32_VMX_* registers (SDM vol. 3, appendix A). The
//! checks of VMXON and of VM entries read the same constants, so what is reported is what holds.
//!
//! | | `yonah` | `yonah-ept` |
//! |---|---|---|
//! | control registers that can be switched off one by one (`TRUE_*`) | no | yes |
//! | virtual NMIs, NMI-window exiting | no | yes |
//! | preemption timer | no | yes |
//! | load and save of IA32_EFER | no | yes |
//! | EPT, VPID, unrestricted guest | no | yes |

use super::control::Cr4;
use serde::{Deserialize, Serialize};

/// Which settings of a control register's bits are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Controls {
    /// Bits that must be 1: "allowed 0-settings".
    pub allowed0: u32,
    /// Bits that may be 1: "allowed 1-settings".
    pub allowed1: u32,
}

impl Controls {
    /// Whether a VM entry takes `value` for these controls.
    pub const fn allow(self, value: u32) -> bool {
        self.allowed0 & !value == 0 && value & !self.allowed1 == 0
    }

    /// The register's value, where the bits of `default1` are reported as if they had to be 1.
    const fn msr(self, default1: u32) -> u64 {
        (self.allowed1 as u64) << 32 | (self.allowed0 | default1) as u64
    }
}

/// The capabilities of a processor with VMX. The controls are those that a VM entry checks: with
/// [`VmxCaps::has_true_controls`] the ones that the `TRUE_*` registers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VmxCaps {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// Pin-based VM-execution controls.
    pub pin: Controls,
    /// Primary processor-based VM-execution controls.
    pub primary: Controls,
    /// Secondary processor-based VM-execution controls, if there are any.
    pub secondary: Option<Controls>,
    /// VM-exit controls.
    pub exit: Controls,
    /// VM-entry controls.
    pub entry: Controls,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// Bits of CR0 that must be 1 in VMX operation.
    pub cr0_fixed0: u32,
    /// Bits of CR0 that may be 1 in VMX operation.
    pub cr0_fixed1: u32,
    /// Bits of CR4 that must be 1 in VMX operation.
    pub cr4_fixed0: u32,
    /// Bits of CR4 that may be 1 in VMX operation.
    pub cr4_fixed1: u32,
    /// IA32_VMX_VMCS_ENUM: the highest index of a field, in its place in an encoding.
    pub vmcs_enum: u64,
    /// IA32_VMX_EPT_VPID_CAP; 0 without EPT and VPID.
    pub ept_vpid: u64,
}

/// Numbers of the capability registers.
#[allow(missing_docs, reason = "the manual's names")]
pub mod msr {
    pub const BASIC: u32 = 0x480;
    pub const PINBASED_CTLS: u32 = 0x481;
    pub const PROCBASED_CTLS: u32 = 0x482;
    pub const EXIT_CTLS: u32 = 0x483;
    pub const ENTRY_CTLS: u32 = 0x484;
    pub const MISC: u32 = 0x485;
    pub const CR0_FIXED0: u32 = 0x486;
    pub const CR0_FIXED1: u32 = 0x487;
    pub const CR4_FIXED0: u32 = 0x488;
    pub const CR4_FIXED1: u32 = 0x489;
    pub const VMCS_ENUM: u32 = 0x48a;
    pub const PROCBASED_CTLS2: u32 = 0x48b;
    pub const EPT_VPID_CAP: u32 = 0x48c;
    pub const TRUE_PINBASED_CTLS: u32 = 0x48d;
    pub const TRUE_PROCBASED_CTLS: u32 = 0x48e;
    pub const TRUE_EXIT_CTLS: u32 = 0x48f;
    pub const TRUE_ENTRY_CTLS: u32 = 0x490;
}

/// Pin-based VM-execution controls (SDM vol. 3, table 24-5).
#[allow(missing_docs, reason = "the manual's names")]
pub mod pin {
    pub const EXTERNAL_INTERRUPT: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 3;
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
    /// Reserved bits that are 1 by default.
    pub const DEFAULT1: u32 = 0x16;
}

/// Primary processor-based VM-execution controls (SDM vol. 3, table 24-6).
#[allow(missing_docs, reason = "the manual's names")]
pub mod primary {
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    pub const TSC_OFFSETTING: u32 = 1 << 3;
    pub const HLT: u32 = 1 << 7;
    pub const INVLPG: u32 = 1 << 9;
    pub const MWAIT: u32 = 1 << 10;
    pub const RDPMC: u32 = 1 << 11;
    pub const RDTSC: u32 = 1 << 12;
    pub const CR3_LOAD: u32 = 1 << 15;
    pub const CR3_STORE: u32 = 1 << 16;
    pub const TPR_SHADOW: u32 = 1 << 21;
    pub const NMI_WINDOW: u32 = 1 << 22;
    pub const MOV_DR: u32 = 1 << 23;
    pub const UNCONDITIONAL_IO: u32 = 1 << 24;
    pub const IO_BITMAPS: u32 = 1 << 25;
    pub const MSR_BITMAPS: u32 = 1 << 28;
    pub const MONITOR: u32 = 1 << 29;
    pub const PAUSE: u32 = 1 << 30;
    pub const SECONDARY: u32 = 1 << 31;
    /// Reserved bits that are 1 by default.
    pub const RESERVED1: u32 = 0x0400_6172;
    /// All bits that are 1 by default: CR3-load and CR3-store exiting, too.
    pub const DEFAULT1: u32 = RESERVED1 | CR3_LOAD | CR3_STORE;
}

/// Secondary processor-based VM-execution controls (SDM vol. 3, table 24-7).
#[allow(missing_docs, reason = "the manual's names")]
pub mod secondary {
    pub const EPT: u32 = 1 << 1;
    pub const VPID: u32 = 1 << 5;
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
}

/// VM-exit controls (SDM vol. 3, table 24-10).
#[allow(missing_docs, reason = "the manual's names")]
pub mod exit {
    pub const SAVE_DEBUG: u32 = 1 << 2;
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    pub const SAVE_PAT: u32 = 1 << 18;
    pub const LOAD_PAT: u32 = 1 << 19;
    pub const SAVE_EFER: u32 = 1 << 20;
    pub const LOAD_EFER: u32 = 1 << 21;
    pub const SAVE_PREEMPTION_TIMER: u32 = 1 << 22;
    /// All bits that are 1 by default.
    pub const DEFAULT1: u32 = 0x0003_6dff;
}

/// VM-entry controls (SDM vol. 3, table 24-12).
#[allow(missing_docs, reason = "the manual's names")]
pub mod entry {
    pub const LOAD_DEBUG: u32 = 1 << 2;
    pub const ENTRY_TO_SMM: u32 = 1 << 10;
    pub const DEACTIVATE_DUAL_MONITOR: u32 = 1 << 11;
    pub const LOAD_PAT: u32 = 1 << 14;
    pub const LOAD_EFER: u32 = 1 << 15;
    /// All bits that are 1 by default.
    pub const DEFAULT1: u32 = 0x0000_11ff;
}

/// IA32_VMX_BASIC: a revision of the VMCS's form, its 4096 bytes, write-back memory, physical addresses of 32
/// bits, and instruction information for INS and OUTS.
const BASIC: u64 = 0x0059_1000_0000_002b;
/// IA32_VMX_BASIC, bit 55: the `TRUE_*` registers are there.
const BASIC_TRUE: u64 = 1 << 55;
/// IA32_VMX_MISC: the preemption timer counts every tick of the time-stamp counter; activity states HLT,
/// shutdown and wait-for-SIPI; four CR3-target values; 512 entries in MSR lists.
const MISC: u64 = 0x0004_01c0;
/// CR0.PE, NE and PG.
const CR0_FIXED0: u32 = 0x8000_0021;

/// The primary controls of both models, but for those that `yonah-ept` adds.
const PRIMARY: u32 = primary::DEFAULT1
    | primary::INTERRUPT_WINDOW
    | primary::TSC_OFFSETTING
    | primary::HLT
    | primary::INVLPG
    | primary::MWAIT
    | primary::RDPMC
    | primary::RDTSC
    | primary::TPR_SHADOW
    | primary::MOV_DR
    | primary::UNCONDITIONAL_IO
    | primary::IO_BITMAPS
    | primary::MSR_BITMAPS
    | primary::MONITOR
    | primary::PAUSE;

/// The Core Duo's. As on processors before the `TRUE_*` registers (Bochs's data of the Core 2 T9600 are an
/// example), loads and stores of CR3 always exit, and debug controls are always loaded and saved.
pub const YONAH: VmxCaps = VmxCaps {
    basic: BASIC,
    pin: Controls { allowed0: pin::DEFAULT1, allowed1: pin::DEFAULT1 | pin::EXTERNAL_INTERRUPT | pin::NMI },
    primary: Controls { allowed0: primary::DEFAULT1, allowed1: PRIMARY },
    secondary: None,
    exit: Controls { allowed0: exit::DEFAULT1, allowed1: exit::DEFAULT1 | exit::ACKNOWLEDGE_INTERRUPT },
    entry: Controls {
        allowed0: entry::DEFAULT1,
        allowed1: entry::DEFAULT1 | entry::ENTRY_TO_SMM | entry::DEACTIVATE_DUAL_MONITOR,
    },
    misc: MISC,
    cr0_fixed0: CR0_FIXED0,
    cr0_fixed1: !0,
    cr4_fixed0: Cr4::VMXE.bits(),
    cr4_fixed1: CR4_FIXED1,
    vmcs_enum: 0x2a,
    ept_vpid: 0,
};

/// The invented processor's: as [`YONAH`], with what a hypervisor needs for nested paging.
pub const YONAH_EPT: VmxCaps = VmxCaps {
    basic: BASIC | BASIC_TRUE,
    pin: Controls { allowed1: YONAH.pin.allowed1 | pin::VIRTUAL_NMIS | pin::PREEMPTION_TIMER, ..YONAH.pin },
    primary: Controls {
        allowed0: primary::RESERVED1,
        allowed1: PRIMARY | primary::NMI_WINDOW | primary::SECONDARY,
    },
    secondary: Some(Controls {
        allowed0: 0,
        allowed1: secondary::EPT | secondary::VPID | secondary::UNRESTRICTED_GUEST,
    }),
    exit: Controls {
        allowed0: exit::DEFAULT1 & !exit::SAVE_DEBUG,
        allowed1: YONAH.exit.allowed1 | exit::SAVE_EFER | exit::LOAD_EFER | exit::SAVE_PREEMPTION_TIMER,
    },
    entry: Controls {
        allowed0: entry::DEFAULT1 & !entry::LOAD_DEBUG,
        allowed1: YONAH.entry.allowed1 | entry::LOAD_EFER,
    },
    vmcs_enum: 0x2e,
    ept_vpid: EPT_VPID,
    ..YONAH
};

/// Every bit of CR4 that the two models have.
const CR4_FIXED1: u32 = 0x23bc;

/// IA32_VMX_EPT_VPID_CAP: walks of four levels, uncacheable and write-back tables,
/// pages of 2 MiB, INVEPT and INVVPID of every type, accessed and dirty bits.
const EPT_VPID: u64 = 0x0000_0f01_0631_4140;

impl VmxCaps {
    /// The revision identifier that a VMCS region begins with (bits 30-0 of IA32_VMX_BASIC).
    pub const fn revision(&self) -> u32 {
        self.basic as u32 & 0x7fff_ffff
    }

    /// log2 of the ticks of the time-stamp counter in one of the VMX-preemption timer (bits 4-0 of
    /// IA32_VMX_MISC).
    pub const fn timer_rate(&self) -> u32 {
        self.misc as u32 & 31
    }

    /// Whether the `TRUE_*` registers are there, and so the default-1 controls that are not reserved may be 0.
    pub const fn has_true_controls(&self) -> bool {
        self.basic & BASIC_TRUE != 0
    }

    /// The value of the capability register `n`; `None` if there is no such register.
    pub fn msr(&self, n: u32) -> Option<u64> {
        let real = self.has_true_controls();
        Some(match n {
            msr::BASIC => self.basic,
            msr::PINBASED_CTLS => self.pin.msr(pin::DEFAULT1),
            msr::PROCBASED_CTLS => self.primary.msr(primary::DEFAULT1),
            msr::EXIT_CTLS => self.exit.msr(exit::DEFAULT1),
            msr::ENTRY_CTLS => self.entry.msr(entry::DEFAULT1),
            msr::MISC => self.misc,
            msr::CR0_FIXED0 => self.cr0_fixed0.into(),
            msr::CR0_FIXED1 => self.cr0_fixed1.into(),
            msr::CR4_FIXED0 => self.cr4_fixed0.into(),
            msr::CR4_FIXED1 => self.cr4_fixed1.into(),
            msr::VMCS_ENUM => self.vmcs_enum,
            msr::PROCBASED_CTLS2 => self.secondary?.msr(0),
            msr::EPT_VPID_CAP if self.ept_vpid != 0 => self.ept_vpid,
            msr::TRUE_PINBASED_CTLS if real => self.pin.msr(0),
            msr::TRUE_PROCBASED_CTLS if real => self.primary.msr(0),
            msr::TRUE_EXIT_CTLS if real => self.exit.msr(0),
            msr::TRUE_ENTRY_CTLS if real => self.entry.msr(0),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Model;

    fn values(caps: &VmxCaps) -> Vec<(u32, u64)> {
        (0x480..0x493).filter_map(|n| Some((n, caps.msr(n)?))).collect()
    }

    /// Pin-based, exit and entry controls are those of Bochs's Core Duo T2400; of the primary ones that has no TPR
    /// shadow. CR4 has no MCE, no OSXMMEXCPT.
    #[test]
    fn the_core_duo_reports_what_it_has() {
        let wanted = [
            (0x480, 0x0059_1000_0000_002b),
            (0x481, 0x0000_001f_0000_0016),
            (0x482, 0x77a1_fffe_0401_e172),
            (0x483, 0x0003_edff_0003_6dff),
            (0x484, 0x0000_1dff_0000_11ff),
            (0x485, 0x0004_01c0),
            (0x486, 0x8000_0021),
            (0x487, 0xffff_ffff),
            (0x488, 0x2000),
            (0x489, 0x23bc),
            (0x48a, 0x2a),
        ];
        assert_eq!(values(&YONAH), wanted);
    }

    #[test]
    fn the_invented_model_adds_registers_and_bits() {
        let wanted = [
            (0x480, 0x00d9_1000_0000_002b),
            (0x481, 0x0000_007f_0000_0016),
            (0x482, 0xf7e1_fffe_0401_e172),
            (0x483, 0x0073_edff_0003_6dff),
            (0x484, 0x0000_9dff_0000_11ff),
            (0x485, 0x0004_01c0),
            (0x486, 0x8000_0021),
            (0x487, 0xffff_ffff),
            (0x488, 0x2000),
            (0x489, 0x23bc),
            (0x48a, 0x2e),
            (0x48b, 0x0000_00a2_0000_0000),
            (0x48c, 0x0000_0f01_0631_4140),
            (0x48d, 0x0000_007f_0000_0016),
            (0x48e, 0xf7e1_fffe_0400_6172),
            (0x48f, 0x0073_edff_0003_6dfb),
            (0x490, 0x0000_9dff_0000_11fb),
        ];
        assert_eq!(values(&YONAH_EPT), wanted);
    }

    #[test]
    fn cr4_in_vmx_operation_may_have_every_bit_of_the_model() {
        for &model in Model::ALL {
            if let Some(caps) = model.vmx() {
                assert_eq!(caps.cr4_fixed1, model.features().cr4().bits(), "{model}");
            }
        }
    }

    #[test]
    fn controls_are_allowed_by_bit() {
        let pin = YONAH.pin;
        assert!(pin.allow(0x16) && pin.allow(0x1f));
        assert!(!pin.allow(0x12), "bit 2 must be 1");
        assert!(!pin.allow(0x36), "virtual NMIs");
    }
}

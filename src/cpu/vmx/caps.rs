//! What a processor's VMX can do: the constants behind the IA32_VMX_* registers (SDM vol. 3, appendix A). The
//! checks of VMXON, of VM entries and of MOV to CR0 and CR4 read the same constants, so what is reported is
//! what holds.
//!
//! | | `yonah` | `yonah-ept` |
//! |---|---|---|
//! | controls that can be switched off one by one (`TRUE_*`) | no | yes |
//! | virtual NMIs, NMI-window exiting | no | yes |
//! | preemption timer | no | yes |
//! | load and save of IA32_EFER and IA32_PAT | no | yes |
//! | EPT, VPID, unrestricted guest | no | yes |

use super::{EntryControls, ExitControls, Pin, Primary, Secondary};
use crate::cpu::{Cr0, Cr4};
use serde::{Deserialize, Serialize};

/// Which settings of a register's or a control field's bits are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allowed {
    /// Bits that must be 1: "allowed 0-settings", or "fixed to 1".
    pub must: u32,
    /// Bits that may be 1: "allowed 1-settings".
    pub may: u32,
}

impl Allowed {
    /// `must` and, beyond that, `free`.
    const fn with(must: u32, free: u32) -> Self {
        Self { must, may: must | free }
    }

    /// Whether `value` has no bit that it must not have, and every bit that it must.
    pub const fn allow(self, value: u32) -> bool {
        self.must & !value == 0 && value & !self.may == 0
    }

    /// Whether the bits of `control` may be set.
    pub const fn offers(self, control: u32) -> bool {
        self.may & control == control
    }

    /// The same settings, with `bits` free.
    #[must_use]
    pub const fn freeing(self, bits: u32) -> Self {
        Self { must: self.must & !bits, may: self.may | bits }
    }

    /// The capability register of control fields, where the bits of `default1` are reported as if they had to be
    /// 1.
    const fn msr(self, default1: u32) -> u64 {
        (self.may as u64) << 32 | (self.must | default1) as u64
    }
}

/// The capabilities of a processor with VMX. The controls are those that a VM entry checks: with
/// [`VmxCaps::has_true_controls`] the ones that the `TRUE_*` registers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VmxCaps {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// Pin-based VM-execution controls.
    pub pin: Allowed,
    /// Primary processor-based VM-execution controls.
    pub primary: Allowed,
    /// Secondary processor-based VM-execution controls, if there are any.
    pub secondary: Option<Allowed>,
    /// VM-exit controls.
    pub exit: Allowed,
    /// VM-entry controls.
    pub entry: Allowed,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// CR0 in VMX operation.
    pub cr0: Allowed,
    /// CR4 in VMX operation.
    pub cr4: Allowed,
    /// IA32_VMX_VMCS_ENUM: the highest index of a field, in its place in an encoding.
    pub vmcs_enum: u64,
    /// IA32_VMX_EPT_VPID_CAP; 0 without EPT and VPID.
    pub ept_vpid: u64,
    /// The bits of IA32_DEBUGCTL that WRMSR and VM entries may set.
    pub debugctl: u32,
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

/// Reserved bits of the control fields that are 1 by default (SDM vol. 3, A.2 to A.5).
mod default1 {
    use super::{EntryControls, ExitControls, Primary};

    pub(super) const PIN: u32 = 0x16;
    /// Bits that stay 1 with the `TRUE_*` registers, too.
    pub(super) const PRIMARY_RESERVED: u32 = 0x0400_6172;
    pub(super) const PRIMARY: u32 = PRIMARY_RESERVED | Primary::CR3_LOAD.bits() | Primary::CR3_STORE.bits();
    pub(super) const EXIT_RESERVED: u32 = 0x0003_6dfb;
    pub(super) const EXIT: u32 = EXIT_RESERVED | ExitControls::SAVE_DEBUG.bits();
    pub(super) const ENTRY_RESERVED: u32 = 0x0000_11fb;
    pub(super) const ENTRY: u32 = ENTRY_RESERVED | EntryControls::LOAD_DEBUG.bits();
}

/// IA32_VMX_BASIC: a revision of the VMCS's form, its 4096 bytes, write-back memory, physical addresses of 32
/// bits, and instruction information for INS and OUTS.
const BASIC: u64 = 0x0059_1000_0000_002b;
/// IA32_VMX_BASIC, bit 55: the `TRUE_*` registers are there.
const BASIC_TRUE: u64 = 1 << 55;
/// IA32_VMX_MISC: the preemption timer counts every tick of the time-stamp counter; activity states HLT,
/// shutdown and wait-for-SIPI; four CR3-target values; 512 entries in MSR lists.
const MISC: u64 = 0x0004_01c0;
/// The primary controls of both models, but for those that `yonah-ept` adds.
const PRIMARY: Primary = Primary::INTERRUPT_WINDOW
    .union(Primary::TSC_OFFSETTING)
    .union(Primary::HLT)
    .union(Primary::INVLPG)
    .union(Primary::MWAIT)
    .union(Primary::RDPMC)
    .union(Primary::RDTSC)
    .union(Primary::CR3_LOAD)
    .union(Primary::CR3_STORE)
    .union(Primary::TPR_SHADOW)
    .union(Primary::MOV_DR)
    .union(Primary::UNCONDITIONAL_IO)
    .union(Primary::IO_BITMAPS)
    .union(Primary::MSR_BITMAPS)
    .union(Primary::MONITOR)
    .union(Primary::PAUSE);
const PIN: Pin = Pin::EXTERNAL_INTERRUPT.union(Pin::NMI);
const EXIT: ExitControls = ExitControls::ACKNOWLEDGE;
/// Entries may set these in system-management mode only, which does not exist: the checks refuse them.
const ENTRY: EntryControls = EntryControls::TO_SMM.union(EntryControls::NO_DUAL_MONITOR);

/// The Core Duo's. As on processors before the `TRUE_*` registers (Bochs's data of the Core 2 T9600 are an
/// example), loads and stores of CR3 always exit, and debug controls are always loaded and saved.
pub const YONAH: VmxCaps = VmxCaps {
    basic: BASIC,
    pin: Allowed::with(default1::PIN, PIN.bits()),
    primary: Allowed::with(default1::PRIMARY, PRIMARY.bits()),
    secondary: None,
    exit: Allowed::with(default1::EXIT, EXIT.bits()),
    entry: Allowed::with(default1::ENTRY, ENTRY.bits()),
    misc: MISC,
    cr0: Allowed::with(Cr0::PE.union(Cr0::NE).union(Cr0::PG).bits(), !0),
    cr4: Allowed::with(Cr4::VMXE.bits(), CR4),
    vmcs_enum: 0x2a,
    ept_vpid: 0,
    debugctl: 0,
};

/// The invented processor's: as [`YONAH`], with what a hypervisor needs for nested paging.
pub const YONAH_EPT: VmxCaps = VmxCaps {
    basic: BASIC | BASIC_TRUE,
    pin: Allowed::with(default1::PIN, PIN.union(Pin::VIRTUAL_NMIS).union(Pin::TIMER).bits()),
    primary: Allowed::with(
        default1::PRIMARY_RESERVED,
        PRIMARY.union(Primary::NMI_WINDOW).union(Primary::SECONDARY).bits(),
    ),
    secondary: Some(Allowed::with(
        0,
        Secondary::EPT.union(Secondary::VPID).union(Secondary::UNRESTRICTED).bits(),
    )),
    exit: Allowed::with(
        default1::EXIT_RESERVED,
        EXIT.union(ExitControls::SAVE_DEBUG)
            .union(ExitControls::SAVE_PAT)
            .union(ExitControls::LOAD_PAT)
            .union(ExitControls::SAVE_EFER)
            .union(ExitControls::LOAD_EFER)
            .union(ExitControls::SAVE_TIMER)
            .bits(),
    ),
    entry: Allowed::with(
        default1::ENTRY_RESERVED,
        ENTRY
            .union(EntryControls::LOAD_DEBUG)
            .union(EntryControls::LOAD_PAT)
            .union(EntryControls::LOAD_EFER)
            .bits(),
    ),
    vmcs_enum: 0x2e,
    ept_vpid: EPT_VPID,
    ..YONAH
};

/// Every bit of CR4 that the two models have.
const CR4: u32 = 0x23bf;

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
            msr::PINBASED_CTLS => self.pin.msr(default1::PIN),
            msr::PROCBASED_CTLS => self.primary.msr(default1::PRIMARY),
            msr::EXIT_CTLS => self.exit.msr(default1::EXIT),
            msr::ENTRY_CTLS => self.entry.msr(default1::ENTRY),
            msr::MISC => self.misc,
            msr::CR0_FIXED0 => self.cr0.must.into(),
            msr::CR0_FIXED1 => self.cr0.may.into(),
            msr::CR4_FIXED0 => self.cr4.must.into(),
            msr::CR4_FIXED1 => self.cr4.may.into(),
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
            (0x489, 0x23bf),
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
            (0x483, 0x007f_edff_0003_6dff),
            (0x484, 0x0000_ddff_0000_11ff),
            (0x485, 0x0004_01c0),
            (0x486, 0x8000_0021),
            (0x487, 0xffff_ffff),
            (0x488, 0x2000),
            (0x489, 0x23bf),
            (0x48a, 0x2e),
            (0x48b, 0x0000_00a2_0000_0000),
            (0x48c, 0x0000_0f01_0631_4140),
            (0x48d, 0x0000_007f_0000_0016),
            (0x48e, 0xf7e1_fffe_0400_6172),
            (0x48f, 0x007f_edff_0003_6dfb),
            (0x490, 0x0000_ddff_0000_11fb),
        ];
        assert_eq!(values(&YONAH_EPT), wanted);
    }

    #[test]
    fn cr4_in_vmx_operation_may_have_every_bit_of_the_model() {
        for &model in Model::ALL {
            if let Some(caps) = model.vmx() {
                assert_eq!(caps.cr4.may, model.features().cr4().bits(), "{model}");
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

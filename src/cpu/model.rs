//! Processor models: which processor the machine has. One table holds what tells them apart.
//!
//! | model | what it is |
//! |---|---|
//! | `pentium-ii` | a Pentium II with FXSAVE, and 32 bits of physical address |
//! | `yonah` | Intel's Core Duo as far as it is built: NX, VMX, VME and PAT |
//! | `yonah-ept` | invented: a Core Duo with nested paging |
//!
//! The `yonah` models announce nothing that is not built: CPUID has no SSE, no CLFLUSH, no machine checks, no
//! MTRRs, no MONITOR and no performance monitoring, and one logical processor.

use super::control::Cr4;
use super::vmx::{VmxCaps, caps};
use crate::cell::axis;
use bitflags::bitflags;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

axis! {
    /// A processor model.
    #[derive(Default)]
    Model, "cpu":
    #[default]
    PentiumII = "pentium-ii", "Pentium II, with FXSAVE";
    Yonah = "yonah", "Core Duo, without SSE: NX, VMX, VME and PAT";
    YonahEpt = "yonah-ept", "Invented: a Core Duo with EPT, VPID and unrestricted guest";
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

bitflags! {
    /// What a processor may have beyond a Pentium II. CPUID reports what is on; the rest of what it reports is
    /// always there. A processor starts with its model's features; a monitor takes away what it cannot give to
    /// a guest.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Features: u32 {
        /// User-mode instruction prevention (SDM vol. 3, 2.5, CR4.UMIP): a guest may make the sensitive
        /// instructions that only read system registers privileged.
        const UMIP = 1 << 0;
        /// Execute-disable pages (SDM vol. 3, 4.6).
        const NX = 1 << 1;
        /// VMX (SDM vol. 3, chapter 23).
        const VMX = 1 << 2;
        /// IA32_MISC_ENABLE, the register that switches features of the processor off (SDM vol. 4).
        const MISC_ENABLE = 1 << 3;
        /// The page attribute table (SDM vol. 3, 11.12): IA32_PAT, and a bit of page-table entries. There are no
        /// caches, so that memory of every type is the same.
        const PAT = 1 << 4;
        /// Virtual interrupts: CR4.VME and PVI, EFLAGS.VIF and VIP (SDM vol. 3, 20.3 and 20.4).
        const VME = 1 << 5;
    }
}

impl Features {
    /// The bits that CR4 has with these.
    pub fn cr4(self) -> Cr4 {
        let mut bits = Cr4::all() - (Cr4::UMIP | Cr4::VMXE | Cr4::VME | Cr4::PVI);
        bits.set(Cr4::VME | Cr4::PVI, self.contains(Self::VME));
        bits.set(Cr4::UMIP, self.contains(Self::UMIP));
        bits.set(Cr4::VMXE, self.contains(Self::VMX));
        bits
    }
}

/// What tells a model from the others.
#[derive(Debug)]
pub struct Traits {
    /// The processor signature: CPUID.1:EAX, and EDX after a reset. Family, model, stepping.
    pub signature: u32,
    /// The brand string of CPUID's leaves 80000002h to 80000004h, at most 47 bytes.
    pub brand: &'static str,
    /// What the processor has beyond a Pentium II.
    pub features: Features,
    /// Capabilities of VMX, if the processor has the extensions.
    pub vmx: Option<&'static VmxCaps>,
}

/// The signature of family 6, model 3, stepping 3 is the first that software takes SYSENTER from (SDM vol. 2,
/// SYSENTER: before signature 633H the SEP bit is not to be believed).
const PENTIUM_II: Traits =
    Traits { signature: 0x0000_0633, brand: "Pentium II (Klamath)", features: Features::empty(), vmx: None };

/// Family 6, model 14, stepping 12.
const YONAH: Traits = Traits {
    signature: 0x0000_06ec,
    brand: "Core Duo (Yonah), without SSE",
    features: Features::NX
        .union(Features::VMX)
        .union(Features::MISC_ENABLE)
        .union(Features::PAT)
        .union(Features::VME),
    vmx: Some(&caps::YONAH),
};

const YONAH_EPT: Traits =
    Traits { brand: "Core Duo (invented), with EPT, without SSE", vmx: Some(&caps::YONAH_EPT), ..YONAH };

impl Model {
    /// What tells this model from the others.
    pub const fn traits(self) -> &'static Traits {
        match self {
            Self::PentiumII => &PENTIUM_II,
            Self::Yonah => &YONAH,
            Self::YonahEpt => &YONAH_EPT,
        }
    }

    /// The processor signature.
    pub const fn signature(self) -> u32 {
        self.traits().signature
    }

    /// The features after power-on.
    pub const fn features(self) -> Features {
        self.traits().features
    }

    /// Capabilities of VMX, if the processor has the extensions.
    pub const fn vmx(self) -> Option<&'static VmxCaps> {
        self.traits().vmx
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmx_is_a_feature_of_the_models_with_capabilities() {
        for &model in Model::ALL {
            assert_eq!(model.vmx().is_some(), model.features().contains(Features::VMX), "{model}");
            assert!(model.traits().brand.len() < 48, "{model}: CPUID has room for 48 bytes, the last is 0");
        }
    }
}

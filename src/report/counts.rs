//! Who ran the guest's instructions, and why the monitor interpreted some of them.

use serde::Serialize;
use std::collections::BTreeMap;

/// Instructions by who ran them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions that the real processor ran with no intervention.
    pub direct: u64,
    /// Instructions in translated code.
    pub translated: u64,
    /// Instructions that were emulated after an exit or a callout.
    pub emulated: u64,
    /// Instructions that were interpreted because the state had no image, by the reason.
    pub interpreted: BTreeMap<Obstacle, u64>,
    /// World switches into the guest.
    pub entries: u64,
}

/// Why a state has no image: the monitor interprets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// A segment register in real mode is not what virtual-8086 mode would make of its selector.
    UnrealMode,
    /// A segment register holds what no descriptor could put there (data in CS, say, right after CR0.PE is
    /// set).
    Unloadable,
    /// A segment lies in the monitor's region, or is expand-down and reaches it.
    MonitorsRegion,
    /// Guest ring 1 or 2.
    MiddleRing,
    /// The x87 asserts FERR#, and the instruction that clears the exception has to release it, which only the
    /// board can.
    X87Error,
    /// There is no shadow page table to run on.
    NoShadow,
    /// A VM entry's checks refuse the state.
    EntryCheck,
    /// CR4.UMIP is set, and the processor below has no such bit.
    Umip,
}

impl Obstacle {
    /// The reason in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::UnrealMode => "real mode with a segment that virtual-8086 mode cannot hold",
            Self::Unloadable => "a segment register with what no descriptor can load",
            Self::MonitorsRegion => "a segment that cannot be kept below the monitor",
            Self::MiddleRing => "guest ring 1 or 2",
            Self::X87Error => "an x87 error on its way to the interrupt controller",
            Self::NoShadow => "no shadow page table",
            Self::EntryCheck => "a state that the checks of VM entry refuse",
            Self::Umip => "CR4.UMIP, which the processor below has not",
        }
    }
}

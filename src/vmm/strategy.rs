//! Who runs the guest, and who translates its addresses: the axes of the lab, and which of their combinations mean
//! something.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;

/// Who runs the guest's sensitive instructions, and in which ring the guest's kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// No monitor: the guest owns the processor.
    #[default]
    Bare,
    /// Trap and emulate, by ring compression.
    Trap,
    /// Binary translation of what must not run by itself.
    Bt,
}

/// Who translates guest-linear addresses to machine addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mmu {
    /// The guest's own page tables.
    Direct,
    /// The monitor's.
    Shadow,
}

/// How shadow page tables are kept coherent with the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Coherence {
    /// Guest page tables are write-protected, writes to them emulated and synced.
    #[default]
    Trace,
    /// The shadow is a virtual TLB: dropped when the guest flushes.
    Vtlb,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Trap => "trap",
            Self::Bt => "bt",
        })
    }
}

impl fmt::Display for Mmu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Shadow => "shadow",
        })
    }
}

impl fmt::Display for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Vtlb => "vtlb",
        })
    }
}

/// The MMU for `strategy` if `mmu` names none, or `mmu` if the two go together.
///
/// # Errors
/// [`Error::Usage`], with the reason, when they do not.
pub fn mmu_for(strategy: Strategy, mmu: Option<Mmu>) -> Result<Mmu> {
    match (strategy, mmu) {
        (Strategy::Bare, None | Some(Mmu::Direct)) => Ok(Mmu::Direct),
        (Strategy::Trap | Strategy::Bt, None | Some(Mmu::Shadow)) => Ok(Mmu::Shadow),
        (Strategy::Bare, Some(Mmu::Shadow)) => Err(Error::Usage(
            "--mmu shadow needs a monitor to keep the shadow: give --strategy trap or bt, or leave --mmu out"
                .into(),
        )),
        (Strategy::Trap | Strategy::Bt, Some(Mmu::Direct)) => Err(Error::Usage(format!(
            "--strategy {strategy} cannot run with --mmu direct: the guest's page tables name guest-physical frames, \
             and the processor would use them as machine frames; give --mmu shadow"
        ))),
    }
}

//! Why a VM entry did not begin its guest, in sentences: what was wrong, and what the manual demands (SDM
//! vol. 3, 26). Students of VMX spend their evenings here.

use super::words;
use super::{Allowed, Controls, Field, Secondary, UNRESTRICTED_CR0, Vmx};
use crate::clock::When;

/// A check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the check belongs to, which decides how the entry fails.
    pub stage: Stage,
    /// The field that is wrong.
    pub field: Field,
    /// What is wrong with it, as the end of a sentence that begins with the field's name.
    pub why: &'static str,
    /// The exit qualification of a failure in the guest's state (SDM vol. 3, 26.7).
    pub qualification: u32,
    /// The section of the manual's volume 3 that demands the check.
    pub section: &'static str,
}

impl Failure {
    /// The failure, as one of a section of the manual.
    pub fn of(self, section: &'static str) -> Self {
        Self { section, ..self }
    }
}

/// A group of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Controls: VMfail with error 7.
    Controls,
    /// The host-state area: VMfail with error 8.
    Host,
    /// The guest-state area: an exit with reason 33.
    Guest,
}

/// Why VMLAUNCH or VMRESUME did not begin the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no current control structure: VMfailInvalid.
    NoCurrent,
    /// VMfailValid with this VM-instruction error, before any check.
    Error(u32),
    /// A check of a field failed, which had this value.
    Check {
        /// The check.
        failure: Failure,
        /// What the field held.
        value: u64,
    },
    /// This entry of the VM-entry MSR-load area, from 1, could not be loaded.
    Msr(u32),
}

/// Where and when an entry was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySite {
    /// The time.
    pub when: When,
    /// CS.
    pub cs: u16,
    /// EIP of the instruction.
    pub eip: u32,
    /// VMRESUME, and not VMLAUNCH.
    pub resumes: bool,
}

impl EntrySite {
    /// The instruction.
    pub fn instruction(&self) -> &'static str {
        if self.resumes { "VMRESUME" } else { "VMLAUNCH" }
    }
}

/// A VM entry of a guest's own hypervisor that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Where.
    pub from: EntrySite,
    /// Why.
    pub refusal: Refusal,
    /// Entries that had succeeded before.
    pub entries: u64,
}

/// VM-instruction errors of entries.
const INVALID_CONTROLS: u32 = 7;
const INVALID_HOST: u32 = 8;

impl Refusal {
    /// The number of the VM-instruction error, if the entry ends with VMfailValid.
    pub fn error(self) -> Option<u32> {
        match self {
            Self::NoCurrent | Self::Msr(_) => None,
            Self::Error(number) => Some(number),
            Self::Check { failure, .. } => match failure.stage {
                Stage::Controls => Some(INVALID_CONTROLS),
                Stage::Host => Some(INVALID_HOST),
                Stage::Guest => None,
            },
        }
    }

    /// How the hypervisor sees that the entry failed.
    pub fn outcome(self) -> String {
        match self {
            Self::NoCurrent => "VMfailInvalid (CF=1)".into(),
            Self::Msr(_) => "VM-entry failure, exit reason 34 (MSR loading)".into(),
            _ => match self.error() {
                Some(number) => format!("VMfailValid (ZF=1), VM-instruction error {number}"),
                None => "VM-entry failure, exit reason 33 (invalid guest state)".into(),
            },
        }
    }

    /// What was wrong, and what the manual demands: a sentence or two.
    pub fn sentence(self, vmx: &Vmx) -> String {
        match self {
            Self::NoCurrent => {
                "There is no current VMCS: VMPTRLD makes one current (SDM vol. 3, 30.3).".into()
            }
            Self::Error(number) => {
                let meaning = words::instruction_error(number).unwrap_or("an error without a name");
                format!("The processor refused {meaning} (SDM vol. 3, 30.4).")
            }
            Self::Check { failure, value } => check(&failure, value, vmx),
            Self::Msr(number) => format!(
                "Entry {number} of the VM-entry MSR-load area, at {:#010x}, could not be loaded: the MSR does not exist, \
                 may not be loaded so, or does not take the value, or bits 63-32 of the entry's first half are not 0 \
                 (SDM vol. 3, 26.4).",
                vmx.vmcs.get32(Field::EntryMsrLoad).wrapping_add(16 * number.saturating_sub(1))
            ),
        }
    }
}

/// The sentence about a field that failed its check. Of fields that capability registers govern, the bits
/// that are not as they must be are named.
fn check(failure: &Failure, value: u64, vmx: &Vmx) -> String {
    let field = failure.field;
    let wrong = allowed(field, vmx).map_or(String::new(), |allowed| bits(field, allowed, value as u32));
    let demand = match wrong.as_str() {
        "" => " (".to_owned(),
        wrong => format!(": {wrong} ({}; ", register(field, vmx.caps.has_true_controls())),
    };
    format!(
        "The field {}, which is {}, {}{demand}SDM vol. 3, {}).",
        words::field(field),
        words::value(field, value),
        failure.why,
        failure.section
    )
}

/// The settings that the capability registers allow `field`.
fn allowed(field: Field, vmx: &Vmx) -> Option<Allowed> {
    let caps = &vmx.caps;
    let unrestricted = Controls::of(&vmx.vmcs).secondary.contains(Secondary::UNRESTRICTED);
    let free = if unrestricted { UNRESTRICTED_CR0.bits() } else { 0 };
    match field {
        Field::PinControls => Some(caps.pin),
        Field::PrimaryControls => Some(caps.primary),
        Field::SecondaryControls => Some(caps.secondary.unwrap_or(Allowed { must: 0, may: 0 })),
        Field::ExitControls => Some(caps.exit),
        Field::EntryControls => Some(caps.entry),
        Field::HostCr0 => Some(caps.cr0),
        Field::GuestCr0 => Some(caps.cr0.freeing(free)),
        Field::HostCr4 | Field::GuestCr4 => Some(caps.cr4),
        _ => None,
    }
}

/// The bits of `value` that are not as they must be: "bit 13 (VMXE) must be 1; bit 30 must be 0".
fn bits(field: Field, allowed: Allowed, value: u32) -> String {
    let name = |n: u8| match words::named(field).and_then(|named| named.name(n)) {
        Some(name) => format!("{n} ({name})"),
        None => n.to_string(),
    };
    let list = |wrong: u32, must: u8| {
        let named: Vec<String> = (0..32).filter(|n| wrong >> n & 1 != 0).map(name).collect();
        let s = if named.len() == 1 { "" } else { "s" };
        (!named.is_empty()).then(|| format!("bit{s} {} must be {must}", named.join(", ")))
    };
    let (clear, set) = (allowed.must & !value, value & !allowed.may);
    [list(clear, 1), list(set, 0)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The register that tells which settings of `field` are allowed, with or without `TRUE_*` registers.
fn register(field: Field, real: bool) -> &'static str {
    match (field, real) {
        (Field::PinControls, false) => "IA32_VMX_PINBASED_CTLS",
        (Field::PinControls, true) => "IA32_VMX_TRUE_PINBASED_CTLS",
        (Field::PrimaryControls, false) => "IA32_VMX_PROCBASED_CTLS",
        (Field::PrimaryControls, true) => "IA32_VMX_TRUE_PROCBASED_CTLS",
        (Field::SecondaryControls, _) => "IA32_VMX_PROCBASED_CTLS2",
        (Field::ExitControls, false) => "IA32_VMX_EXIT_CTLS",
        (Field::ExitControls, true) => "IA32_VMX_TRUE_EXIT_CTLS",
        (Field::EntryControls, false) => "IA32_VMX_ENTRY_CTLS",
        (Field::EntryControls, true) => "IA32_VMX_TRUE_ENTRY_CTLS",
        (Field::HostCr0 | Field::GuestCr0, _) => "IA32_VMX_CR0_FIXED0 and _FIXED1",
        _ => "IA32_VMX_CR4_FIXED0 and _FIXED1",
    }
}

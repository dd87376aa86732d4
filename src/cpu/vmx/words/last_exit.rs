//! What a control structure tells of its last VM exit (SDM vol. 3, 24.9 and 27.2).

use super::{interruption, qualification};
use crate::cpu::vmx::exit::ENTRY_FAILURE;
use crate::cpu::vmx::{Field, Interruption, Reason, Vmcs};

/// The last VM exit of a control structure, or its last VM entry that failed after the host's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastExit {
    /// The basic reason's number.
    pub number: u16,
    /// The reason, if it is one of this processor's.
    pub reason: Option<Reason>,
    /// Whether the entry failed, and no guest ran.
    pub entry_failed: bool,
    /// The exit qualification.
    pub qualification: u32,
    /// The event that caused the exit.
    pub event: Option<Interruption>,
    /// The event that was being delivered.
    pub vectoring: Option<Interruption>,
    /// The length of the instruction that caused the exit, if one did.
    pub length: Option<u32>,
    /// The guest-linear address, where the exit has one.
    pub linear: Option<u32>,
    /// The guest-physical address, where the exit has one.
    pub physical: Option<u64>,
}

impl LastExit {
    /// What `vmcs` tells; `None` if there was no exit since it was made. A structure that was never left has
    /// nothing but zeros there, which is also an exception without an event: no exit has that.
    pub fn of(vmcs: &Vmcs) -> Option<Self> {
        let field = vmcs.get32(Field::ExitReason);
        let event = Interruption::of(vmcs.get32(Field::ExitInterruption), vmcs.get32(Field::ExitErrorCode));
        if field == 0 && event.is_none() {
            return None;
        }
        let entry_failed = field & ENTRY_FAILURE != 0;
        let reason = Reason::of(field as u16);
        let is = |reasons: &[Reason]| reason.is_some_and(|reason| reasons.contains(&reason));
        let (codes, ept) =
            (Field::IdtVectoringErrorCode, [Reason::EptViolation, Reason::EptMisconfiguration]);
        let q = vmcs.get32(Field::ExitQualification);
        // Only these exits write the field; of an EPT violation bit 7 tells whether there is an address.
        let linear = is(&[Reason::EptViolation]) && q & 1 << 7 != 0
            || is(&[Reason::Io]) && q & 1 << 4 != 0
            || is(&[Reason::ControlRegister]) && q & 0x70 == 0x70;
        let length = reason.filter(|reason| reason.has_length() && !entry_failed);
        Some(Self {
            number: field as u16,
            reason,
            entry_failed,
            qualification: q,
            event: event.filter(|_| !entry_failed),
            vectoring: Interruption::of(vmcs.get32(Field::IdtVectoring), vmcs.get32(codes))
                .filter(|_| !entry_failed),
            length: length.map(|_| vmcs.get32(Field::ExitLength)),
            linear: linear.then(|| vmcs.get32(Field::GuestLinear)),
            physical: is(&ept).then(|| vmcs.get(Field::GuestPhysical)),
        })
    }

    /// The reason's name in the manual.
    pub fn name(&self) -> &'static str {
        self.reason.map_or("a reason that this processor does not have", Reason::name)
    }

    /// What there is to say beyond the reason, in words.
    pub fn details(&self) -> Vec<String> {
        let qualified = self.reason.and_then(|reason| qualification(reason, self.qualification, self.event));
        let addresses = [
            self.linear.map(|at| format!("guest-linear address {at:#010x}")),
            self.physical.map(|at| format!("guest-physical address {at:#010x}")),
        ];
        let event = self.event.map(interruption);
        let vectoring = self.vectoring.map(|event| format!("during delivery of {}", interruption(event)));
        event.into_iter().chain(qualified).chain(addresses.into_iter().flatten()).chain(vectoring).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_structure_has_no_exit() {
        assert_eq!(LastExit::of(&Vmcs::default()), None);
    }

    #[test]
    fn exits_are_told_with_their_events() {
        let mut vmcs = Vmcs::default();
        vmcs.set(Field::ExitInterruption, 0x8000_0b0eu32);
        vmcs.set(Field::ExitErrorCode, 2u32);
        vmcs.set(Field::ExitQualification, 0x40_1000u32);
        vmcs.set(Field::IdtVectoring, 0x8000_0020u32);
        let exit = LastExit::of(&vmcs).unwrap();
        assert_eq!(exit.name(), "Exception or NMI");
        assert_eq!(
            exit.details(),
            [
                "#PF (hardware exception), error code 0x2",
                "linear address 0x00401000",
                "during delivery of vector 0x20 (external interrupt)"
            ]
        );
    }

    #[test]
    fn a_failed_entry_has_no_event_and_no_length() {
        let mut vmcs = Vmcs::default();
        vmcs.set(Field::ExitInterruption, 0x8000_0b0eu32);
        vmcs.set(Field::ExitReason, 33 | ENTRY_FAILURE);
        vmcs.set(Field::ExitQualification, 4u32);
        let exit = LastExit::of(&vmcs).unwrap();
        assert!(exit.entry_failed && exit.length.is_none());
        assert_eq!(exit.details(), ["the VMCS link pointer is wrong"]);
    }
}

//! Why and how a VM exit happens (SDM vol. 3, 27.2 and appendix C).

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! reasons {
    ($($Reason:ident = $number:literal, $name:literal;)*) => {
        /// A basic exit reason, by the manual's name (SDM vol. 3, table C-1): those that this processor's
        /// guests can cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum Reason { $(#[doc = $name] $Reason = $number,)* }

        impl Reason {
            /// All reasons, by number.
            pub const ALL: &[Self] = &[$(Self::$Reason),*];

            /// The manual's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Reason => $name,)* }
            }
        }
    };
}

reasons! {
    Exception = 0, "Exception or NMI";
    ExternalInterrupt = 1, "External interrupt";
    TripleFault = 2, "Triple fault";
    InterruptWindow = 7, "Interrupt window";
    NmiWindow = 8, "NMI window";
    TaskSwitch = 9, "Task switch";
    Cpuid = 10, "CPUID";
    Hlt = 12, "HLT";
    Invd = 13, "INVD";
    Invlpg = 14, "INVLPG";
    Rdpmc = 15, "RDPMC";
    Rdtsc = 16, "RDTSC";
    Vmcall = 18, "VMCALL";
    Vmclear = 19, "VMCLEAR";
    Vmlaunch = 20, "VMLAUNCH";
    Vmptrld = 21, "VMPTRLD";
    Vmptrst = 22, "VMPTRST";
    Vmread = 23, "VMREAD";
    Vmresume = 24, "VMRESUME";
    Vmwrite = 25, "VMWRITE";
    Vmxoff = 26, "VMXOFF";
    Vmxon = 27, "VMXON";
    ControlRegister = 28, "Control-register access";
    MovDr = 29, "MOV DR";
    Io = 30, "I/O instruction";
    Rdmsr = 31, "RDMSR";
    Wrmsr = 32, "WRMSR";
    EntryGuestState = 33, "VM-entry failure: invalid guest state";
    EntryMsrLoading = 34, "VM-entry failure: MSR loading";
    Mwait = 36, "MWAIT";
    Monitor = 39, "MONITOR";
    Pause = 40, "PAUSE";
    TprThreshold = 43, "TPR below threshold";
    GdtrIdtr = 46, "Access to GDTR or IDTR";
    LdtrTr = 47, "Access to LDTR or TR";
    EptViolation = 48, "EPT violation";
    EptMisconfiguration = 49, "EPT misconfiguration";
    Invept = 50, "INVEPT";
    Timer = 52, "VMX-preemption timer expired";
    Invvpid = 53, "INVVPID";
    Wbinvd = 54, "WBINVD";
}

impl Reason {
    /// The reason with this number.
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u16 == number)
    }

    /// Whether the exit information has the length of the instruction that caused the exit.
    pub fn has_length(self) -> bool {
        use Reason::*;
        !matches!(
            self,
            Exception
                | ExternalInterrupt
                | TripleFault
                | InterruptWindow
                | NmiWindow
                | EntryGuestState
                | EntryMsrLoading
                | TprThreshold
                | EptViolation
                | EptMisconfiguration
                | Timer
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An event's type in interruption information (SDM vol. 3, table 24-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the manual's names")]
pub enum EventType {
    External = 0,
    Nmi = 2,
    HardwareException = 3,
    SoftwareInterrupt = 4,
    PrivilegedSoftwareException = 5,
    SoftwareException = 6,
}

impl EventType {
    /// The type with this number.
    pub fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::External,
            2 => Self::Nmi,
            3 => Self::HardwareException,
            4 => Self::SoftwareInterrupt,
            5 => Self::PrivilegedSoftwareException,
            6 => Self::SoftwareException,
            _ => return None,
        })
    }

    /// Whether an instruction caused the event, whose length goes with it.
    pub fn has_length(self) -> bool {
        matches!(self, Self::SoftwareInterrupt | Self::PrivilegedSoftwareException | Self::SoftwareException)
    }

    /// The manual's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::External => "external interrupt",
            Self::Nmi => "NMI",
            Self::HardwareException => "hardware exception",
            Self::SoftwareInterrupt => "software interrupt",
            Self::PrivilegedSoftwareException => "privileged software exception",
            Self::SoftwareException => "software exception",
        }
    }
}

/// Interruption information: an event as control-structure fields name it (SDM vol. 3, tables 24-13, 24-15
/// and 24-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interruption {
    /// The vector.
    pub vector: u8,
    /// The type.
    pub kind: EventType,
    /// The error code, if one is delivered.
    pub code: Option<u32>,
    /// NMI unblocking due to IRET (bit 12 of the exit's information).
    pub unblocked_nmi: bool,
}

impl Interruption {
    const VALID: u32 = 1 << 31;
    const HAS_CODE: u32 = 1 << 11;
    const UNBLOCKED_NMI: u32 = 1 << 12;

    /// An event without an error code.
    pub const fn new(vector: u8, kind: EventType) -> Self {
        Self { vector, kind, code: None, unblocked_nmi: false }
    }

    /// The information field.
    pub fn bits(self) -> u32 {
        Self::VALID
            | u32::from(self.vector)
            | (self.kind as u32) << 8
            | if self.code.is_some() { Self::HAS_CODE } else { 0 }
            | if self.unblocked_nmi { Self::UNBLOCKED_NMI } else { 0 }
    }

    /// The event that an information field and an error-code field name; `None` if the field is not valid,
    /// or its type is none of an event.
    pub fn of(information: u32, code: u32) -> Option<Self> {
        if information & Self::VALID == 0 {
            return None;
        }
        Some(Self {
            vector: information as u8,
            kind: EventType::of(information >> 8 & 7)?,
            code: (information & Self::HAS_CODE != 0).then_some(code),
            unblocked_nmi: information & Self::UNBLOCKED_NMI != 0,
        })
    }
}

/// A VM exit that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    /// The basic reason.
    pub reason: Reason,
    /// The exit qualification (SDM vol. 3, 27.2.1).
    pub qualification: u32,
    /// The event that caused the exit, of an exception, an NMI or an acknowledged interrupt.
    pub interruption: Option<Interruption>,
    /// The length of the instruction that caused the exit, in bytes; 0 where none did.
    pub length: u8,
    /// Instruction information (SDM vol. 3, 27.2.5).
    pub instruction: u32,
    /// The guest-linear address, of INS, OUTS and EPT violations.
    pub linear: Option<u32>,
    /// The guest-physical address, of EPT violations and misconfigurations.
    pub physical: Option<u64>,
    /// RFLAGS.RF is saved as set (SDM vol. 3, 27.3.3).
    pub resume_flag: bool,
}

impl Exit {
    /// An exit with nothing but a reason and a qualification.
    pub const fn new(reason: Reason, qualification: u32) -> Self {
        Self {
            reason,
            qualification,
            interruption: None,
            length: 0,
            instruction: 0,
            linear: None,
            physical: None,
            resume_flag: false,
        }
    }
}

/// The bit of the exit-reason field that tells a failed entry.
pub const ENTRY_FAILURE: u32 = 1 << 31;

/// A VMX abort: a VM exit that could not be completed (SDM vol. 3, 27.7). The processor shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum Abort {
    /// A guest MSR could not be saved.
    SavingGuestMsrs = 1,
    /// The host's page-directory-pointer table has reserved bits set.
    HostPdptes = 2,
    /// A host MSR could not be loaded.
    LoadingHostMsrs = 4,
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SavingGuestMsrs => "an MSR of the VM-exit MSR-store area could not be saved",
            Self::HostPdptes => "the host's page-directory-pointer table has reserved bits set",
            Self::LoadingHostMsrs => "an MSR of the VM-exit MSR-load area could not be loaded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interruption_information_comes_back() {
        let mut event = Interruption::new(14, EventType::HardwareException);
        event.code = Some(6);
        assert_eq!(event.bits(), 0x8000_0b0e);
        assert_eq!(Interruption::of(event.bits(), 6), Some(event));
        assert_eq!(Interruption::of(0x0000_0b0e, 6), None);
        assert_eq!(Interruption::of(0x8000_0102, 0), None);
    }

    #[test]
    fn reasons_are_found_by_number() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::of(reason as u16), Some(reason));
        }
        assert_eq!(Reason::of(17), None);
    }
}

//! Events: what is delivered through the IDT, or the interrupt vector table (SDM vol. 3, 6.2 to 6.4).

use super::vmx::{EventType, Interruption};
use super::{Fault, Vector};

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fault of an instruction, or a trap after one.
    Exception(Fault),
    /// INT n, INT3 or INTO: the gate's DPL is checked, EXT stays clear.
    Software(Fault),
    /// INT n with its vector.
    SoftwareVector(u8),
    /// INT1: no DPL check, as an exception.
    PrivilegedSoftware(Fault),
    /// What a VM entry injects: neither CR2 nor DR6 is loaded (SDM vol. 3, 26.6.1).
    Injected(Interruption),
    /// A maskable interrupt.
    External(u8),
    /// A non-maskable interrupt.
    Nmi,
}

impl Event {
    /// The vector.
    pub fn vector(self) -> u8 {
        match self {
            Self::Exception(f) | Self::Software(f) | Self::PrivilegedSoftware(f) => f.vector(),
            Self::SoftwareVector(v) | Self::External(v) => v,
            Self::Injected(event) => event.vector,
            Self::Nmi => Vector::Nmi as u8,
        }
    }

    /// Whether a program asked for this: the gate's DPL is checked.
    pub fn software(self) -> bool {
        match self {
            Self::Software(_) | Self::SoftwareVector(_) => true,
            Self::Injected(event) => {
                matches!(event.kind, EventType::SoftwareInterrupt | EventType::SoftwareException)
            }
            _ => false,
        }
    }

    /// Whether this is INT n, and not one of the instructions with a vector of their own.
    pub fn int_n(self) -> bool {
        match self {
            Self::SoftwareVector(_) => true,
            Self::Injected(event) => event.kind == EventType::SoftwareInterrupt,
            _ => false,
        }
    }

    /// Whether this is the non-maskable interrupt.
    pub fn nmi(self) -> bool {
        match self {
            Self::Nmi => true,
            Self::Injected(event) => event.kind == EventType::Nmi,
            _ => false,
        }
    }

    /// The error code that is pushed, if there is one.
    pub fn error_code(self) -> Option<u16> {
        match self {
            Self::Exception(f) => f.code(),
            Self::Injected(event) => event.code.map(|code| code as u16),
            _ => None,
        }
    }

    /// The vector, if this is an exception that can become a double fault with another one.
    pub fn exception(self) -> Option<u8> {
        match self {
            Self::Exception(f) => Some(f.vector()),
            Self::Injected(event) if event.kind == EventType::HardwareException => Some(event.vector),
            _ => None,
        }
    }

    /// The error code of a fault met while delivering this: the IDT bit, and EXT unless a program asked for
    /// it.
    pub fn idt_code(self) -> u16 {
        u16::from(self.vector()) * 8 + 2
    }
}

//! What an audit found: whether the guest reached state that is the monitor's. `vmm::audit` looks.

use crate::addr::Linear;

/// State of the monitor's that the guest reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Ring 0.
    Ring,
    /// A register of the monitor's, which has another value.
    Register(&'static str),
    /// A frame of the monitor's, which has another content.
    Frames,
}

impl Breach {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring 0",
            Self::Register(name) => name,
            Self::Frames => "a frame of the monitor's",
        }
    }
}

/// An audit's result so far.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Entries into the guest that were audited.
    pub entries: u64,
    /// The first breach, with the linear address at which the guest was then.
    pub first: Option<(Breach, Linear)>,
}

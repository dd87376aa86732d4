//! The state of the virtual-machine extensions (SDM vol. 3, 23 to 24): VMX operation, the current control
//! structure, and what a guest in non-root operation keeps the processor busy with. The semantics are in
//! `exec::vmx`.

pub mod caps;
pub mod controls;
pub mod exit;
pub mod field;
pub mod guest_state;
pub mod refusal;
mod vmcs;
pub mod words;

pub use caps::{Allowed, VmxCaps};
pub use controls::{EntryControls, ExitControls, Pin, Primary, Secondary};
pub use exit::{Abort, EventType, Exit, Interruption, Reason};
pub use field::Field;
pub use vmcs::{Vmcs, region};

use super::Cr0;
use crate::clock::Ticks;
use serde::{Deserialize, Serialize};

/// VMX operation (SDM vol. 3, 23.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// Outside: before VMXON, after VMXOFF.
    #[default]
    Off,
    /// VMX root operation: the hypervisor runs.
    Root,
    /// VMX non-root operation: its guest runs.
    NonRoot,
}

/// What of CR0 an unrestricted guest may clear.
pub const UNRESTRICTED_CR0: Cr0 = Cr0::PE.union(Cr0::PG);

/// The controls that a VM entry loaded; they hold until the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Controls {
    /// Pin-based.
    pub pin: Pin,
    /// Primary processor-based.
    pub primary: Primary,
    /// Secondary processor-based; none where they are not activated.
    pub secondary: Secondary,
    /// Of exits.
    pub exit: ExitControls,
    /// Of entries.
    pub entry: EntryControls,
}

impl Controls {
    /// The controls in `vmcs`.
    pub fn of(vmcs: &Vmcs) -> Self {
        let primary = Primary::from_bits_retain(vmcs.get32(Field::PrimaryControls));
        let secondary = Secondary::from_bits_retain(vmcs.get32(Field::SecondaryControls));
        Self {
            pin: Pin::from_bits_retain(vmcs.get32(Field::PinControls)),
            primary,
            secondary: if primary.contains(Primary::SECONDARY) { secondary } else { Secondary::empty() },
            exit: ExitControls::from_bits_retain(vmcs.get32(Field::ExitControls)),
            entry: EntryControls::from_bits_retain(vmcs.get32(Field::EntryControls)),
        }
    }
}

/// The VMX state of a processor that has the extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vmx {
    /// What the processor offers.
    pub caps: VmxCaps,
    /// Where execution is.
    pub operation: Operation,
    /// The VMXON pointer; it means nothing outside VMX operation.
    pub region: u32,
    /// The current-VMCS pointer, if one is valid.
    pub current: Option<u32>,
    /// The data of the current control structure.
    pub vmcs: Vmcs,
    /// The controls of the guest that runs, or that ran last.
    pub controls: Controls,
    /// Virtual NMIs are blocked until the guest's next IRET.
    pub virtual_nmi_blocked: bool,
    /// The IRET that has just faulted had ended blocking of NMIs.
    pub unblocked_nmi: bool,
    /// When the VMX-preemption timer expires.
    pub timer: Option<Ticks>,
    /// The event that is being delivered in non-root operation: a VM exit now reports it as IDT-vectoring
    /// information, with the length of the instruction that caused it.
    pub vectoring: Option<(Interruption, u8)>,
    /// The event that the last entry injects, to be delivered before the guest's first instruction, with
    /// the length of the instruction that it stands for.
    pub injected: Option<(Interruption, u8)>,
    /// The length of the software interrupt that runs, or that is injected.
    pub length: u8,
    /// Where the instruction is that the injected event stands for, until the event is delivered.
    pub injected_from: Option<u32>,
    /// The exit that the current instruction or event asked for.
    pub exit: Option<Exit>,
    /// A VMX abort took place.
    pub aborted: Option<Abort>,
    /// VM entries so far.
    pub entries: u64,
    /// VM exits so far, failed entries left out.
    pub exits: u64,
}

impl Vmx {
    /// A processor with `caps`, after power-on.
    pub fn new(caps: VmxCaps) -> Self {
        Self {
            caps,
            operation: Operation::Off,
            region: 0,
            current: None,
            vmcs: Vmcs::default(),
            controls: Controls::default(),
            virtual_nmi_blocked: false,
            unblocked_nmi: false,
            timer: None,
            vectoring: None,
            injected: None,
            length: 0,
            injected_from: None,
            exit: None,
            aborted: None,
            entries: 0,
            exits: 0,
        }
    }

    /// Whether the guest runs.
    #[inline]
    pub fn non_root(&self) -> bool {
        self.operation == Operation::NonRoot
    }

    /// What CR0 may hold now (SDM vol. 3, 23.8): an unrestricted guest may leave paging and protected mode.
    /// `None` outside VMX operation, which fixes nothing.
    pub fn fixed_cr0(&self) -> Option<Allowed> {
        let unrestricted = self.non_root() && self.controls.secondary.contains(Secondary::UNRESTRICTED);
        let free = if unrestricted { UNRESTRICTED_CR0.bits() } else { 0 };
        (self.operation != Operation::Off).then(|| self.caps.cr0.freeing(free))
    }

    /// What CR4 may hold now.
    pub fn fixed_cr4(&self) -> Option<Allowed> {
        (self.operation != Operation::Off).then_some(self.caps.cr4)
    }

    /// What RDTSC and RDMSR add to the time-stamp counter.
    pub fn tsc_offset(&self) -> u64 {
        let offset = self.non_root() && self.controls.primary.contains(Primary::TSC_OFFSETTING);
        if offset { self.vmcs.get(Field::TscOffset) } else { 0 }
    }

    /// Whether the processor has `field`.
    pub fn has(&self, field: Field) -> bool {
        use field::Need;
        let secondary = |bit: Secondary| self.caps.secondary.is_some_and(|of| of.offers(bit.bits()));
        match field.need() {
            Need::Vmx => true,
            Need::TprShadow => self.caps.primary.offers(Primary::TPR_SHADOW.bits()),
            Need::MsrBitmaps => self.caps.primary.offers(Primary::MSR_BITMAPS.bits()),
            Need::Secondary => self.caps.secondary.is_some(),
            Need::Ept => secondary(Secondary::EPT),
            Need::Vpid => secondary(Secondary::VPID),
            Need::Pat => self.caps.exit.offers(ExitControls::LOAD_PAT.bits()),
            Need::Efer => self.caps.exit.offers(ExitControls::LOAD_EFER.bits()),
            Need::Timer => self.caps.pin.offers(Pin::TIMER.bits()),
        }
    }
}

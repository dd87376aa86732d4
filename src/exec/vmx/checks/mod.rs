//! What a VM entry checks, in the manual's order (SDM vol. 3, 26.2 and 26.3.1): controls, the host's state,
//! the guest's state. A check that fails names the field and says what is wrong with it.

mod controls;
mod guest;
mod host;

use crate::cpu::control::EFER_NXE;
pub use crate::cpu::vmx::refusal::{Failure, Stage};
use crate::cpu::vmx::{Controls, Field, Vmx};

/// What the checks look at.
pub struct Checked<'a> {
    vmx: &'a Vmx,
    controls: Controls,
    /// Reads a doubleword of physical memory.
    read: &'a mut dyn FnMut(u32) -> u32,
}

/// The exit qualifications of a failure in the guest's state.
mod qualification {
    pub(super) const DEFAULT: u32 = 0;
    pub(super) const PDPTE: u32 = 2;
    pub(super) const NMI: u32 = 3;
    pub(super) const LINK_POINTER: u32 = 4;
}

impl<'a> Checked<'a> {
    /// The current control structure of `vmx`; `read` reads physical memory.
    pub fn new(vmx: &'a Vmx, read: &'a mut dyn FnMut(u32) -> u32) -> Self {
        Self { vmx, controls: Controls::of(&vmx.vmcs), read }
    }

    fn get(&self, field: Field) -> u64 {
        self.vmx.vmcs.get(field)
    }

    fn get32(&self, field: Field) -> u32 {
        self.vmx.vmcs.get32(field)
    }
}

/// All checks of controls and of the host's state.
///
/// # Errors
/// The first one that fails.
pub fn before_guest(on: &mut Checked) -> Result<(), Failure> {
    controls::check(on)?;
    host::check(on)
}

/// All checks of the guest's state.
///
/// # Errors
/// The first one that fails.
pub fn guest_state(on: &mut Checked) -> Result<(), Failure> {
    guest::check(on)
}

fn ensure(good: bool, stage: Stage, field: Field, why: &'static str) -> Result<(), Failure> {
    if good {
        Ok(())
    } else {
        Err(Failure { stage, field, why, qualification: qualification::DEFAULT, section: "" })
    }
}

/// Whether `at` is a physical address, and a multiple of `alignment`, a power of two.
fn physical(at: u64, alignment: u64) -> bool {
    at >> 32 == 0 && at & (alignment - 1) == 0
}

/// Whether `value` is one that IA32_EFER can hold: a 32-bit processor has no bit but NXE.
fn valid_efer(value: u64) -> bool {
    value & !u64::from(EFER_NXE) == 0
}

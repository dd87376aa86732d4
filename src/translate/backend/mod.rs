//! From a plan to what runs. A backend compiles bodies; ways out, chaining and time stay with the translator.

mod portable;

use super::plan::Step;
use crate::cpu::{Cpu, Fault};
pub use portable::Portable;

/// A body broke off: what of it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Instructions.
    pub count: u8,
    /// Their bytes.
    pub bytes: u16,
    /// Why.
    pub why: Why,
}

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The next instruction faulted.
    Fault(Fault),
    /// The last one asked to leave.
    Left,
    /// The last one is a Jcc, and jumps: the number of its way out, and EIP is to be moved by so much, within 16 bits or 32.
    Exit(u8, u32, u32),
}

/// Compiles bodies and runs them.
pub trait Backend<E>: Default {
    /// A compiled body.
    type Fragment: Copy;
    /// Compiles `body`, the body of a plan or a part of it.
    fn emit(&mut self, body: &[Step]) -> Self::Fragment;
    /// Runs a body. EIP and time stay as they are; with `precise` they are kept up to date instead. [`Cpu::leave`] is clear
    /// before, and after a run to the end.
    ///
    /// # Errors
    /// Where it broke off.
    fn run(&self, body: Self::Fragment, cpu: &mut Cpu, env: &mut E, precise: bool) -> Result<(), Broken>;
    /// Bytes in use.
    fn bytes(&self) -> usize;
    /// Drops all fragments.
    fn clear(&mut self);
}

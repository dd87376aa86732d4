//! From a plan to what runs. A backend compiles bodies; ways out, chaining and time stay with the translator.

#[cfg(feature = "native-spike")]
pub mod native;
mod portable;

use super::plan::{Plan, Step};
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

/// A unit, for a backend that runs whole units.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// Its number.
    pub number: u32,
    /// EIP at its start, where it was translated.
    pub eip: u32,
    /// What it does.
    pub plan: &'a Plan,
    /// The guest's code.
    pub code: &'a [u8],
    /// Whether it is 32-bit code.
    pub code32: bool,
}

/// How far a backend got that runs chained units by itself. EIP and time are up to date, and [`Cpu::leave`] is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chained {
    /// Through the way out with this number of this unit, which it was not told the end of.
    Way(u32, usize),
    /// To this unit, of which so many instructions of the body are done; EIP and time are those of the unit's start. There is
    /// time for all of it, unless none is done.
    At(u32, u8),
}

/// Compiles bodies and runs them.
///
/// A backend may also run whole units and go from one to the next: the methods from [`Backend::complete`] on, none of which
/// need do anything.
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

    /// `fragment`, made last, is the body of `unit`, or all of it but a comparison that is one with the Jcc at the end.
    fn complete(&mut self, fragment: Self::Fragment, unit: Whole<'_>) {
        let _ = (fragment, unit);
    }
    /// From now on the way out with this number leads from one unit to the other, at `eip`.
    fn link(&mut self, from: Self::Fragment, way: usize, to: Self::Fragment, eip: u32) {
        let _ = (from, way, to, eip);
    }
    /// No way out leads anywhere any more.
    fn unlink(&mut self) {}
    /// Runs units from the start of this one on, at CS:EIP, until [`Cpu::deadline`] is near or something else is up. `None`:
    /// it did nothing.
    #[inline(always)]
    fn chain(&mut self, from: Self::Fragment, cpu: &mut Cpu, env: &mut E) -> Option<Chained> {
        let _ = (from, cpu, env);
        None
    }
    /// `body` without its first instructions, which are done.
    fn rest(&self, body: Self::Fragment, done: u8) -> Self::Fragment;
}

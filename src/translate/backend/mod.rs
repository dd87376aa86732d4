//! From a plan to what runs. A backend compiles bodies and near branches; other tails, chaining and deadlines
//! stay with the translator.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod native;
mod portable;

use super::plan::Plan;
use crate::cpu::{Cpu, Fault};
pub use portable::Portable;

/// How a run of a fragment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Through the way out with this number. EIP and time are up to date.
    Way(usize),
    /// At the end of the body, and the tail is for somebody else. EIP and time are as they were.
    Tail,
    /// The unit is complete, and asked to leave. EIP and time are up to date.
    Left,
    /// The branch at its end faulted. EIP and time are up to date.
    Fault(Fault),
    /// The body broke off. EIP and time are as they were.
    Broken(Broken),
    /// So many instructions are complete, as many as were to run. EIP and time are as they were.
    Paused(u8),
}

/// A body broke off: what of it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Instructions.
    pub count: u8,
    /// Their bytes.
    pub bytes: u16,
    /// The fault of the next one; `None`: the last one asked to leave.
    pub fault: Option<Fault>,
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

/// How far a backend got that runs chained units by itself. EIP and time are up to date, and [`Cpu::leave`]
/// is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chained {
    /// Through the way out with this number of this unit, which it was not told the end of.
    Way(u32, usize),
    /// To this unit, of which so many instructions of the body are done; EIP and time are those of the unit's
    /// start. There is time for all of it, unless none is done.
    At(u32, u8),
}

/// Compiles units and runs them.
///
/// A backend may also run whole units and go from one to the next: the methods from [`Backend::complete`] on,
/// none of which need do anything.
pub trait Backend<E>: Default {
    /// Whether it runs chained units by itself.
    const CHAINS: bool = false;
    /// A compiled unit.
    type Fragment: Clone;
    /// Compiles `plan`: its body, and what it can of its tail.
    fn emit(&mut self, plan: &Plan) -> Self::Fragment;
    /// Runs a fragment but its first instructions, so many as are done; EIP and time are those of the unit's
    /// start. With `precise` they are kept up to date within the body, and else only from its end on.
    /// [`Cpu::leave`] is clear before, and after a way out.
    fn run(&self, fragment: &Self::Fragment, done: u8, cpu: &mut Cpu, env: &mut E, precise: bool) -> Ended;
    /// Runs the instructions of a fragment from number `done` up to number `most`, but none of a tail that is
    /// somebody else's. EIP and time are those of the unit's start, as in [`Backend::run`], and kept up to
    /// date within the body.
    fn run_part(&self, fragment: &Self::Fragment, done: u8, most: u8, cpu: &mut Cpu, env: &mut E) -> Ended;
    /// Whether a comparison and the Jcc at the end are one operation.
    fn is_fused(&self, fragment: &Self::Fragment) -> bool;
    /// Bytes in use.
    fn bytes(&self) -> usize;
    /// Drops all fragments.
    fn clear(&mut self);

    /// `fragment`, made last, is that of `unit`.
    fn complete(&mut self, fragment: &Self::Fragment, unit: Whole<'_>) {
        let _ = (fragment, unit);
    }
    /// From now on the way out with this number leads from one unit to the other, at `eip`.
    fn link(&mut self, from: &Self::Fragment, way: usize, to: &Self::Fragment, eip: u32) {
        let _ = (from, way, to, eip);
    }
    /// No way out leads anywhere any more.
    fn unlink(&mut self) {}
    /// Runs units from the start of this one on, at CS:EIP, until [`Cpu::deadline`] is near or something else
    /// is up. `None`: it did nothing.
    #[inline(always)]
    fn chain(&mut self, from: &Self::Fragment, cpu: &mut Cpu, env: &mut E) -> Option<Chained> {
        let _ = (from, cpu, env);
        None
    }
}

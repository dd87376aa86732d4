//! Where a run paused: in a unit, or past one whose way out was not followed yet.
//!
//! A deadline may fall between any two instructions. Units are entered when the guest's control enters them,
//! so what a run translates, chains and counts must not depend on where its deadlines fall. A run that
//! reaches its deadline notes the place; the next run goes on there, unless something else happened
//! meanwhile: an event was delivered, code was overwritten, the guest was changed from outside.

use crate::bus::Ticks;

/// A place in the midst of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before this unit, which a link led to.
    Before(u32),
    /// In this unit, of which so many instructions are done. The next one may have begun, if it is a repeated
    /// string instruction.
    Within(u32, u8),
    /// At the end of this unit, which was left through the way out with this number.
    Past(u32, usize),
}

/// What the processor and the translator looked like at a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) linear: u32,
    pub(super) now: Ticks,
    pub(super) mode: u8,
    pub(super) stamp: u32,
}

/// A pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) place: Option<Place>,
    pub(super) state: State,
}

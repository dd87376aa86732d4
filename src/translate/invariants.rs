//! Rules of the translator that tests break, one at a time, to see who notices: see [`super::bug`]. Outside
//! of tests every rule holds.

use super::bug::{Bug, on};

/// A flag that a later instruction of the unit reads is not dead.
#[inline(always)]
pub(super) fn read_flags_live() -> bool {
    !on(Bug::DeadFlags)
}

/// A unit whose code was overwritten is looked at before it runs.
#[inline(always)]
pub(super) fn stale_units_are_checked() -> bool {
    !on(Bug::StaleUnit)
}

/// Links hold until code is overwritten: the epoch of code, `now`, which was `before` when they were made.
#[inline(always)]
pub(super) fn epoch_of_links(now: u32, before: u32) -> u32 {
    if on(Bug::DeadChain) { before } else { now }
}

/// An inline cache leads to the unit of its own target only.
#[inline(always)]
pub(super) fn is_own_target(cached: u32, target: u32) -> bool {
    cached == target || on(Bug::StaleInlineCache)
}

/// A callout waits behind the deadline.
#[inline(always)]
pub(super) fn callouts_heed_deadline() -> bool {
    !on(Bug::LateCallout)
}

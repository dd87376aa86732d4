//! Seeded bugs of the translator: each breaks one rule of [`super::invariants`]. See `crate::seeded`.

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "made by tests only")]
pub(crate) enum Bug {
    /// Flags that a later instruction of the unit reads are taken for dead.
    DeadFlags,
    /// A unit whose code was overwritten is run as it is.
    StaleUnit,
    /// Overwritten code leaves the links to its units.
    DeadChain,
    /// An inline cache leads to the same unit whatever the target is.
    StaleInlineCache,
    /// A callout is made after the deadline.
    LateCallout,
}

crate::seeded::switch!(pub(crate));

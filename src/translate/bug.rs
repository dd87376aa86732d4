//! Bugs to order in the translator, as `vmm::bug` has them for the monitor. They exist in the library's own tests only;
//! elsewhere [`on`] is false, and costs nothing.

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

#[cfg(test)]
thread_local! {
    static NOW: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether `bug` is switched on in this thread.
#[inline(always)]
pub(crate) fn on(bug: Bug) -> bool {
    #[cfg(test)]
    return NOW.get() == Some(bug);
    #[cfg(not(test))]
    {
        let _ = bug;
        false
    }
}

/// Runs `f` with `bug` switched on.
#[cfg(test)]
pub(crate) fn with<T>(bug: Option<Bug>, f: impl FnOnce() -> T) -> T {
    NOW.set(bug);
    let result = f();
    NOW.set(None);
    result
}

//! Bugs to order: each breaks one rule of the monitor's, so that the tests can show that they would notice. They exist in
//! the library's own tests only; elsewhere [`on`] is false, and costs nothing.

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "made by tests only")]
pub(super) enum Bug {
    /// A frame that becomes traced stays writable where it is mapped.
    SkipTrace,
    /// A page is mapped writable before the guest's dirty bit is set.
    ForgetDirty,
    /// Every page is the user's.
    WrongUser,
    /// The guest's read-only pages are writable.
    WrongWrite,
    /// A write to a traced page table changes nothing in the shadow.
    ForgetSync,
    /// INVLPG changes nothing in the virtual TLB.
    ForgetInvlpg,
    /// A load of CR3 changes nothing in the virtual TLB.
    ForgetCr3,
    /// The real TLB keeps what the shadow took away.
    StaleTlb,
    /// A write to the guest's GDT does not reach its shadow.
    ForgetDescriptor,
    /// Guest segments are not truncated.
    SkipTruncation,
    /// IOPL is passed on to the real processor.
    PassIopl,
    /// The guest's IF becomes the real one's.
    LoseIf,
}

#[cfg(test)]
thread_local! {
    static NOW: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether `bug` is switched on in this thread.
#[inline(always)]
pub(super) fn on(bug: Bug) -> bool {
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
pub(super) fn with<T>(bug: Option<Bug>, f: impl FnOnce() -> T) -> T {
    NOW.set(bug);
    let result = f();
    NOW.set(None);
    result
}

//! Seeded bugs: each breaks one rule of the monitor, so that the tests can show that they would notice.
//! [`super::invariants`] has the rules; see `crate::seeded`.

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
    /// A translation is made without the guest's accessed bits.
    ForgetAccessed,
    /// An instruction that read a page-table entry before it touched the page reads it again when that has
    /// marked it.
    EarlyMarks,
    /// CR0.WP tells no address spaces apart.
    IgnoreWp,
    /// CR4.PSE tells no address spaces apart.
    IgnorePse,
    /// All small pages of a large one are mapped to its first frame.
    WrongSplit,
    /// Where a chip answers, or nobody, reads go to a frame.
    MapChips,
    /// The copies of the guest's ROM are mapped writable.
    WritableRom,
    /// A frame that is a page table no longer stays traced.
    KeepTables,
    /// For want of room the address space goes that was used last.
    EvictNewest,
    /// A flush of all translations leaves global ones in the virtual TLB.
    KeepGlobals,
    /// A write to a traced page table changes nothing in the shadow.
    ForgetSync,
    /// INVLPG changes nothing in the virtual TLB.
    ForgetInvlpg,
    /// A load of CR3 changes nothing in the virtual TLB.
    ForgetCr3,
    /// Address spaces under PAE are told apart by CR3, not by what the PDPTE registers were loaded with.
    StalePointers,
    /// A write to a PAE page table is taken for one to entries of 32 bits.
    HalfEntries,
    /// A translation for which room had to be made is not noted anew with the policy.
    ForgetRefilling,
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
    /// A selector that the real processor loaded shows its RPL to the guest.
    ShowRpl,
    /// The shadow of STI, or of a load of SS, ends with an exit.
    LoseShadow,
    /// The instruction after a hidden page fault is emulated.
    EmulateFilled,
    /// Guest segments are truncated far below the monitor.
    ShortSegments,
    /// A page is mapped to the frame that lies behind the right one in the machine.
    WrongFrame,
    /// The real IF is the guest's.
    PassIf,
    /// The clock runs on by one instruction too many where the monitor emulates.
    OverBudget,
    /// Keeping a log of exits takes guest time.
    CostlyLog,
    /// The guest reads the real CR0 and CR4.
    ShowReal,
    /// STI and POPF do not look whether an interrupt waits.
    MissWindow,
    /// POPF in translated code leaves the virtual IF as it was.
    KeepIf,
    /// IRET in translated code leaves NMIs blocked.
    BlockNmis,
    /// IRET in translated code does not look at the ring that it returns to.
    AnyRing,
    /// The selectors that x87 notes are the real processor's once CS or SS was loaded in translated code.
    LateSelector,
    /// A segment register that an inline sequence loaded stays the guest's in the real processor.
    UncutSegment,
    /// Translated code calls out for an innocuous instruction.
    NeedlessCallout,
    /// An access that never exited becomes a callout.
    EagerAdaptation,
}

crate::seeded::switch!(pub(super));

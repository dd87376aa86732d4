//! The terms of modelled cycles: events, each of which a cost table prices.

use super::exit::Cause;
use std::borrow::Cow;

/// A kind of event with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// An instruction that ran without intervention.
    Direct,
    /// An interpreted instruction.
    Interpreted,
    /// An exit under ring compression: a fault.
    Exit(Cause),
    /// A VM exit, and the entry after it.
    VmExit(Cause),
    /// A reference of a two-dimensional walk, beyond those that the guest's tables alone would take.
    Reference,
    /// An instruction in translated code.
    Translated,
    /// An inline sequence.
    Inline,
    /// A callout.
    Callout,
    /// A way out of a unit that was not chained to where it led.
    Miss,
    /// A guest instruction that was translated.
    Translation,
}

impl Term {
    /// All terms, in the order of tables.
    pub fn all() -> impl Iterator<Item = Self> {
        let translation = [Self::Translated, Self::Inline, Self::Callout, Self::Miss, Self::Translation];
        let exits = Cause::RING.into_iter().map(Self::Exit);
        let vm_exits = Cause::under_vmx().map(Self::VmExit).chain([Self::Reference]);
        [Self::Direct, Self::Interpreted].into_iter().chain(exits).chain(translation).chain(vm_exits)
    }

    /// The name in a cost table, with the table's section where two could be confused.
    pub fn name(self) -> Cow<'static, str> {
        let name = match self {
            Self::Direct => "instruction",
            Self::Interpreted => "interpreted",
            Self::Exit(cause) => cause.name(),
            Self::VmExit(cause) => return format!("vm-exit.{}", cause.key()).into(),
            Self::Reference => "reference",
            Self::Translated => "translation.instruction",
            Self::Inline => "translation.inline",
            Self::Callout => "translation.callout",
            Self::Miss => "translation.miss",
            Self::Translation => "translation.translated",
        };
        name.into()
    }
}

//! The terms of modelled cycles: events, each of which a cost table prices.

use super::exit::Cause;

/// A kind of event with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// An instruction that ran without intervention.
    Direct,
    /// An interpreted instruction.
    Interpreted,
    /// An exit.
    Exit(Cause),
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
        let exits = Cause::ALL.into_iter().map(Self::Exit);
        [Self::Direct, Self::Interpreted].into_iter().chain(exits).chain(translation)
    }

    /// The name in a cost table, with the table's section where two could be confused.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "instruction",
            Self::Interpreted => "interpreted",
            Self::Exit(cause) => cause.name(),
            Self::Translated => "translation.instruction",
            Self::Inline => "translation.inline",
            Self::Callout => "translation.callout",
            Self::Miss => "translation.miss",
            Self::Translation => "translation.translated",
        }
    }
}

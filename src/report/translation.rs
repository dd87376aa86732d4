//! What was counted of binary translation.

use serde::Serialize;
use std::collections::BTreeMap;

/// What was counted of binary translation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TranslationFigures {
    /// Units translated.
    pub units: u64,
    /// Guest instructions translated, each time that they were.
    pub instructions: u64,
    /// Guest instructions carried over unchanged.
    pub ident: u64,
    /// Bytes of fragments now, for each byte of guest code that is translated now.
    pub expansion: f64,
    /// Runs of units.
    pub runs: u64,
    /// Indirect branches that units ended with.
    pub indirect: u64,
    /// Inline sequences that units ended with.
    pub inline: u64,
    /// Ways out that were not chained to where they led.
    pub misses: u64,
    /// Indirect branches whose inline cache had another target.
    pub indirect_misses: u64,
    /// Entries from outside of translated code.
    pub entries: u64,
    /// Single instructions: before a deadline, in a shadow, across a page.
    pub singles: u64,
    /// Callouts by rule.
    pub callouts: BTreeMap<&'static str, u64>,
    /// Inline sequences run, by rule.
    pub inlined: BTreeMap<&'static str, u64>,
    /// Units thrown away, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Units whose page was written to, and whose code was found to be the same.
    pub renewed: u64,
    /// Accesses that became callouts.
    pub adapted: u64,
    /// Accesses that were carried over again.
    pub reverted: u64,
}

impl TranslationFigures {
    /// How often the rule called `name` came into play.
    pub fn uses(&self, name: &str) -> u64 {
        let of = |counts: &BTreeMap<&'static str, u64>| counts.get(name).copied().unwrap_or(0);
        of(&self.callouts) + of(&self.inlined)
    }

    /// Callouts, all together.
    pub fn all_callouts(&self) -> u64 {
        self.callouts.values().sum()
    }

    /// Ways out of units that were chained, of a hundred.
    pub fn chained(&self) -> f64 {
        share(
            self.runs.saturating_sub(self.misses + self.entries.min(self.runs)),
            self.runs.saturating_sub(self.entries),
        )
    }

    /// Indirect branches whose inline cache had the target, of a hundred.
    pub fn indirect_hits(&self) -> f64 {
        share(self.indirect.saturating_sub(self.indirect_misses), self.indirect)
    }

    /// Instructions carried over unchanged, of a hundred translated.
    pub fn ident_share(&self) -> f64 {
        share(self.ident, self.instructions)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}

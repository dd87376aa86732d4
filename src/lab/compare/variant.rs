//! What `compare` runs: a cell, with the rewriting rule and the adaptation that its monitor does without.

use crate::cell::{Cell, Strategy};
use crate::translate::RuleId;
use crate::vmm::{self, bt::rules};
use std::fmt;

/// A row of the table before it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The strategy, the MMU, its coherence and the engine.
    pub cell: Cell,
    /// The rewriting rule that is not in force.
    pub without: Option<RuleId>,
    /// Accesses that keep leaving translated code are translated again, into callouts.
    pub adaptive: bool,
}

impl Variant {
    /// The bare machine.
    pub const BARE: Self = Self { cell: Cell::BARE, without: None, adaptive: true };

    /// Name of the rule that is not in force.
    pub fn without_name(&self) -> Option<&'static str> {
        self.without.map(|id| rules::by_id(id).name)
    }
}

impl From<vmm::Config> for Variant {
    fn from(config: vmm::Config) -> Self {
        Self { cell: config.cell, without: config.without, adaptive: config.adaptive }
    }
}

/// The cell, and what its monitor runs without: `bt shadow/trace without POPF`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adaptation = (!self.adaptive).then_some("adaptation");
        let missing: Vec<_> = adaptation.into_iter().chain(self.without_name()).collect();
        let without = if missing.is_empty() { "" } else { " without " };
        f.pad(&format!("{}{without}{}", self.cell, missing.join(" and ")))
    }
}

/// A monitor for each of `cells`, set up by `base`. Without a rule, or without adaptation, each translating
/// monitor comes whole and then without it.
pub fn variants(cells: impl Iterator<Item = Cell>, base: impl Fn(Cell) -> vmm::Config) -> Vec<vmm::Config> {
    let variants = |cell| {
        let config = base(cell);
        let pair = match (config.without, config.adaptive) {
            (Some(_), _) => [vmm::Config { without: None, ..config }, config],
            (None, false) => [vmm::Config { adaptive: true, ..config }, config],
            (None, true) => return vec![config],
        };
        if cell.strategy() == Strategy::Bt { pair.to_vec() } else { Vec::new() }
    };
    cells.flat_map(variants).collect()
}

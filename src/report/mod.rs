//! What a monitor says of itself. A [`Report`] is what was counted of a run so far; the other types are the
//! vocabulary of the views that `machine::monitor` declares. Pure data: `vmm` fills it, `lab` and `cli` read
//! it.
//!
//! | file | what it is |
//! |---|---|
//! | `exit` | exits by cause and place |
//! | `counts` | who ran the instructions, and why some were interpreted |
//! | `translation` | the figures of binary translation |
//! | `terms` | the terms of modelled cycles |
//! | `audit` | whether the guest reached state of the monitor's |
//! | `shadow`, `journal` | shadow page tables: entries, traced frames, and the history of entries |

mod audit;
mod counts;
mod exit;
mod journal;
mod shadow;
mod terms;
mod translation;

pub use audit::{Audit, Breach};
pub use counts::{Counts, Obstacle};
pub use exit::{Cause, Exit, Exits};
pub use journal::{About, Journal, Noted, Origin};
pub use shadow::{
    Change, Key, Leaf, MmuCounts, NestedCounts, NestedFigures, NestedLeaf, Reason, Role, Root, ShadowFigures,
    Top, Walks,
};
pub use terms::Term;
pub use translation::TranslationFigures;

use crate::cell::{Cell, Strategy};

/// What was counted of a run under a monitor so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cell that the monitor realises.
    pub cell: Cell,
    /// Who ran the instructions.
    pub counts: Counts,
    /// Exits by cause and place.
    pub exits: Exits,
    /// Figures of the shadow page tables, if there are any.
    pub shadow: Option<ShadowFigures>,
    /// Figures of the extended page tables, if there are any.
    pub nested: Option<NestedFigures>,
    /// Figures of binary translation, callouts by rule among them, if guest code is translated.
    pub translation: Option<TranslationFigures>,
    /// The audit's result, if one was asked for.
    pub audit: Option<Audit>,
}

impl Report {
    /// The terms from which modelled cycles are computed, with how often each occurred. A term that cannot
    /// occur in this cell is left out, and so is a cause without exits.
    pub fn terms(&self) -> Vec<(Term, u64)> {
        let counts = &self.counts;
        let mut terms =
            vec![(Term::Direct, counts.direct), (Term::Interpreted, counts.interpreted.values().sum())];
        let exit = if self.cell.strategy() == Strategy::Hvm { Term::VmExit } else { Term::Exit };
        terms.extend(self.exits.by_cause.iter().map(|(&cause, &n)| (exit(cause), n)));
        if let Some(NestedFigures { walks, .. }) = &self.nested {
            terms.push((Term::Reference, walks.references - walks.native));
        }
        if let Some(translation) = &self.translation {
            terms.extend([
                (Term::Translated, counts.translated),
                (Term::Inline, translation.inline),
                (Term::Callout, translation.all_callouts()),
                (Term::Miss, translation.misses),
                (Term::Translation, translation.instructions),
            ]);
        }
        terms
    }
}

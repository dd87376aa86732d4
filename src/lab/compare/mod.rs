//! One guest on the bare machine and under monitors: where they part, and what each costs.
//!
//! | file | what it is |
//! |---|---|
//! | `reference` | the bare machine's run |
//! | `variant` | what is compared with it: a cell, and what its monitor runs without |
//! | `comparison` | runs a variant and holds it against the reference |
//! | `strides`, `boundaries` | the first instruction after which two machines differ |
//! | `census` | every divergence under trap, healed one by one |
//! | `divergence`, `diagnosis` | that instruction, what differs, and why |
//! | `row`, `figures` | a run and its counts |
//! | `phases` | the counts of parts of a run that the guest names |
//! | `findings` | what one row says of another |

pub mod boundaries;
pub mod census;
mod comparison;
pub mod diagnosis;
mod divergence;
pub mod figures;
mod findings;
mod phases;
mod reference;
mod row;
pub mod strides;
mod variant;

pub use comparison::{Comparison, Doing};
pub use divergence::Divergence;
pub use findings::{Broken, Finding, adaptation, findings};
pub use phases::{Phase, Phases, Spent};
pub use reference::Reference;
pub use row::{Outcome, Row};
pub use variant::{Variant, variants};

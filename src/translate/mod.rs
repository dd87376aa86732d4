//! The binary translator: system level, dynamic, on demand, after Adams and Agesen (ASPLOS 2006, section 3).
//!
//! Guest code is cut into *units*, which end at control flow, at a sensitive instruction, at a length bound
//! or a page's end. A unit is planned (what becomes of each instruction, which flags nobody reads), and a
//! backend compiles the plan into a *fragment*. Fragments chain: each way out of a unit remembers the unit
//! that it led to last, for direct branches and, as an inline cache, for indirect ones. What becomes of an
//! instruction is not decided here but by a [`Policy`].
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | from decoded instructions to a plan; the policy's seam |
//! | `flags` | which flags are dead |
//! | `backend` | from a plan to what runs: the seam, and `portable` |
//! | `unit`, `store` | a unit and its ways out; all units |
//! | `dropped` | dropped units, for observers |
//! | `tally` | how often each instruction of a unit ran, for observers |
//! | `translator` | the translator's state |
//! | `run` | running chained units |
//! | `code` | translated code behind one seam: the engine is looked up at run time |
//! | `pause`, `resume` | where a run paused, and going on there: how a run is cut does not show |
//! | `bug`, `invariants` | rules that tests can break, and what holds where none is broken |
//!
//! Time and EIP are brought up to date at a unit's end, or when it breaks off. An access that does not go
//! straight to RAM finds those of its instruction: chips depend on them.

pub mod backend;
pub(crate) mod bug;
mod code;
mod dropped;
mod flags;
mod invariants;
mod pause;
pub mod plan;
mod resume;
mod run;
mod store;
mod tally;
mod translator;
mod unit;
pub use code::{TranslatedCode, lookup, portable};
pub use plan::{Ending, Flow, Plan, Policy, RuleId, Step, Tail, Treatment};
pub use translator::{Counts, Left, Limits, Translator};
pub use unit::{Runs, UnitInfo, Why};

//! The binary translator: system level, dynamic, on demand, after Adams and Agesen (ASPLOS 2006, section 3).
//!
//! Guest code is cut into *units*, which end at control flow, at a sensitive instruction, at a length bound or a page's end.
//! A unit is planned (what becomes of each instruction, which flags nobody reads), and a backend compiles the plan into a
//! *fragment*. Fragments chain: each way out of a unit remembers the unit that it led to last, for direct branches and,
//! as an inline cache, for indirect ones. What becomes of an instruction is not decided here but by a [`Policy`].
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | from decoded instructions to a plan; the policy's seam |
//! | `flags` | which flags are dead |
//! | `backend` | from a plan to what runs: the seam, and `portable` |
//! | `unit`, `store` | a unit and its ways out; all units |
//! | `dropped` | dropped units, for observers |
//! | `tally` | how often each instruction of a unit ran, for observers |
//! | `run` | running chained units |
//! | `bug`, `invariants` | rules that tests can break, and what holds where none is broken |
//!
//! Memory has to be memory: an access must not depend on the time at which it is made, since time and EIP are brought up to
//! date at a unit's end, or when it breaks off. A monitor's machine is such a world; there chips are never mapped.

pub mod backend;
pub(crate) mod bug;
mod dropped;
mod flags;
mod invariants;
pub mod plan;
mod run;
mod store;
mod tally;
mod unit;

use crate::interp::{CodeEnv, Interp, Stop};
use backend::{Backend, Portable};
pub use plan::{Ending, Flow, Plan, Policy, RuleId, Step, Tail, Treatment};
use store::Store;
pub use unit::{Runs, UnitInfo, Why};

/// Why the translator came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As an engine stops.
    Stop(Stop),
    /// The instruction at CS:EIP is the monitor's to run, by this rule.
    Callout(RuleId),
    /// The policy wants the monitor to look up.
    Look,
}

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instructions in a unit, at most.
    pub unit: usize,
    /// Bytes of fragments; when they are used up everything is dropped.
    pub fragments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unit: 24, fragments: 64 << 20 }
    }
}

/// What was counted. How often units ran is counted by unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units translated.
    pub translated: u64,
    /// Their guest instructions.
    pub instructions: u64,
    /// Of these, carried over unchanged.
    pub ident: u64,
    /// Their bytes of guest code.
    pub guest_bytes: u64,
    /// Ways out that were not chained, and had to be looked up: by a direct branch, or falling through.
    pub direct_misses: u64,
    /// The same by an indirect branch or a return: the inline cache had another target.
    pub indirect_misses: u64,
    /// Lookups that the hash table of linear addresses answered.
    pub table_hits: u64,
    /// Entries into translated code from outside.
    pub entries: u64,
    /// Single instructions run outside of units: before a deadline, in a shadow, across a page.
    pub singles: u64,
    /// Stale units whose code turned out to be the same.
    pub renewed: u64,
    /// Units thrown away, by cause.
    pub dropped: [u64; Why::COUNT],
}

/// The translator's state: caches and counts only, so it can be dropped and made anew at any time.
pub struct Translator<E, B: Backend<E> = Portable<E>> {
    /// Runs single instructions, and decodes.
    steps: Interp<E>,
    backend: B,
    store: Store<B::Fragment, E>,
    /// Bounds.
    pub limits: Limits,
    /// Comes back after each unit, as the policy would have it. The next one is then the one that it would have been chained to.
    pub by_unit: bool,
    /// What was counted.
    pub counts: Counts,
    /// Links and looked-up addresses with another stamp have to be checked again.
    stamp: u32,
    /// How often units ran that are no longer there.
    gone: Runs,
    /// The environment's, of translations and of code, when the stamp was made.
    epochs: (u32, u32),
    map_epoch: u32,
}

impl<E: CodeEnv, B: Backend<E>> Default for Translator<E, B> {
    fn default() -> Self {
        Self {
            steps: Interp::default(),
            backend: B::default(),
            store: Store::default(),
            limits: Limits::default(),
            by_unit: false,
            counts: Counts::default(),
            stamp: 1,
            gone: Runs::default(),
            epochs: (0, 0),
            map_epoch: 0,
        }
    }
}

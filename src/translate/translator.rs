//! The translator's state, its bounds, and what it counts.

use super::backend::Backend;
use super::pause::Pause;
use super::plan::RuleId;
use super::store::Store;
use super::unit::{Runs, Why};
use crate::interp::{CodeEnv, Interp, Stop};

/// Why the translator came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The engine stopped.
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
    /// Guest instructions of the units translated.
    pub instructions: u64,
    /// Guest instructions carried over unchanged.
    pub ident: u64,
    /// Bytes of guest code of the units translated.
    pub guest_bytes: u64,
    /// Ways out that were not chained, and had to be looked up: by a direct branch, or falling through.
    pub direct_misses: u64,
    /// Ways out by an indirect branch or a return whose inline cache had another target.
    pub indirect_misses: u64,
    /// Lookups that the hash table of linear addresses answered.
    pub table_hits: u64,
    /// Entries into translated code from outside.
    pub entries: u64,
    /// Single instructions run outside of units: in a shadow, beside breakpoints, where code cannot be kept.
    pub singles: u64,
    /// Stale units whose code turned out to be the same.
    pub renewed: u64,
    /// Units thrown away, by cause.
    pub dropped: [u64; Why::COUNT],
}

/// The translator's state: caches and counts only, so it can be dropped and made anew at any time.
pub struct Translator<E, B: Backend<E>> {
    /// The interpreter: runs single instructions, and decodes.
    pub(super) steps: Interp<E>,
    pub(super) backend: B,
    pub(super) store: Store<B::Fragment, E>,
    /// Bounds.
    pub limits: Limits,
    /// Comes back after each unit, as a policy that looks up would have it. The next run goes on in the unit
    /// that would have been chained.
    pub by_unit: bool,
    /// What was counted.
    pub counts: Counts,
    /// Links and looked-up addresses with another stamp have to be checked again.
    pub(super) stamp: u32,
    /// How often units ran that are no longer there.
    pub(super) gone: Runs,
    /// The environment's epochs of address translation and of code when the stamp was made.
    pub(super) epochs: (u32, u32),
    pub(super) map_epoch: u32,
    /// Where the last run paused.
    pub(super) paused: Option<Pause>,
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
            paused: None,
        }
    }
}

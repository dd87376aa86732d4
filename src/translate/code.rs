//! Translated code as who runs a guest sees it: one object, whatever runs it on the host. [`lookup`] is the
//! one place that knows which engines translate.

use super::backend::{Backend, Portable};
use super::plan::Policy;
use super::translator::{Counts, Left, Limits, Translator};
use super::unit::{Runs, UnitInfo};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cell::Engine;
use crate::cpu::Cpu;
use crate::interp::{CodeEnv, Interp};

/// Translated code, and the making and running of it.
pub trait TranslatedCode<E> {
    /// Runs until `limit`, a fault, or a reason to come back.
    fn run(&mut self, cpu: &mut Cpu, env: &mut E, policy: &mut dyn Policy<E>, limit: Ticks) -> Left;
    /// Forgets all translations.
    fn forget(&mut self);
    /// Translates anew what was translated from the instruction at `at`: the policy has changed its mind
    /// about it.
    fn retranslate(&mut self, at: Linear);
    /// The interpreter, which runs single instructions and knows the pages that code was last fetched from.
    fn interp(&self) -> &Interp<E>;
    /// The interpreter, to change.
    fn interp_mut(&mut self) -> &mut Interp<E>;
    /// Makes runs come back after each unit, or no longer.
    fn stop_after_units(&mut self, on: bool);
    /// The bounds on what is kept, to change.
    fn limits_mut(&mut self) -> &mut Limits;
    /// Units, instructions and lookups counted so far.
    fn counts(&self) -> &Counts;
    /// How often units ran so far.
    fn runs(&self) -> Runs;
    /// Bytes of fragments.
    fn fragment_bytes(&self) -> usize;
    /// Counts from now on how often each instruction of a unit runs, for units that are still to be
    /// translated.
    fn count_instructions(&mut self);
    /// Keeps the last `most` units that are dropped together for [`TranslatedCode::all_units`] from now on.
    fn keep_dropped(&mut self, most: usize);
    /// The number of units that were dropped and are not kept.
    fn lost_units(&self) -> u32;
    /// The unit with this number, if it is there or kept.
    fn unit(&self, number: u32) -> Option<UnitInfo<'_>>;
    /// All units since everything was last dropped, in the order of translation.
    fn units(&self) -> Box<dyn Iterator<Item = UnitInfo<'_>> + '_>;
    /// The units dropped before that are kept, and [`TranslatedCode::units`].
    fn all_units(&self) -> Box<dyn Iterator<Item = UnitInfo<'_>> + '_>;
}

/// The translated code of `engine`; `None` for one that translates nothing.
pub fn lookup<E: CodeEnv + 'static>(engine: Engine) -> Option<Box<dyn TranslatedCode<E>>> {
    match engine {
        Engine::Interp => None,
        Engine::Portable => Some(portable()),
    }
}

/// Translated code that runs on any host.
pub fn portable<E: CodeEnv + 'static>() -> Box<dyn TranslatedCode<E>> {
    Box::new(Translator::<E, Portable<E>>::default())
}

impl<E: CodeEnv, B: Backend<E>> TranslatedCode<E> for Translator<E, B> {
    fn run(&mut self, cpu: &mut Cpu, env: &mut E, policy: &mut dyn Policy<E>, limit: Ticks) -> Left {
        Self::run(self, cpu, env, policy, limit)
    }
    fn forget(&mut self) {
        Self::forget(self);
    }
    fn retranslate(&mut self, at: Linear) {
        Self::retranslate(self, at);
    }
    fn interp(&self) -> &Interp<E> {
        &self.steps
    }
    fn interp_mut(&mut self) -> &mut Interp<E> {
        &mut self.steps
    }
    fn stop_after_units(&mut self, on: bool) {
        self.by_unit = on;
    }
    fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }
    fn counts(&self) -> &Counts {
        &self.counts
    }
    fn runs(&self) -> Runs {
        Self::runs(self)
    }
    fn fragment_bytes(&self) -> usize {
        self.backend.bytes()
    }
    fn count_instructions(&mut self) {
        self.store.tallies = true;
    }
    fn keep_dropped(&mut self, most: usize) {
        self.store.dropped.keep(most);
    }
    fn lost_units(&self) -> u32 {
        self.store.dropped.lost()
    }
    fn unit(&self, number: u32) -> Option<UnitInfo<'_>> {
        Self::unit(self, number)
    }
    fn units(&self) -> Box<dyn Iterator<Item = UnitInfo<'_>> + '_> {
        Box::new(Self::units(self))
    }
    fn all_units(&self) -> Box<dyn Iterator<Item = UnitInfo<'_>> + '_> {
        Box::new(self.store.dropped.iter().chain(Self::units(self)))
    }
}

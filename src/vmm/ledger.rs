//! What a monitor counts: exits, who ran the instructions, and a log of exits if an observer wants one.

use super::place::Place;
use crate::machine::World;
use crate::report::{Cause, Counts, Exit, Exits};

/// The counts.
#[derive(Default)]
pub(in crate::vmm) struct Ledger {
    /// Exits so far.
    pub(in crate::vmm) exits: Exits,
    /// Who ran the instructions so far.
    pub(in crate::vmm) counts: Counts,
    /// The exits as they come, if an observer wants them.
    log: Option<Vec<Exit>>,
}

impl Ledger {
    /// Counts an exit, and tells observers of it.
    pub(in crate::vmm) fn count(&mut self, world: &mut World, cause: Cause, at: Place) {
        self.exits.count(cause, at.linear);
        world.tell_exit(at.when, cause.name(), at.cs, at.eip);
        if let Some(log) = &mut self.log {
            log.push(Exit { now: at.when.ticks, cause, cs: at.cs, eip: at.eip });
        }
    }

    /// Keeps a log of exits from now on, or none.
    pub(in crate::vmm) fn keep_log(&mut self, on: bool) {
        self.log = on.then(Vec::new);
    }

    /// Whether a log is kept.
    pub(in crate::vmm) fn is_logging(&self) -> bool {
        self.log.is_some()
    }

    /// The exits that were logged since the last call, in their order.
    pub(in crate::vmm) fn take_log(&mut self) -> Vec<Exit> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

//! How often each instruction of a unit ran, for observers. A run that breaks off is counted where it does,
//! which is not where most runs end, and only while somebody asks; all other runs are the unit's.

use super::plan::{Plan, SIDE_EXITS};

/// The runs of a unit that broke off.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// By the side exit that was taken.
    exits: [u64; SIDE_EXITS],
    /// By the number of instructions that were complete then.
    after: Vec<u64>,
}

impl Tally {
    /// That of a unit with this plan, which did not run yet.
    pub(super) fn new(plan: &Plan) -> Self {
        Self { exits: [0; SIDE_EXITS], after: vec![0; plan.body.len() + 1] }
    }

    /// A run left through the way out with this number; the first two are those of the unit's end.
    pub(super) fn left_through(&mut self, way: usize) {
        if let Some(n) = way.checked_sub(2).and_then(|exit| self.exits.get_mut(exit)) {
            *n += 1;
        }
    }

    /// A run broke off after so many instructions.
    pub(super) fn broke_off(&mut self, after: usize) {
        if let Some(n) = self.after.get_mut(after) {
            *n += 1;
        }
    }

    /// A run broke off before the instruction of the tail was complete.
    pub(super) fn broke_off_last(&mut self) {
        if let Some(n) = self.after.last_mut() {
            *n += 1;
        }
    }

    /// How often each instruction of `plan` ran to its end, of so many runs of the unit. One that the monitor
    /// runs counts when it is called.
    pub(super) fn counts(&self, runs: u64, plan: &Plan) -> Vec<u64> {
        let mut left = runs;
        let mut counts: Vec<_> = plan
            .body
            .iter()
            .zip(&self.after)
            .map(|(step, broke_off)| {
                left = left.saturating_sub(*broke_off);
                let count = left;
                let exits = step.side_exit.and_then(|exit| self.exits.get(usize::from(exit)));
                left = left.saturating_sub(exits.copied().unwrap_or(0));
                count
            })
            .collect();
        if plan.last.is_some() {
            counts.push(left.saturating_sub(self.after.last().copied().unwrap_or(0)));
        }
        counts
    }
}

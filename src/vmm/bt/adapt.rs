//! Adaptive translation (Adams and Agesen, ASPLOS 2006, 3.3): an access that is carried over but keeps
//! meeting a trace, a chip or the end of a truncated segment is translated again, into a callout, which costs
//! less than a fault; and back when it has met nothing for a while. Only what it costs depends on that.

use crate::report::Cause;
use std::collections::HashMap;

/// Exits after which an access is adapted, at first. Twice as many each time that it was taken back.
const PATIENCE: u32 = 16;
/// Callouts in a row that met nothing, after which it is taken back.
const IDLE: u32 = 64;
/// Places that are kept.
const MOST_SITES: usize = 1 << 16;

/// An access that met something.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// Exits since it was carried over.
    exits: u32,
    patience: u32,
    /// Callouts in a row that met nothing, if it is adapted.
    idle: Option<u32>,
    /// Nothing tells whether a callout was needed.
    stays: bool,
}

/// Accesses by the linear address of their instruction.
#[derive(Clone, Debug)]
pub struct Adaptation {
    on: bool,
    sites: HashMap<u32, Site>,
    /// Accesses translated into callouts so far.
    pub adapted: u64,
    /// Callouts that were taken back.
    pub reverted: u64,
}

impl Adaptation {
    /// Nothing is adapted yet; nothing ever is unless `on`.
    pub fn new(on: bool) -> Self {
        Self { on, sites: HashMap::new(), adapted: 0, reverted: 0 }
    }

    /// Whether the access of the instruction at `at` is a callout.
    pub(super) fn is_adapted(&self, at: u32) -> bool {
        self.sites.get(&at).is_some_and(|site| site.idle.is_some())
    }

    /// The instruction at `at` was carried over, and left translated code for `cause`. Returns whether it is
    /// a callout from now on.
    pub(in crate::vmm) fn exited(&mut self, at: u32, cause: Cause) -> bool {
        let stays = match cause {
            Cause::TracePageTable | Cause::TraceDescriptors | Cause::Mmio => false,
            Cause::Truncated => true,
            _ => return false,
        };
        if !self.on || (self.sites.len() >= MOST_SITES && !self.sites.contains_key(&at)) {
            return false;
        }
        let new = Site { exits: 0, patience: PATIENCE, idle: None, stays };
        let site = self.sites.entry(at).or_insert(new);
        site.exits += 1;
        site.stays |= stays;
        if site.idle.is_some() || site.exits < site.patience {
            return false;
        }
        site.idle = Some(0);
        self.adapted += 1;
        true
    }

    /// The callout of the instruction at `at` ran; whether it met anything. Returns whether it is carried
    /// over again.
    pub(super) fn called_out(&mut self, at: u32, met: bool) -> bool {
        let Some(site) = self.sites.get_mut(&at) else { return false };
        let Some(idle) = &mut site.idle else { return false };
        *idle = if met || site.stays { 0 } else { *idle + 1 };
        if *idle < IDLE {
            return false;
        }
        *site = Site { exits: 0, patience: site.patience.saturating_mul(2), idle: None, ..*site };
        self.reverted += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_adapted_when_it_keeps_exiting_and_taken_back_when_it_stops() {
        let mut a = Adaptation::new(true);
        assert_eq!((1..=PATIENCE).filter(|_| a.exited(8, Cause::TracePageTable)).count(), 1);
        assert!(a.is_adapted(8) && !a.is_adapted(9));
        assert!(!(1..IDLE).any(|_| a.called_out(8, false)) && !a.called_out(8, true));
        assert_eq!((1..=IDLE).filter(|_| a.called_out(8, false)).count(), 1);
        assert!(!a.is_adapted(8));
        assert_eq!((1..=2 * PATIENCE).filter(|_| a.exited(8, Cause::Mmio)).count(), 1, "less eager now");
        assert_eq!((a.adapted, a.reverted), (2, 1));
    }

    #[test]
    fn other_exits_and_a_switched_off_policy_adapt_nothing() {
        assert!(!(0..99).any(|_| Adaptation::new(true).exited(8, Cause::HiddenPageFault)));
        let mut off = Adaptation::new(false);
        assert!(!(0..99).any(|_| off.exited(8, Cause::Mmio)));
    }
}

//! [`Moment`]: a place in a run, as breakpoints and a debugger's history name it.

use super::Machine;
use crate::bus::Ticks;

/// A place in a run between two steps. Time alone does not name it: an interrupt or exception is delivered
/// between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Guest time.
    pub ticks: Ticks,
    /// Whether an interrupt or exception was delivered since the last instruction.
    pub delivered: bool,
}

impl Machine {
    /// The place at which the machine stands.
    pub fn moment(&self) -> Moment {
        Moment { ticks: self.cpu.now, delivered: self.delivered == Some(self.cpu.now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_lies_between_two_ticks() {
        let at = |ticks, delivered| Moment { ticks, delivered };
        assert!(at(5, false) < at(5, true) && at(5, true) < at(6, false));
    }
}

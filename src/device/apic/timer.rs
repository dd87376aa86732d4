//! The local APIC's timer (SDM vol. 3, 10.5.4): a counter that runs down from the initial count at the bus
//! clock divided by 1 to 128, once or again and again.
//!
//! The timer's input is an oscillator of its own, [`HZ`], derived from the machine's clock like that of the
//! 8254. It stands for the 100 MHz bus of a P6 board: it does not move with the processor's nominal frequency
//! (`--hz`), so that a kernel which calibrates it against the 8254 finds the same figure on a fast and on a
//! slow processor. Nothing is ticked; the count follows from the cycle at which it was loaded.

use crate::bus::{Clock, Ticks};
use serde::{Deserialize, Serialize};

/// The bus clock, before it is divided.
pub const HZ: u64 = 100_000_000;

/// The counter. Times are in cycles of the bus clock.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(super) struct Timer {
    clock: Clock,
    initial: u32,
    /// Divide configuration register: bits 3, 1 and 0 count.
    divide: u32,
    periodic: bool,
    /// What is being counted down, and the cycle at which that began; `None` when the count is 0.
    run: Option<(u32, u64)>,
}

impl Timer {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, initial: 0, divide: 0, periodic: false, run: None }
    }

    /// Bus cycles for each count.
    fn divisor(&self) -> u64 {
        match self.divide & 3 | self.divide >> 1 & 4 {
            7 => 1,
            n => 2 << n,
        }
    }

    fn cycle(&self, now: Ticks) -> u64 {
        self.clock.cycles(now, HZ)
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    /// Writing the initial count starts the timer, writing 0 stops it.
    pub(super) fn set_initial(&mut self, count: u32, now: Ticks) {
        self.initial = count;
        self.run = (count != 0).then(|| (count, self.cycle(now)));
    }

    /// The count goes on from where it is at the new rate.
    pub(super) fn set_divide(&mut self, value: u32, now: Ticks) {
        let left = self.current(now);
        self.divide = value & 0xb;
        self.run = (left != 0).then(|| (left, self.cycle(now)));
    }

    /// Whether the count is loaded again when it reaches 0.
    pub(super) fn set_periodic(&mut self, periodic: bool) {
        self.periodic = periodic;
    }

    /// The current count. A periodic one goes round whether or not anybody looks at its end.
    pub(super) fn current(&self, now: Ticks) -> u32 {
        let Some((from, start)) = self.run else { return 0 };
        let counted = self.cycle(now).saturating_sub(start) / self.divisor();
        match counted.checked_sub(u64::from(from)) {
            None => from - counted as u32,
            Some(over) if self.periodic && self.initial != 0 => {
                self.initial - (over % u64::from(self.initial)) as u32
            }
            Some(_) => 0,
        }
    }

    /// When the count reaches 0.
    pub(super) fn due(&self) -> Option<Ticks> {
        self.run.map(|(from, start)| {
            let cycles = u64::from(from) * self.divisor();
            self.clock.ticks_at(start.saturating_add(cycles), HZ)
        })
    }

    /// Brings the timer up to `now`; whether the count reached 0 since the last time. Periods that are
    /// shorter than a tick of the machine's clock run together.
    pub(super) fn advance(&mut self, now: Ticks) -> bool {
        let Some((from, start)) = self.run.filter(|_| self.due().is_some_and(|due| due <= now)) else {
            return false;
        };
        let end = start + u64::from(from) * self.divisor();
        let period = u64::from(self.initial) * self.divisor();
        self.run = (self.periodic && period != 0)
            .then(|| (self.initial, end + (self.cycle(now) - end) / period * period));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_once_and_stops() {
        let mut t = Timer::new(Clock::new(HZ));
        t.set_divide(0b1011, 0);
        t.set_initial(1000, 50);
        assert_eq!((t.current(50), t.current(350), t.due()), (1000, 700, Some(1050)));
        assert!(!t.advance(1049));
        assert!(t.advance(1050));
        assert_eq!((t.current(2000), t.due(), t.initial()), (0, None, 1000));
    }

    #[test]
    fn a_period_begins_at_the_end_of_the_last_even_when_looked_at_late() {
        let mut t = Timer::new(Clock::new(HZ));
        t.set_periodic(true);
        t.set_initial(100, 0);
        assert_eq!(t.due(), Some(200), "divided by two");
        assert!(t.advance(230));
        assert_eq!((t.due(), t.current(250)), (Some(400), 75));
        assert!(t.advance(1390));
        assert_eq!(t.due(), Some(1400));
    }

    #[test]
    fn a_periodic_count_goes_round_by_itself() {
        let mut t = Timer::new(Clock::new(HZ));
        t.set_divide(11, 0);
        t.set_periodic(true);
        t.set_initial(10_000, 0);
        let counts = [9_999, 10_000, 10_001, 19_999, 20_000, 205_000].map(|now| t.current(now));
        assert_eq!(counts, [1, 10_000, 9_999, 1, 10_000, 5_000]);
        t.set_divide(0, 25_000);
        assert_eq!([25_000, 25_002, 35_000].map(|now| t.current(now)), [5_000, 4_999, 10_000]);
    }

    #[test]
    fn each_divide_configuration_has_its_rate() {
        let mut t = Timer::new(Clock::new(HZ));
        for (value, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            t.set_divide(value, 0);
            t.set_initial(3, 0);
            assert_eq!(t.due(), Some(3 * divisor), "{value}");
        }
    }

    #[test]
    fn a_change_of_rate_keeps_the_count() {
        let mut t = Timer::new(Clock::new(HZ));
        t.set_divide(11, 0);
        t.set_initial(100, 0);
        t.set_divide(3, 40);
        assert_eq!((t.current(40), t.due()), (60, Some(40 + 60 * 16)));
        t.set_initial(0, 50);
        assert_eq!((t.current(50), t.due()), (0, None));
    }

    #[test]
    fn the_bus_clock_is_the_same_on_a_slow_processor() {
        let mut t = Timer::new(Clock::new(1_000_000));
        t.set_divide(11, 0);
        t.set_initial(1000, 0);
        assert_eq!(t.due(), Some(10));
        t.set_periodic(true);
        t.set_initial(1, 0);
        assert!(t.advance(1));
        assert!(t.due().is_some_and(|due| due > 1), "an event in the past would never end");
    }
}

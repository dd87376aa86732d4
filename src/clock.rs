//! The machine's only clock: retired instructions (plus what HLT skipped), at a nominal frequency.

use serde::{Deserialize, Serialize};

/// A point in guest time: instructions retired since power-on plus ticks skipped while halted. One tick is one
/// period of the nominal frequency.
pub type Ticks = u64;

/// A point of a run on both scales: what events are stamped with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct When {
    /// Instructions retired since power-on: the count that users see and give back (`--budget`, gdb's `goto`).
    pub instructions: u64,
    /// Guest time, which halted time advances, too.
    pub ticks: Ticks,
}

/// Converts between ticks and the frequencies that chips run at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Clock {
    hz: u64,
}

impl Clock {
    /// The default nominal frequency: 100 MHz, so one instruction takes 10 ns of guest time.
    pub const DEFAULT_HZ: u64 = 100_000_000;

    /// A clock of `hz` ticks per guest second; at least 1 kHz.
    pub fn new(hz: u64) -> Self {
        Self { hz: hz.max(1000) }
    }

    /// Ticks per guest second.
    pub fn hz(self) -> u64 {
        self.hz
    }

    /// Cycles of an oscillator of `freq` Hz completed at `now`.
    pub fn cycles(self, now: Ticks, freq: u64) -> u64 {
        saturated(u128::from(now) * u128::from(freq) / u128::from(self.hz))
    }

    /// The first tick at which [`Clock::cycles`] of `freq` reaches `cycles`.
    pub fn ticks_at(self, cycles: u64, freq: u64) -> Ticks {
        saturated((u128::from(cycles) * u128::from(self.hz)).div_ceil(u128::from(freq)))
    }

    /// Ticks in `us` microseconds, rounded up.
    pub fn micros(self, us: u64) -> Ticks {
        self.ticks_at(us, 1_000_000)
    }
}

/// The end of time, for what lies beyond it.
fn saturated(n: u128) -> u64 {
    n.min(u128::from(u64::MAX)) as u64
}

/// The form of a saved state. What is none of [`Clock::new`]'s frequencies becomes one.
impl From<u64> for Clock {
    fn from(hz: u64) -> Self {
        Self::new(hz)
    }
}

impl From<Clock> for u64 {
    fn from(clock: Clock) -> Self {
        clock.hz
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Self::DEFAULT_HZ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_ends_and_does_not_wrap() {
        assert_eq!(Clock::new(100_000_000_000).micros(u64::MAX), u64::MAX);
        assert_eq!(Clock::new(1000).cycles(u64::MAX, 1_193_182), u64::MAX);
    }

    #[test]
    fn ticks_at_is_the_first_tick_of_a_cycle() {
        let clock = Clock::new(100_000_000);
        for cycle in [1, 2, 3, 1000, 1_193_182, 5_000_000_001] {
            let t = clock.ticks_at(cycle, 1_193_182);
            assert_eq!(clock.cycles(t, 1_193_182), cycle);
            assert_eq!(clock.cycles(t - 1, 1_193_182), cycle - 1);
        }
    }
}

//! SplitMix64: a seed names a sequence, the same on every host. The generator of states draws all from it.

/// The generator.
pub(super) struct Rng(u64, u32);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed, 0)
    }

    /// The generator of state number `turn`.
    pub(super) fn at(seed: u64, turn: u32) -> Self {
        Self(seed, turn)
    }

    /// Goes round `choices` from state to state, so that each comes up in so many states.
    pub(super) fn in_turn<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.1 as usize % choices.len()]
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 32 bits.
    pub(super) fn word(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }
}

/// A hash of one number.
pub(super) fn mix(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! A small deterministic generator (SplitMix64) and the values that break arithmetic. The generator and the survey
//! draw everything from it, so a seed names a run.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Values at the edges of 8, 16 and 32 bits.
const CORNERS: [u32; 24] = [
    0,
    1,
    2,
    3,
    0x7f,
    0x80,
    0x81,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0x8001,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0xffff_fffe,
    0xffff_ff80,
    0xffff_8000,
    0x5555_5555,
    0xaaaa_aaaa,
    0x0000_ff00,
];

impl Rng {
    /// The sequence that `seed` names.
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x632b_e59b_d9b4_e019))
    }

    /// The next 32 bits.
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 16) as u32
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// An operand: a corner, a small number, or any number.
    pub fn value(&mut self) -> u32 {
        match self.below(8) {
            0..3 => CORNERS[self.below(CORNERS.len() as u32) as usize],
            3 => self.next() >> self.below(32),
            4 => (self.next() as i32 >> self.below(32)) as u32,
            _ => self.next(),
        }
    }
}

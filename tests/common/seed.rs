//! Seeded cases: the same bytes in every run, and as many cases as `SUBRING_FUZZ_CASES` asks for.

/// Cases to run: the environment's wish, or `default`.
pub(crate) fn cases(default: u64) -> u64 {
    std::env::var("SUBRING_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// `len` bytes from `seed` (splitmix64).
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// Runs `case` for each seed, and says which one it was that failed. `SUBRING_FUZZ_SEED` starts elsewhere.
pub(crate) fn each(default: u64, len: usize, case: impl Fn(&[u8])) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SUBRING_FUZZ_SEED={} SUBRING_FUZZ_CASES=1", self.0);
            }
        }
    }
    let first = std::env::var("SUBRING_FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + cases(default) {
        let _named = Named(seed);
        case(&bytes(seed, len));
    }
}

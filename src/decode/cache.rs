//! The cache of decoded traces.
//!
//! A trace is a run of instructions with one way in, keyed by physical address and CS.D, valid for one generation of
//! its page. Slots are direct-mapped; the instructions of all traces lie in one arena, and when that is full
//! everything is dropped at once. What is stored per instruction is the reader's choice (`T`).

use crate::addr::GuestPhys;

/// Slots; a power of two.
const SLOTS: usize = 1 << 15;
/// Instructions that the arena holds.
const ARENA: usize = 1 << 18;
/// The most instructions in a trace.
pub const MOST: usize = 32;

/// What a trace is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of code at `at` decoded with CS.D as `code32`.
    #[inline(always)]
    pub fn new(at: GuestPhys, code32: bool) -> Self {
        Self(at.0 as u64 | (code32 as u64) << 32)
    }

    #[inline(always)]
    fn slot(self) -> usize {
        let at = self.0 as u32;
        ((at ^ (at >> 15)) as usize) & (SLOTS - 1)
    }
}

/// The second page of a trace that is a single instruction crossing a page boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The frame that its tail was read from.
    pub frame: GuestPhys,
    /// That frame's generation then.
    pub generation: u32,
}

/// A trace: where its instructions are, and what it depends on.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    key: Key,
    generation: u32,
    start: u32,
    /// Instructions.
    pub count: u16,
    /// Bytes of code, all instructions together.
    pub bytes: u16,
    /// Set if it crosses into another page.
    pub crossing: Option<Crossing>,
}

/// The cache.
pub struct Cache<T> {
    slots: Vec<Option<Trace>>,
    arena: Vec<T>,
    /// Traces decoded so far.
    pub decoded: u64,
    /// Times that everything was dropped.
    pub flushes: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS], arena: Vec::new(), decoded: 0, flushes: 0 }
    }
}

impl<T> Cache<T> {
    /// The trace for `key`, if there is one of this generation.
    #[inline(always)]
    pub fn find(&self, key: Key, generation: u32) -> Option<&Trace> {
        match &self.slots[key.slot()] {
            Some(t) if t.key == key && t.generation == generation => Some(t),
            _ => None,
        }
    }

    /// The instructions of `trace`.
    #[inline(always)]
    pub fn insns(&self, trace: &Trace) -> &[T] {
        let start = trace.start as usize;
        &self.arena[start..start + trace.count as usize]
    }

    /// Adds a trace.
    pub fn insert(
        &mut self,
        key: Key,
        generation: u32,
        bytes: u16,
        crossing: Option<Crossing>,
        insns: impl IntoIterator<Item = T>,
    ) -> Trace {
        if self.arena.len() + MOST > ARENA {
            self.flush();
        }
        let start = self.arena.len();
        self.arena.extend(insns.into_iter().take(MOST));
        let count = (self.arena.len() - start) as u16;
        let trace = Trace { key, generation, start: start as u32, count, bytes, crossing };
        self.slots[key.slot()] = Some(trace);
        self.decoded += 1;
        trace
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.slots.fill(None);
        self.arena.clear();
        self.flushes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_for_its_mode_and_generation_only() {
        let mut cache = Cache::default();
        let key = Key::new(GuestPhys(0x1234), true);
        let trace = cache.insert(key, 7, 3, None, [1, 2, 3]);
        assert_eq!(cache.insns(&trace), [1, 2, 3]);
        assert!(cache.find(key, 7).is_some() && cache.find(key, 8).is_none());
        assert!(cache.find(Key::new(GuestPhys(0x1234), false), 7).is_none());
        cache.flush();
        assert!(cache.find(key, 7).is_none());
    }

    #[test]
    fn a_full_arena_drops_everything_and_goes_on() {
        let mut cache = Cache::default();
        for n in 0..(ARENA as u32) {
            cache.insert(Key::new(GuestPhys(n * 64), true), 0, 64, None, 0..MOST);
        }
        assert!(cache.flushes > 0 && cache.arena.len() <= ARENA);
    }
}

//! The cache of decoded traces.
//!
//! A trace is a run of instructions with one way in, keyed by physical address and CS.D, valid for one
//! generation of its page. Slots are direct-mapped; the instructions of all traces lie in one arena, and when
//! that is full everything is dropped at once. What is stored per instruction is the reader's choice (`T`).

use crate::addr::GuestPhys;

/// Slots; a power of two.
const SLOTS: usize = 1 << 15;
/// Instructions that the arena holds.
const ARENA: usize = 1 << 18;
/// The most instructions in a trace.
pub const MOST: usize = 32;

/// The key of a trace.
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
    /// The frame that the instruction's tail was read from.
    pub frame: GuestPhys,
    /// The generation of that frame when the tail was read.
    pub generation: u32,
}

/// A trace: where its instructions are, and what it depends on.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    start: u32,
    /// Where the copy of its code starts.
    code: u32,
    /// One more than the index of its [`Crossing`], or 0.
    crossing: u32,
    /// Bytes of code, all instructions together.
    pub bytes: u16,
    /// Instructions.
    pub count: u8,
    /// Whether the trace ends in a near branch or by falling through: then mode and mapping are the same
    /// behind it.
    pub near: bool,
}

impl Trace {
    /// Whether the trace is one instruction that crosses into another page.
    #[inline(always)]
    pub fn crosses(self) -> bool {
        self.crossing != 0
    }
}

#[derive(Clone, Copy)]
struct Slot {
    key: Key,
    generation: u32,
    trace: Trace,
}

/// A key that no code has.
const NO_KEY: Key = Key(u64::MAX);
const EMPTY: Slot = Slot {
    key: NO_KEY,
    generation: 0,
    trace: Trace { start: 0, code: 0, crossing: 0, bytes: 0, count: 0, near: false },
};

/// The cache.
pub struct Cache<T> {
    slots: Box<[Slot]>,
    arena: Vec<T>,
    crossings: Vec<Crossing>,
    /// The code of all traces, to see whether a page that was written to has changed where a trace came from.
    code: Vec<u8>,
    /// Traces decoded so far.
    pub decoded: u64,
    /// Times that everything was dropped.
    pub flushes: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        let slots = vec![EMPTY; SLOTS].into();
        Self { slots, arena: Vec::new(), crossings: Vec::new(), code: Vec::new(), decoded: 0, flushes: 0 }
    }
}

impl<T> Cache<T> {
    /// The trace for `key`, if there is one of this generation.
    #[inline(always)]
    pub fn find(&self, key: Key, generation: u32) -> Option<Trace> {
        let slot = &self.slots[key.slot()];
        (slot.key == key && slot.generation == generation).then_some(slot.trace)
    }

    /// The trace for `key` whatever its generation, and the code that it was decoded from.
    pub fn find_stale(&self, key: Key) -> Option<(Trace, &[u8])> {
        let slot = &self.slots[key.slot()];
        let start = slot.trace.code as usize;
        (slot.key == key).then(|| (slot.trace, &self.code[start..start + usize::from(slot.trace.bytes)]))
    }

    /// Makes the trace for `key` one of `generation`: its code was found unchanged.
    pub fn renew(&mut self, key: Key, generation: u32) {
        let slot = &mut self.slots[key.slot()];
        if slot.key == key {
            slot.generation = generation;
        }
    }

    /// The instructions of `trace`.
    #[inline(always)]
    pub fn insns(&self, trace: Trace) -> &[T] {
        let start = trace.start as usize;
        &self.arena[start..start + trace.count as usize]
    }

    /// The second page of `trace`, if it has one.
    pub fn crossing(&self, trace: Trace) -> Option<Crossing> {
        let n = (trace.crossing as usize).checked_sub(1)?;
        self.crossings.get(n).copied()
    }

    /// Adds a trace decoded from `code`; `near` as in [`Trace`].
    pub fn insert(
        &mut self,
        (key, generation): (Key, u32),
        code: &[u8],
        near: bool,
        crossing: Option<Crossing>,
        insns: impl IntoIterator<Item = T>,
    ) -> Trace {
        if self.arena.len() + MOST > ARENA {
            self.flush();
        }
        let start = self.arena.len();
        self.arena.extend(insns.into_iter().take(MOST));
        let count = (self.arena.len() - start) as u8;
        self.crossings.extend(crossing);
        let crossing = if crossing.is_some() { self.crossings.len() as u32 } else { 0 };
        let (at, bytes) = (self.code.len() as u32, code.len() as u16);
        self.code.extend_from_slice(code);
        let trace = Trace { start: start as u32, code: at, crossing, bytes, count, near };
        self.slots[key.slot()] = Slot { key, generation, trace };
        self.decoded += 1;
        trace
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.slots.fill(EMPTY);
        self.arena.clear();
        self.crossings.clear();
        self.code.clear();
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
        let trace = cache.insert((key, 7), b"abc", true, None, [1, 2, 3]);
        assert_eq!(cache.insns(trace), [1, 2, 3]);
        assert!(cache.find(key, 7).is_some() && cache.find(key, 8).is_none());
        assert!(cache.find(Key::new(GuestPhys(0x1234), false), 7).is_none());
        assert_eq!(cache.find_stale(key).map(|(_, code)| code), Some(&b"abc"[..]));
        cache.renew(key, 8);
        assert!(cache.find(key, 8).is_some());
        cache.flush();
        assert!(cache.find(key, 8).is_none());
    }

    #[test]
    fn a_full_arena_drops_everything_and_goes_on() {
        let mut cache = Cache::default();
        for n in 0..(ARENA as u32) {
            cache.insert((Key::new(GuestPhys(n * 64), true), 0), &[0; 64], true, None, 0..MOST);
        }
        assert!(cache.flushes > 0 && cache.arena.len() <= ARENA);
    }
}

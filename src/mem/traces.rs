//! Traces: guest frames whose writes a monitor wants to know of (Bugnion et al., TOCS 2012, 4.3: "trace"). Writes by the
//! guest itself are caught by write protection in the shadow page tables; here are noted those that do not pass them:
//! bus masters, and instructions that the monitor emulates.

use crate::addr::GuestPhys;

/// The traced frames, and the writes to them that nobody has looked at yet.
#[derive(Debug, Default)]
pub struct Traces {
    /// By guest frame number; as long as the highest traced one.
    marked: Vec<bool>,
    hits: Vec<(GuestPhys, u32)>,
}

impl Traces {
    /// Traces the frame of `at`, or no more.
    pub fn set(&mut self, at: GuestPhys, on: bool) {
        let n = at.page_number() as usize;
        if n >= self.marked.len() {
            if !on {
                return;
            }
            self.marked.resize(n + 1, false);
        }
        self.marked[n] = on;
    }

    /// Whether the frame of `at` is traced.
    #[inline]
    pub fn has(&self, at: GuestPhys) -> bool {
        self.marked.get(at.page_number() as usize).copied().unwrap_or(false)
    }

    /// `len` bytes at `at`, within one page, were written.
    #[inline]
    pub fn note(&mut self, at: GuestPhys, len: u32) {
        if self.has(at) {
            self.hits.push((at, len));
        }
    }

    /// The writes since this was last asked: address and length.
    pub fn take_hits(&mut self) -> Vec<(GuestPhys, u32)> {
        std::mem::take(&mut self.hits)
    }

    /// Whether there are any.
    #[inline]
    pub fn is_hit(&self) -> bool {
        !self.hits.is_empty()
    }

    /// Forgets all traces.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

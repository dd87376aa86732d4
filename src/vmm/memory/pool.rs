//! The monitor's machine frames: handed out zeroed, counted, and no more than its share.

use crate::addr::{MachineAddr, PAGE_SIZE};
use crate::mem::Ram;

/// Frames for shadow page tables.
pub struct FramePool {
    free: Vec<MachineAddr>,
    total: usize,
    peak: usize,
}

impl FramePool {
    /// The frames in `free`.
    pub fn new(free: Vec<MachineAddr>) -> Self {
        Self { total: free.len(), free, peak: 0 }
    }

    /// A frame of zeros, if one is left.
    pub fn take(&mut self, ram: &mut Ram) -> Option<MachineAddr> {
        let frame = self.free.pop()?;
        ram.write(frame, &[0; PAGE_SIZE as usize]);
        self.peak = self.peak.max(self.used());
        Some(frame)
    }

    /// Takes `frame` back; what was in it is gone.
    pub fn give(&mut self, ram: &mut Ram, frame: MachineAddr) {
        ram.write(frame, &[0; PAGE_SIZE as usize]);
        self.free.push(frame);
    }

    /// Frames handed out now.
    pub fn used(&self) -> usize {
        self.total - self.free.len()
    }

    /// The most that were handed out at a time.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

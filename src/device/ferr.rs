//! How the PC reports x87 errors while CR0.NE is clear (SDM vol. 1, appendix D; the AT's technical
//! reference): FERR# sets a latch that requests interrupt 13; a write to port F0h clears it, and lets the
//! processor go on by IGNNE# until FERR# falls. Port F1h reset the 287; here it does what F0h does.

use super::Device;
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

/// The first port: clears the latch.
pub const CLEAR: u16 = 0xf0;
/// The second one.
pub const RESET: u16 = 0xf1;

/// The latch and the two lines.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
pub struct FerrLatch {
    ferr: bool,
    latch: bool,
    ignne: bool,
}

impl FerrLatch {
    /// The processor drives or releases FERR#.
    pub fn set_ferr(&mut self, asserted: bool) {
        // What was latched stays until the write: the handler may clear the error first.
        self.latch |= asserted && !self.ferr;
        self.ignne &= asserted;
        self.ferr = asserted;
    }

    /// FERR#.
    pub fn ferr(&self) -> bool {
        self.ferr
    }

    /// IGNNE#: the processor may ignore the error.
    pub fn ignne(&self) -> bool {
        self.ignne
    }
}

impl Device for FerrLatch {
    fn read(&mut self, _: u16, width: Width, _: Ticks) -> u32 {
        width.mask()
    }

    fn write(&mut self, _: u16, _: Width, _: u32, _: Ticks) {
        self.latch = false;
        self.ignne = self.ferr;
    }

    fn irq(&self) -> bool {
        self.latch
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_latched_until_the_write_and_ignored_until_it_is_cleared() {
        let mut n = FerrLatch::default();
        n.set_ferr(true);
        assert_eq!((n.irq(), n.ignne()), (true, false));
        n.write(CLEAR, Width::Byte, 0, 0);
        assert_eq!((n.irq(), n.ignne()), (false, true));
        n.set_ferr(true);
        assert!(!n.irq(), "the line has not risen again");
        n.set_ferr(false);
        assert_eq!((n.irq(), n.ignne()), (false, false));
        n.set_ferr(true);
        assert!(n.irq());
    }

    #[test]
    fn a_handler_may_clear_the_error_before_the_latch() {
        let mut n = FerrLatch::default();
        n.set_ferr(true);
        n.set_ferr(false);
        assert!(n.irq());
        n.write(CLEAR, Width::Byte, 0, 0);
        assert_eq!((n.irq(), n.ignne()), (false, false));
    }
}

//! x87 arithmetic as pure functions (SDM vol. 1, 4.8, 4.9, 8.3 to 8.5): from operands and the control word to
//! a result, the exceptions met, and whether rounding went away from zero. Called by `exec/ops/fpu`, which
//! looks after the stack, masks and status.
//!
//! Integer arithmetic of our own and no soft-float crate: precision control (24 or 53 bits under the 15-bit
//! exponent), the responses to unmasked overflow and underflow, the C1 bit and the denormal-operand exception
//! belong to the x87 alone, and with 128-bit integers the exact operations take a page. No host floating
//! point is used, so a result is the same on every host.
//!
//! | file | what |
//! |---|---|
//! | `operand` | classes of operands, and what comes of NaNs |
//! | `round` | one rounding for all formats |
//! | `arith` | addition to square root, comparison |
//! | `convert` | integers, packed decimals, single and double |
//! | `exponent` | FPREM, FSCALE, FXTRACT, FRNDINT |
//! | `wide` | 128-bit significands, for the transcendental functions |
//! | `transcendental` | sines to logarithms |
//! | `image` | the formats of FSTENV, FSAVE and FXSAVE |

pub mod arith;
pub mod convert;
pub mod exponent;
pub mod image;
pub mod operand;
pub mod round;
pub mod transcendental;
pub mod wide;

pub use operand::{Class, Operand};
pub use round::{Rounding, round};

use crate::cpu::F80;
use crate::cpu::fpu::status::{self, IE};

/// What the control word says.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Bits of significand that addition, subtraction, multiplication, division and square root keep.
    pub precision: u32,
    /// The rounding mode.
    pub rounding: Rounding,
    /// The exceptions that are masked.
    pub masks: u16,
}

impl Control {
    /// Reads a control word. The reserved precision 1 counts as 64 bits.
    pub fn new(word: u16) -> Self {
        let precision = [24, 64, 53, 64][usize::from(word >> 8 & 3)];
        let rounding =
            [Rounding::Nearest, Rounding::Down, Rounding::Up, Rounding::Zero][usize::from(word >> 10 & 3)];
        Self { precision, rounding, masks: word & status::EXCEPTIONS }
    }

    /// Whether all of `exceptions` are masked.
    pub fn masks(&self, exceptions: u16) -> bool {
        exceptions & !self.masks == 0
    }
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<T = F80> {
    /// The result, as the masked response has it; for unmasked overflow and underflow the scaled one.
    pub value: T,
    /// The exceptions met.
    pub flags: u16,
    /// Rounding went away from zero: C1.
    pub up: bool,
}

impl<T> Outcome<T> {
    /// An exact result.
    pub fn exact(value: T) -> Self {
        Self { value, flags: 0, up: false }
    }
    /// This outcome with the exceptions `flags` added.
    #[must_use]
    pub fn with(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }
}

impl Outcome {
    /// An invalid operation: real indefinite.
    pub fn invalid() -> Self {
        Self::exact(F80::INDEFINITE).with(IE)
    }
}

#[cfg(test)]
mod tests;

//! EFLAGS, and its arithmetic flags in lazy form.
//!
//! An arithmetic instruction stores its result and a vector of carries; CF, OF, AF, SF, ZF and PF are derived
//! when something asks. Most flags are overwritten unread, so two stores replace six computations.

use super::Word;
use crate::decode::Cond;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// EFLAGS (SDM vol. 1, 3.4.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
    pub struct Eflags: u32 {
        /// Carry.
        const CF = 1 << 0;
        /// Bit 1 always reads as one.
        const FIXED = 1 << 1;
        /// Parity of the result's low byte is even.
        const PF = 1 << 2;
        /// Carry out of bit 3.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Trap: single step.
        const TF = 1 << 8;
        /// Interrupt enable.
        const IF = 1 << 9;
        /// Direction: strings go down.
        const DF = 1 << 10;
        /// Signed overflow.
        const OF = 1 << 11;
        /// I/O privilege level, both bits.
        const IOPL = 3 << 12;
        /// Nested task.
        const NT = 1 << 14;
        /// Resume: code breakpoints are off for one instruction.
        const RF = 1 << 16;
        /// Virtual-8086 mode.
        const VM = 1 << 17;
        /// Alignment check.
        const AC = 1 << 18;
        /// Virtual interrupt enable: what programs see as IF, with CR4.VME or CR4.PVI.
        const VIF = 1 << 19;
        /// Virtual interrupt pending.
        const VIP = 1 << 20;
        /// CPUID is there (the bit can be changed).
        const ID = 1 << 21;

        /// The flags that arithmetic sets.
        const ARITHMETIC = Self::CF.bits() | Self::PF.bits() | Self::AF.bits() | Self::ZF.bits()
            | Self::SF.bits() | Self::OF.bits();
        /// Every flag but VIF and VIP, which only [`super::Features::VME`] has.
        const ALL = 0x0027_7fd7;
    }
}

// Bits of `LazyFlags::aux`.
const CARRY: u32 = 1 << 31;
/// The carry into the sign bit: OF is this bit exclusive-or CARRY.
const CARRY_IN: u32 = 1 << 30;
const AUX: u32 = 1 << 3;
/// Exclusive-or'ed into the result's low byte for PF.
const PARITY_SHIFT: u32 = 8;
/// Exclusive-or'ed into the sign.
const SIGN_DELTA: u32 = 1;

/// The arithmetic flags as a result and a carry vector.
///
/// `result` is the result sign-extended to 32 bits: ZF is `result == 0`, SF its top bit, PF the parity of its
/// low byte. `aux` has the carry out of the top bit at bit 31, the carry into the top bit at bit 30, the
/// carry out of bit 3 at bit 3; and corrections that let any combination of flags be written: bits 8-15 go
/// into the parity, bit 0 into the sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LazyFlags {
    result: u32,
    aux: u32,
}

impl Default for LazyFlags {
    fn default() -> Self {
        Self::from_flags(Eflags::empty())
    }
}

impl LazyFlags {
    /// After `a + b (+ carry) = r`.
    #[inline(always)]
    pub fn add<W: Word>(a: W, b: W, r: W) -> Self {
        let (a, b) = (a.u(), b.u());
        Self::carries::<W>(r, (a & b) | ((a | b) & !r.u()))
    }

    /// After `a - b (- borrow) = r`.
    #[inline(always)]
    pub fn sub<W: Word>(a: W, b: W, r: W) -> Self {
        let (a, b) = (a.u(), b.u());
        Self::carries::<W>(r, (!a & b) | (!(a ^ b) & r.u()))
    }

    /// After a logical operation: CF, OF and AF clear.
    #[inline(always)]
    pub fn logic<W: Word>(r: W) -> Self {
        Self { result: r.s(), aux: 0 }
    }

    /// From the vector of carries out of each bit.
    #[inline(always)]
    fn carries<W: Word>(r: W, carries: u32) -> Self {
        let aux = if W::BITS == 32 {
            carries & (CARRY | CARRY_IN | AUX)
        } else {
            ((carries << (32 - W::BITS)) & (CARRY | CARRY_IN)) | (carries & AUX)
        };
        Self { result: r.s(), aux }
    }

    /// From EFLAGS bits.
    pub fn from_flags(f: Eflags) -> Self {
        // A result that is not zero, has a clear sign and even parity; or zero for ZF, which has them too.
        let result = if f.contains(Eflags::ZF) { 0 } else { 3 };
        let mut aux = 0;
        if f.contains(Eflags::CF) {
            aux |= CARRY;
        }
        if f.contains(Eflags::CF) != f.contains(Eflags::OF) {
            aux |= CARRY_IN;
        }
        if f.contains(Eflags::AF) {
            aux |= AUX;
        }
        if !f.contains(Eflags::PF) {
            aux |= 1 << PARITY_SHIFT;
        }
        if f.contains(Eflags::SF) {
            aux |= SIGN_DELTA;
        }
        Self { result, aux }
    }

    /// As EFLAGS bits.
    pub fn to_flags(self) -> Eflags {
        let mut f = Eflags::empty();
        f.set(Eflags::CF, self.cf());
        f.set(Eflags::PF, self.pf());
        f.set(Eflags::AF, self.af());
        f.set(Eflags::ZF, self.zf());
        f.set(Eflags::SF, self.sf());
        f.set(Eflags::OF, self.of());
        f
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(self) -> bool {
        self.aux & CARRY != 0
    }
    /// Parity of the low byte is even.
    #[inline(always)]
    pub fn pf(self) -> bool {
        ((self.result ^ (self.aux >> PARITY_SHIFT)) as u8).count_ones().is_multiple_of(2)
    }
    /// Carry out of bit 3.
    #[inline(always)]
    pub fn af(self) -> bool {
        self.aux & AUX != 0
    }
    /// Zero.
    #[inline(always)]
    pub fn zf(self) -> bool {
        self.result == 0
    }
    /// Sign.
    #[inline(always)]
    pub fn sf(self) -> bool {
        (self.result >> 31) ^ (self.aux & SIGN_DELTA) != 0
    }
    /// Signed overflow.
    #[inline(always)]
    pub fn of(self) -> bool {
        (self.aux ^ (self.aux << 1)) & CARRY != 0
    }

    /// Whether `cond` holds (SDM vol. 1, appendix B).
    #[inline(always)]
    pub fn holds(self, cond: Cond) -> bool {
        match cond {
            Cond::O => self.of(),
            Cond::No => !self.of(),
            Cond::B => self.cf(),
            Cond::Ae => !self.cf(),
            Cond::E => self.zf(),
            Cond::Ne => !self.zf(),
            Cond::Be => self.cf() || self.zf(),
            Cond::A => !(self.cf() || self.zf()),
            Cond::S => self.sf(),
            Cond::Ns => !self.sf(),
            Cond::P => self.pf(),
            Cond::Np => !self.pf(),
            Cond::L => self.sf() != self.of(),
            Cond::Ge => self.sf() == self.of(),
            Cond::Le => self.zf() || self.sf() != self.of(),
            Cond::G => !self.zf() && self.sf() == self.of(),
        }
    }

    /// Sets CF; leaves the others.
    #[inline(always)]
    #[must_use]
    pub fn with_cf(self, cf: bool) -> Self {
        self.with_cf_of(cf, self.of())
    }

    /// Sets CF and OF; leaves the others.
    #[inline(always)]
    #[must_use]
    pub fn with_cf_of(self, cf: bool, of: bool) -> Self {
        let aux = (self.aux & !(CARRY | CARRY_IN)) | (u32::from(cf) << 31) | (u32::from(cf != of) << 30);
        Self { aux, ..self }
    }

    /// Sets AF; leaves the others.
    #[inline(always)]
    #[must_use]
    pub fn with_af(self, af: bool) -> Self {
        Self { aux: (self.aux & !AUX) | (u32::from(af) << 3), ..self }
    }

    /// Sets ZF; leaves the others.
    #[must_use]
    pub fn with_zf(self, zf: bool) -> Self {
        let mut f = self.to_flags();
        f.set(Eflags::ZF, zf);
        Self::from_flags(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual's definition, bit by bit, for bytes.
    fn reference(a: u8, b: u8, carry: u8, subtract: bool) -> (u8, Eflags) {
        let (r, cf, of, af) = if subtract {
            let wide = i32::from(a) - i32::from(b) - i32::from(carry);
            let signed = i32::from(a as i8) - i32::from(b as i8) - i32::from(carry);
            let low = i32::from(a & 15) - i32::from(b & 15) - i32::from(carry);
            (wide as u8, wide < 0, !(-128..128).contains(&signed), low < 0)
        } else {
            let wide = u32::from(a) + u32::from(b) + u32::from(carry);
            let signed = i32::from(a as i8) + i32::from(b as i8) + i32::from(carry);
            let low = (a & 15) + (b & 15) + carry;
            (wide as u8, wide > 255, !(-128..128).contains(&signed), low > 15)
        };
        let mut f = Eflags::empty();
        f.set(Eflags::CF, cf);
        f.set(Eflags::OF, of);
        f.set(Eflags::AF, af);
        f.set(Eflags::ZF, r == 0);
        f.set(Eflags::SF, r > 127);
        f.set(Eflags::PF, r.count_ones() % 2 == 0);
        (r, f)
    }

    #[test]
    fn every_byte_sum_and_difference_has_the_manuals_flags() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for carry in 0..2 {
                    let (r, f) = reference(a, b, carry, false);
                    assert_eq!(LazyFlags::add(a, b, r).to_flags(), f, "{a} + {b} + {carry}");
                    let (r, f) = reference(a, b, carry, true);
                    assert_eq!(LazyFlags::sub(a, b, r).to_flags(), f, "{a} - {b} - {carry}");
                }
            }
        }
    }

    #[test]
    fn setting_one_flag_leaves_the_others() {
        for bits in 0..0x1000 {
            let f = Eflags::from_bits_truncate(bits) & Eflags::ARITHMETIC;
            let lazy = LazyFlags::from_flags(f);
            assert_eq!(lazy.to_flags(), f);
            assert_eq!(lazy.with_cf(true).to_flags(), f | Eflags::CF);
            assert_eq!(lazy.with_zf(true).to_flags(), f | Eflags::ZF);
            assert_eq!(lazy.with_af(false).to_flags(), f - Eflags::AF);
            assert_eq!(lazy.with_cf_of(false, true).to_flags(), (f - Eflags::CF) | Eflags::OF);
        }
    }
}

//! The x87's registers (SDM vol. 1, 8.1): data registers, control, status and tag words, and where the last
//! instruction and its operand were. The instructions are in `exec/ops/fpu`, the arithmetic in `exec/fpu`.
//!
//! The tag word is kept as one bit for each register, as the P6 does: what a full tag says of a register's
//! value is worked out when the word is stored. The last-instruction pointers move with every instruction
//! that is not one of control, the operand's pointer only with one that has a memory operand.

use serde::{Deserialize, Serialize};

/// A number of the double extended format, bit by bit as the register holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct F80 {
    /// The sign in bit 15, the biased exponent below it.
    pub sign_exp: u16,
    /// The significand, its integer bit at the top.
    pub significand: u64,
}

impl F80 {
    /// +0.
    pub const ZERO: Self = Self::new(0, 0);
    /// +1.
    pub const ONE: Self = Self::new(0x3fff, 1 << 63);
    /// The quiet NaN that answers a masked invalid operation: real indefinite.
    pub const INDEFINITE: Self = Self::new(0xffff, 0xc000_0000_0000_0000);

    /// A number of the given parts.
    pub const fn new(sign_exp: u16, significand: u64) -> Self {
        Self { sign_exp, significand }
    }
    /// Infinity.
    pub const fn infinity(negative: bool) -> Self {
        Self::new(0x7fff | (negative as u16) << 15, 1 << 63)
    }
    /// Zero.
    pub const fn zero(negative: bool) -> Self {
        Self::new((negative as u16) << 15, 0)
    }
    /// Whether the sign bit is set.
    pub const fn negative(self) -> bool {
        self.sign_exp >> 15 != 0
    }
    /// The biased exponent.
    pub const fn biased(self) -> u16 {
        self.sign_exp & 0x7fff
    }
    /// This number with the sign bit as given.
    #[must_use]
    pub const fn with_sign(self, negative: bool) -> Self {
        Self::new(self.biased() | (negative as u16) << 15, self.significand)
    }
    /// The ten bytes of the memory format.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.significand.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exp.to_le_bytes());
        bytes
    }
    /// The number in ten bytes of the memory format.
    pub fn from_bytes(b: &[u8; 10]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, s0, s1] = *b;
        Self::new(u16::from_le_bytes([s0, s1]), u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]))
    }
}

/// Bits of the status word (SDM vol. 1, 8.1.3); the low six are also the mask bits of the control word.
#[allow(missing_docs, reason = "the manual's names")]
pub mod status {
    pub const IE: u16 = 1 << 0;
    pub const DE: u16 = 1 << 1;
    pub const ZE: u16 = 1 << 2;
    pub const OE: u16 = 1 << 3;
    pub const UE: u16 = 1 << 4;
    pub const PE: u16 = 1 << 5;
    pub const SF: u16 = 1 << 6;
    pub const ES: u16 = 1 << 7;
    pub const C0: u16 = 1 << 8;
    pub const C1: u16 = 1 << 9;
    pub const C2: u16 = 1 << 10;
    pub const TOP: u16 = 7 << 11;
    pub const C3: u16 = 1 << 14;
    pub const B: u16 = 1 << 15;
    /// The six exceptions.
    pub const EXCEPTIONS: u16 = 0x3f;
    /// The condition codes.
    pub const CODES: u16 = C0 | C1 | C2 | C3;
}

/// Bits of the control word that exist; bit 6 reads as one.
const CONTROL_BITS: u16 = 0x1f3f;
const CONTROL_ONES: u16 = 0x0040;

/// Where the last instruction and its memory operand were, and its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LastInsn {
    /// The instruction's offset.
    pub fip: u32,
    /// Its code segment.
    pub fcs: u16,
    /// The operand's offset.
    pub fdp: u32,
    /// Its segment.
    pub fds: u16,
    /// The low three bits of the first opcode byte, and the second.
    pub fop: u16,
}

/// The x87's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fpu {
    control: u16,
    status: u16,
    /// One bit for each physical register that is not empty.
    full: u8,
    regs: [F80; 8],
    /// The last instruction.
    pub last: LastInsn,
}

impl Default for Fpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Fpu {
    /// After reset (SDM vol. 3, table 9-1): all registers hold +0, and all exceptions are unmasked.
    pub fn new() -> Self {
        Self { control: 0x40, status: 0, full: 0xff, regs: [F80::ZERO; 8], last: LastInsn::default() }
    }

    /// FNINIT: all but what the data registers hold.
    pub fn init(&mut self) {
        *self = Self { control: 0x37f, full: 0, regs: self.regs, ..Self::new() };
    }

    /// The control word.
    pub fn control(&self) -> u16 {
        self.control
    }
    /// Sets the control word. What was noted and is now unmasked, or the other way round, shows in ES.
    pub fn set_control(&mut self, value: u16) {
        self.control = value & CONTROL_BITS | CONTROL_ONES;
        self.summarise();
    }

    /// The status word.
    pub fn status(&self) -> u16 {
        self.status
    }
    /// Sets the status word, but for ES and B, which follow from the exceptions and their masks.
    pub fn set_status(&mut self, value: u16) {
        self.status = value;
        self.summarise();
    }

    fn summarise(&mut self) {
        let pending = self.status & !self.control & status::EXCEPTIONS != 0;
        self.status &= !(status::ES | status::B);
        if pending {
            self.status |= status::ES | status::B;
        }
    }

    /// Whether an unmasked exception is pending.
    #[inline(always)]
    pub fn pending(&self) -> bool {
        self.status & status::ES != 0
    }
    /// Notes exceptions (and SF).
    pub fn raise(&mut self, flags: u16) {
        self.status |= flags;
        self.summarise();
    }
    /// FNCLEX.
    pub fn clear_exceptions(&mut self) {
        self.status &= !(status::EXCEPTIONS | status::SF | status::ES | status::B);
    }
    /// Sets the condition codes in `mask` to those of `value`.
    pub fn set_codes(&mut self, mask: u16, value: u16) {
        self.status = self.status & !mask | value & mask;
    }

    /// The physical register that is ST(0).
    pub fn top(&self) -> u8 {
        (self.status >> 11 & 7) as u8
    }
    /// Makes `top` ST(0).
    pub fn set_top(&mut self, top: u8) {
        self.status = self.status & !status::TOP | u16::from(top & 7) << 11;
    }
    fn physical(&self, i: u8) -> usize {
        usize::from(self.top().wrapping_add(i) & 7)
    }
    /// ST(i), whatever its tag.
    pub fn st(&self, i: u8) -> F80 {
        self.regs[self.physical(i)]
    }
    /// Puts `value` into ST(i), which then is not empty.
    pub fn set_st(&mut self, i: u8, value: F80) {
        let n = self.physical(i);
        self.regs[n] = value;
        self.full |= 1 << n;
    }
    /// Whether ST(i) is empty.
    pub fn is_empty(&self, i: u8) -> bool {
        self.full >> self.physical(i) & 1 == 0
    }
    /// Empties ST(i).
    pub fn free(&mut self, i: u8) {
        self.full &= !(1 << self.physical(i));
    }
    /// Pushes `value`, over whatever is there.
    pub fn push(&mut self, value: F80) {
        self.set_top(self.top().wrapping_sub(1));
        self.set_st(0, value);
    }
    /// Pops.
    pub fn pop(&mut self) {
        self.free(0);
        self.set_top(self.top().wrapping_add(1));
    }

    /// MMn: the significand of physical register `n` (SDM vol. 1, 9.2.1).
    pub fn mm(&self, n: u8) -> u64 {
        self.regs[usize::from(n & 7)].significand
    }
    /// Sets MMn; exponent and sign become ones (SDM vol. 3, table 12-2).
    pub fn set_mm(&mut self, n: u8, value: u64) {
        self.regs[usize::from(n & 7)] = F80::new(0xffff, value);
    }
    /// What every MMX instruction but EMMS leaves: TOP is 0, all registers are full.
    pub fn enter_mmx(&mut self) {
        self.set_top(0);
        self.full = 0xff;
    }

    /// One bit for each physical register that is not empty: FXSAVE's form of the tags.
    pub fn full(&self) -> u8 {
        self.full
    }
    /// Sets it.
    pub fn set_full(&mut self, full: u8) {
        self.full = full;
    }
    /// The tag word: 0 valid, 1 zero, 2 special, 3 empty, two bits for each physical register.
    pub fn tags(&self) -> u16 {
        (0..8).fold(0, |word, n| word | self.tag(n) << (2 * n))
    }
    fn tag(&self, n: usize) -> u16 {
        let x = self.regs[n];
        match x.biased() {
            _ if self.full >> n & 1 == 0 => 3,
            0 if x.significand == 0 => 1,
            1..0x7fff if x.significand >> 63 != 0 => 0,
            _ => 2,
        }
    }
    /// Sets the tags; of a word only "empty" counts.
    pub fn set_tags(&mut self, word: u16) {
        self.full = (0..8).filter(|n| word >> (2 * n) & 3 != 3).fold(0, |full, n| full | 1 << n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_turns_over_eight_registers() {
        let mut fpu = Fpu::new();
        fpu.init();
        (0..8).for_each(|n| fpu.push(F80::new(n, 1 << 63)));
        assert_eq!((fpu.top(), fpu.full(), fpu.st(7).sign_exp), (0, 0xff, 0));
        fpu.pop();
        assert_eq!((fpu.top(), fpu.is_empty(7), fpu.st(0).sign_exp), (1, true, 6));
    }

    #[test]
    fn full_tags_follow_the_contents() {
        let mut fpu = Fpu::new();
        fpu.init();
        assert_eq!(fpu.tags(), 0xffff);
        fpu.push(F80::ZERO);
        fpu.push(F80::ONE);
        fpu.push(F80::INDEFINITE);
        assert_eq!(fpu.tags(), 0x4bff);
    }

    #[test]
    fn unmasking_a_noted_exception_makes_it_pending() {
        let mut fpu = Fpu::new();
        fpu.init();
        fpu.raise(status::ZE);
        assert!(!fpu.pending());
        fpu.set_control(0x37b);
        assert_eq!(fpu.status() & (status::ES | status::B), status::ES | status::B);
    }
}

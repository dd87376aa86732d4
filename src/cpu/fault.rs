//! `Fault`: what the guest's architecture raises (SDM vol. 3, 6.3 and 6.15).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;

/// Exception and interrupt vectors that the architecture names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the manual's exception mnemonics")]
pub enum Vector {
    De = 0,
    Db = 1,
    Nmi = 2,
    Bp = 3,
    Of = 4,
    Br = 5,
    Ud = 6,
    Nm = 7,
    Df = 8,
    Ts = 10,
    Np = 11,
    Ss = 12,
    Gp = 13,
    Pf = 14,
    Mf = 16,
    Ac = 17,
}

/// Bits of a page fault's error code (SDM vol. 3, 4.7).
pub mod pf {
    /// The page is present: a protection violation.
    pub const PRESENT: u16 = 1;
    /// The access was a write.
    pub const WRITE: u16 = 2;
    /// The access was a user-mode one.
    pub const USER: u16 = 4;
    /// A reserved bit is set in an entry.
    pub const RESERVED: u16 = 8;
    /// The access was an instruction fetch, where execute-disable is in use.
    pub const FETCH: u16 = 16;
}

/// A fault: vector, error code if it has one, and for page faults the linear address. It fits a register:
/// bits 0-31 the address or the DR6 bits, 32-47 the error code, 48-55 the vector, 56 whether there is an
/// error code, 63 set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault(NonZeroU64);

/// A value or a fault in one register. As a `Result<u32, Fault>` it would come back through memory, and a
/// function that makes the rare call would keep the common value there, too: a fifth of the instructions of a
/// load.
#[derive(Clone, Copy)]
pub struct Packed(u64);

impl From<Result<u32, Fault>> for Packed {
    #[inline(always)]
    fn from(result: Result<u32, Fault>) -> Self {
        Self(result.map_or_else(|fault| fault.0.get(), u64::from))
    }
}

impl Packed {
    /// The value, if it is one below `n`.
    #[inline(always)]
    pub fn below(self, n: u32) -> Option<u32> {
        (self.0 < u64::from(n)).then_some(self.0 as u32)
    }

    /// What was packed.
    ///
    /// # Errors
    /// The fault, if it was one.
    #[inline(always)]
    pub fn unpack(self) -> Result<u32, Fault> {
        match NonZeroU64::new(self.0) {
            Some(bits) if self.0 & ALIVE != 0 => Err(Fault(bits)),
            _ => Ok(self.0 as u32),
        }
    }
}

const HAS_CODE: u64 = 1 << 56;
const ALIVE: u64 = 1 << 63;

impl Fault {
    const fn build(vector: Vector, code: Option<u16>, value: u32) -> Self {
        let code = match code {
            Some(c) => HAS_CODE | ((c as u64) << 32),
            None => 0,
        };
        match NonZeroU64::new(ALIVE | code | ((vector as u64) << 48) | value as u64) {
            Some(bits) => Self(bits),
            None => unreachable!(),
        }
    }

    /// No fault of the guest's: the instruction, or the delivery of an event, causes a VM exit, which
    /// [`super::vmx::Vmx::exit`] describes. The semantics return it as they return a fault, because nothing
    /// is committed either; it never reaches an IDT.
    pub const VM_EXIT: Self = match NonZeroU64::new(ALIVE | 0xff << 48) {
        Some(bits) => Self(bits),
        None => unreachable!(),
    };

    /// Whether this stands for a VM exit.
    pub const fn is_vm_exit(self) -> bool {
        self.0.get() == Self::VM_EXIT.0.get()
    }

    /// Divide error.
    pub const DE: Self = Self::build(Vector::De, None, 0);
    /// Overflow, by INTO.
    pub const OF: Self = Self::build(Vector::Of, None, 0);
    /// Breakpoint, by INT3.
    pub const BP: Self = Self::build(Vector::Bp, None, 0);
    /// Bound range exceeded.
    pub const BR: Self = Self::build(Vector::Br, None, 0);
    /// Invalid opcode.
    pub const UD: Self = Self::build(Vector::Ud, None, 0);
    /// Device not available.
    pub const NM: Self = Self::build(Vector::Nm, None, 0);
    /// Double fault.
    pub const DF: Self = Self::build(Vector::Df, Some(0), 0);
    /// General protection, error code 0.
    pub const GP0: Self = Self::gp(0);
    /// Stack fault, error code 0.
    pub const SS0: Self = Self::ss(0);
    /// x87 floating-point error.
    pub const MF: Self = Self::build(Vector::Mf, None, 0);
    /// Alignment check.
    pub const AC: Self = Self::build(Vector::Ac, Some(0), 0);

    /// Invalid TSS; `code` is a selector with RPL cleared (or EXT).
    pub const fn ts(code: u16) -> Self {
        Self::build(Vector::Ts, Some(code), 0)
    }
    /// Segment not present.
    pub const fn np(code: u16) -> Self {
        Self::build(Vector::Np, Some(code), 0)
    }
    /// Stack fault.
    pub const fn ss(code: u16) -> Self {
        Self::build(Vector::Ss, Some(code), 0)
    }
    /// General protection.
    pub const fn gp(code: u16) -> Self {
        Self::build(Vector::Gp, Some(code), 0)
    }
    /// Page fault at the linear address `at`; `code` of [`pf`] bits.
    pub const fn page(at: u32, code: u16) -> Self {
        Self::build(Vector::Pf, Some(code), at)
    }
    /// Debug exception; `dr6` are the bits to be set in DR6.
    pub const fn debug(dr6: u32) -> Self {
        Self::build(Vector::Db, None, dr6)
    }

    /// The vector's number.
    pub const fn vector(self) -> u8 {
        (self.0.get() >> 48) as u8
    }
    /// Whether the fault's vector is `vector`.
    pub const fn is(self, vector: Vector) -> bool {
        self.vector() == vector as u8
    }
    /// The error code to push, if this exception has one.
    pub const fn code(self) -> Option<u16> {
        if self.0.get() & HAS_CODE != 0 { Some((self.0.get() >> 32) as u16) } else { None }
    }
    /// A page fault's linear address.
    pub const fn address(self) -> Option<u32> {
        if self.is(Vector::Pf) { Some(self.0.get() as u32) } else { None }
    }
    /// A debug exception's DR6 bits.
    pub const fn dr6(self) -> u32 {
        if self.is(Vector::Db) { self.0.get() as u32 } else { 0 }
    }
    /// This fault with the EXT bit in its error code: raised while an external event was delivered.
    #[must_use]
    pub const fn external(self) -> Self {
        match self.code() {
            Some(_) if !self.is(Vector::Pf) => self.with_code_bits(1),
            _ => self,
        }
    }
    const fn with_code_bits(self, bits: u64) -> Self {
        match NonZeroU64::new(self.0.get() | (bits << 32)) {
            Some(b) => Self(b),
            None => self,
        }
    }

    /// The exception's name, as the manual abbreviates it.
    pub fn name(self) -> &'static str {
        vector_name(self.vector())
    }
}

/// The manual's abbreviation for an exception vector, or "interrupt".
pub fn vector_name(vector: u8) -> &'static str {
    match vector {
        0 => "#DE",
        1 => "#DB",
        2 => "NMI",
        3 => "#BP",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        8 => "#DF",
        10 => "#TS",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        18 => "#MC",
        _ => "interrupt",
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        if let Some(code) = self.code() {
            write!(f, "({code:#06x})")?;
        }
        if let Some(at) = self.address() {
            write!(f, " at {at:#010x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_keeps_its_parts_in_one_word() {
        let f = Fault::page(0xdead_beef, pf::WRITE | pf::USER);
        assert_eq!((f.vector(), f.code(), f.address()), (14, Some(6), Some(0xdead_beef)));
        assert_eq!(Fault::UD.code(), None);
        assert_eq!(Fault::gp(0x18).external().code(), Some(0x19));
        assert_eq!(f.external(), f);
        assert_eq!(size_of::<Result<(), Fault>>(), 8);
    }
}

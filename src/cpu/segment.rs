//! Segments: selectors, descriptors, and the hidden parts of segment registers (SDM vol. 3, 3.4).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A segment selector (SDM vol. 3, 3.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Selector(pub u16);

impl Selector {
    /// Requested privilege level.
    pub const fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }
    /// Whether the selector names the LDT.
    pub const fn local(self) -> bool {
        self.0 & 4 != 0
    }
    /// Byte offset of its descriptor in the table.
    pub const fn offset(self) -> u32 {
        (self.0 & 0xfff8) as u32
    }
    /// One of the four null selectors.
    pub const fn is_null(self) -> bool {
        self.0 & 0xfffc == 0
    }
    /// As it appears in an error code: RPL cleared.
    pub const fn code(self) -> u16 {
        self.0 & 0xfffc
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// A segment register with its hidden part; LDTR and TR have the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The visible part.
    pub selector: Selector,
    /// Linear address of offset 0.
    pub base: u32,
    /// The highest offset (the lowest but one for expand-down), in bytes: granularity is applied.
    pub limit: u32,
    /// The descriptor's attribute bits: type in 0-3, S 4, DPL 5-6, P 7, AVL 8, D/B 10, G 11. All zero:
    /// unusable (a null selector was loaded).
    pub attr: u16,
    /// Offsets below this may be read with no further check; 0 where each access must be looked at.
    pub read_end: u64,
    /// Offsets below this may be written with no further check.
    pub write_end: u64,
}

/// Attribute bits of [`Segment::attr`].
#[allow(missing_docs, reason = "the manual's names")]
pub mod attr {
    pub const ACCESSED: u16 = 1;
    /// Writable data, readable code.
    pub const RW: u16 = 2;
    /// Expand-down data, conforming code.
    pub const DC: u16 = 4;
    pub const CODE: u16 = 8;
    /// Code or data (S bit); else a system descriptor.
    pub const USER: u16 = 0x10;
    pub const PRESENT: u16 = 0x80;
    pub const BIG: u16 = 0x400;
    pub const GRANULAR: u16 = 0x800;
}

impl Segment {
    /// A segment with hidden parts as given.
    pub fn with(selector: u16, base: u32, limit: u32, attr: u16) -> Self {
        let mut s = Self { selector: Selector(selector), base, limit, attr, read_end: 0, write_end: 0 };
        s.derive_ends();
        s
    }

    /// As in real mode: base 16 times the selector, 64 KiB of writable data.
    pub fn real(selector: u16) -> Self {
        Self::with(selector, u32::from(selector) << 4, 0xffff, 0x93)
    }

    /// As in virtual-8086 mode: the same at DPL 3.
    pub fn v86(selector: u16) -> Self {
        Self::with(selector, u32::from(selector) << 4, 0xffff, 0xf3)
    }

    /// CS after reset: selector F000, base FFFF0000.
    pub fn reset_code() -> Self {
        Self::with(0xf000, 0xffff_0000, 0xffff, 0x93)
    }

    /// LDTR or TR with hidden parts as given; no data access goes through it.
    pub fn system(selector: u16, base: u32, limit: u32, attr: u16) -> Self {
        Self { selector: Selector(selector), base, limit, attr, read_end: 0, write_end: 0 }
    }

    /// An unusable segment: what loading a null selector leaves.
    pub fn null(selector: u16) -> Self {
        Self::system(selector, 0, 0, 0)
    }

    /// This segment in real mode with another selector: base changes, limit and attributes stay ("unreal
    /// mode").
    #[must_use]
    pub fn real_reload(&self, selector: u16) -> Self {
        Self::with(selector, u32::from(selector) << 4, self.limit, self.attr)
    }

    fn derive_ends(&mut self) {
        let expand_down = self.attr & (attr::CODE | attr::DC) == attr::DC;
        if self.attr & attr::USER == 0 || self.attr & attr::PRESENT == 0 || expand_down {
            return;
        }
        let end = u64::from(self.limit) + 1;
        if self.readable() {
            self.read_end = end;
        }
        if self.writable() {
            self.write_end = end;
        }
    }

    /// Whether an access through it can succeed at all (no null selector was loaded).
    pub fn usable(&self) -> bool {
        self.attr & attr::PRESENT != 0
    }
    /// D/B.
    #[inline(always)]
    pub fn big(&self) -> bool {
        self.attr & attr::BIG != 0
    }
    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        ((self.attr >> 5) & 3) as u8
    }
    /// Data, or code that can be read.
    pub fn readable(&self) -> bool {
        self.attr & attr::CODE == 0 || self.attr & attr::RW != 0
    }
    /// Data that can be written.
    pub fn writable(&self) -> bool {
        self.attr & (attr::CODE | attr::RW) == attr::RW
    }
    /// Whether `len` bytes at `offset` lie within the limit, expand-down heeded.
    pub fn in_limit(&self, offset: u32, len: u32) -> bool {
        let last = u64::from(offset) + u64::from(len) - 1;
        if self.attr & (attr::CODE | attr::DC) == attr::DC {
            let top = if self.big() { 0xffff_ffff } else { 0xffff };
            offset > self.limit && last <= top
        } else {
            last <= u64::from(self.limit)
        }
    }
}

/// A descriptor as it stands in a table (SDM vol. 3, 3.4.5 and 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u64);

impl Descriptor {
    /// Attribute bits, laid out as [`Segment::attr`].
    pub fn attr(self) -> u16 {
        ((self.0 >> 40) & 0xff) as u16 | (((self.0 >> 52) & 0xf) << 8) as u16
    }
    /// Base address.
    pub fn base(self) -> u32 {
        ((self.0 >> 16) & 0xff_ffff) as u32 | ((self.0 >> 32) & 0xff00_0000) as u32
    }
    /// Limit in bytes, granularity applied.
    pub fn limit(self) -> u32 {
        let raw = (self.0 & 0xffff) as u32 | ((self.0 >> 32) & 0xf_0000) as u32;
        if self.attr() & attr::GRANULAR != 0 { (raw << 12) | 0xfff } else { raw }
    }
    /// Type, four bits.
    pub fn kind(self) -> u8 {
        (self.attr() & 15) as u8
    }
    /// A code or data segment.
    pub fn is_segment(self) -> bool {
        self.attr() & attr::USER != 0
    }
    /// A code segment.
    pub fn is_code(self) -> bool {
        self.attr() & (attr::USER | attr::CODE) == attr::USER | attr::CODE
    }
    /// A conforming code segment.
    pub fn is_conforming(self) -> bool {
        self.is_code() && self.attr() & attr::DC != 0
    }
    /// A writable data segment.
    pub fn is_writable_data(self) -> bool {
        self.attr() & (attr::USER | attr::CODE | attr::RW) == attr::USER | attr::RW
    }
    /// Present.
    pub fn present(self) -> bool {
        self.attr() & attr::PRESENT != 0
    }
    /// Descriptor privilege level.
    pub fn dpl(self) -> u8 {
        ((self.attr() >> 5) & 3) as u8
    }
    /// A gate's selector.
    pub fn gate_selector(self) -> Selector {
        Selector((self.0 >> 16) as u16)
    }
    /// A gate's offset, both halves.
    pub fn gate_offset(self) -> u32 {
        (self.0 & 0xffff) as u32 | ((self.0 >> 32) & 0xffff_0000) as u32
    }
    /// A call gate's parameter count.
    pub fn gate_parameters(self) -> u32 {
        ((self.0 >> 32) & 0x1f) as u32
    }
    /// The segment register content that loading `selector` with this descriptor gives.
    pub fn load(self, selector: u16) -> Segment {
        if self.is_segment() {
            Segment::with(selector, self.base(), self.limit(), self.attr())
        } else {
            Segment::system(selector, self.base(), self.limit(), self.attr())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_descriptor_parses() {
        let d = Descriptor(0x00cf_9a00_0000_ffff);
        let s = d.load(8);
        assert_eq!((s.base, s.limit, s.attr), (0, !0, 0xc9a));
        assert!(d.is_code() && s.big() && s.readable() && !s.writable());
        assert_eq!((s.read_end, s.write_end), (1 << 32, 0));
    }

    #[test]
    fn expand_down_limits_hold_from_the_other_side() {
        let s = Segment::with(8, 0, 0xfff, 0x96 | attr::BIG);
        assert!(!s.in_limit(0xfff, 1) && s.in_limit(0x1000, 4) && s.in_limit(0xffff_fffc, 4));
        assert!(!s.in_limit(0xffff_fffe, 4));
        assert_eq!(s.write_end, 0);
    }
}

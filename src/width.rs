//! The widths in which IA-32 moves data: named by instructions, registers, ports and chips alike (SDM vol. 1,
//! 4.1).

/// Width of a data access, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
}

impl Width {
    /// Bytes in an access of this width.
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        self as u32
    }
    /// All ones in this width.
    #[inline(always)]
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

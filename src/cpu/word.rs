//! `Word`: the three operand widths as types, so that each semantic function is written once.

/// An operand's value: `u8`, `u16` or `u32`.
pub trait Word: Copy + Eq + Ord + std::fmt::Debug + 'static {
    /// Bits in this width.
    const BITS: u32;
    /// Bytes in this width.
    const BYTES: u32;
    /// The width as data.
    const WIDTH: crate::width::Width;
    /// All ones in this width, in 32 bits.
    const MASK: u32;
    /// The low bits of `v`.
    fn from_u32(v: u32) -> Self;
    /// Zero-extended.
    fn u(self) -> u32;
    /// Sign-extended.
    fn s(self) -> u32;
    /// Register `n` in this width.
    fn get(regs: &[u32; 16], n: u8) -> Self;
    /// Sets register `n` in this width.
    fn set(regs: &mut [u32; 16], n: u8, v: Self);
    /// Reads little-endian at the start of `bytes`, if it is long enough.
    fn read(bytes: &[u8], at: usize) -> Option<Self>;
    /// Writes little-endian at `at`; false if `bytes` is too short.
    fn write(self, bytes: &mut [u8], at: usize) -> bool;
}

macro_rules! word_basics {
    ($t:ty, $signed:ty, $width:ident) => {
        const BITS: u32 = <$t>::BITS;
        const BYTES: u32 = <$t>::BITS / 8;
        const WIDTH: crate::width::Width = crate::width::Width::$width;
        const MASK: u32 = <$t>::MAX as u32;
        #[inline(always)]
        fn from_u32(v: u32) -> Self {
            v as $t
        }
        #[inline(always)]
        fn u(self) -> u32 {
            self as u32
        }
        #[inline(always)]
        fn s(self) -> u32 {
            self as $signed as i32 as u32
        }
        #[inline(always)]
        fn read(bytes: &[u8], at: usize) -> Option<Self> {
            let end = at + Self::BYTES as usize;
            Some(<$t>::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
        }
        #[inline(always)]
        fn write(self, bytes: &mut [u8], at: usize) -> bool {
            match bytes.get_mut(at..at + Self::BYTES as usize) {
                Some(b) => {
                    b.copy_from_slice(&self.to_le_bytes());
                    true
                }
                None => false,
            }
        }
    };
}

impl Word for u8 {
    word_basics!(u8, i8, Byte);
    #[inline(always)]
    fn get(regs: &[u32; 16], n: u8) -> Self {
        (regs[(n & 3) as usize] >> ((n & 4) * 2)) as u8
    }
    #[inline(always)]
    fn set(regs: &mut [u32; 16], n: u8, v: Self) {
        let shift = (n & 4) * 2;
        let r = &mut regs[(n & 3) as usize];
        *r = (*r & !(0xff << shift)) | (u32::from(v) << shift);
    }
}

impl Word for u16 {
    word_basics!(u16, i16, Word);
    #[inline(always)]
    fn get(regs: &[u32; 16], n: u8) -> Self {
        regs[(n & 7) as usize] as u16
    }
    #[inline(always)]
    fn set(regs: &mut [u32; 16], n: u8, v: Self) {
        let r = &mut regs[(n & 7) as usize];
        *r = (*r & 0xffff_0000) | u32::from(v);
    }
}

impl Word for u32 {
    word_basics!(u32, i32, Dword);
    #[inline(always)]
    fn get(regs: &[u32; 16], n: u8) -> Self {
        regs[(n & 7) as usize]
    }
    #[inline(always)]
    fn set(regs: &mut [u32; 16], n: u8, v: Self) {
        regs[(n & 7) as usize] = v;
    }
}

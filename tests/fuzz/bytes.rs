//! Bytes as choices: what a fuzzer or a seeded generator provides, taken one after the other. When they are used up,
//! every further choice is 0, so each input means a case.

/// A source of choices.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Choices from `data`.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether any are left.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A byte.
    pub(crate) fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A word.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// A doubleword.
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.u16()) % n.max(1)
    }

    /// One of `list`.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// True in `n` of 256 cases.
    pub(crate) fn chance(&mut self, n: u8) -> bool {
        self.u8() < n
    }
}

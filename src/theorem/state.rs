//! The state ⟨E, M, P, R⟩ of Popek and Goldberg's machine ("A Model of Third Generation Machines"): storage,
//! mode, program counter, relocation-bounds register; how a reference is relocated, and what a trap does to
//! it. Instructions ([`super::isa`]) are functions over [`View`], and [`super::machine`] runs them.

use serde::Serialize;
use std::fmt;

/// A storage word. It is an instruction, a number or a PSW: storage does not know which.
pub type Word = u32;

/// Where a trap puts the PSW that it found.
pub const OLD_PSW: usize = 0;
/// Where a trap finds the PSW that it loads.
pub const NEW_PSW: usize = 1;
/// The most words that a storage may have: an address, and so P, l and b, fits 8 bits.
pub const MOST_WORDS: usize = 255;

/// M: supervisor or user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub enum Mode {
    /// Every instruction runs.
    #[serde(rename = "s")]
    Supervisor,
    /// Privileged instructions trap.
    #[serde(rename = "u")]
    User,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Mode::Supervisor { "s" } else { "u" })
    }
}

/// R = (l, b): where a program's storage starts, and how many words it has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Relocation {
    /// l, an absolute address.
    pub l: u8,
    /// b, in words.
    pub b: u8,
}

impl fmt::Display for Relocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.l, self.b)
    }
}

/// The program status word ⟨M, P, R⟩: all of a processor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Psw {
    /// M.
    pub mode: Mode,
    /// P, relative to l as every address.
    pub p: u8,
    /// R.
    pub r: Relocation,
}

impl Psw {
    /// ⟨mode, p, (l, b)⟩.
    pub const fn new(mode: Mode, p: u8, l: u8, b: u8) -> Self {
        Self { mode, p, r: Relocation { l, b } }
    }

    /// The word that holds it: P in bits 0 to 7, l in 8 to 15, b in 16 to 23, M in 24 (1 is user). P is
    /// lowest, so that adding 1 to a stored PSW steps over an instruction.
    pub const fn word(self) -> Word {
        let m = matches!(self.mode, Mode::User) as Word;
        self.p as Word | (self.r.l as Word) << 8 | (self.r.b as Word) << 16 | m << 24
    }

    /// The PSW that a word holds; bits 25 to 31 say nothing.
    pub const fn of(word: Word) -> Self {
        let [p, l, b, m] = word.to_le_bytes();
        Self::new(if m & 1 == 1 { Mode::User } else { Mode::Supervisor }, p, l, b)
    }
}

impl fmt::Display for Psw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} P={} R={}", self.mode, self.p, self.r)
    }
}

/// Why an instruction did not complete. The machine stores no such thing; observers and the classification
/// see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trap {
    /// A reference outside R or outside storage: the paper's *memory trap*, which it keeps apart from all
    /// others.
    Memory,
    /// A privileged instruction in user mode.
    Privileged,
    /// A supervisor call: a trap is all that it does, in either mode.
    Call,
    /// The word is no instruction.
    Illegal,
}

/// Words at absolute addresses below [`Storage::size`]. Callers keep to them.
pub trait Storage {
    /// q: the number of words.
    fn size(&self) -> usize;
    /// E\[at\].
    fn get(&self, at: usize) -> Word;
    /// E\[at\] ← word.
    fn set(&mut self, at: usize, word: Word);
}

impl Storage for Vec<Word> {
    fn size(&self) -> usize {
        self.len()
    }
    fn get(&self, at: usize) -> Word {
        self[at]
    }
    fn set(&mut self, at: usize, word: Word) {
        self[at] = word;
    }
}

/// A state S = ⟨E, M, P, R⟩.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct State {
    /// E.
    pub storage: Vec<Word>,
    /// M, P and R.
    pub psw: Psw,
}

/// What an instruction sees while it runs: storage through R, and the PSW, in which P is already that of the
/// next instruction. What it does to the PSW counts only if it completes.
pub struct View<'a> {
    /// ⟨M, P, R⟩.
    pub psw: Psw,
    /// Ticks since the start. No part of S: the paper's machine has no clock, and its theorem promises
    /// nothing about one. `STCK` reads it.
    pub clock: Word,
    storage: &'a mut dyn Storage,
}

impl<'a> View<'a> {
    /// A view of `storage`.
    pub fn new(psw: Psw, clock: Word, storage: &'a mut dyn Storage) -> Self {
        Self { psw, clock, storage }
    }

    /// The absolute address of `a`, which must be below b, and its place within storage.
    fn relocate(&self, a: Word) -> Result<usize, Trap> {
        let Relocation { l, b } = self.psw.r;
        // In 64 bits: `a` may be any word.
        let at = u64::from(a) + u64::from(l);
        let inside = a < Word::from(b) && at < self.storage.size() as u64;
        if inside { Ok(at as usize) } else { Err(Trap::Memory) }
    }

    /// E\[l + a\].
    ///
    /// # Errors
    /// [`Trap::Memory`] if `a` is out of bounds.
    pub fn read(&self, a: impl Into<Word>) -> Result<Word, Trap> {
        Ok(self.storage.get(self.relocate(a.into())?))
    }

    /// E\[l + a\] ← word. An instruction does this last, so that a trap leaves storage as it was.
    ///
    /// # Errors
    /// [`Trap::Memory`] if `a` is out of bounds.
    pub fn write(&mut self, a: impl Into<Word>, word: Word) -> Result<(), Trap> {
        let at = self.relocate(a.into())?;
        self.storage.set(at, word);
        Ok(())
    }

    /// The first line of a privileged instruction.
    ///
    /// # Errors
    /// [`Trap::Privileged`] in user mode.
    pub fn supervisor_only(&self) -> Result<(), Trap> {
        if self.psw.mode == Mode::Supervisor { Ok(()) } else { Err(Trap::Privileged) }
    }
}

/// A trap: the PSW goes to E\[0\], the one in E\[1\] becomes the PSW. P is that of the instruction that
/// trapped.
pub fn trap(storage: &mut dyn Storage, psw: Psw) -> Psw {
    storage.set(OLD_PSW, psw.word());
    Psw::of(storage.get(NEW_PSW))
}

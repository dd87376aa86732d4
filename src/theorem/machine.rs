//! The machine ⟨E, M, P, R⟩ of Popek and Goldberg ("A Model of Third Generation Machines"): storage, mode, program
//! counter, relocation-bounds register; how a reference is relocated, what a trap does, and one step. Used by
//! everything in this module.
//!
//! Three things are as in the paper and unlike the machines of today: a reference is relocated in supervisor mode
//! too; a trap leaves no code that tells its cause, only the old PSW; and there are no registers, interrupts or I/O.

use super::isa::{Isa, Semantics};
use serde::Serialize;
use std::fmt;
use std::rc::Rc;

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

    /// The word that holds it: P in bits 0 to 7, l in 8 to 15, b in 16 to 23, M in 24 (1 is user). P is lowest, so
    /// that adding 1 to a stored PSW steps over an instruction.
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

/// Why an instruction did not complete. The machine stores no such thing; observers and the classification see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trap {
    /// A reference outside R or outside storage: the paper's *memory trap*, which it keeps apart from all others.
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

/// What an instruction sees while it runs: storage through R, and the PSW, in which P is already that of the next
/// instruction. What it does to the PSW counts only if it completes.
pub struct View<'a> {
    /// ⟨M, P, R⟩.
    pub psw: Psw,
    /// Ticks since the start. No part of S: the paper's machine has no clock, and its theorem promises nothing about
    /// one. `STCK` reads it.
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

/// The instruction at P: i(S), if it completes. Without `Ok`, nothing has happened.
///
/// # Errors
/// Why it trapped; the caller lets the trap happen with [`trap`].
pub fn execute(isa: &Isa, view: &mut View<'_>) -> Result<(), Trap> {
    let word = view.read(view.psw.p)?;
    let (instruction, x, y) = isa.decode(word).ok_or(Trap::Illegal)?;
    perform(instruction.run, x, y, view)
}

/// `run` with P moved on to the next instruction.
///
/// # Errors
/// Why it trapped.
pub fn perform(run: Semantics, x: u8, y: u8, view: &mut View<'_>) -> Result<(), Trap> {
    view.psw.p = view.psw.p.wrapping_add(1);
    run(view, x, y)
}

/// A trap: the PSW goes to E\[0\], the one in E\[1\] becomes the PSW. P is that of the instruction that trapped.
pub fn trap(storage: &mut dyn Storage, psw: Psw) -> Psw {
    storage.set(OLD_PSW, psw.word());
    Psw::of(storage.get(NEW_PSW))
}

/// One step of the machine on `storage` and `psw`: the instruction, or the trap. Gives the trap.
pub fn step(isa: &Isa, storage: &mut dyn Storage, psw: &mut Psw, clock: Word) -> Option<Trap> {
    let mut view = View::new(*psw, clock, storage);
    match execute(isa, &mut view) {
        Ok(()) => {
            *psw = view.psw;
            None
        }
        Err(cause) => {
            *psw = trap(storage, *psw);
            Some(cause)
        }
    }
}

/// Who ran an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The machine itself; nobody intervened.
    Hardware,
    /// The monitor, after a trap: an interpreter routine completed it.
    Routine,
    /// The monitor, after a trap: it gave the guest a trap of its own.
    Reflection,
    /// The monitor, in software, because it does not let the guest run in this mode.
    Interpreter,
}

/// A machine that runs, bare or virtual. It is all that a monitor knows of the machine below it, and what a monitor
/// makes: so monitors nest (Theorem 2).
pub trait Machine: Storage {
    /// Its instructions.
    fn isa(&self) -> &Rc<Isa>;
    /// ⟨M, P, R⟩.
    fn psw(&self) -> Psw;
    /// Loads the PSW, as `LPSW` in supervisor mode does.
    fn load_psw(&mut self, psw: Psw);
    /// Runs one instruction, or takes its trap.
    fn step(&mut self) -> By;
    /// Ticks of the clock since the start.
    fn clock(&self) -> Word;
    /// Lets `ticks` pass: what a monitor's own work takes.
    fn spend(&mut self, ticks: Word);
    /// Sets the clock to 0.
    fn reset_clock(&mut self);

    /// Whether the monitors that make this machine have kept control of what is below them.
    ///
    /// # Errors
    /// What is not so.
    fn in_control(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// S as it is now.
    fn state(&self) -> State {
        State { storage: (0..self.size()).map(|at| self.get(at)).collect(), psw: self.psw() }
    }

    /// Takes on the state `s`, which has no more words than the machine, at time 0.
    fn set_state(&mut self, s: &State) {
        for (at, &word) in s.storage.iter().enumerate() {
            self.set(at, word);
        }
        self.load_psw(s.psw);
        self.reset_clock();
    }

    /// The instruction at P as text, if there is one.
    fn next(&self) -> String {
        let Psw { p, r, .. } = self.psw();
        let at = usize::from(p) + usize::from(r.l);
        let fetched = (p < r.b && at < self.size()).then(|| self.isa().show(self.get(at)));
        fetched.unwrap_or_else(|| "(out of bounds)".into())
    }
}

/// The machine without a monitor.
pub struct Bare {
    isa: Rc<Isa>,
    storage: Vec<Word>,
    psw: Psw,
    clock: Word,
}

impl Bare {
    /// A machine of `size` words, all 0, at reset: supervisor mode, P = 0, R = (0, size). `size` is at least 2, for
    /// the two PSWs, and at most [`MOST_WORDS`].
    pub fn new(isa: &Rc<Isa>, size: usize) -> Self {
        assert!((2..=MOST_WORDS).contains(&size), "a storage of 2 to {MOST_WORDS} words, not {size}");
        let psw = Psw::new(Mode::Supervisor, 0, 0, size as u8);
        Self { isa: Rc::clone(isa), storage: vec![0; size], psw, clock: 0 }
    }
}

impl Storage for Bare {
    fn size(&self) -> usize {
        self.storage.len()
    }
    fn get(&self, at: usize) -> Word {
        self.storage[at]
    }
    fn set(&mut self, at: usize, word: Word) {
        self.storage[at] = word;
    }
}

impl Machine for Bare {
    fn isa(&self) -> &Rc<Isa> {
        &self.isa
    }
    fn psw(&self) -> Psw {
        self.psw
    }
    fn load_psw(&mut self, psw: Psw) {
        self.psw = psw;
    }
    fn step(&mut self) -> By {
        step(&self.isa, &mut self.storage, &mut self.psw, self.clock);
        self.spend(1);
        By::Hardware
    }
    fn clock(&self) -> Word {
        self.clock
    }
    fn spend(&mut self, ticks: Word) {
        self.clock = self.clock.wrapping_add(ticks);
    }
    fn reset_clock(&mut self) {
        self.clock = 0;
    }
}

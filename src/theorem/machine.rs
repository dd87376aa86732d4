//! The machine of Popek and Goldberg ("A Model of Third Generation Machines"): one step of it on a state, and
//! machines that run, bare or virtual. Used by everything in this module.
//!
//! Three things are as in the paper and unlike the machines of today: a reference is relocated in supervisor
//! mode too; a trap leaves no code that tells its cause, only the old PSW; and there are no registers,
//! interrupts or I/O.

use super::isa::{Isa, Semantics};
pub use super::state::{
    MOST_WORDS, Mode, NEW_PSW, OLD_PSW, Psw, Relocation, State, Storage, Trap, View, Word, trap,
};
use serde::Serialize;
use std::rc::Rc;

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

/// A machine that runs, bare or virtual. It is all that a monitor knows of the machine below it, and what a
/// monitor makes: so monitors nest (Theorem 2).
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
    /// A machine of `size` words, all 0, at reset: supervisor mode, P = 0, R = (0, size). `size` is at least
    /// 2, for the two PSWs, and at most [`MOST_WORDS`].
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

//! The classes of instructions ("Instruction Behavior" in the paper), found by brute force: every instruction runs in
//! every state of [`super::space`], and each claim comes with the states that bear it out. Used for the table, for
//! Theorems 1 and 3, and by the monitor, which has an interpreter routine for what is privileged *here*.
//!
//! Two points where the paper's wording needs a reading:
//!
//! - A trap itself changes M, P and R. It is the machine's doing and not the instruction's, so control-sensitive
//!   looks at instructions that complete, and a trap is compared with a trap as equal. Else a supervisor call would
//!   be sensitive and, since it traps in supervisor mode too, never privileged.
//! - An instruction that traps in user mode for some operands only is not privileged, and no class of the paper has
//!   it. Its behaviour depends on the mode, so here it is mode-sensitive.

use super::isa::Instruction;
use super::machine::{Mode, Psw, State, Trap, View, Word, perform};
use super::space::{self, WORDS};
use std::collections::HashMap;

/// One run of an instruction: the state before, and the one after, which is the same if it trapped.
#[derive(Clone, Debug)]
pub struct Run {
    /// S.
    pub before: State,
    /// i(S).
    pub after: State,
    /// Why it did not complete.
    pub trap: Option<Trap>,
}

impl Run {
    /// Runs `instruction`, whose word is at P in `before`.
    fn of(instruction: &Instruction, word: Word, before: &State, mode: Mode) -> Self {
        let before = State { psw: Psw { mode, ..before.psw }, ..before.clone() };
        let mut after = before.clone();
        let [y, x, ..] = word.to_le_bytes();
        let mut view = View::new(before.psw, 0, &mut after.storage);
        let trap = perform(instruction.run, x, y, &mut view).err();
        if trap.is_none() {
            after.psw = view.psw;
        }
        Self { before, after, trap }
    }

    fn memory_trap(&self) -> bool {
        self.trap == Some(Trap::Memory)
    }

    fn completed(&self) -> bool {
        self.trap.is_none()
    }

    /// What the program can tell: whether it trapped, E as R (the one before) shows it, and P.
    fn seen(&self) -> (bool, Window, u8) {
        (self.completed(), Window::of(&self.after, self.before.psw), self.after.psw.p)
    }
}

/// E|R: the words that a program reaches, as many as there are.
///
/// The paper compares states with one and the same b. Here b may differ where it reaches past the end of
/// storage: the monitor must trim b to its region, so what is trimmed must not be seen either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Window {
    words: [Word; WORDS],
    len: usize,
}

impl Window {
    fn of(s: &State, psw: Psw) -> Self {
        let (l, b) = (usize::from(psw.r.l), usize::from(psw.r.b));
        let visible = s.storage.get(l..).unwrap_or(&[]);
        let len = visible.len().min(b);
        let mut words = [0; WORDS];
        words[..len].copy_from_slice(&visible[..len]);
        Self { words, len }
    }
}

/// Two runs that differ.
pub type Pair = (Run, Run);

/// What an instruction turned out to be. Every `Some` is a witness.
#[derive(Clone, Debug)]
pub struct Class {
    /// The instruction.
    pub instruction: Instruction,
    /// *Privileged*: in every pair of states that differ in M only, and where neither run takes a memory
    /// trap, it traps in u and not in s.
    pub privileged: bool,
    /// The first pair of the kind that decides [`Class::privileged`], the run in s first: an example, or a
    /// counterexample.
    pub privileged_pair: Option<Pair>,
    /// *Control-sensitive* in s, and in u: it completes and has changed M or R.
    pub control: [Option<Run>; 2],
    /// *Location-sensitive* in s, and in u: two states alike but for where R puts the program, and the
    /// program can tell them apart afterwards.
    pub location: [Option<Pair>; 2],
    /// *Mode-sensitive*: two states alike but for M, and the program can tell them apart afterwards.
    pub mode: Option<Pair>,
    /// States that it was run in.
    pub states: u64,
}

impl Class {
    /// Runs `instruction` in all small states.
    pub fn of(instruction: &Instruction) -> Self {
        let mut search = Search::new(*instruction);
        for word in space::words(instruction) {
            // Programs that differ in their instruction are no pair.
            search.alike.clear();
            space::each_state(word, |s| search.visit(word, s));
        }
        search.finish()
    }

    /// *Behaviour-sensitive*: location- or mode-sensitive.
    pub fn behaviour_sensitive(&self) -> bool {
        self.location.iter().any(Option::is_some) || self.mode.is_some()
    }

    /// *Sensitive*: control- or behaviour-sensitive.
    pub fn sensitive(&self) -> bool {
        self.control.iter().any(Option::is_some) || self.behaviour_sensitive()
    }

    /// *Innocuous*: not sensitive.
    pub fn innocuous(&self) -> bool {
        !self.sensitive()
    }

    /// Control- or location-sensitive in states of `mode`. (Mode-sensitivity needs a state of each.)
    pub fn sensitive_in(&self, mode: Mode) -> bool {
        self.control[mode as usize].is_some() || self.location[mode as usize].is_some()
    }

    /// *User-sensitive*, what Theorem 3 asks about.
    pub fn user_sensitive(&self) -> bool {
        self.sensitive_in(Mode::User)
    }

    /// *Supervisor-sensitive*.
    pub fn supervisor_sensitive(&self) -> bool {
        self.sensitive_in(Mode::Supervisor)
    }

    /// Whether Theorem 1 forbids the instruction.
    pub fn breaks_theorem_1(&self) -> bool {
        self.sensitive() && !self.privileged
    }

    /// Whether Theorem 3 forbids the instruction.
    pub fn breaks_theorem_3(&self) -> bool {
        self.user_sensitive() && !self.privileged
    }
}

/// What has been found so far.
struct Search {
    found: Class,
    /// The first run of each kind of state that looks alike to its program: E|R, M, P.
    alike: HashMap<(Window, Mode, u8), Run>,
    privileged: Option<Pair>,
    unprivileged: Option<Pair>,
    /// A pair in which one traps and the other does not.
    mixed: Option<Pair>,
}

impl Search {
    fn new(instruction: Instruction) -> Self {
        let found = Class {
            instruction,
            privileged: false,
            privileged_pair: None,
            control: [None, None],
            location: [None, None],
            mode: None,
            states: 0,
        };
        Self { found, alike: HashMap::new(), privileged: None, unprivileged: None, mixed: None }
    }

    fn visit(&mut self, word: Word, s: &State) {
        let [in_s, in_u] =
            [Mode::Supervisor, Mode::User].map(|mode| Run::of(&self.found.instruction, word, s, mode));
        self.found.states += 2;
        for run in [&in_s, &in_u] {
            self.control(run);
            self.location(run);
        }
        if !in_s.memory_trap() && !in_u.memory_trap() {
            self.mode(in_s, in_u);
        }
    }

    fn control(&mut self, run: &Run) {
        let (before, after) = (run.before.psw, run.after.psw);
        let witness = &mut self.found.control[before.mode as usize];
        if witness.is_none() && run.completed() && (before.mode, before.r) != (after.mode, after.r) {
            *witness = Some(run.clone());
        }
    }

    fn location(&mut self, run: &Run) {
        let psw = run.before.psw;
        let witness = &mut self.found.location[psw.mode as usize];
        // A pair with one b is the paper's own, and a better witness than one where b was trimmed.
        let same_b = |(a, b): &Pair| a.before.psw.r.b == b.before.psw.r.b;
        if run.memory_trap() || witness.as_ref().is_some_and(same_b) {
            return;
        }
        let looks = (Window::of(&run.before, psw), psw.mode, psw.p);
        let first = self.alike.entry(looks).or_insert_with(|| run.clone());
        let pair = || (first.clone(), run.clone());
        if first.seen() != run.seen() && (witness.is_none() || same_b(&pair())) {
            *witness = Some(pair());
        }
    }

    fn mode(&mut self, in_s: Run, in_u: Run) {
        let differ = in_s.seen() != in_u.seen();
        let (s, u) = (in_s.completed(), in_u.completed());
        let pair = || Some((in_s.clone(), in_u.clone()));
        if s && u && differ && self.found.mode.is_none() {
            self.found.mode = pair();
        }
        if s != u && self.mixed.is_none() {
            self.mixed = pair();
        }
        let decided = if s && !u { &mut self.privileged } else { &mut self.unprivileged };
        if decided.is_none() {
            *decided = pair();
        }
    }

    fn finish(self) -> Class {
        let mut found = self.found;
        found.privileged = self.unprivileged.is_none() && self.privileged.is_some();
        found.privileged_pair = self.unprivileged.or(self.privileged);
        if !found.privileged {
            found.mode = found.mode.or(self.mixed);
        }
        found
    }
}

/// The classes of all of `instructions`.
pub fn classify(instructions: &[Instruction]) -> Vec<Class> {
    instructions.iter().map(Class::of).collect()
}

//! Equivalence ("Virtual Machine Properties"): the same program on the bare machine and under monitors,
//! f(e(S)) = e′(f(S)) step by step, and the search for the shortest program that tells them apart. Used by
//! [`super::report`] and the tests.

use super::isa::{Isa, Operand};
use super::machine::{Bare, Machine, Mode, NEW_PSW, Psw, State, Storage, Word};
use super::vmm::{ABOVE, BELOW, ControlProgram, Vmm};
use std::rc::Rc;

/// A virtual machine of `size` words under `depth` monitors (1 or more) with the same control program, each
/// running in the machine that the one below it makes.
pub fn tower(isa: &Rc<Isa>, program: &ControlProgram, depth: usize, size: usize) -> Vmm {
    let room = |levels: usize| size + levels * (BELOW + ABOVE);
    let mut host: Box<dyn Machine> = Box::new(Bare::new(isa, room(depth)));
    for _ in 1..depth {
        host = Box::new(Vmm::new(host, program.clone()));
    }
    Vmm::new(host, program.clone())
}

/// Whether the virtual machine is in the state of the bare one: E, M, P and R, all of it.
///
/// # Errors
/// How they differ.
pub fn same_state(bare: &Bare, vm: &dyn Machine) -> Result<(), String> {
    let (expected, psw) = (bare.psw(), vm.psw());
    if expected != psw {
        return Err(format!("the PSW is {psw} and on the bare machine {expected}"));
    }
    match differing_cell(bare, vm) {
        None => Ok(()),
        Some(at) => {
            let [theirs, ours] = [vm.get(at), bare.get(at)].map(|w| bare.isa().show(w));
            Err(format!("E[{at}] is {theirs} and on the bare machine {ours}"))
        }
    }
}

/// One step of both machines, which were in the same state.
///
/// # Errors
/// How f(i(S)) and i′(f(S)) differ, or how a monitor has lost control.
pub fn step_alike(bare: &mut Bare, vm: &mut dyn Machine) -> Result<(), String> {
    bare.step();
    vm.step();
    vm.in_control()?;
    same_state(bare, vm)
}

/// Runs `s` for `steps` on both.
///
/// # Errors
/// As [`step_alike`], with the step.
pub fn run_alike(bare: &mut Bare, vm: &mut dyn Machine, s: &State, steps: usize) -> Result<(), String> {
    bare.set_state(s);
    vm.set_state(s);
    for n in 0..steps {
        let next = bare.next();
        step_alike(bare, vm).map_err(|e| format!("step {n}, {next}: {e}"))?;
    }
    Ok(())
}

fn differing_cell(a: &dyn Machine, b: &dyn Machine) -> Option<usize> {
    (0..a.size()).find(|&at| a.get(at) != b.get(at))
}

/// Whether the program itself can see a difference: in E or P. (M and R it sees only through instructions
/// that tell it, and then it is in E or P.)
pub fn tells_apart(a: &dyn Machine, b: &dyn Machine) -> bool {
    a.psw().p != b.psw().p || differing_cell(a, b).is_some()
}

/// Words of the machine that small programs run on.
pub const SMALL: usize = 10;
/// Where they start.
const START: u8 = 2;
/// The most instructions of a program; the rest up to the trap handler is HALT.
pub const LONGEST: usize = 3;
/// Where traps go: to a HALT.
const HANDLER: u8 = 6;
/// Data: 0.
const ZERO: u8 = 7;
/// Data: a PSW of user mode, at the second instruction of the program.
const TO_USER: u8 = 8;
/// Steps that a small program gets: no more is needed to come to a HALT, or round a loop.
pub const STEPS: usize = 10;

/// A small program in the state that it starts in: supervisor mode, P = 2, R = the whole of storage.
///
/// | cell | holds |
/// |---|---|
/// | 0, 1 | old PSW; new PSW: s, P = 6, R = (0,10) |
/// | 2 to 5 | the program, then HALT |
/// | 6 | HALT |
/// | 7, 8, 9 | 0; the PSW u, P = 3, R = (0,10); 0 |
pub fn small(isa: &Isa, program: &[Word]) -> State {
    let halt = isa.word("HALT", 0, 0);
    let size = SMALL as u8;
    let mut storage = vec![0; SMALL];
    storage[NEW_PSW] = Psw::new(Mode::Supervisor, HANDLER, 0, size).word();
    storage[usize::from(TO_USER)] = Psw::new(Mode::User, START + 1, 0, size).word();
    storage[usize::from(START)..=usize::from(HANDLER)].fill(halt);
    storage[usize::from(START)..][..program.len()].copy_from_slice(program);
    State { storage, psw: Psw::new(Mode::Supervisor, START, 0, size) }
}

/// The instruction words that small programs are made of: every instruction with every choice of operands
/// among the PSW, the 0, and the second instruction; for a jump, the last comes first.
pub fn alphabet(isa: &Isa) -> Vec<Word> {
    const DATA: [u8; 3] = [TO_USER, ZERO, START + 1];
    const TARGET: [u8; 3] = [START + 1, ZERO, TO_USER];
    let choices = |o: &Operand| if *o == Operand::Data { DATA } else { TARGET };
    let mut all = Vec::new();
    for i in isa.instructions() {
        match i.operands {
            [] => all.push(i.word(0, 0)),
            [x] => all.extend(choices(x).map(|x| i.word(x, 0))),
            [x, y, ..] => all.extend(choices(x).iter().flat_map(|&x| choices(y).map(|y| i.word(x, y)))),
        }
    }
    all
}

/// All small programs of `len` instructions, in a fixed order. If the set adds instructions to the compliant
/// one, only those programs that use one: the others are programs of the compliant set.
pub fn programs(isa: &Isa, len: usize) -> impl Iterator<Item = Vec<Word>> {
    let words = alphabet(isa);
    let added: Vec<u8> = isa.added().iter().map(|i| i.opcode).collect();
    let count = words.len().pow(len as u32);
    let uses_added =
        move |p: &Vec<Word>| added.is_empty() || p.iter().any(|w| added.contains(&w.to_le_bytes()[3]));
    let nth = move |mut n: usize| {
        let mut program = vec![0; len];
        for word in program.iter_mut().rev() {
            *word = words[n % words.len()];
            n /= words.len();
        }
        program
    };
    (0..count).map(nth).filter(uses_added)
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Programs that were run.
    pub programs: u64,
    /// The first that told the virtual machine from the bare one. No shorter one does.
    pub counterexample: Option<Vec<Word>>,
}

/// Runs all small programs of up to `longest` instructions, the shortest first, until one tells the machines
/// apart.
pub fn search(isa: &Rc<Isa>, program: &ControlProgram, depth: usize, longest: usize) -> Found {
    let mut bare = Bare::new(isa, SMALL);
    let mut vm = tower(isa, program, depth, SMALL);
    let mut found = Found { programs: 0, counterexample: None };
    for candidate in (1..=longest).flat_map(|len| programs(isa, len)) {
        found.programs += 1;
        if first_difference(&mut bare, &mut vm, &small(isa, &candidate)).is_some() {
            found.counterexample = Some(candidate);
            break;
        }
    }
    found
}

/// The step after which the program in `s` can tell `vm` from the bare machine, if there is one within
/// [`STEPS`].
pub fn first_difference(bare: &mut Bare, vm: &mut Vmm, s: &State) -> Option<usize> {
    bare.set_state(s);
    vm.set_state(s);
    for n in 1..=STEPS {
        let before = (bare.psw(), vm.psw());
        bare.step();
        vm.step();
        if tells_apart(bare, vm) {
            return Some(n);
        }
        // Neither has moved: a HALT on both, or a jump to itself.
        if before == (bare.psw(), vm.psw()) && before.0 == before.1 {
            break;
        }
    }
    None
}

/// A program that does what kernels do, in the compliant set: it starts a user task with a relocated R, the
/// task counts and calls, the handler steps over the call and goes back until the task has counted to 0, and
/// then it looks at R.
pub fn demonstration(isa: &Isa) -> State {
    let i = |name, x, y| isa.word(name, x, y);
    let (s, u) = (Mode::Supervisor, Mode::User);
    let storage = vec![
        0,                            //  0 old PSW
        Psw::new(s, 4, 0, 24).word(), //  1 new PSW: the handler
        i("SETR", 10, 0),             //  2 start: R as in 10, which is R as it is
        i("LPSW", 11, 0),             //  3 to the task
        i("JZ", 20, 8),               //  4 handler: is the task's counter 0?
        i("ADD", 0, 12),              //  5 over the instruction that trapped,
        i("LPSW", 0, 0),              //  6 and back
        0,                            //  7
        i("GETR", 13, 0),             //  8 the end
        i("HALT", 0, 0),              //  9
        Psw::new(s, 0, 0, 24).word(), // 10
        Psw::new(u, 0, 14, 8).word(), // 11 the task: R = (14, 8)
        1,                            // 12
        0,                            // 13 what GETR said
        i("SUB", 6, 5),               // 14 task, its 0: counts down,
        i("SVC", 0, 0),               // 15 calls,
        i("GETR", 5, 0),              // 16 tries what it may not,
        i("MOV", 7, 6),               // 17 copies the counter,
        i("JMP", 0, 0),               // 18 and again
        1,                            // 19 its 5
        3,                            // 20 its 6: the counter
        0,                            // 21 its 7: the copy
        0,                            // 22
        0,                            // 23
    ];
    State { storage, psw: Psw::new(s, 2, 0, 24) }
}

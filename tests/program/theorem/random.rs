//! Random programs on machines of 8 to 40 words: mostly instructions, some PSWs and numbers. They shrink.

use super::Subject;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use std::rc::Rc;
use subring::theorem::compare::{same_state, tower};
use subring::theorem::isa::Isa;
use subring::theorem::machine::{Bare, Machine, Mode, NEW_PSW, Psw, State, Word};
use subring::theorem::vmm::ControlProgram;

/// Steps of each program.
const STEPS: usize = 60;

/// Random programs: `PROPTEST_CASES`, or few.
pub(crate) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// Mostly a window that holds most of storage, and P within it: a program that can only trap says little.
fn psw(size: u8) -> impl Strategy<Value = Psw> {
    let wide = (any::<bool>(), 2..size * 2 / 3, prop_oneof![Just(0), 0..size / 3], 0..4u8);
    let wide = wide.prop_map(move |(user, p, l, short)| (user, p, l, (size - l + 1).saturating_sub(short)));
    let anything = (any::<bool>(), any::<u8>(), any::<u8>(), any::<u8>());
    prop_oneof![12 => wide, 1 => anything]
        .prop_map(|(user, p, l, b)| Psw::new(if user { Mode::User } else { Mode::Supervisor }, p, l, b))
}

fn word(isa: &Rc<Isa>, size: u8) -> impl Strategy<Value = Word> + use<> {
    let isa = Rc::clone(isa);
    let instructions = isa.instructions().to_vec();
    let any_of = (0..instructions.len(), 0..size, 0..size);
    let instruction = any_of.prop_map(move |(n, x, y)| instructions[n].word(x, y));
    prop_oneof![
        16 => instruction,
        3 => psw(size).prop_map(Psw::word),
        2 => 0..Word::from(size),
        1 => any::<Word>(),
    ]
}

/// A machine full of random words, where traps mostly go to supervisor mode.
pub(crate) fn state(isa: &Rc<Isa>) -> impl Strategy<Value = State> + use<> {
    let isa = Rc::clone(isa);
    (8..40u8).prop_flat_map(move |size| {
        let words = prop::collection::vec(word(&isa, size), usize::from(size));
        (words, psw(size), psw(size), 0..4u8).prop_map(|(mut storage, psw, handler, user)| {
            let mode = if user == 0 { Mode::User } else { Mode::Supervisor };
            storage[NEW_PSW] = Psw { mode, ..handler }.word();
            State { storage, psw }
        })
    })
}

/// Runs random programs on the bare machine and under `depth` monitors; `control` says whether losing control of
/// resources is a failure too, or only what the guest's state shows.
///
/// # Errors
/// The first program that differs, shrunk.
pub(crate) fn compare(
    isa: &Rc<Isa>,
    program: &ControlProgram,
    depth: usize,
    cases: u32,
    control: bool,
) -> Result<(), TestError<State>> {
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1974),
        max_shrink_iters: 100_000,
        ..Config::default()
    };
    TestRunner::new(config).run(&state(isa), |s| {
        let size = s.storage.len();
        let (mut bare, mut vm) = (Bare::new(isa, size), tower(isa, program, depth, size));
        bare.set_state(&s);
        vm.set_state(&s);
        for n in 0..STEPS {
            let next = bare.next();
            bare.step();
            vm.step();
            let kept = if control { vm.in_control().map_err(String::from) } else { Ok(()) };
            kept.and_then(|()| same_state(&bare, &vm))
                .map_err(|e| TestCaseError::fail(format!("step {n}, {next}: {e}")))?;
        }
        Ok(())
    })
}

/// Steps that change something, in `count` random programs.
pub(crate) fn steps_until_stuck(isa: &Rc<Isa>, runner: &mut TestRunner, count: usize) -> usize {
    let mut total = 0;
    for _ in 0..count {
        let tree = state(isa).new_tree(runner).expect("a state");
        let mut bare = Bare::new(isa, tree.current().storage.len());
        bare.set_state(&tree.current());
        let mut before = bare.state();
        for _ in 0..STEPS {
            bare.step();
            let after = bare.state();
            if after == before {
                break;
            }
            before = after;
            total += 1;
        }
    }
    total
}

/// Whether random programs notice a wrong monitor by the guest's state alone.
pub(crate) fn notices(subject: &Subject, program: &ControlProgram) -> bool {
    compare(&subject.isa, program, 1, 300, false).is_err()
}

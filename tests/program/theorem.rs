//! Popek and Goldberg's theorem, held against itself: the classes are those of the definitions; monitors of sets that
//! satisfy a theorem are homomorphic on every small state, on small programs and on random large ones; those of sets
//! that do not are told from the bare machine; and each way of building the monitor wrong is noticed.
//!
//! `PROPTEST_CASES` sets the number of random programs, `SUBRING_FULL=1` adds the longer exhaustive runs.

mod faults;
mod random;

use proptest::test_runner::{TestError, TestRunner};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{LazyLock, Mutex};
use subring::theorem::classify::{Class, classify};
use subring::theorem::compare::{self, SMALL, STEPS, programs, run_alike, small, step_alike, tower};
use subring::theorem::isa::{Instruction, Isa, Operand};
use subring::theorem::machine::{Bare, By, Machine, Mode, NEW_PSW, Psw, State, Storage, Trap, View, perform};
use subring::theorem::space::{self, WORDS, each_state};
use subring::theorem::vmm::{BELOW, ControlProgram};

/// A set with its classes.
pub(crate) struct Subject {
    pub(crate) isa: Rc<Isa>,
    pub(crate) classes: Vec<Class>,
}

impl Subject {
    pub(crate) fn new(name: &str) -> Self {
        static BY_OPCODE: LazyLock<Mutex<HashMap<u8, Class>>> = LazyLock::new(Mutex::default);
        let isa = Isa::find(name).expect("a set of ours");
        let mut known = BY_OPCODE.lock().expect("no classification panics");
        let of = |i: &Instruction| known.entry(i.opcode).or_insert_with(|| Class::of(i)).clone();
        Self { classes: isa.instructions().iter().map(of).collect(), isa: Rc::new(isa) }
    }
    pub(crate) fn vmm(&self) -> ControlProgram {
        ControlProgram::trap_and_emulate(&self.classes)
    }
    fn hybrid(&self) -> ControlProgram {
        ControlProgram::hybrid(&self.classes)
    }
    fn holds(&self, breaks: fn(&Class) -> bool) -> bool {
        !self.classes.iter().any(breaks)
    }
}

fn full() -> bool {
    std::env::var_os("SUBRING_FULL").is_some_and(|v| v == "1")
}

/// Visits every small state, in both modes: each instruction of the set everywhere, a word that is none, and P where
/// nothing can be fetched. Gives their number.
pub(crate) fn every_state(
    isa: &Isa,
    mut visit: impl FnMut(&State) -> Result<(), String>,
) -> Result<u64, String> {
    let (mut count, mut result) = (0, Ok(()));
    let mut both = |s: &State| {
        for mode in [Mode::Supervisor, Mode::User] {
            if result.is_ok() {
                let s = State { psw: Psw { mode, ..s.psw }, ..s.clone() };
                count += 1;
                result = visit(&s).map_err(|e| format!("{}, {:x?}: {e}", s.psw, s.storage));
            }
        }
    };
    for word in isa.instructions().iter().flat_map(space::words).chain([0]) {
        each_state(word, &mut both);
    }
    for (l, b) in (0..=WORDS + 1).flat_map(|l| (0..=WORDS + 1).map(move |b| (l, b))) {
        for p in (0..=WORDS + 1).filter(|&p| p >= b || l + p >= WORDS) {
            let psw = Psw::new(Mode::Supervisor, p as u8, l as u8, b as u8);
            let storage = vec![7, Psw::new(Mode::User, 2, 1, 3).word(), isa.word("HALT", 0, 0), 9];
            both(&State { storage, psw });
        }
    }
    result.map(|()| count)
}

/// One step from every small state; `f(i(S)) = i'(f(S))`.
fn homomorphic_everywhere(subject: &Subject, program: &ControlProgram, depth: usize) -> Result<u64, String> {
    let mut bare = Bare::new(&subject.isa, WORDS);
    let mut vm = tower(&subject.isa, program, depth, WORDS);
    every_state(&subject.isa, |s| run_alike(&mut bare, &mut vm, s, 1))
}

// ---- Classification -----------------------------------------------------------------------------------------------

#[test]
fn the_classes_are_those_of_the_definitions() {
    // Privileged; control-, location-sensitive by mode; mode-sensitive; user-sensitive.
    #[rustfmt::skip]
    let expected = [
        ("SET", "-", "", "", "-", "-"), ("MOV", "-", "", "", "-", "-"), ("LD", "-", "", "", "-", "-"),
        ("ST", "-", "", "", "-", "-"), ("ADD", "-", "", "", "-", "-"), ("SUB", "-", "", "", "-", "-"),
        ("JZ", "-", "", "", "-", "-"), ("JMP", "-", "", "", "-", "-"), ("SVC", "-", "", "", "-", "-"),
        ("LPSW", "privileged", "s", "", "-", "-"),
        ("SETR", "privileged", "s", "", "-", "-"),
        ("GETR", "privileged", "", "s", "-", "-"),
        ("HALT", "privileged", "", "", "-", "-"),
        ("JRST 1", "-", "s", "", "-", "-"),
        ("POPF", "-", "s", "", "-", "-"),
        ("MOVE SR", "-", "", "", "mode", "-"),
        ("LRA", "-", "", "su", "-", "user"),
        ("MOV DS", "-", "su", "", "-", "user"),
        ("STCK", "-", "", "", "-", "-"),
    ];
    let modes = |[s, u]: [bool; 2]| format!("{}{}", if s { "s" } else { "" }, if u { "u" } else { "" });
    let yes = |b: bool, name: &'static str| if b { name } else { "-" };
    let mut seen = Vec::new();
    for name in Isa::names() {
        for c in Subject::new(name).classes {
            let of = (
                c.instruction.name,
                yes(c.privileged, "privileged"),
                modes(c.control.each_ref().map(Option::is_some)),
                modes(c.location.each_ref().map(Option::is_some)),
                yes(c.mode.is_some(), "mode"),
                yes(c.user_sensitive(), "user"),
            );
            assert_eq!(c.innocuous(), !c.sensitive());
            if !seen.contains(&of) {
                seen.push(of);
            }
        }
    }
    let expected: Vec<_> =
        expected.map(|(n, p, c, l, m, u)| (n, p, c.to_owned(), l.to_owned(), m, u)).into_iter().collect();
    assert_eq!(seen, expected);
}

#[test]
fn witnesses_are_what_they_claim() {
    for name in Isa::names() {
        for c in Subject::new(name).classes {
            for run in c.control.iter().flatten() {
                assert!(run.trap.is_none());
                let (before, after) = (run.before.psw, run.after.psw);
                assert!(before.mode != after.mode || before.r != after.r, "{}", c.instruction.name);
            }
            for (a, b) in c.location.iter().flatten() {
                let (a, b) = (a.before.psw, b.before.psw);
                assert_eq!((a.mode, a.p, a.r.b), (b.mode, b.p, b.r.b), "{}", c.instruction.name);
                assert_ne!(a.r.l, b.r.l);
            }
            let pairs = c.mode.iter().chain(&c.privileged_pair);
            for (a, b) in pairs {
                assert_eq!((a.before.psw.mode, b.before.psw.mode), (Mode::Supervisor, Mode::User));
                let (a, b) = (&a.before, &b.before);
                assert_eq!((&a.storage, a.psw.p, a.psw.r), (&b.storage, b.psw.p, b.psw.r));
            }
        }
    }
}

/// As IN of IA-32, which traps in user mode except for ports that the bitmap allows: here, except for x = 0.
fn sometimes_privileged(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    if x != 0 {
        m.supervisor_only()?;
    }
    m.write(y, 5)
}

#[test]
fn an_instruction_that_traps_for_some_operands_only_is_sensitive_and_breaks_the_monitor() {
    const DATA: &[Operand] = &[Operand::Data, Operand::Data];
    let run = sometimes_privileged;
    let partial = Instruction { name: "IN", opcode: 0x40, operands: DATA, about: "", run };
    let class = Class::of(&partial);
    assert!(!class.privileged && class.mode.is_some() && class.breaks_theorem_1());
    assert!(class.control.iter().all(Option::is_none) && !class.breaks_theorem_3());

    let isa = Isa::compliant_with("partial", "", &[partial]);
    let subject = Subject { classes: classify(isa.instructions()), isa: Rc::new(isa) };
    assert!(homomorphic_everywhere(&subject, &subject.vmm(), 1).is_err());
    assert_eq!(homomorphic_everywhere(&subject, &subject.hybrid(), 1).err(), None);
}

#[test]
fn a_trap_leaves_no_trace_of_its_instruction() {
    for name in Isa::names() {
        let isa = Isa::find(name).unwrap();
        for i in isa.instructions() {
            for word in space::words(i) {
                let [y, x, ..] = word.to_le_bytes();
                each_state(word, |s| {
                    for mode in [Mode::Supervisor, Mode::User] {
                        let mut storage = s.storage.clone();
                        let mut view = View::new(Psw { mode, ..s.psw }, 0, &mut storage);
                        if perform(i.run, x, y, &mut view).is_err() {
                            assert_eq!(storage, s.storage, "{}", isa.show(word));
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn a_psw_goes_through_a_word() {
    for (m, p, l, b) in [(Mode::User, 255, 254, 253), (Mode::Supervisor, 1, 2, 3), (Mode::User, 0, 0, 0)] {
        let psw = Psw::new(m, p, l, b);
        assert_eq!(Psw::of(psw.word()), psw);
        // A handler steps over an instruction by adding 1.
        assert_eq!(Psw::of(psw.word() & !0xff | 7).p, 7);
    }
}

// ---- Equivalence and resource control -----------------------------------------------------------------------------

#[test]
fn monitors_are_homomorphic_on_every_small_state_where_the_theorems_promise_it() {
    for name in Isa::names() {
        let subject = Subject::new(name);
        // A step at time 0 does not see the clock: STCK is in this too.
        let vmm = homomorphic_everywhere(&subject, &subject.vmm(), 1);
        let hybrid = homomorphic_everywhere(&subject, &subject.hybrid(), 1);
        println!("{name:<10} VMM: {vmm:?}\n{:<10} hybrid: {hybrid:?}", "");
        assert_eq!(vmm.is_ok(), subject.holds(Class::breaks_theorem_1), "{name}: {vmm:?}");
        assert_eq!(hybrid.is_ok(), subject.holds(Class::breaks_theorem_3), "{name}: {hybrid:?}");
        for count in [vmm, hybrid].into_iter().flatten() {
            assert!(count > 650_000, "{count}");
        }
    }
}

#[test]
fn nested_monitors_are_homomorphic_on_every_small_state() {
    let subject = Subject::new("compliant");
    for depth in if full() { 2..=4 } else { 2..=3 } {
        assert_eq!(homomorphic_everywhere(&subject, &subject.vmm(), depth).err(), None, "depth {depth}");
    }
    assert_eq!(homomorphic_everywhere(&subject, &subject.hybrid(), 2).err(), None, "hybrid in hybrid");
}

#[test]
fn small_programs_run_alike_in_every_part_of_the_state() {
    for name in ["compliant", "jrst1", "popf", "move-sr"] {
        let subject = Subject::new(name);
        let mut monitors = vec![tower(&subject.isa, &subject.hybrid(), 1, SMALL)];
        if subject.holds(Class::breaks_theorem_1) {
            monitors.extend([1, 2, 3].map(|depth| tower(&subject.isa, &subject.vmm(), depth, SMALL)));
        }
        let mut bare = Bare::new(&subject.isa, SMALL);
        let mut count = 0u64;
        for program in (1..=if full() { 3 } else { 2 }).flat_map(|len| programs(&subject.isa, len)) {
            count += 1;
            let s = small(&subject.isa, &program);
            for vm in &mut monitors {
                let run = run_alike(&mut bare, vm, &s, STEPS);
                assert_eq!(run, Ok(()), "{name}: {:?}", program.iter().map(|&w| subject.isa.show(w)));
            }
        }
        println!("{name:<10} {count} programs of {STEPS} steps under {} monitors", monitors.len());
        assert!(count > 400, "{count}");
    }
}

#[test]
fn random_programs_run_alike() {
    for name in ["compliant", "jrst1", "popf", "move-sr"] {
        let subject = Subject::new(name);
        let mut monitors = vec![(subject.hybrid(), 1), (subject.hybrid(), 2)];
        if subject.holds(Class::breaks_theorem_1) {
            monitors.extend([1, 2, 3].map(|depth| (subject.vmm(), depth)));
        }
        for (program, depth) in monitors {
            let result = random::compare(&subject.isa, &program, depth, random::cases(), true);
            assert!(result.is_ok(), "{name}, depth {depth}: {result:?}");
        }
    }
}

#[test]
fn random_programs_find_what_breaks_the_theorems_and_shrink_it() {
    for name in Isa::names() {
        let subject = Subject::new(name);
        for (monitor, program, breaks) in [
            ("VMM", subject.vmm(), Class::breaks_theorem_1 as fn(&Class) -> bool),
            ("hybrid VMM", subject.hybrid(), Class::breaks_theorem_3),
        ] {
            if subject.holds(breaks) {
                continue;
            }
            let Err(TestError::Fail(why, s)) = random::compare(&subject.isa, &program, 1, 4000, true) else {
                panic!("{name}: no random program tells the {monitor} from the bare machine");
            };
            let words: Vec<_> = s.storage.iter().map(|&w| subject.isa.show(w)).collect();
            println!("{name:<10} {monitor:<10} {why}\n{:<10} {} [{}]", "", s.psw, words.join(" | "));
            assert!(s.storage.len() <= 12, "{name}: shrunk to {s:?}");
        }
    }
}

#[test]
fn the_shortest_counterexamples() {
    #[rustfmt::skip]
    let expected = [
        ("compliant", "none",             "none"),
        ("jrst1",     "JRST 1 3",         "none"),
        ("popf",      "POPF 8",           "none"),
        ("move-sr",   "MOVE SR 8",        "none"),
        ("lra",       "LRA 8,8",          "LPSW 8; LRA 8,8"),
        ("mov-ds",    "MOV DS 7",         "LPSW 8; MOV DS 7"),
        ("stck",      "LPSW 8; STCK 8",   "SET 8,8; STCK 8"),
    ];
    for (name, vmm, hybrid) in expected {
        let subject = Subject::new(name);
        for (what, program, expected) in [("VMM", subject.vmm(), vmm), ("hybrid", subject.hybrid(), hybrid)] {
            let found = compare::search(&subject.isa, &program, 1, 2).counterexample;
            let text = |p: Vec<u32>| p.iter().map(|&w| subject.isa.show(w)).collect::<Vec<_>>().join("; ");
            assert_eq!(found.map_or("none".into(), text), expected, "{name}, {what}");
        }
    }
}

#[test]
fn whoever_sets_r_owns_the_machine() {
    // MOV DS with R = (0, 10) in a guest whose region starts at 3: it now sees the monitor's storage as its own, and
    // goes on from the host's address 3, which is its own E[0]. There it writes over the host's new PSW.
    let subject = Subject::new("mov-ds");
    let word = |name, x, y| subject.isa.word(name, x, y);
    let mut s = small(&subject.isa, &[word("MOV DS", 8, 0)]);
    s.storage[0] = word("SET", 1, 99);
    let mut vm = tower(&subject.isa, &subject.vmm(), 1, SMALL);
    vm.set_state(&s);
    assert_eq!(vm.in_control(), Ok(()));
    vm.step();
    assert_eq!(vm.in_control(), Err("R reaches outside the guest's region"));
    assert_eq!(usize::from(vm.host().psw().p), BELOW);
    vm.step();
    assert_eq!(vm.host().get(NEW_PSW), 99, "the guest has written over the monitor's storage");
    assert_eq!(vm.in_control(), Err("the monitor's own storage has changed"));
}

// ---- Efficiency ---------------------------------------------------------------------------------------------------

/// Innocuous instructions that complete run on the host, and only privileged ones are emulated.
pub(crate) fn efficient(subject: &Subject, program: &ControlProgram, s: &State) -> Result<(), String> {
    let mut bare = Bare::new(&subject.isa, s.storage.len());
    let mut vm = tower(&subject.isa, program, 1, s.storage.len());
    bare.set_state(s);
    vm.set_state(s);
    for _ in 0..STEPS {
        let psw = bare.psw();
        let at = usize::from(psw.p) + usize::from(psw.r.l);
        let fetched = (psw.p < psw.r.b && at < bare.size()).then(|| bare.get(at));
        let class = fetched.and_then(|w| {
            let (i, ..) = subject.isa.decode(w)?;
            subject.classes.iter().find(|c| c.instruction == *i)
        });
        let mut storage: Vec<u32> = (0..bare.size()).map(|at| bare.get(at)).collect();
        let mut view = View::new(psw, 0, &mut storage);
        let completes = subring::theorem::machine::execute(&subject.isa, &mut view).is_ok();
        bare.step();
        let by = vm.step();
        let right = match class {
            Some(c) if completes && c.privileged => by == By::Routine,
            Some(_) if completes => by == By::Hardware,
            _ => by == By::Reflection,
        };
        if !right {
            return Err(format!("{}: {by:?}", class.map_or("no instruction", |c| c.instruction.name)));
        }
    }
    Ok(())
}

#[test]
fn innocuous_instructions_run_with_no_intervention() {
    let subject = Subject::new("compliant");
    for program in (1..=2).flat_map(|len| programs(&subject.isa, len)) {
        assert_eq!(efficient(&subject, &subject.vmm(), &small(&subject.isa, &program)), Ok(()));
    }
    // The hybrid is not efficient in this sense, and the paper does not say so: it interprets.
    let s = small(&subject.isa, &[subject.isa.word("SET", 7, 1)]);
    assert!(efficient(&subject, &subject.hybrid(), &s).is_err());
}

// ---- Nesting and time ---------------------------------------------------------------------------------------------

#[test]
fn the_demonstration_ends_alike_at_every_depth_and_each_level_takes_time() {
    let subject = Subject::new("compliant");
    let s = compare::demonstration(&subject.isa);
    let mut bare = Bare::new(&subject.isa, s.storage.len());
    let mut ticks = Vec::new();
    for depth in 1..=4 {
        let mut vm = tower(&subject.isa, &subject.vmm(), depth, s.storage.len());
        bare.set_state(&s);
        vm.set_state(&s);
        for _ in 0..40 {
            assert_eq!(step_alike(&mut bare, &mut vm), Ok(()), "depth {depth}");
        }
        ticks.push(vm.clock() - bare.clock());
    }
    let halted = bare.state();
    bare.step();
    assert_eq!(halted, bare.state(), "it has come to its end");
    assert_eq!(halted.storage[20], 0, "the task counted down");
    assert!(ticks[0] > 0 && ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
}

#[test]
fn a_clock_in_view_breaks_equivalence_more_at_each_level() {
    let subject = Subject::new("stck");
    let i = |name, x| subject.isa.word(name, x, 0);
    let s = small(&subject.isa, &[i("GETR", 7), i("STCK", 9)]);
    let read = |m: &mut dyn Machine| {
        m.set_state(&s);
        m.step();
        m.step();
        m.get(9)
    };
    let mut times = vec![read(&mut Bare::new(&subject.isa, SMALL))];
    times.extend((1..=3).map(|depth| read(&mut tower(&subject.isa, &subject.vmm(), depth, SMALL))));
    assert_eq!(times[0], 1);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

// ---- Monitors that are wrong --------------------------------------------------------------------------------------

#[test]
fn each_wrong_monitor_is_noticed() {
    let subject = Subject::new("compliant");
    let table = faults::table(&subject);
    println!("{table}");
    assert_eq!(table, include_str!("theorem/faults.txt"));
}

// ---- The command --------------------------------------------------------------------------------------------------

fn command(args: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_subring")).arg("theorem").args(args).output();
    let output = output.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_says_what_the_tests_say() {
    let (status, out, err) = command(&[]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out, include_str!("theorem/all.txt"), "the output of `subring theorem` has changed");
    assert!(out.lines().all(|l| l.chars().count() <= 120), "lines of at most 120 columns");
}

#[test]
fn one_set_shows_its_witnesses() {
    let (status, out, _) = command(&["--isa", "jrst1"]);
    assert_eq!(status, 0);
    let words = [
        "control-sensitive in s   <s,0,(0,1)> [JRST 1 0 | 0 | 0 | 0] -> <u,0,(0,1)> [JRST 1 0 | 0 | 0 | 0]",
        "does not hold: JRST 1",
        "told from the bare machine by: JRST 1 3",
        "Under the VMM, by instruction",
    ];
    for word in words {
        assert!(out.contains(word), "{word}\n{out}");
    }
}

#[test]
fn json_has_all_of_it_and_is_the_same_each_time() {
    let (status, out, _) = command(&["--json"]);
    assert_eq!(status, 0);
    assert_eq!(out, command(&["--json"]).1);
    let reports: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let reports = reports.as_array().expect("an array");
    let names: Vec<_> = reports.iter().map(|r| r["isa"].as_str().unwrap()).collect();
    assert_eq!(names, Isa::names().collect::<Vec<_>>());
    let jrst = &reports[1];
    assert_eq!(jrst["theorem_1"]["exceptions"][0], "JRST 1");
    assert_eq!(jrst["theorem_3"]["holds"], true);
    assert_eq!(jrst["searches"][0]["counterexample"][0], "JRST 1 3");
    assert!(jrst["searches"][1]["counterexample"].is_null());
    assert_eq!(jrst["trace"]["steps"][2][1]["differs"], true);
    assert_eq!(jrst["instructions"].as_array().unwrap().len(), 14);
}

#[test]
fn an_unknown_set_gets_a_sentence_with_the_names() {
    let (status, out, err) = command(&["--isa", "vax"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("`vax`") && err.lines().count() == 1, "{err}");
    let help = command(&["--help"]).1;
    for name in Isa::names() {
        assert!(err.contains(name) && help.contains(name), "{name}");
    }
}

#[test]
fn the_runner_of_random_programs_is_not_idle() {
    // Were its programs all stuck at the first step, the properties above would say nothing.
    let subject = Subject::new("compliant");
    let steps = random::steps_until_stuck(&subject.isa, &mut TestRunner::deterministic(), 200);
    assert!(steps > 200 * 8, "{steps} steps in 200 programs");
}

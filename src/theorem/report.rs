//! All that is found out about an instruction set, as data: its classes with their witnesses, whether it
//! satisfies the theorems, what told each monitor from the bare machine, and what the demonstration cost.
//! Used by `subring theorem`.

use super::classify::{Class, Pair, Run};
use super::compare::{self, LONGEST, SMALL, STEPS};
use super::isa::{Instruction, Isa};
use super::machine::{Bare, By, Machine, Mode, Psw, State, Word};
use super::vmm::{ControlProgram, Handled, Vmm};
use serde::Serialize;
use std::collections::HashMap;
use std::rc::Rc;

/// A claim about an instruction, and the states that bear it out.
#[derive(Serialize)]
pub struct Witness {
    /// "control-sensitive in s", "privileged", "not privileged", …
    pub claim: &'static str,
    /// One run, or two that differ.
    pub runs: Vec<String>,
}

/// An instruction and its classes.
#[derive(Serialize)]
pub struct Row {
    /// Mnemonic.
    pub name: &'static str,
    /// The instruction's effect.
    pub about: &'static str,
    /// Whether the set adds the instruction to the compliant one.
    pub added: bool,
    /// States that it was run in.
    pub states: u64,
    /// See [`Class::privileged`].
    pub privileged: bool,
    /// The modes in which it is control-sensitive.
    pub control: Vec<Mode>,
    /// The modes in which it is location-sensitive.
    pub location: Vec<Mode>,
    /// Whether the instruction is mode-sensitive.
    pub mode: bool,
    /// What follows: sensitive, user-sensitive, supervisor-sensitive.
    pub sensitive: bool,
    /// See [`Class::user_sensitive`].
    pub user_sensitive: bool,
    /// See [`Class::supervisor_sensitive`].
    pub supervisor_sensitive: bool,
    /// For each claim above.
    pub witnesses: Vec<Witness>,
}

/// The condition of a theorem.
#[derive(Serialize)]
pub struct Condition {
    /// Whether the theorem's condition holds.
    pub holds: bool,
    /// The instructions for which it does not.
    pub exceptions: Vec<&'static str>,
}

/// What all small programs said about a monitor.
#[derive(Serialize)]
pub struct Search {
    /// "VMM", "hybrid VMM".
    pub monitor: &'static str,
    /// Monitors on top of each other.
    pub depth: usize,
    /// Programs that ran.
    pub programs: u64,
    /// Their most instructions.
    pub longest: usize,
    /// The shortest program that tells the virtual machine from the bare one.
    pub counterexample: Option<Vec<String>>,
}

/// One machine after one step of a counterexample.
#[derive(Serialize)]
pub struct Cell {
    /// The instruction that ran; `None` in the state at the start.
    pub instruction: Option<String>,
    /// Who did; of the bare machine, always the hardware.
    pub by: By,
    /// ⟨M, P, R⟩ then, of the virtual machine.
    pub psw: Psw,
    /// Cells of E that changed.
    pub changed: Vec<String>,
    /// Whether the program can tell it from the bare machine by now.
    pub differs: bool,
    /// How the monitor has lost control, if it has.
    pub out_of_control: Option<&'static str>,
}

/// A program on the bare machine, under the monitor, and under the hybrid monitor.
#[derive(Serialize)]
pub struct Trace {
    /// Its instructions, from address 2.
    pub program: Vec<String>,
    /// Step by step, up to the first difference of each monitor that has one.
    pub steps: Vec<[Cell; 3]>,
}

/// The demonstration on one machine.
#[derive(Serialize)]
pub struct Demonstration {
    /// Which.
    pub machine: &'static str,
    /// Instructions and traps until it halted.
    pub steps: u64,
    /// What became of them, all together.
    pub handled: Handled,
    /// And by instruction.
    pub instructions: Vec<(&'static str, Handled)>,
    /// The clock at the end.
    pub ticks: Word,
    /// Whether the run ended in the state of the bare machine.
    pub same_end: bool,
}

/// An instruction set, looked at from all sides.
#[derive(Serialize)]
pub struct Report {
    /// Its name.
    pub isa: &'static str,
    /// The description.
    pub about: &'static str,
    /// The classification.
    pub instructions: Vec<Row>,
    /// Sensitive ⊆ privileged.
    pub theorem_1: Condition,
    /// User-sensitive ⊆ privileged.
    pub theorem_3: Condition,
    /// The VMM; the hybrid; if Theorem 1 applies, VMMs in VMMs (Theorem 2).
    pub searches: Vec<Search>,
    /// A counterexample that works for both monitors, if each has one, and else for the one that has.
    pub trace: Option<Trace>,
    /// The demonstration on the bare machine, under both monitors, and under two and three levels.
    pub demonstration: Vec<Demonstration>,
}

/// Makes reports; an instruction is classified once, whatever sets have it.
#[derive(Default)]
pub struct Laboratory {
    classes: HashMap<u8, Class>,
}

impl Laboratory {
    /// The classes of an instruction set.
    pub fn classes(&mut self, isa: &Isa) -> Vec<Class> {
        let known = &mut self.classes;
        let of = |i: &Instruction| known.entry(i.opcode).or_insert_with(|| Class::of(i)).clone();
        isa.instructions().iter().map(of).collect()
    }

    /// The report of an instruction set.
    pub fn report(&mut self, isa: Isa) -> Report {
        let classes = self.classes(&isa);
        let isa = Rc::new(isa);
        let vmm = ControlProgram::trap_and_emulate(&classes);
        let hybrid = ControlProgram::hybrid(&classes);
        let condition = |breaks: fn(&Class) -> bool| {
            let exceptions: Vec<_> =
                classes.iter().filter(|c| breaks(c)).map(|c| c.instruction.name).collect();
            Condition { holds: exceptions.is_empty(), exceptions }
        };
        let (theorem_1, theorem_3) = (condition(Class::breaks_theorem_1), condition(Class::breaks_theorem_3));
        // Three instructions only of sets that add one: the search is over programs that use it.
        let longest = if isa.added().is_empty() { LONGEST - 1 } else { LONGEST };
        let mut found = vec![("VMM", 1, compare::search(&isa, &vmm, 1, longest))];
        found.push(("hybrid VMM", 1, compare::search(&isa, &hybrid, 1, longest)));
        if theorem_1.holds {
            found.extend([2, 3].map(|depth| ("VMM", depth, compare::search(&isa, &vmm, depth, longest))));
        }
        let told = [0, 1].map(|n| found[n].2.counterexample.as_ref());
        let all = told.map(|program| program.is_some());
        let tells_all = |p: &&Vec<Word>| monitors_that_differ(&isa, [&vmm, &hybrid], p) == all;
        let shown = told.into_iter().flatten().find(tells_all);
        let text = |program: &Vec<Word>| program.iter().map(|&w| isa.show(w)).collect();
        Report {
            isa: isa.name,
            about: isa.about,
            instructions: classes.iter().map(|c| row(c, &isa)).collect(),
            theorem_1,
            theorem_3,
            searches: found
                .iter()
                .map(|(monitor, depth, f)| Search {
                    monitor,
                    depth: *depth,
                    programs: f.programs,
                    longest,
                    counterexample: f.counterexample.as_ref().map(text),
                })
                .collect(),
            trace: shown.map(|p| trace(&isa, [&vmm, &hybrid], all, p)),
            demonstration: demonstrate(&isa, &vmm, &hybrid),
        }
    }
}

// ---- The classification
// -------------------------------------------------------------------------------------------

fn row(c: &Class, isa: &Isa) -> Row {
    let modes = |found: [bool; 2]| {
        [Mode::Supervisor, Mode::User].into_iter().filter(|&m| found[m as usize]).collect()
    };
    Row {
        name: c.instruction.name,
        about: c.instruction.about,
        added: isa.added().contains(&c.instruction),
        states: c.states,
        privileged: c.privileged,
        control: modes(c.control.each_ref().map(Option::is_some)),
        location: modes(c.location.each_ref().map(Option::is_some)),
        mode: c.mode.is_some(),
        sensitive: c.sensitive(),
        user_sensitive: c.user_sensitive(),
        supervisor_sensitive: c.supervisor_sensitive(),
        witnesses: witnesses(c, isa),
    }
}

fn witnesses(c: &Class, isa: &Isa) -> Vec<Witness> {
    let one = |r: &Run| vec![show_run(isa, r)];
    let two = |(a, b): &Pair| vec![show_run(isa, a), show_run(isa, b)];
    let privileged = if c.privileged { "privileged" } else { "not privileged" };
    let all = [
        (privileged, c.privileged_pair.as_ref().map(two)),
        ("control-sensitive in s", c.control[0].as_ref().map(one)),
        ("control-sensitive in u", c.control[1].as_ref().map(one)),
        ("location-sensitive in s", c.location[0].as_ref().map(two)),
        ("location-sensitive in u", c.location[1].as_ref().map(two)),
        ("mode-sensitive", c.mode.as_ref().map(two)),
    ];
    all.into_iter().filter_map(|(claim, runs)| Some(Witness { claim, runs: runs? })).collect()
}

fn show_run(isa: &Isa, r: &Run) -> String {
    let after = if r.trap.is_some() { "traps".into() } else { show_state(isa, &r.after) };
    format!("{} -> {after}", show_state(isa, &r.before))
}

fn show_state(isa: &Isa, s: &State) -> String {
    let cells: Vec<String> = s.storage.iter().map(|&w| isa.show(w)).collect();
    let Psw { mode, p, r } = s.psw;
    format!("<{mode},{p},{r}> [{}]", cells.join(" | "))
}

// ---- A counterexample, side by side
// -------------------------------------------------------------------------------

/// `program` on the bare machine and under `monitors`, until those have differed that are `to_differ`.
fn trace(isa: &Rc<Isa>, monitors: [&ControlProgram; 2], to_differ: [bool; 2], program: &[Word]) -> Trace {
    let s = compare::small(isa, program);
    let mut bare = Bare::new(isa, SMALL);
    let mut monitors = monitors.map(|p| compare::tower(isa, p, 1, SMALL));
    bare.set_state(&s);
    monitors.iter_mut().for_each(|m| m.set_state(&s));
    let start = |m: &dyn Machine| Cell {
        instruction: None,
        by: By::Hardware,
        psw: m.psw(),
        changed: vec![],
        differs: false,
        out_of_control: None,
    };
    let mut steps = vec![[start(&bare), start(&monitors[0]), start(&monitors[1])]];
    let mut differed = [false; 2];
    while differed != to_differ && steps.len() <= STEPS {
        let reference = advance(&mut bare);
        let [a, b] = monitors.each_mut().map(|m| {
            let cell = advance(m);
            Cell { differs: compare::tells_apart(&bare, m), ..cell }
        });
        differed = [differed[0] | a.differs, differed[1] | b.differs];
        steps.push([reference, a, b]);
    }
    Trace { program: program.iter().map(|&w| isa.show(w)).collect(), steps }
}

/// Which of `monitors` the program tells from the bare machine.
fn monitors_that_differ(isa: &Rc<Isa>, monitors: [&ControlProgram; 2], program: &[Word]) -> [bool; 2] {
    monitors.map(|p| {
        let (mut bare, mut vm) = (Bare::new(isa, SMALL), compare::tower(isa, p, 1, SMALL));
        compare::first_difference(&mut bare, &mut vm, &compare::small(isa, program)).is_some()
    })
}

/// One step, and what it did.
fn advance(m: &mut dyn Machine) -> Cell {
    let (before, instruction) = (m.state().storage, m.next());
    let by = m.step();
    let changed = (0..m.size()).filter(|&at| m.get(at) != before[at]);
    Cell {
        instruction: Some(instruction),
        by,
        psw: m.psw(),
        changed: changed.map(|at| format!("E[{at}]={}", m.isa().show(m.get(at)))).collect(),
        differs: false,
        out_of_control: m.in_control().err(),
    }
}

// ---- The demonstration
// --------------------------------------------------------------------------------------------

fn demonstrate(isa: &Rc<Isa>, vmm: &ControlProgram, hybrid: &ControlProgram) -> Vec<Demonstration> {
    let s = compare::demonstration(isa);
    let size = s.storage.len();
    let mut bare = Bare::new(isa, size);
    let steps = run_to_halt(&mut bare, &s);
    let direct = Handled { direct: steps, ..Handled::default() };
    let mut all = vec![Demonstration {
        machine: "bare",
        steps,
        handled: direct,
        instructions: vec![],
        ticks: bare.clock(),
        same_end: true,
    }];
    let machines =
        [("VMM", vmm, 1), ("hybrid VMM", hybrid, 1), ("VMM in VMM", vmm, 2), ("three VMMs", vmm, 3)];
    for (name, program, depth) in machines {
        let mut vm = compare::tower(isa, program, depth, size);
        let steps = run_to_halt(&mut vm, &s);
        all.push(under(name, isa, &vm, steps, vm.state() == bare.state()));
    }
    all
}

fn under(machine: &'static str, isa: &Isa, vm: &Vmm, steps: u64, same_end: bool) -> Demonstration {
    let counts = isa.instructions().iter().map(|i| (i.name, vm.handled(i)));
    let instructions: Vec<_> = counts.filter(|(_, h)| *h != Handled::default()).collect();
    let mut handled = Handled::default();
    for (_, h) in &instructions {
        handled.direct += h.direct;
        handled.emulated += h.emulated;
        handled.reflected += h.reflected;
        handled.interpreted += h.interpreted;
    }
    Demonstration { machine, steps, handled, instructions, ticks: vm.clock(), same_end }
}

/// Runs `s` until a step changes nothing; gives the steps, that one included. The demonstration halts; a
/// machine that gets it wrong might not, so there is an end.
fn run_to_halt(m: &mut dyn Machine, s: &State) -> u64 {
    const END: u64 = 1000;
    m.set_state(s);
    let mut before = m.state();
    for steps in 1..=END {
        m.step();
        let after = m.state();
        if after == before {
            return steps;
        }
        before = after;
    }
    END
}

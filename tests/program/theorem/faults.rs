//! Monitors that are wrong on purpose: the control program is data, so each has one part replaced. Every check that
//! the right monitor passes is run on each of them.

use super::{Subject, efficient, every_state, random};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use subring::theorem::compare::{STEPS, programs, same_state, small, tower};
use subring::theorem::isa::Instruction;
use subring::theorem::machine::{
    Bare, Machine, Mode, NEW_PSW, OLD_PSW, Psw, Relocation, Storage, Trap, View, trap,
};
use subring::theorem::space::WORDS;
use subring::theorem::vmm::{ControlProgram, Region, Routine, allocate, dispatch};

type Fault = (&'static str, fn(&Subject) -> ControlProgram);

#[rustfmt::skip]
const FAULTS: [Fault; 14] = [
    ("none",                                         |s| s.vmm()),
    ("allocator: forgets to add k",                  |s| ControlProgram { allocator: no_k, ..s.vmm() }),
    ("allocator: lets b grow past the region",       |s| ControlProgram { allocator: untrimmed, ..s.vmm() }),
    ("allocator: leaves the guest in supervisor mode", |s| ControlProgram { allocator: supervisor, ..s.vmm() }),
    ("allocator: b one too small",                   |s| ControlProgram { allocator: short, ..s.vmm() }),
    ("dispatcher: skips what should trap",           |s| ControlProgram { dispatcher: skips, ..s.vmm() }),
    ("dispatcher: reflects everything",              |s| ControlProgram { dispatcher: |_, _, _| None, ..s.vmm() }),
    ("dispatcher: takes the wrong routine",          |s| ControlProgram { dispatcher: next_routine, ..s.vmm() }),
    ("dispatcher: emulates for users, too",          |s| ControlProgram { dispatcher: for_all, ..trusting(s) }),
    ("routine: GETR gives the real R",               |s| replaced(s, "GETR", real_r)),
    ("routine: LPSW leaves M as it was",             |s| replaced(s, "LPSW", no_mode)),
    ("routine: one is missing",                      without_setr),
    ("reflection: stores the real M",                |s| ControlProgram { reflect: real_mode, ..s.vmm() }),
    ("policy: interprets everything",                |s| ControlProgram { direct: |_| false, ..s.vmm() }),
];

fn no_k(psw: Psw, region: Region) -> Psw {
    allocate(psw, Region { k: 0, ..region })
}

fn untrimmed(psw: Psw, region: Region) -> Psw {
    let l = allocate(psw, region).r.l;
    Psw { r: Relocation { l, b: psw.r.b }, ..allocate(psw, region) }
}

fn supervisor(psw: Psw, region: Region) -> Psw {
    Psw { mode: psw.mode, ..allocate(psw, region) }
}

fn short(psw: Psw, region: Region) -> Psw {
    let right = allocate(psw, region);
    Psw { r: Relocation { b: right.r.b.saturating_sub(1), ..right.r }, ..right }
}

fn skips(routines: &[Routine], mode: Mode, i: &Instruction) -> Option<subring::theorem::isa::Semantics> {
    let privileged = dispatch(routines, Mode::Supervisor, i).is_some();
    if mode == Mode::User && privileged { Some(|_, _, _| Ok(())) } else { dispatch(routines, mode, i) }
}

fn next_routine(
    routines: &[Routine],
    mode: Mode,
    i: &Instruction,
) -> Option<subring::theorem::isa::Semantics> {
    let n = routines.iter().position(|r| r.0 == i.opcode && mode == Mode::Supervisor)?;
    Some(routines[(n + 1) % routines.len()].1)
}

fn for_all(routines: &[Routine], _: Mode, i: &Instruction) -> Option<subring::theorem::isa::Semantics> {
    dispatch(routines, Mode::Supervisor, i)
}

/// With routines that do not look at the mode again.
fn trusting(s: &Subject) -> ControlProgram {
    fn load_psw(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
        m.psw = Psw::of(m.read(x)?);
        Ok(())
    }
    replaced(s, "LPSW", load_psw)
}

fn replaced(s: &Subject, name: &str, run: subring::theorem::isa::Semantics) -> ControlProgram {
    let mut program = s.vmm();
    let [.., opcode] = s.isa.word(name, 0, 0).to_le_bytes();
    for routine in program.routines.iter_mut().filter(|r| r.0 == opcode) {
        routine.1 = run;
    }
    program
}

fn without_setr(s: &Subject) -> ControlProgram {
    let mut program = s.vmm();
    let [.., opcode] = s.isa.word("SETR", 0, 0).to_le_bytes();
    program.routines.retain(|r| r.0 != opcode);
    program
}

fn real_r(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    let r = Relocation { l: m.psw.r.l.wrapping_add(3), ..m.psw.r };
    m.write(x, Psw { p: 0, r, ..m.psw }.word())
}

fn no_mode(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    m.psw = Psw { mode: m.psw.mode, ..Psw::of(m.read(x)?) };
    Ok(())
}

fn real_mode(storage: &mut dyn Storage, psw: Psw) -> Psw {
    trap(storage, psw);
    storage.set(OLD_PSW, Psw { mode: Mode::User, ..psw }.word());
    Psw::of(storage.get(NEW_PSW))
}

// ---- The checks ---------------------------------------------------------------------------------------------------

type Check = (&'static str, fn(&Subject, &ControlProgram) -> bool);

const CHECKS: [Check; 6] = [
    ("states", states),
    ("programs", |s, p| programs_at(s, p, 1)),
    ("random", random::notices),
    ("control", control),
    ("efficiency", efficiency),
    ("nested", |s, p| programs_at(s, p, 2)),
];

/// One step from every small state, by the guest's state alone.
fn states(s: &Subject, program: &ControlProgram) -> bool {
    let mut bare = Bare::new(&s.isa, WORDS);
    let mut vm = tower(&s.isa, program, 1, WORDS);
    let run = every_state(&s.isa, |state| {
        bare.set_state(state);
        vm.set_state(state);
        bare.step();
        vm.step();
        same_state(&bare, &vm)
    });
    run.is_err()
}

fn programs_at(s: &Subject, program: &ControlProgram, depth: usize) -> bool {
    each_program(s, program, depth, |bare, vm| same_state(bare, vm).is_ok())
}

fn control(s: &Subject, program: &ControlProgram) -> bool {
    each_program(s, program, 1, |_, vm| vm.in_control().is_ok())
}

/// Whether `right` is false after some step of some small program.
fn each_program(
    s: &Subject,
    program: &ControlProgram,
    depth: usize,
    right: impl Fn(&Bare, &dyn Machine) -> bool,
) -> bool {
    let mut all = (1..=2).flat_map(|len| programs(&s.isa, len));
    all.any(|words| {
        let start = small(&s.isa, &words);
        let (mut bare, mut vm) =
            (Bare::new(&s.isa, start.storage.len()), tower(&s.isa, program, depth, start.storage.len()));
        bare.set_state(&start);
        vm.set_state(&start);
        (0..STEPS).any(|_| {
            bare.step();
            vm.step();
            !right(&bare, &vm)
        })
    })
}

fn efficiency(s: &Subject, program: &ControlProgram) -> bool {
    let mut all = (1..=2).flat_map(|len| programs(&s.isa, len));
    all.any(|words| efficient(s, program, &small(&s.isa, &words)).is_err())
}

/// Which check notices which fault. A panic would be noticed too, but none may happen.
pub(crate) fn table(subject: &Subject) -> String {
    let mut out = format!("{:<48}", "");
    for (name, _) in CHECKS {
        let _ = write!(out, " {name:<10}");
    }
    out = out.trim_end().to_owned() + "\n";
    for (name, fault) in FAULTS {
        let program = fault(subject);
        let noticed = CHECKS.map(|(check, run)| {
            catch_unwind(AssertUnwindSafe(|| run(subject, &program)))
                .unwrap_or_else(|_| panic!("{name}, {check}: a wrong monitor panics"))
        });
        let wrong = name != "none";
        assert_eq!(noticed.iter().any(|&n| n), wrong, "{name}: {noticed:?}");
        let mut line = format!("{name:<48}");
        for n in noticed {
            let _ = write!(line, " {:<10}", if n { "noticed" } else { "-" });
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

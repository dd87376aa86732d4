//! **Equivalence** of generated kernels: bit for bit, under all strategies and policies, audited as they run, unless a
//! sensitive instruction that does not trap is among them; then the first difference is at such an instruction. And the
//! seeded bugs: each is noticed, by what the table in the output says.

use super::equivalence::runner;
use super::kernel::{self, Op};
use super::pair::{
    BT_TRACE, BT_VTLB, CELLS, Cell, HVM_TRACE, HVM_VTLB, NESTED, Noticed, Strides, TRACE, Tested, VTLB,
    monitor, run_to,
};
use super::printed;
use super::properties::{COHERENCE, CONTROL, EFFICIENCY, HOMOMORPHISM, observed, walk};
use crate::vmm::bug::{self, Bug};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::Cell as Counter;
use subring::lab::compare::strides;
use subring::machine::Outcome;
use subring::report::Breach;
use subring::vmm;
use subring::vmm::memory::FEWEST_FRAMES;

/// How long a kernel runs, and when it is looked at.
const STRIDES: Strides = Strides { most: TICKS, stride: 97, whole: 64 };
const TICKS: u64 = 60_000;
const SEED: u64 = 3;

/// Runs `ops` on the bare machine and under a monitor. An error begins with the check that noticed, and a colon.
fn same(ops: &[Op], cell: Cell) -> Result<(), String> {
    same_with(ops, cell, &cell.config(SEED))
}

/// The same, with the monitor set up in another way.
fn same_with(ops: &[Op], cell: Cell, config: &vmm::Config) -> Result<(), String> {
    Ok(hold(ops, cell, config)?)
}

/// The same; what was wrong comes with when.
fn hold(ops: &[Op], cell: Cell, config: &vmm::Config) -> Result<(), Noticed> {
    let (mut bare, mut other) = (kernel::machine(ops), kernel::machine(ops));
    cell.put_with(&mut other, config);
    STRIDES.hold(&mut bare, &mut other, cell).map(drop)
}

/// The kernels of `strategy` are judged by `check`; a failing one shrinks, and is printed as a guest.
fn holds(
    name: &str,
    cell: Cell,
    strategy: &impl Strategy<Value = Vec<Op>>,
    check: impl Fn(&[Op]) -> Result<(), String>,
) {
    let result = runner(60).run(strategy, |ops| check(&ops).map_err(TestCaseError::fail));
    printed::judge(result, name, &cell, (TICKS, cell.config(SEED).shadow_frames, SEED));
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_with_traces() {
    holds("rules", TRACE, &kernel::kernels(), |ops| same(ops, TRACE));
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_with_a_virtual_tlb() {
    holds("rules", VTLB, &kernel::kernels(), |ops| same(ops, VTLB));
}

#[test]
fn the_fewest_frames_are_enough() {
    for cell in CELLS {
        let config = vmm::Config { shadow_frames: FEWEST_FRAMES, ..cell.config(SEED) };
        holds("fewest", cell, &kernel::kernels(), |ops| same_with(ops, cell, &config));
    }
}

/// Where a kernel parts, that is at a sensitive unprivileged instruction; under a strategy that makes up for those it does
/// not part at all.
fn parts_well(ops: &[Op], cell: Cell) -> Result<bool, String> {
    let Err(Noticed { by, what: parted }) = hold(ops, cell, &cell.config(SEED)) else { return Ok(false) };
    if !parted.starts_with("equivalence") || !cell.parts_at_sensitive() {
        return Err(parted);
    }
    let (mut a, mut b) = cell.guests(SEED, || kernel::machine(ops));
    // Not beyond the tick by which they had parted: what comes later may be another matter.
    let mut bare = kernel::machine(ops);
    run_to(&mut bare, by);
    match strides::first_divergence(&mut a, &mut b, bare.cpu.retired() + 1, |_| true) {
        Ok(Some(d)) if d.sensitive_unprivileged => Ok(true),
        Ok(Some(d)) => Err(format!("{d:#?}")),
        Ok(None) => Err(format!("it parts, and in lockstep it does not: {}", parted)),
        Err(e) => Err(e.to_string()),
    }
}

#[test]
fn kernels_that_change_page_tables_all_the_time_end_the_same() {
    for cell in CELLS {
        holds("tables", cell, &kernel::page_tables(), |ops| same(ops, cell));
    }
}

#[test]
fn kernels_part_at_sensitive_unprivileged_instructions_alone() {
    for cell in CELLS {
        let (all, parted) = (Counter::new(0), Counter::new(0));
        holds("any", cell, &kernel::any_kernels(), |ops| {
            all.set(all.get() + 1);
            let has = ops.iter().any(|op| matches!(op, Op::Sensitive(_)));
            let parts = parts_well(ops, cell)?;
            parted.set(parted.get() + u32::from(parts));
            if parts && !has { Err("it parts, with nothing sensitive in it".into()) } else { Ok(()) }
        });
        println!("{cell}: {} kernels, {} parted at a sensitive instruction", all.get(), parted.get());
        assert!(parted.get() < all.get() && (parted.get() > 0) == cell.parts_at_sensitive());
    }
}

/// What the generator makes does what it is to do: where it counts, it has counted.
#[test]
fn operations_do_what_they_say() {
    let counted = |ops: &[Op], at: u32| {
        let mut m = kernel::machine(ops);
        assert_eq!(run_to(&mut m, 200_000), Some(Outcome::HaltedForever), "{ops:?}");
        let mut bytes = [0; 4];
        m.world.map.read(subring::addr::GuestPhys(at), &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let printed = |ops: &[Op]| {
        let mut m = kernel::machine(ops);
        run_to(&mut m, 200_000);
        (m.world.board.take_serial_output(0), m.world.board.take_debug_console().len())
    };
    assert_eq!(printed(&[Op::Print(0x41), Op::Int, Op::Int, Op::Print(0x42)]), (vec![0x41, 0x42], 2));
    const FAULTS: u32 = 0x8000;
    const TICKS: u32 = 0x8008;
    const INTS: u32 = 0x800c;
    assert_eq!(counted(&[Op::Real, Op::Real], 0x8054) & 0xffff, 2);
    assert_eq!(counted(&[Op::V86], 0x8050) & 0xffff, 1);
    assert_eq!(counted(&[Op::V86], FAULTS), 1, "INT 30h at IOPL 0");
    assert_eq!(counted(&[Op::Int], INTS), 1);
    let wp = Op::ToggleWp { page: 1 };
    assert_eq!(
        counted(&[wp.clone(), wp.clone(), wp], FAULTS),
        3,
        "with WP the page is read-only to the kernel, too"
    );
    let run = |user: bool| Op::Run { page: 1, crossing: !user, user };
    assert_eq!(counted(&[run(true)], INTS), 1);
    assert_eq!(counted(&[run(false)], FAULTS), 0);
    assert_eq!(counted(&[Op::Run { page: 3, crossing: true, user: false }], FAULTS), 1, "no next page");
    assert_eq!(counted(&[Op::Remap { page: 0, frame: 2, flags: 7 }], FAULTS), 0);
    assert_eq!(counted(&[Op::Remap { page: 0, frame: 2, flags: 0 }], FAULTS), 1, "its own page goes");
    assert_eq!(counted(&[Op::String { kind: 1, from: 0, to: 0x1000, count: 9 }], FAULTS), 1, "not mapped");
    assert_eq!(counted(&[Op::TouchTop { offset: 0, write: true, user: true }], FAULTS), 1);
    assert_eq!(
        counted(&[Op::Segment { base: 0, limit: 0x100, kind: 4 }], FAULTS),
        3,
        "the load, not present, and then both accesses"
    );
    let data = |base| Op::Segment { base, limit: 0x101, kind: 0 };
    assert_eq!(counted(&[data(0)], FAULTS), 1, "the store, across the limit");
    assert_eq!(counted(&[data(0x40_0000)], FAULTS), 2, "no page is there");
    let mapped = Op::SetPte { page: 0, frame: 0, flags: 7, by_cr3: false, around: (false, false) };
    assert_eq!(counted(&[mapped, data(0x40_0000)], FAULTS), 0);
    assert_eq!(counted(&[Op::Stale { limit: 0x800 }, Op::SmallStack, Op::Local { base: 0 }], FAULTS), 1);
    let top = |write| Op::TouchTop { offset: 0x100, write, user: true };
    let pointer = |kind, load| Op::Pointer { kind, load };
    assert_eq!(counted(&[Op::Pae, top(true), pointer(1, false), top(true)], FAULTS), 2, "it is not loaded");
    assert_eq!(counted(&[Op::Pae, pointer(1, true), top(true), Op::Pae, top(true)], FAULTS), 1);
    assert_eq!(
        counted(&[Op::Pae, pointer(1, true), pointer(2, true), top(true)], FAULTS),
        2,
        "#GP, and it goes"
    );
    let beyond =
        |n: u32| Op::SetPte { page: 1, frame: 1, flags: n << 28 | 7, by_cr3: false, around: (true, true) };
    assert_eq!(counted(&[Op::Pae, beyond(0), beyond(1), beyond(2)], FAULTS), 5, "reserved bits");
    let page = Op::SetPte { page: 1, frame: 1, flags: 7, by_cr3: false, around: (false, false) };
    let aligned = |offset| Op::Aligned { page: 1, offset, write: true, interrupts: false };
    assert_eq!(counted(&[page.clone(), aligned(8), aligned(6), aligned(7)], FAULTS), 2);
    const FRAME: u32 = 0x40_0000;
    for pae in [false, true] {
        let first = |way, at: u32| {
            let first = Op::First { page: 1, frame: 2, way };
            let pae = if pae { vec![Op::Pae] } else { vec![] };
            counted(&[pae, vec![first]].concat(), FRAME + 2 * 4096 + at)
        };
        let unmarked = (FRAME + 2 * 4096) | 7;
        assert_eq!([first(0, 0x800), first(4, 0x800)], [unmarked; 2], "read before the page is touched");
        assert_eq!([first(2, 0x800), first(3, 0x7fc)], [unmarked; 2]);
    }
    let alias = |on, reload| Op::Alias { on, page: 1, write: true, reload };
    assert_eq!(counted(&[page.clone(), alias(true, false), alias(false, false)], FAULTS), 1);
    let pae_page =
        Op::SetPte { page: 1, frame: 1, flags: 2 << 28 | 7, by_cr3: false, around: (false, false) };
    let loaded = [Op::Pae, pae_page, alias(true, false), alias(true, true), alias(false, false)];
    assert_eq!(counted(&loaded, FAULTS), 1, "it counts once it is loaded, and until something else is");
    let sweep = Op::Sweep { page: 1, frame: 2, write: true };
    assert_eq!(counted(&[sweep.clone(), Op::Pae, sweep], FAULTS), 2 * 28, "it is mapped on the way");
    let pse = |large| Op::TogglePse { page: 1, write: true, large };
    assert_eq!(counted(&[page.clone(), pse(false)], FAULTS), 0, "no large page");
    assert_eq!(
        counted(&[page.clone(), pse(true), pse(true)], FAULTS),
        2,
        "with PSE the entry has reserved bits set"
    );
    let bit_7 = Op::SetPte { page: 1, frame: 1, flags: 15 << 20 | 7, by_cr3: false, around: (true, true) };
    assert_eq!(counted(&[bit_7.clone(), pse(false), bit_7], FAULTS), 3, "so has this one");
    let next = |page, flags| Op::RemapNext { page, frame: 2, flags };
    assert_eq!(
        counted(&[next(3, 7), run(false), Op::Run { page: 3, crossing: true, user: false }], FAULTS),
        0
    );
    assert_eq!(counted(&[next(0, 0), Op::Pae, next(1, 7)], FAULTS), 1, "the page that it crosses into goes");
    let code = |way, resume| Op::Break { page: 2, kind: 0, write: false, way, resume };
    let mapped = Op::SetPte { page: 2, frame: 1, flags: 7, by_cr3: false, around: (false, false) };
    let breaks =
        [mapped.clone(), code(1, false), code(0, false), code(1, true), code(0, true), code(2, true)];
    assert_eq!((counted(&breaks, FAULTS), counted(&breaks, INTS)), (2, 3), "code breakpoints, but with RF");
    let data = |kind, write| Op::Break { page: 2, kind, write, way: 1, resume: false };
    let breaks = [mapped, data(1, false), data(1, true), data(3, false)];
    assert_eq!((counted(&breaks, FAULTS), counted(&breaks, INTS)), (2, 1), "data breakpoints");
    // FLDCW unmasked, an error, WAIT, FNCLEX, twice: without the FNCLEX there is no second edge of FERR#.
    const NUMERIC: u32 = 0x8018;
    assert_eq!(counted(&[Op::Numeric(vec![0, 2, 3, 4, 2, 3])], NUMERIC), 2);
    assert_eq!(counted(&[Op::Numeric(vec![0, 2, 3, 2, 3])], NUMERIC), 1);
    assert_eq!(
        counted(&[Op::Numeric(vec![0, 2, 3, 1, 0, 3])], NUMERIC),
        2,
        "FLDCW takes it back, and brings it again"
    );
    let based = |offset, cut, user, far| Op::Based { offset, cut, kind: 0, user, far };
    assert_eq!(counted(&[based(0x1234, 49, false, true), based(0xffff_f000, 0, false, true)], FAULTS), 0);
    assert_eq!(counted(&[based(0x1234, 49, true, false), based(0, 49, false, false)], INTS), 2);
    assert_eq!(
        counted(&[based(0x1234, 49, true, false), based(0x1234, 49, true, true)], FAULTS),
        1,
        "a far jump"
    );
    assert_eq!(counted(&[based(0x1234, 9, false, true)], FAULTS), 1, "the limit");
    let sixteen = |offset| Op::Based { offset, cut: 49, kind: 6, user: false, far: false };
    assert_eq!((counted(&[sixteen(0x2000)], INTS), counted(&[sixteen(0x2000)], FAULTS)), (1, 0));
    assert_eq!(counted(&[sixteen(0)], FAULTS), 1, "CS:[BX] is beyond the limit");
    let busy = vec![Op::SelfModify { n: 3, times: 400 }; 4];
    assert_ne!(counted(&[vec![Op::Interrupts(true)], busy].concat(), TICKS), 0);
}

/// A hidden fault leaves RF to the instruction that met it, also where user code ran the IRET that set it by itself.
#[test]
fn a_hidden_fault_keeps_rf() {
    let mapped = Op::SetPte { page: 2, frame: 1, flags: 7, by_cr3: false, around: (false, false) };
    for (cell, way) in CELLS.into_iter().flat_map(|cell| [0, 1, 2].map(|way| (cell, way))) {
        let broken = Op::Break { page: 2, kind: 0, write: false, way, resume: true };
        assert_eq!(same(&[mapped.clone(), broken], cell), Ok(()), "{cell}, way {way}");
    }
}

/// The audit that `compare --without-rule` goes by finds what is broken on purpose, and nothing else.
#[test]
fn the_audit_finds_what_the_guest_gets_at() {
    let audited = |bug: Option<Bug>, cell: Cell| {
        let found = Counter::new(None);
        _ = runner(60).run(&kernel::kernels(), |ops| {
            if found.get().is_some() {
                return Ok(());
            }
            let first = bug::with(bug, || {
                let mut m = kernel::machine(&ops);
                cell.put_with(&mut m, &vmm::Config { audit: true, ..cell.config(SEED) });
                run_to(&mut m, 20_000);
                monitor(&m).report().audit.and_then(|audit| audit.first)
            });
            found.set(first.map(|(breach, _)| breach));
            Ok(())
        });
        found.get()
    };
    for cell in [TRACE, BT_TRACE] {
        assert_eq!(audited(None, cell), None, "{cell}");
        assert_eq!(audited(Some(Bug::SkipTruncation), cell), Some(Breach::Frames), "{cell}");
        assert!(matches!(audited(Some(Bug::PassIopl), cell), Some(Breach::Register(_))), "{cell}");
    }
}

/// A check on a kernel.
type Check = fn(&[Op], Cell) -> Result<(), String>;

const CHECKS: [(&str, Check); 6] = [
    ("equivalence, audit", |ops, cell| same(ops, cell)),
    ("homomorphism", |ops, cell| walk(ops, cell, HOMOMORPHISM).map(drop)),
    ("efficiency", |ops, cell| walk(ops, cell, EFFICIENCY).map(drop)),
    ("control", |ops, cell| walk(ops, cell, CONTROL).map(drop)),
    ("observers", |ops, cell| observed(|| kernel::machine(ops), cell, 6_000)),
    ("coherence, audit", |ops, cell| walk(ops, cell, COHERENCE).map(drop)),
];
/// Their numbers.
const EQUIVALENT: usize = 0;
const HOMOMORPHIC: usize = 1;
const EFFICIENT: usize = 2;
const CONTROLLED: usize = 3;
const UNOBSERVED: usize = 4;
const COHERENT: usize = 5;

/// The bugs, the strategy and policy that each concerns, and the check that is there for it.
#[rustfmt::skip]
const BUGS: [(Bug, Cell, usize); 64] = [
    (Bug::SkipTrace,        TRACE,    EQUIVALENT),
    (Bug::ForgetDirty,      TRACE,    EQUIVALENT),
    (Bug::WrongUser,        TRACE,    EQUIVALENT),
    (Bug::WrongWrite,       TRACE,    EQUIVALENT),
    (Bug::ForgetSync,       TRACE,    EQUIVALENT),
    (Bug::ForgetAccessed,   TRACE,    EQUIVALENT),
    (Bug::ForgetAccessed,   BT_VTLB,  EQUIVALENT),
    (Bug::EarlyMarks,       TRACE,    EQUIVALENT),
    (Bug::EarlyMarks,       BT_VTLB,  EQUIVALENT),
    (Bug::IgnoreWp,         TRACE,    EQUIVALENT),
    (Bug::IgnorePse,        TRACE,    EQUIVALENT),
    (Bug::IgnorePse,        BT_TRACE, COHERENT),
    (Bug::KeepTables,       TRACE,    EQUIVALENT),
    (Bug::StalePointers,    TRACE,    EQUIVALENT),
    (Bug::HalfEntries,      TRACE,    EQUIVALENT),
    (Bug::ForgetRefilling,  TRACE,    EQUIVALENT),
    (Bug::ForgetRefilling,  VTLB,     EQUIVALENT),
    (Bug::WrongSplit,       TRACE,    EQUIVALENT),
    (Bug::MapChips,         TRACE,    EQUIVALENT),
    (Bug::KeepGlobals,      VTLB,     EQUIVALENT),
    (Bug::KeepGlobals,      BT_VTLB,  EQUIVALENT),
    (Bug::ForgetInvlpg,     VTLB,     EQUIVALENT),
    (Bug::ForgetCr3,        VTLB,     EQUIVALENT),
    (Bug::StaleTlb,         VTLB,     EQUIVALENT),
    (Bug::StaleTlb,         BT_TRACE, EQUIVALENT),
    (Bug::ForgetDescriptor, TRACE,    EQUIVALENT),
    (Bug::WrongFrame,       TRACE,    EQUIVALENT),
    (Bug::LoseIf,           TRACE,    EQUIVALENT),
    (Bug::PassIopl,         TRACE,    HOMOMORPHIC),
    (Bug::ShowRpl,          TRACE,    HOMOMORPHIC),
    (Bug::LoseShadow,       TRACE,    HOMOMORPHIC),
    (Bug::LoseIf,           BT_TRACE, HOMOMORPHIC),
    (Bug::LoseShadow,       BT_VTLB,  HOMOMORPHIC),
    (Bug::UncutSegment,     BT_TRACE, HOMOMORPHIC),
    (Bug::UncutSegment,     BT_VTLB,  HOMOMORPHIC),
    (Bug::EmulateFilled,    TRACE,    EFFICIENT),
    (Bug::ShortSegments,    TRACE,    EFFICIENT),
    (Bug::EmulateFilled,    BT_VTLB,  EFFICIENT),
    (Bug::NeedlessCallout,  BT_TRACE, EFFICIENT),
    (Bug::EagerAdaptation,  BT_VTLB,  EFFICIENT),
    (Bug::SkipTruncation,   TRACE,    CONTROLLED),
    (Bug::PassIf,           TRACE,    CONTROLLED),
    (Bug::OverBudget,       TRACE,    CONTROLLED),
    (Bug::SkipTruncation,   BT_TRACE, CONTROLLED),
    (Bug::PassIf,           BT_VTLB,  CONTROLLED),
    (Bug::CostlyLog,        TRACE,    UNOBSERVED),
    (Bug::CostlyLog,        BT_TRACE, UNOBSERVED),
    (Bug::WrongUser,        VTLB,     COHERENT),
    (Bug::ForgetSync,       BT_TRACE, COHERENT),
    (Bug::WrongWrite,       BT_TRACE, COHERENT),
    (Bug::ForgetInvlpg,     VTLB,     COHERENT),
    (Bug::ForgetInvlpg,     BT_VTLB,  COHERENT),
    (Bug::ForgetCr3,        BT_VTLB,  COHERENT),
    (Bug::WrongFrame,       BT_VTLB,  COHERENT),
    (Bug::SkipTrace,        HVM_TRACE, EQUIVALENT),
    (Bug::WrongUser,        HVM_VTLB, EQUIVALENT),
    (Bug::IgnoreWp,         HVM_TRACE, EQUIVALENT),
    (Bug::ForgetCr3,        HVM_VTLB, EQUIVALENT),
    (Bug::LoseShadow,       HVM_VTLB, HOMOMORPHIC),
    (Bug::EmulateFilled,    HVM_TRACE, EFFICIENT),
    (Bug::WrongFrame,       NESTED,   EQUIVALENT),
    (Bug::ShowReal,         NESTED,   EQUIVALENT),
    (Bug::MissWindow,       NESTED,   EQUIVALENT),
    (Bug::LoseShadow,       NESTED,   HOMOMORPHIC),
];

/// What noticed, by an error's first words.
fn noticed_by(error: &str) -> &str {
    error.split(':').next().unwrap_or_default()
}

/// Seeds the kernels in which bugs are looked for. The choice matters for speed only: `KeepGlobals` shows in one
/// kernel of some hundreds, and in the 34th of this sequence.
const FIRST_KERNELS: [u8; 32] = [3; 32];

/// Runs `check` on kernels with `bug` switched on, until an error `counts`; how many operations the kernel has that shows it.
fn notices(
    (bug, cell): (Bug, Cell),
    check: Check,
    (cases, shrink): (u32, u32),
    counts: impl Fn(&str) -> bool,
) -> Option<(usize, String)> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: shrink, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &FIRST_KERNELS));
    let result = runner.run(&kernel::kernels(), |ops| {
        let result = bug::with(Some(bug), || check(&ops, cell));
        result.or_else(|e| if counts(noticed_by(&e)) { Err(TestCaseError::fail(e)) } else { Ok(()) })
    });
    match result {
        Err(TestError::Fail(reason, ops)) => Some((ops.len(), noticed_by(reason.message()).to_owned())),
        _ => None,
    }
}

#[test]
fn every_seeded_bug_is_noticed() {
    let mut missed = Vec::new();
    println!("{:<18} {:<20} noticed by (operations of the kernel that shows it)", "bug", "monitor");
    for (bug, cell, own) in BUGS {
        let mut by = Vec::new();
        for (n, (name, check)) in CHECKS.iter().enumerate() {
            // The check that is there for it looks long enough, and is to notice by itself, not because the two went another way;
            // the others one kernel only: what they notice is printed, and not asserted.
            let noticed = match n == own {
                true => notices((bug, cell), *check, (1600, 8), |what| name.contains(what)),
                false => notices((bug, cell), *check, (1, 0), |_| true),
            };
            match noticed {
                Some((ops, what)) => by.push(format!("{what} ({ops})")),
                None if n == own => missed.push((bug, *name)),
                None => {}
            }
        }
        println!("{:<18} {:<20} {}", format!("{bug:?}"), cell.to_string(), by.join(", "));
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

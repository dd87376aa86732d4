//! **Equivalence** under binary translation: every guest ends as on the bare machine, bit for bit, sensitive unprivileged
//! instructions and all. The translator runs in strides, so that units chain; the bare machine runs tick by tick.

use super::bytes::Bytes;
use super::equivalence::runner;
use super::pair::{self, BT_TRACE, Noticed, Strides, Tested, figures, monitor, run_to, shadow};
use super::{kernel, machine, printed, seed};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::cell::Cell;
use subring::addr::Linear;
use subring::cell::Coherence;
use subring::decode::{Decoded, MAX_INSN_LEN, Op, decode};
use subring::lab::compare::diagnosis::LEFT_OPEN;
use subring::lab::compare::strides;
use subring::lab::state;
use subring::machine::{Machine, Outcome};
use subring::report::Change;

/// Bytes of a random guest, the ticks that it runs, and the longest stride.
pub(super) const LEN: usize = 16_000;
const TICKS: u64 = 1500;
const LONGEST: u64 = 211;

/// Puts `machine` under a translating monitor.
fn translate(machine: &mut Machine, coherence: Coherence) {
    pair::Cell::bt(coherence).put(machine, 5);
}

/// A way to run a machine to a tick.
type Run = fn(&mut Machine, u64) -> Option<Outcome>;

/// Runs the bare machine with a TLB that holds nothing from one instruction to the next.
fn run_bare(bare: &mut Machine, to: u64) -> Option<Outcome> {
    loop {
        let ended = run_to(bare, bare.cpu.now + 1);
        bare.world.tlb.flush(true);
        if ended.is_some() || bare.cpu.now >= to {
            return ended;
        }
    }
}

/// Runs the bare machine with one that holds nothing from one access to the next.
fn run_walking(bare: &mut Machine, to: u64) -> Option<Outcome> {
    bare.world.tlb.set_holding(false);
    let ended = run_to(bare, to);
    bare.world.tlb.set_holding(true);
    ended
}

/// Runs both in strides that depend on `seed`; what differs, if anything.
fn difference(bare: &mut Machine, bt: &mut Machine, seed: u64) -> Result<(), Noticed> {
    difference_from(bare, run_bare, bt, seed)
}

/// The same with another way to run the bare machine.
fn difference_from(bare: &mut Machine, run_bare: Run, bt: &mut Machine, seed: u64) -> Result<(), Noticed> {
    let mut stride = seed | 1;
    while bare.cpu.now < TICKS {
        stride = stride.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = bare.cpu.now;
        let to = from + 1 + (stride >> 33) % LONGEST;
        let a = run_bare(bare, to);
        let b = run_to(bt, if a.is_some() { bare.cpu.now.max(to) } else { bare.cpu.now });
        if a != b || !state::same(bare, bt) {
            let d = state::differences(bare, bt);
            let what = format!("in ticks {from} to {}: {a:?}, {b:?}; {d:#?}", bare.cpu.now);
            return Err(Noticed { by: to, what });
        }
        if a.is_some() {
            break;
        }
    }
    if bt.world.escapes() != 0 {
        return Err(Noticed { by: 0, what: "the real processor reached a chip".into() });
    }
    Ok(())
}

fn random(data: &[u8]) -> Machine {
    machine::machine(&mut Bytes::new(data))
}

/// Runs a random guest in strides; the translating monitor's machine, if it ends the same.
pub(super) fn run_random(data: &[u8], coherence: Coherence, seed: u64) -> Result<Machine, Noticed> {
    let mut bt = random(data);
    translate(&mut bt, coherence);
    difference(&mut random(data), &mut bt, seed).map(|()| bt)
}

/// Whether what differs is left open by the architecture (SDM vol. 3, 4.10.4): the guest changed page-table entries in use,
/// and did not flush. Then either a bare machine with a TLB that holds goes the same way, or it goes another way than one whose
/// TLB does not, no later than the monitor's; so may one whose TLB holds nothing from the delivery of an event to its handler; or
/// the monitor saw the change.
pub(super) fn is_open(data: &[u8], coherence: Coherence, seed: u64) -> bool {
    let mut bt = random(data);
    translate(&mut bt, coherence);
    if difference_from(&mut random(data), run_to, &mut bt, seed).is_ok() {
        return true;
    }
    let by = |parted: Result<(), Noticed>| parted.err().map_or(u64::MAX, |noticed| noticed.by);
    let mut bt = random(data);
    translate(&mut bt, coherence);
    let parted = by(difference(&mut random(data), &mut bt, seed));
    let bare_ones: [Run; 2] = [run_bare, run_walking];
    if bare_ones
        .iter()
        .any(|run| by(difference_from(&mut random(data), *run, &mut random(data), seed)) <= parted)
    {
        return true;
    }
    let mut bt = random(data);
    translate(&mut bt, Coherence::Trace);
    _ = difference(&mut random(data), &mut bt, seed);
    // What was written right before they parted, by one string instruction perhaps, has not been looked at yet.
    bt.follow();
    let counts = shadow(&bt).counts();
    // Without a translation made from it there is none to be taken away; but a table may cease to be one.
    counts.changes.contains_key(&Change::Synced) || counts.traces_released > 0
}

fn random_guests(coherence: Coherence) {
    let (ran, translated) = (Cell::new(0u64), Cell::new(0u64));
    let (guests, excused) = (Cell::new(0u64), Cell::new(0u64));
    let check = |seed: u64| {
        let data = seed::bytes(seed, LEN);
        let (mut bare, mut bt) = (random(&data), random(&data));
        translate(&mut bt, coherence);
        guests.set(guests.get() + 1);
        match difference(&mut bare, &mut bt, seed) {
            Ok(()) => {
                ran.set(ran.get() + bt.cpu.now);
                translated.set(translated.get() + monitor(&bt).counts().translated);
            }
            Err(_) if is_open(&data, coherence, seed) => excused.set(excused.get() + 1),
            Err(Noticed { what, .. }) => prop_assert!(false, "{what}"),
        }
        Ok(())
    };
    if let Err(failure) = runner(200).run(&any::<u64>().no_shrink(), check) {
        panic!("{failure}");
    }
    let (guests, excused) = (guests.get(), excused.get());
    println!(
        "bt, {coherence}: {guests} guests, {excused} of them differ where the architecture lets them; {} of {} ticks in \
         translated code",
        translated.get(),
        ran.get()
    );
    assert!(excused * 10 <= guests, "{excused} of {guests} guests are excused");
    assert!(translated.get() * 4 > ran.get(), "most of a random kernel runs translated");
}

#[test]
fn random_guests_end_the_same_when_translated_with_traces() {
    random_guests(Coherence::Trace);
}

#[test]
fn random_guests_end_the_same_when_translated_with_a_virtual_tlb() {
    random_guests(Coherence::Vtlb);
}

/// Its kernel loads by FRSTOR a selector as that of x87's last operand, which is what the real SS shows.
#[test]
fn a_selector_that_x87_loads_is_not_taken_for_the_real_one() {
    const SEED: u64 = 16_392_192_964_308_782_671;
    for coherence in [Coherence::Trace, Coherence::Vtlb] {
        let parted = run_random(&seed::bytes(SEED, LEN), coherence, SEED).err().map(|noticed| noticed.what);
        assert_eq!(parted, None, "{coherence}");
    }
}

/// The guest of this seed goes another way than on the bare machine, and the architecture leaves open which.
#[track_caller]
fn parts_where_it_may(seed: u64) {
    let data = seed::bytes(seed, LEN);
    for coherence in [Coherence::Trace, Coherence::Vtlb] {
        assert!(run_random(&data, coherence, seed).is_err(), "{coherence}: the guest is still that one");
        assert!(is_open(&data, coherence, seed), "{coherence}");
    }
}

/// REP STOSD over the guest's own page directory, and no flush: the monitor emulates it in one go, with the translation that was in use
/// when it began, as a TLB may (SDM vol. 3, 4.10.4); without a TLB the next store already faults.
#[test]
fn a_string_store_over_the_page_directory_may_go_on_by_the_old_one() {
    parts_where_it_may(5_004_522_002_418_555_753);
}

/// The delivery of a fault pushes its frame over the guest's own page directory, and no flush: the monitor fetches the handler by the new
/// one, a bare machine by what it has cached, for one instruction or for more.
#[test]
fn a_frame_pushed_over_the_page_directory_leaves_the_next_fetch_open() {
    parts_where_it_may(18_044_987_819_572_781_844);
}

/// The same, and the first instruction of the handler pushes behind the frame.
#[test]
fn a_frame_pushed_over_the_page_table_leaves_the_next_push_open() {
    let seed = 12_942_439_234_276_144_798;
    parts_where_it_may(seed);
    let data = seed::bytes(seed, LEN);
    let (mut a, mut b) = BT_TRACE.guests(5, || random(&data));
    let found = strides::first_divergence(&mut a, &mut b, TICKS, |_| true).expect("it can be put back");
    assert!(found.expect("they part").why.starts_with(LEFT_OPEN));
}

/// The same for the delivery of two events, one after the other.
#[test]
fn a_frame_pushed_over_the_page_directory_leaves_the_next_frame_open() {
    parts_where_it_may(2_001_087_725_637_842_605);
}

/// Whether the guest comes to an instruction of this kind.
fn comes_to(data: &[u8], op: Op) -> bool {
    let mut m = random(data);
    (0..TICKS).any(|tick| {
        let code = m.world.peek(&m.cpu, Linear(m.cpu.linear_eip()), MAX_INSN_LEN);
        let found = matches!(decode(&code, m.cpu.code32()), Decoded::Insn(insn) if insn.op == op);
        run_bare(&mut m, tick + 1);
        found
    })
}

/// The guest of this seed, which comes to such an instruction, goes the way that it goes on the bare machine.
#[track_caller]
fn ends_the_same(seed: u64, op: Op) {
    let data = seed::bytes(seed, LEN);
    assert!(comes_to(&data, op), "the guest is still that one");
    for coherence in [Coherence::Trace, Coherence::Vtlb] {
        assert!(run_random(&data, coherence, seed).is_ok(), "{coherence}");
    }
}

/// ENTER pushes over itself, and then meets where the real segment is truncated: what the monitor emulates then is still that ENTER,
/// since the real one had found its faults before it wrote.
#[test]
fn enter_over_itself_is_emulated_as_it_was() {
    ends_the_same(17_397_173_817_345_001_699, Op::Enter);
}

/// #DF is delivered to a handler in ring 3 on an unaligned stack, with alignment checked, and before any instruction has run in translated
/// code: the frame's first push is #AC, and the processor shuts down.
#[test]
fn a_handler_in_ring_3_has_its_alignment_checked() {
    ends_the_same(6_587_920_641_206_784_785, Op::Fpu);
}

/// PUSHA on an unaligned stack, with alignment checked: the pages that it would write to are not looked at before.
#[test]
fn an_unaligned_pusha_reaches_no_page() {
    ends_the_same(16_622_305_003_926_607_017, Op::Pusha);
}

/// How long a kernel runs, and when it is looked at.
const STRIDES: Strides = Strides { most: 60_000, stride: 331, whole: 16 };

fn kernels(coherence: Coherence) {
    let cell = pair::Cell::bt(coherence);
    let result = runner(40).run(&kernel::any_kernels(), |ops| {
        let (mut bare, mut bt) = (kernel::machine(&ops), kernel::machine(&ops));
        cell.put(&mut bt, 5);
        STRIDES.hold(&mut bare, &mut bt, cell).map(drop).map_err(|e| TestCaseError::fail(e.what))
    });
    printed::judge(result, "translated", &cell, (STRIDES.most, cell.config(5).shadow_frames, 5));
}

/// Traces, then plain memory for longer than the policy's patience, then traces again, by one instruction.
#[test]
fn an_access_is_adapted_and_taken_back_and_adapted_again() {
    let mut bt = kernel::machine(&[kernel::Op::Rewrite { kind: 1, other: 4, times: 110 }]);
    translate(&mut bt, Coherence::Trace);
    assert!(run_to(&mut bt, STRIDES.most).is_some(), "it halts");
    let figures = figures(&bt);
    assert_eq!((figures.adapted, figures.reverted), (2, 1));
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_when_translated_with_traces() {
    kernels(Coherence::Trace);
}

#[test]
fn kernels_that_keep_the_rules_end_the_same_when_translated_with_a_virtual_tlb() {
    kernels(Coherence::Vtlb);
}

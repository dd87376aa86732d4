//! **The homomorphism**, **efficiency**, **resource control**, **coherence** and **observers change nothing**, over generated kernels
//! and over random machines, under every strategy and policy; see `walk` for what each says.

use super::bytes::Bytes;
use super::equivalence::{cases, runner};
use super::kernel::{self, Op};
use super::pair::{CELLS, Cell, Staleness, TRACE, Tested, monitor, run_to};
use super::walk::{Grain, Looks, Tally, Walk, run_to_boundary};
use super::{machine, printed, seed};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use subring::addr::GuestPhys;
use subring::cell::{Choice, Coherence, Mmu, Strategy};
use subring::clock::When;
use subring::event::{Event, Sink};
use subring::lab::state;
use subring::machine::board::BoardConfig;
use subring::machine::{CodeStop, Config, Limits, Machine, Outcome, Wants, Watcher};
use subring::report::Journal;

const NOTHING: Looks =
    Looks { homomorphism: false, efficiency: false, control: false, coherence: false, strict: false };
pub(super) const HOMOMORPHISM: Looks = Looks { homomorphism: true, ..NOTHING };
pub(super) const EFFICIENCY: Looks = Looks { efficiency: true, ..NOTHING };
pub(super) const CONTROL: Looks = Looks { control: true, ..NOTHING };
pub(super) const COHERENCE: Looks = Looks { coherence: true, ..NOTHING };

/// Ticks of a walk.
const TICKS: u64 = 2500;
/// Bytes and ticks of a random machine.
const LEN: usize = 16_000;
const RANDOM_TICKS: u64 = 400;

/// Ticks from a kernel's start to its first operation.
fn boot_ticks() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let mut m = kernel::machine(&[]);
        // CLI; HLT is all that follows.
        assert_eq!(m.run(Limits::until(100_000)), Outcome::HaltedForever);
        m.cpu.now - 2
    })
}

/// Walks a kernel, in each grain.
pub(super) fn walk(ops: &[Op], cell: Cell, looks: Looks) -> Result<Tally, String> {
    let looks = Looks { strict: true, ..looks };
    let mut sum = Tally::default();
    for &grain in Grain::of(cell) {
        let walk = Walk::new(|| kernel::machine(ops), cell, grain, boot_ticks(), looks);
        sum.add(&walk.run(TICKS).map_err(|e| format!("{e}, in steps of a {grain:?}"))?);
    }
    if sum.parted != 0 { Err("equivalence: the kernel went another way".into()) } else { Ok(sum) }
}

fn print(what: &str, cell: Cell, tally: &Tally) {
    let all = (tally.direct + tally.emulated + tally.interpreted).max(1);
    let share = 100.0 * tally.direct as f64 / all as f64;
    println!(
        "{cell}, {what}: {all} instructions, {share:.2}% by themselves ({} translated), {} emulated, {} interpreted; {} steps compared \
         through V; {} entries held against tables",
        tally.translated, tally.emulated, tally.interpreted, tally.compared, tally.entries
    );
    println!("    exits of innocuous instructions: {:?}, callouts {}", tally.innocuous, tally.adapted);
}

/// Walks generated kernels, with everything looked at that `looks` says.
fn hold_kernels(looks: Looks, enough: impl Fn(Cell, &Tally) -> bool) {
    for cell in CELLS {
        let sum = RefCell::new(Tally::default());
        let result = runner(12).run(&kernel::kernels_for(cell.parts_at_sensitive()), |ops| {
            let tally = walk(&ops, cell, looks).map_err(proptest::test_runner::TestCaseError::fail)?;
            sum.borrow_mut().add(&tally);
            Ok(())
        });
        printed::judge(
            result,
            "properties",
            &cell,
            (boot_ticks() + TICKS, cell.config(11).shadow_frames, 11),
        );
        print("kernels", cell, &sum.borrow());
        assert!(enough(cell, &sum.borrow()), "{cell}: {:?}", sum.borrow());
    }
}

/// The same for random machines. With a virtual TLB one that does not flush as it must may see other things: it wrote to page
/// tables in use, as the traces show (SDM vol. 3, 4.10.4). Control is kept of such a one, too.
fn hold_machines(looks: Looks, enough: impl Fn(Cell, &Tally) -> bool) {
    let cases = u64::from(cases(40));
    for cell in CELLS {
        let (mut sum, mut excused) = (Tally::default(), 0);
        for n in 0..cases {
            let data = seed::bytes(n ^ 0x5eed, LEN);
            let grain = Grain::nth(cell, n);
            let walk = |cell: Cell| {
                Walk::new(|| machine::machine(&mut Bytes::new(&data)), cell, grain, 0, looks)
                    .run(RANDOM_TICKS)
            };
            let coherence = Some(Coherence::Trace);
            let traces = Choice { coherence, ..Choice::of(cell.strategy()) };
            let traced = || walk(traces.cell().expect("a cell with traces"));
            match walk(cell) {
                Ok(tally) => sum.add(&tally),
                Err(_)
                    if cell.staleness() != Staleness::Never
                        && !looks.control
                        && traced().is_ok_and(|t| t.live_writes > 0) =>
                {
                    excused += 1;
                }
                Err(e) => panic!("machine {n} ({cell}, {grain:?}): {e}"),
            }
        }
        print("random machines", cell, &sum);
        println!("    {excused} of {cases} did not flush as they must");
        assert!(excused * 10 <= cases, "{cell}: {excused} of {cases} machines are excused");
        assert!(sum.parted == 0 || cell.parts_at_sensitive(), "{cell}: {sum:?}");
        assert!(enough(cell, &sum), "{cell}: {sum:?}");
    }
}

#[test]
fn v_of_a_step_is_the_step_of_v() {
    let enough = |cell: Cell, t: &Tally| {
        t.compared > 1000
            && t.returned == t.compared
            && (t.translated > 1000) == (cell.strategy() == Strategy::Bt)
    };
    hold_kernels(HOMOMORPHISM, enough);
    hold_machines(HOMOMORPHISM, enough);
}

#[test]
fn innocuous_instructions_run_by_themselves() {
    // With nested paging innocuous instructions exit for interrupts and for frames that are not mapped yet, and
    // for little else.
    let causes = |cell: Cell| if cell.mmu() == Mmu::Nested { 2 } else { 3 };
    let enough = |cell: Cell, t: &Tally| t.direct > t.emulated && t.innocuous.len() >= causes(cell);
    hold_kernels(EFFICIENCY, enough);
    hold_machines(EFFICIENCY, enough);
}

#[test]
fn the_monitor_keeps_control() {
    hold_kernels(CONTROL, |_, t| t.direct > 1000);
    hold_machines(CONTROL, |_, t| t.direct > 1000);
}

#[test]
fn no_shadow_entry_allows_what_the_guests_tables_do_not() {
    hold_kernels(COHERENCE, |cell, t| t.entries > if cell.mmu() == Mmu::Nested { 5_000 } else { 50_000 });
}

/// A kernel of random bytes at 1 MiB.
fn noise(n: u64) -> Machine {
    let ram_size = 2 << 20;
    let board = BoardConfig { ram_size, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size, board, bios: None, vga_bios: None }).expect("a machine");
    m.chips_as_after_post();
    m.store(GuestPhys(0x10_0000), &seed::bytes(n, 0x1_0000));
    m.start_flat(0x10_0000, 0, 0, 0x9_0000);
    m
}

#[test]
fn random_bytes_as_a_kernel_get_nowhere() {
    let mut sum = Tally::default();
    for n in 0..u64::from(cases(100)) {
        for cell in CELLS {
            let grain = Grain::nth(cell, n);
            let walk = Walk::new(|| noise(n), cell, grain, 0, CONTROL);
            let tally = walk.run(RANDOM_TICKS);
            sum.add(&tally.unwrap_or_else(|e| panic!("noise {n} ({cell}, {grain:?}): {e}")));
            // On, beyond what can be compared: it ends at its budget or before.
            let mut m = noise(n);
            cell.put(&mut m, n);
            let budget = 20_000;
            if run_to(&mut m, budget).is_none() {
                assert!(m.cpu.now <= budget + 1, "noise {n}: {} ticks", m.cpu.now);
            }
            super::audit::audit(&m, false).unwrap_or_else(|e| panic!("noise {n} ({cell}): {e}"));
        }
    }
    print("random bytes", TRACE, &sum);
    assert!(sum.direct > 100, "{sum:?}");
}

/// Looks at all events, and makes something of them.
struct Looker(Rc<RefCell<u64>>);

impl Sink for Looker {
    fn record(&mut self, when: When, _: &Event<'_>) {
        *self.0.borrow_mut() ^= when.ticks;
    }
}

/// A monitor that keeps everything that it can keep, of a machine that is watched, stepped and sliced, ends where one ends
/// that nobody looks at.
pub(super) fn observed(make: impl Fn() -> Machine, cell: Cell, ticks: u64) -> Result<(), String> {
    let (mut plain, mut watched) = (make(), make());
    cell.put(&mut plain, 5);
    cell.put(&mut watched, 5);
    let under = watched.monitor_mut().expect("a monitor");
    under.log_exits(true);
    if let Some(shadow) = under.shadow_mut() {
        shadow.keep_journal(Journal::new(0..=0xf_ffff, true));
    }
    let wants = Wants { insn: true, fault: true, interrupt: true, port: true, memory: true, exit: true };
    watched.watch(Some(Watcher { wants, sink: Box::new(Looker(Rc::default())) }));
    let end = run_to(&mut plain, ticks);
    let mut to = 0;
    let seen = loop {
        // Slices of odd lengths; in some of them a debugger looks for an address where nothing is.
        to = (to + 1 + to % 61).min(ticks);
        if to % 3 == 0 {
            watched.stops.add_code(CodeStop::Hardware(0x1357_9bdf));
        } else {
            watched.stops.remove_code(CodeStop::Hardware(0x1357_9bdf));
        }
        // And in some a comparison looks at each boundary of the monitor's.
        let end = if to % 7 == 0 { run_to_boundary(&mut watched, to) } else { run_to(&mut watched, to) };
        if end.is_some() || watched.cpu.now >= ticks {
            break end;
        }
    };
    let differences = state::differences(&plain, &watched);
    let exits = |m: &Machine| monitor(m).exits().clone();
    if end != seen || !differences.is_empty() {
        return Err(format!("observers: {end:?} and {seen:?}, {differences:?}"));
    }
    if exits(&plain) != exits(&watched) {
        let by = |m: &Machine| exits(m).by_cause;
        return Err(format!("observers: exits {:?}, watched {:?}", by(&plain), by(&watched)));
    }
    Ok(())
}

#[test]
fn observers_change_nothing_under_a_monitor() {
    for cell in CELLS {
        let result = runner(16).run(&kernel::any_kernels(), |ops| {
            observed(|| kernel::machine(&ops), cell, 12_000)
                .map_err(proptest::test_runner::TestCaseError::fail)
        });
        printed::judge(result, "observers", &cell, (12_000, cell.config(5).shadow_frames, 5));
        for n in 0..u64::from(cases(40)) {
            let data = seed::bytes(n ^ 0x0b5e, LEN);
            observed(|| machine::machine(&mut Bytes::new(&data)), cell, RANDOM_TICKS)
                .unwrap_or_else(|e| panic!("machine {n} ({cell}): {e}"));
        }
    }
}

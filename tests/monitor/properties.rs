//! **The homomorphism**, **efficiency**, **resource control** and **observers change nothing**, over generated kernels and over
//! random machines; see `walk` for what each says.

use super::bytes::Bytes;
use super::equivalence::{cases, runner};
use super::kernel::{self, Op};
use super::pair::{CELLS, Cell, TRACE, TRAPS, run_to};
use super::walk::{Looks, Tally, Walk};
use super::{machine, seed};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use subring::addr::GuestPhys;
use subring::event::{Event, Sink};
use subring::lab::state;
use subring::machine::board::BoardConfig;
use subring::machine::{CodeStop, Config, Limits, Machine, Outcome, Wants, Watcher};
use subring::vmm::Trap;
use subring::vmm::memory::Journal;

const NOTHING: Looks = Looks { homomorphism: false, efficiency: false, control: false, strict: false };
pub(super) const HOMOMORPHISM: Looks = Looks { homomorphism: true, ..NOTHING };
pub(super) const EFFICIENCY: Looks = Looks { efficiency: true, ..NOTHING };
pub(super) const CONTROL: Looks = Looks { control: true, ..NOTHING };

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

/// Walks a kernel.
pub(super) fn walk(ops: &[Op], cell: Cell, looks: Looks) -> Result<Tally, String> {
    let looks = Looks { strict: true, ..looks };
    let tally = Walk::new(|| kernel::machine(ops), cell, boot_ticks(), looks).run(TICKS)?;
    if tally.parted != 0 { Err("equivalence: the kernel went another way".into()) } else { Ok(tally) }
}

fn print(what: &str, cell: Cell, tally: &Tally) {
    let all = (tally.direct + tally.emulated + tally.interpreted).max(1);
    let share = 100.0 * tally.direct as f64 / all as f64;
    println!(
        "{cell}, {what}: {all} instructions, {share:.2}% direct, {} emulated, {} interpreted; {} compared through V",
        tally.emulated, tally.interpreted, tally.compared
    );
    println!("    exits of innocuous instructions: {:?}", tally.innocuous);
}

/// Walks generated kernels and random machines, with everything looked at that `looks` says.
fn hold(cells: &[Cell], looks: Looks, enough: impl Fn(&Tally) -> bool) {
    for &cell in cells {
        let sum = RefCell::new(Tally::default());
        let result = runner(24).run(&kernel::kernels(), |ops| {
            let tally = walk(&ops, cell, looks).map_err(proptest::test_runner::TestCaseError::fail)?;
            sum.borrow_mut().add(&tally);
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{failure}");
        }
        print("kernels", cell, &sum.borrow());
        assert!(enough(&sum.borrow()), "{:?}", sum.borrow());
    }
    // With a virtual TLB a guest that does not flush as it must may see other things.
    let mut sum = Tally::default();
    for n in 0..u64::from(cases(60)) {
        let data = seed::bytes(n ^ 0x5eed, LEN);
        let walk = Walk::new(|| machine::machine(&mut Bytes::new(&data)), TRACE, 0, looks);
        sum.add(&walk.run(RANDOM_TICKS).unwrap_or_else(|e| panic!("machine {n}: {e}")));
    }
    print("random machines", TRACE, &sum);
    assert!(enough(&sum), "{sum:?}");
}

#[test]
fn v_of_a_step_is_the_step_of_v() {
    hold(&TRAPS, HOMOMORPHISM, |t| t.compared > 1000 && t.returned == t.compared);
}

#[test]
fn innocuous_instructions_run_by_themselves() {
    hold(&TRAPS, EFFICIENCY, |t| t.direct > t.emulated && t.innocuous.len() > 2);
}

#[test]
fn the_monitor_keeps_control() {
    hold(&CELLS, CONTROL, |t| t.direct > 1000);
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
    for n in 0..u64::from(cases(200)) {
        for cell in CELLS {
            let walk = Walk::new(|| noise(n), cell, 0, CONTROL);
            sum.add(&walk.run(RANDOM_TICKS).unwrap_or_else(|e| panic!("noise {n} ({cell}): {e}")));
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
    fn record(&mut self, now: u64, _: &Event<'_>) {
        *self.0.borrow_mut() ^= now;
    }
}

/// A monitor that keeps everything that it can keep, of a machine that is watched, stepped and sliced, ends where one ends
/// that nobody looks at.
pub(super) fn observed(make: impl Fn() -> Machine, cell: Cell, ticks: u64) -> Result<(), String> {
    let (mut plain, mut watched) = (make(), make());
    cell.put(&mut plain, 5);
    cell.put(&mut watched, 5);
    let monitor = watched.monitor_mut::<Trap>().expect("a monitor");
    monitor.log = Some(Vec::new());
    monitor.mmu.shadow.journal = Some(Journal::new(0..=0xf_ffff, true));
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
        let end = run_to(&mut watched, to);
        if end.is_some() || to == ticks {
            break end;
        }
    };
    let differences = state::differences(&plain, &watched);
    let exits = |m: &Machine| m.monitor::<Trap>().expect("a monitor").exits.clone();
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
        if let Err(failure) = result {
            panic!("{failure}");
        }
        for n in 0..u64::from(cases(60)) {
            let data = seed::bytes(n ^ 0x0b5e, LEN);
            observed(|| machine::machine(&mut Bytes::new(&data)), cell, RANDOM_TICKS)
                .unwrap_or_else(|e| panic!("machine {n} ({cell}): {e}"));
        }
    }
}

//! What a monitor counts is a function of the guest's run in its cell alone: in one go, in strides, in slices
//! of any length, traced, with memory watched, under a debugger's stops and at the monitor's boundaries a run
//! has the same exits at the same places, the same callouts, translation units and modelled cycles.

use crate::common::guest;
use subring::bus::Clock;
use subring::cell::Cell;
use subring::clock::When;
use subring::cpu::Activity;
use subring::event::{Event, Sink};
use subring::load::builtin;
use subring::machine::{CodeStop, Limits, Machine, Outcome, Wants, Watcher};
use subring::vmm;
use subring::vmm::cost::Costs;

/// Ticks that a guest gets, at most.
const TICKS: u64 = 120_000;

/// A way to run a guest to [`TICKS`] or its end.
#[derive(Clone, Copy, Debug)]
enum Look {
    Whole,
    Strides(u64),
    Slices(u64),
    Traced,
    MemoryWatched,
    Stepped,
    Breakpoints,
    Boundaries,
    Followed,
}

const LOOKS: [Look; 10] = [
    Look::Strides(10_007),
    Look::Strides(64),
    Look::Slices(1),
    Look::Slices(2),
    Look::Traced,
    Look::MemoryWatched,
    Look::Stepped,
    Look::Breakpoints,
    Look::Boundaries,
    Look::Followed,
];

/// An observer that keeps nothing.
struct Nobody;

impl Sink for Nobody {
    fn record(&mut self, _: When, _: &Event<'_>) {}
}

/// Lengths of slices from 1 to 999, by a linear congruential generator.
fn lengths(seed: u64) -> impl Iterator<Item = u64> {
    let next =
        |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(seed), next).skip(1).map(|x| match x >> 60 {
        0..8 => (x >> 33) % 8 + 1,
        8..14 => (x >> 33) % 60 + 1,
        _ => (x >> 33) % 1000 + 1,
    })
}

/// Runs to `to`, past stops; whether the guest is still there.
fn run_to(m: &mut Machine, to: u64) -> bool {
    while m.cpu.now < to {
        match m.run(Limits::until(to)) {
            Outcome::Reached => _ = m.stops.take_hit(),
            Outcome::Reset => m.reset(),
            _ => return false,
        }
    }
    m.cpu.activity != Activity::Shutdown
}

fn watch(m: &mut Machine, wants: Wants) {
    m.watch(Some(Watcher { wants, sink: Box::new(Nobody) }));
}

fn run(m: &mut Machine, look: Look) {
    match look {
        Look::Whole => _ = run_to(m, TICKS),
        Look::Strides(by) => while run_to(m, (m.cpu.now + by).min(TICKS)) && m.cpu.now < TICKS {},
        Look::Slices(seed) => {
            lengths(seed)
                .take_while(|by| run_to(m, (m.cpu.now + by).min(TICKS)) && m.cpu.now < TICKS)
                .count();
        }
        Look::Followed => {
            for by in lengths(3) {
                if !run_to(m, (m.cpu.now + by).min(TICKS)) || m.cpu.now >= TICKS {
                    break;
                }
                m.follow();
                _ = m.code_ahead();
            }
        }
        Look::Traced => {
            watch(m, Wants { insn: true, ..Wants::default() });
            run_to(m, TICKS);
        }
        Look::MemoryWatched => {
            watch(m, Wants { memory: true, port: true, exit: true, ..Wants::default() });
            run_to(m, TICKS);
        }
        Look::Stepped => {
            m.stops.set_step(true);
            run_to(m, TICKS);
        }
        Look::Breakpoints => {
            // Where the guest is after some slices: some of them it reaches again.
            let mut stops = Vec::new();
            for by in lengths(4).take(12) {
                if !run_to(m, (m.cpu.now + by).min(TICKS)) {
                    return;
                }
                stops.push(CodeStop::Software(m.cpu.linear_eip()));
            }
            stops.iter().for_each(|stop| m.stops.add_code(*stop));
            if run_to(m, TICKS / 2) {
                m.clear_stops();
                run_to(m, TICKS);
            }
        }
        Look::Boundaries => {
            while m.cpu.now < TICKS {
                match m.run_to_boundary(Limits::until(TICKS)) {
                    Outcome::Reached => {}
                    Outcome::Reset => m.reset(),
                    _ => return,
                }
            }
        }
    }
}

/// All that is reported of `m`, a line for each figure.
fn report(m: &Machine) -> Vec<String> {
    let report = m.monitor().expect("it has a monitor").report();
    let mut lines = vec![
        format!("at {} {:08x}, {} instructions", m.cpu.now, m.cpu.eip, m.cpu.retired()),
        format!("{} modelled cycles", Costs::default().total(&report)),
    ];
    let parts = format!("{:#?} {:#?} {:#?}", report.counts, report.exits, report.translation);
    lines.push(format!("{:?}", m.world.nested));
    lines.extend(parts.lines().map(String::from));
    if let Some(translation) = m.translation() {
        let unit = |u: subring::translate::UnitInfo<'_>| {
            format!(
                "unit {} at {:08x} {:?} ran {} {:?} {:?}",
                u.number, u.linear, u.key, u.runs, u.links, u.gone
            )
        };
        lines.extend(translation.translator().units().map(unit));
    }
    lines
}

/// Holds the report of `guest` in `cell` to be the same however it is looked at.
fn hold(guest: &str, hz: u64, cell: Cell) {
    let builtin = builtin::find(guest).expect("a built-in guest");
    let reported = |look| {
        let mut m = guest::machine_at(builtin, Clock::new(hz));
        vmm::install(&mut m, &vmm::Config { cell, ..vmm::Config::default() }).expect("a monitor");
        run(&mut m, look);
        report(&m)
    };
    let whole = reported(Look::Whole);
    assert!(whole.len() > 8, "{whole:?}");
    for look in LOOKS {
        let other = reported(look);
        let first = whole.iter().zip(&other).filter(|(a, b)| a != b).take(12).collect::<Vec<_>>();
        assert!(whole == other, "{guest} at {hz} Hz in {cell}, {look:?}: {first:#?}");
    }
}

/// The guests, each at a clock at which its timer never interrupts it, and at one at which it does so all the
/// time.
fn hold_all(cell: Cell) {
    for (guest, hz) in
        [("rings-clean", 1_000_000), ("nano-clean", 1_000_000), ("smc", 100_000_000), ("bench", 100_000_000)]
    {
        hold(guest, hz, cell);
        hold(guest, 9_973, cell);
    }
}

#[test]
fn trap_and_emulate_counts_the_same_however_it_is_looked_at() {
    hold_all(Cell::TRAP_TRACE);
    hold_all(Cell::TRAP_VTLB);
}

#[test]
fn translation_counts_the_same_however_it_is_looked_at_with_traces() {
    hold_all(Cell::BT_TRACE);
}

#[test]
fn translation_counts_the_same_however_it_is_looked_at_with_a_virtual_tlb() {
    hold_all(Cell::BT_VTLB);
}

#[test]
fn hardware_assist_counts_the_same_however_it_is_looked_at() {
    hold_all(Cell::HVM_TRACE);
    hold_all(Cell::HVM_VTLB);
    hold_all(Cell::HVM_NESTED);
}

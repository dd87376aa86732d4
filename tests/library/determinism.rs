//! A run is a function of its machine: the same in every repetition, however it is cut into slices, and whoever looks
//! on. Held for the built-in guests at many points, and for random machines.

use crate::common::apic;
use crate::common::guest;
use crate::common::seed;
use crate::fuzz::bytes::Bytes;
use crate::fuzz::machine;
use std::cell::Cell;
use std::rc::Rc;
use subring::addr::{GuestPhys, Linear};
use subring::clock::When;
use subring::cpu::{Cr0, Eflags, Model, Segment, TableReg, gpr};
use subring::decode::SegReg;
use subring::event::{Event, Sink};
use subring::load::builtin;
use subring::machine::board::BoardConfig;
use subring::machine::{CodeStop, Config, DataStop, Hit, Limits, Machine, Outcome, Wants, Watcher};

/// An observer that only counts.
struct Counter(Rc<Cell<u64>>);

impl Sink for Counter {
    fn record(&mut self, _: When, _: &Event<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

/// Watches `m` with every want; the count of what was seen.
fn observe(m: &mut Machine) -> Rc<Cell<u64>> {
    let seen = Rc::new(Cell::new(0));
    let wants = Wants { insn: true, fault: true, interrupt: true, port: true, memory: true, exit: true };
    m.watch(Some(Watcher { wants, sink: Box::new(Counter(Rc::clone(&seen))) }));
    seen
}

/// Runs `m` to `ticks` in steps that `step` gives; `None` when it got there.
fn run(m: &mut Machine, ticks: u64, mut step: impl FnMut() -> (u64, bool)) -> Option<Outcome> {
    while m.cpu.now < ticks {
        let (slice, at_halt) = step();
        let limits = Limits { ticks: (m.cpu.now + slice).min(ticks), retired: u64::MAX, at_halt };
        match m.run(limits) {
            Outcome::Reached | Outcome::Idle(Some(_)) => {}
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
    None
}

/// As [`run`], under a debugger: in turn a few steps, stops at instructions met before, and stops at data of the stack.
fn debug(m: &mut Machine, ticks: u64, mut step: impl FnMut() -> (u64, bool)) -> Option<Outcome> {
    let mut met = std::collections::VecDeque::new();
    for turn in 0u64.. {
        if m.cpu.now >= ticks {
            break;
        }
        met.push_back(m.cpu.linear_eip());
        met.drain(..met.len().saturating_sub(8));
        match turn % 16 {
            0 => m.stops.set_step(true),
            5 => {
                m.clear_stops();
                met.iter().for_each(|at| m.stops.add_code(CodeStop::Software(*at)));
            }
            9 => {
                m.clear_stops();
                let at = Linear(m.cpu.seg(SegReg::Ss).base.wrapping_add(m.cpu.sp()));
                m.add_data_stop(DataStop { at, len: 4, read: true, write: true });
            }
            13 => m.clear_stops(),
            _ => {}
        }
        let (slice, at_halt) = step();
        let slice = slice.min(5000);
        let limits = Limits { ticks: (m.cpu.now + slice).min(ticks), retired: u64::MAX, at_halt };
        match m.run(limits) {
            Outcome::Reached | Outcome::Idle(Some(_)) => {
                m.stops.take_hit();
            }
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
    None
}

fn whole() -> (u64, bool) {
    (u64::MAX / 2, false)
}

/// Slices of 1 to `most` ticks, from a fixed seed; every fourth ends at a HLT.
fn sliced(seed: u64, most: u64) -> impl FnMut() -> (u64, bool) {
    let noise = seed::bytes(seed, 4096);
    let mut at = 0;
    move || {
        at = (at + 2) % (noise.len() - 1);
        let n = u64::from(noise[at]) << 8 | u64::from(noise[at + 1]);
        (1 + n % most, n & 3 == 0)
    }
}

/// Which of the two states of what part differ, for the message of a failure.
fn differences(a: &Machine, b: &Machine) -> String {
    let mut text = String::new();
    if a.cpu != b.cpu {
        text += &format!("processor:\n{}\n{}", a.registers(), b.registers());
    }
    let differ = |(x, y): (&u8, &u8)| x != y;
    if let Some(at) = a.world.map.ram.bytes().iter().zip(b.world.map.ram.bytes()).position(differ) {
        text += &format!("memory from {at:#x} on\n");
    }
    if !a.world.tlb.entries().eq(b.world.tlb.entries()) {
        text += "cached translations\n";
    }
    text + "or chips"
}

/// Holds that the machines that `build` makes are in the same state at `ticks`, cut and watched in every way.
fn assert_the_same(what: &str, build: &dyn Fn() -> Machine, cuts: &[u64], most: u64) {
    let (mut plain, mut again, mut cut, mut watched, mut both) =
        (build(), build(), build(), build(), build());
    let mut debugged = build();
    let seen = observe(&mut watched);
    observe(&mut both);
    for &ticks in cuts {
        let end = run(&mut plain, ticks, whole);
        let hash = plain.state_hash();
        let mut others = [
            ("repeated", &mut again, run as fn(&mut Machine, u64, _) -> _, None),
            ("cut", &mut cut, run, Some(sliced(1, most))),
            ("watched", &mut watched, run, None),
            ("cut and watched", &mut both, run, Some(sliced(2, most))),
            ("debugged", &mut debugged, debug, None),
        ];
        for (how, other, run, slices) in &mut others {
            let mut slices = slices.take();
            let other_end = run(
                other,
                ticks,
                Box::new(move || slices.as_mut().map_or_else(whole, |s| s())) as Box<dyn FnMut() -> _>,
            );
            assert_eq!(end, other_end, "{what}, {how}, to tick {ticks}: {}", differences(&plain, other));
            assert_eq!(
                hash,
                other.state_hash(),
                "{what}, {how}, at tick {ticks}: {}",
                differences(&plain, other)
            );
        }
        if end.is_some() {
            break;
        }
    }
    assert!(seen.get() > 0, "{what}: the observer saw something");
}

#[test]
fn built_in_guests_run_alike_however_they_are_run() {
    for guest in builtin::ALL {
        assert_the_same(guest.name, &|| guest::machine(guest), &[1, 1000, 77_777, 300_001], 20_011);
    }
}

/// A guest at two levels: its own hypervisor, and what that runs.
#[test]
fn hypervisors_run_alike_however_they_are_run() {
    for cpu in [Model::Yonah, Model::YonahEpt] {
        let build = || guest::hypervisor(cpu);
        assert_the_same(&format!("vmx on {cpu}"), &build, &[1, 50_000, 177_777, 600_001], 9_001);
    }
}

#[test]
fn random_machines_run_alike_however_they_are_run() {
    seed::each(60, 24_000, |data| {
        let cuts = [u64::from(data[0]) + 1, 2000, 6007];
        assert_the_same("a random machine", &|| machine::machine(&mut Bytes::new(data)), &cuts, 97);
    });
}

/// An event right after another takes a tick, and the timer of this machine is due in it: cut there or not, its interrupt
/// comes before the next instruction.
#[test]
fn a_chip_that_is_due_while_events_are_delivered_comes_alike() {
    let data = seed::bytes(17_172_321_204_335_968_645, 16_000);
    let build = || machine::machine(&mut Bytes::new(&data));
    assert_the_same("a random machine", &build, &[1, 2, 3, 4, 50, 400], 1);
}

#[test]
fn apic_interrupts_and_nmis_come_alike_however_they_are_run() {
    assert_the_same("an APIC timer", &apic::ticking, &[1, 1000, 1050, 30_001, 80_000], 97);
    assert_the_same("an NMI to itself", &apic::interrupting_itself, &[1, 2, 3, 5, 9, 50], 3);
}

/// A kernel in flat protected mode: `code` at 1 MiB.
fn flat(code: &[u8]) -> Machine {
    let board = BoardConfig { ram_size: 2 << 20, ..BoardConfig::default() };
    let mut m =
        Machine::new(Config { ram_size: 2 << 20, board, bios: None, vga_bios: None }).expect("a machine");
    m.store(GuestPhys(0x10_0000), code);
    m.start_flat(0x10_0000, 0, 0, 0x9_0000);
    m
}

#[test]
fn a_rep_that_overwrites_itself_runs_alike() {
    // MOV EDI, 0x10000e; MOV ECX, 64; MOV AL, 0x90; REP STOSB; and it is NOPs before it is through.
    let code = [0xbf, 0x0a, 0, 0x10, 0, 0xb9, 64, 0, 0, 0, 0xb0, 0x90, 0xf3, 0xaa, 0xf4];
    assert_the_same("a REP over itself", &|| flat(&code), &[1, 2, 5, 6, 7, 8, 9, 50], 3);
}

#[test]
fn an_interrupt_that_a_rep_outs_asks_for_is_taken_within_it() {
    // The serial port's transmitter interrupt, raised by the first byte of REP OUTSB to its enable register.
    let mut code = vec![0x66, 0xba, 0x21, 0x00, 0xb0, 0xef, 0xee]; // IMR: IRQ4 only
    code.extend([0x66, 0xba, 0xfc, 0x03, 0xb0, 0x0b, 0xee]); // MCR: OUT2
    code.extend([0x66, 0xba, 0xf9, 0x03, 0xfb]); // DX = IER; STI
    code.extend([0xbe, 0x00, 0x00, 0x11, 0x00, 0xb9, 0x40, 0, 0, 0]); // ESI, ECX
    code.extend([0xf3, 0x6e, 0xf4]); // REP OUTSB; HLT
    let build = || {
        let mut m = flat(&code);
        m.store(GuestPhys(0x11_0000), &[0x02; 64]);
        m
    };
    assert_the_same("REP OUTSB", &build, &[1, 9, 12, 13, 14, 20, 100], 3);
}

#[test]
fn a_handler_that_cannot_start_does_not_stop_time() {
    // Real mode, all vectors at 0:0500, where nothing but UD2 stands; the stack wraps for ever.
    let board = BoardConfig { ram_size: 1 << 20, ..BoardConfig::default() };
    let mut m =
        Machine::new(Config { ram_size: 1 << 20, board, bios: None, vga_bios: None }).expect("a machine");
    m.store(GuestPhys(0), &0x0500u32.to_le_bytes().repeat(256));
    m.store(GuestPhys(0x500), &[0x0f, 0x0b]);
    m.start_real(0, 0x500);
    assert_eq!(m.run(Limits::instructions(1000)), Outcome::Reached);
    assert_eq!((m.cpu.retired(), m.counts.exceptions[6]), (1000, 1001));
    assert_eq!(m.run(Limits::until(1500)), Outcome::Reached);
    assert_eq!(m.cpu.now, 1500);
}

#[test]
fn an_alignment_fault_that_raises_itself_does_not_stop_time() {
    // Ring 3 with an unaligned stack and a handler in ring 3: each delivery of #AC pushes, unaligned, in ring 3.
    let mut m = flat(&[0xff, 0x30]); // PUSH [EAX]
    m.store(GuestPhys(0x1000 + 17 * 8), &0x0010_ee00_000b_0000_u64.to_le_bytes());
    m.store(GuestPhys(0x2008), &0x00cf_fb00_0000_ffff_u64.to_le_bytes());
    m.cpu.idtr = TableReg { base: 0x1000, limit: 0x7ff };
    m.cpu.gdtr = TableReg { base: 0x2000, limit: 0xff };
    m.cpu.cr0 |= Cr0::AM;
    for s in SegReg::ALL {
        m.cpu.set_seg(s, Segment::with(0x13, 0, !0, 0xcf3));
    }
    m.cpu.set_seg(SegReg::Cs, Segment::with(0x0b, 0, !0, 0xcfb));
    m.cpu.set_cpl(3);
    m.cpu.set_eflags(Eflags::AC | Eflags::IF);
    (m.cpu.regs[gpr::ESP], m.cpu.regs[gpr::EAX]) = (0x9_0001, 0x3001);
    assert_eq!(m.run(Limits::until(100)), Outcome::Reached);
    assert_eq!((m.cpu.now, m.cpu.eip), (100, 0x10_0000), "it never gets into the handler");
    assert!(m.counts.exceptions[17] >= 100);
}

#[test]
fn a_triple_fault_lasts_until_the_reset() {
    let mut m = flat(&[0x0f, 0x0b]);
    m.cpu.idtr.limit = 0;
    assert!(matches!(m.run(Limits::until(100)), Outcome::TripleFault(_)));
    assert_eq!(m.run(Limits::until(1000)), Outcome::HaltedForever);
    m.reset();
    assert_eq!(m.run(Limits::until(1000)), Outcome::Reached, "it runs what the reset vector has");
}

/// Runs `m` to its next stop for the debugger.
fn to_stop(m: &mut Machine) -> Option<Hit> {
    assert_eq!(m.run(Limits::until(10_000)), Outcome::Reached);
    m.stops.take_hit()
}

#[test]
fn steps_and_watched_data_stop_within_string_instructions() {
    // MOV EDI, 0x110000; MOV ECX, 8; REP STOSB; UD2
    let mut m = flat(&[0xbf, 0, 0, 0x11, 0, 0xb9, 8, 0, 0, 0, 0xf3, 0xaa, 0x0f, 0x0b]);
    let watched = DataStop { at: Linear(0x11_0005), len: 1, read: false, write: true };
    m.add_data_stop(watched);
    m.stops.set_step(true);
    for eip in [0x10_0005, 0x10_000a, 0x10_000a] {
        assert_eq!((to_stop(&mut m), m.cpu.eip), (Some(Hit::Step), eip));
    }
    assert_eq!(m.cpu.regs[gpr::ECX], 7, "one iteration is a step");
    m.stops.set_step(false);
    assert_eq!((to_stop(&mut m), m.cpu.regs[gpr::ECX]), (Some(Hit::Data(watched)), 2));
    assert!(m.remove_data_stop(watched) && !m.remove_data_stop(watched));
    m.stops.add_code(CodeStop::Hardware(0x10_000c));
    assert_eq!(to_stop(&mut m), Some(Hit::Code(CodeStop::Hardware(0x10_000c))));
    assert_eq!((m.cpu.retired(), m.cpu.eip), (10, 0x10_000c));
}

#[test]
fn a_step_into_a_fault_ends_where_its_handler_starts() {
    let mut m = flat(&[0x0f, 0x0b]); // UD2
    m.store(GuestPhys(0x1000 + 6 * 8), &0x0010_8e00_0008_1234_u64.to_le_bytes());
    m.store(GuestPhys(0x2008), &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    m.cpu.idtr = TableReg { base: 0x1000, limit: 0x7ff };
    m.cpu.gdtr = TableReg { base: 0x2000, limit: 0xff };
    m.stops.set_step(true);
    assert_eq!((to_stop(&mut m), m.cpu.eip, m.cpu.retired()), (Some(Hit::Step), 0x10_1234, 0));
}

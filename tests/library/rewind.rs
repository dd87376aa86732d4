//! A debugger's history: the machine of a moment is the same, bit by bit, however it was come to: at first,
//! by going back, or by going back and on again. Random cut points, over built-in guests and random machines,
//! with input, with written disks, and with so little room that snapshots are dropped all the time.

use crate::common::guest;
use crate::common::seed;
use crate::fuzz::bytes::Bytes;
use crate::fuzz::machine;
use proptest::prelude::*;
use subring::addr::{GuestPhys, Linear};
use subring::console::keymap::KeyEvent;
use subring::load::builtin;
use subring::machine::board::BoardConfig;
use subring::machine::{
    CodeStop, Config, DataStop, HistoryConfig, Hit, Input, Limits, Machine, Moment, Outcome, Sought,
};
use subring::media::overlay::Overlay;
use subring::media::{Disk, MemoryDisk, SECTOR};

/// A machine that keeps a history, with a snapshot every `interval` instructions, in `cap` bytes.
fn keep(mut m: Machine, interval: u64, cap: usize, media: Vec<Overlay>) -> Machine {
    m.keep_history(HistoryConfig { cap, interval, reboots: true, media });
    m
}

/// Runs to a tick as the command line does: in the past first to the history's end. Whether it lives.
fn run(m: &mut Machine, ticks: u64) -> bool {
    loop {
        let outcome = if m.in_the_past() {
            m.run_past()
        } else {
            let next = m.remember();
            m.run(Limits::until(ticks.min(next)))
        };
        take_output(m);
        match outcome {
            Outcome::Reached if m.stops.hit().is_some() => return true,
            Outcome::Reached | Outcome::Idle(_) if m.in_the_past() => {}
            Outcome::Reached if m.cpu.now < ticks => {}
            Outcome::Reached => return true,
            Outcome::Reset => m.reset(),
            _ => return false,
        }
    }
}

/// A step on. False when it is dead.
fn step(m: &mut Machine) -> bool {
    m.stops.set_step(true);
    let lives = run(m, u64::MAX);
    m.stops.set_step(false);
    m.stops.take_hit().is_some() && lives
}

fn take_output(m: &mut Machine) -> Vec<u8> {
    m.world.board.take_debug_console();
    m.world.board.take_bios_console();
    m.world.board.take_serial_output(0)
}

fn state(m: &mut Machine) -> (Moment, u64) {
    take_output(m);
    (m.moment(), m.state_hash())
}

/// Goes on by `k` steps, back by them, and on again. From a step on: a run that ended at a limit has looked
/// up at what is due there, and going back comes to before that.
fn there_and_back(m: &mut Machine, k: usize) -> Result<(), TestCaseError> {
    if !step(m) {
        return Ok(());
    }
    let mut states = vec![state(m)];
    while states.len() <= k && step(m) {
        states.push(state(m));
    }
    for expected in states.iter().rev().skip(1) {
        let hit = m.step_back();
        prop_assert!(hit.is_some(), "this is not the beginning");
        prop_assert_eq!(state(m), *expected, "going back");
    }
    for expected in states.iter().skip(1) {
        prop_assert!(step(m));
        prop_assert_eq!(state(m), *expected, "going on again");
    }
    prop_assert_eq!(m.take_history_note(), None);
    Ok(())
}

/// The guests that live for long enough.
const GUESTS: [&str; 8] = ["rings", "rings-clean", "boot", "smc", "sensitive", "nano", "yonah", "yonah-ept"];

/// The machine of a built-in guest; of the hypervisor by its processor's name.
fn machine_of(name: &str) -> Machine {
    match name.parse() {
        Ok(cpu) => guest::hypervisor(cpu),
        Err(_) => guest::machine(builtin::find(name).expect("a built-in guest")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn back_and_on_is_as_never_having_gone(
        which in 0..GUESTS.len(),
        cuts in prop::collection::vec((1u64..150_000, 1usize..40, 0u8..4), 1..5),
        interval in 500u64..40_000,
        cap in prop_oneof![Just(64usize << 20), Just(900_000), Just(450_000)],
    ) {
        let mut m = keep(machine_of(GUESTS[which]), interval, cap, Vec::new());
        let mut plain = machine_of(GUESTS[which]);
        let (mut at, mut alive) = (0, true);
        for (span, k, input) in cuts {
            at += span;
            alive &= run(&mut m, at);
            prop_assert_eq!(alive, run(&mut plain, at));
            prop_assert_eq!(state(&mut m), state(&mut plain), "at {}", at);
            if !alive {
                break;
            }
            for m in [&mut m, &mut plain] {
                match input {
                    0 => m.give(Input::Serial(b"some input".to_vec())),
                    1 => m.give(Input::Key(KeyEvent { code: 0x1e, extended: false, down: true })),
                    _ => {}
                }
            }
            there_and_back(&mut m, k)?;
            // Far back, and on to where it was by itself.
            let here = m.moment();
            prop_assert!(m.go_to(at / 3));
            prop_assert!(!m.in_the_past() || m.moment() < here);
            run(&mut m, here.ticks);
            at = here.ticks;
            let info = m.history_info().expect("there is one");
            prop_assert!(info.bytes.0 <= info.bytes.1 || info.snapshots <= 3, "{:?}", info);
        }
        prop_assert_eq!(run(&mut m, at + 100_000), run(&mut plain, at + 100_000));
        prop_assert_eq!(state(&mut m), state(&mut plain));
        prop_assert_eq!(&m.counts, &plain.counts);
        prop_assert_eq!(m.take_history_note(), None);
    }
}

#[test]
fn random_machines_go_back() {
    seed::each(16, 24_000, |data| {
        let mut m = keep(machine::machine(&mut Bytes::new(data)), 300, 1 << 30, Vec::new());
        let mut plain = machine::machine(&mut Bytes::new(data));
        for cut in [u64::from(data[0]) + 1, 900] {
            if !run(&mut m, cut) {
                break;
            }
            there_and_back(&mut m, 25).unwrap_or_else(|e| panic!("{e}"));
        }
        m.go_to(10);
        assert_eq!(run(&mut m, 5000), run(&mut plain, 5000));
        assert_eq!(state(&mut m), state(&mut plain));
    });
}

/// A machine with 1 MiB and a disk that starts at 0:7C00 in real mode, on `code`.
fn tiny(code: &[u8], disk: Option<Box<dyn Disk>>) -> Machine {
    let disks = [disk, None, None, None];
    let board = BoardConfig { ram_size: 1 << 20, disks, ..BoardConfig::default() };
    let mut m =
        Machine::new(Config { ram_size: 1 << 20, board, bios: None, vga_bios: None }).expect("a machine");
    m.world.map.write(GuestPhys(0x7c00), code);
    let flat = m.cpu.seg(subring::decode::SegReg::Cs).real_reload(0);
    m.cpu.set_seg(subring::decode::SegReg::Cs, flat);
    m.cpu.eip = 0x7c00;
    m
}

/// `mov si, 600h; again: inc word [500h]; dec si; jnz again; lidt [0]; ud2`: dies after the loop.
const COUNTS: [u8; 17] =
    [0xbe, 0x00, 0x06, 0xff, 0x06, 0x00, 0x05, 0x4e, 0x75, 0xf9, 0x0f, 0x01, 0x1e, 0x00, 0x00, 0x0f, 0x0b];

fn word(m: &Machine, at: u32) -> u16 {
    u16::from_le_bytes([m.world.map.ram.bytes()[at as usize], m.world.map.ram.bytes()[at as usize + 1]])
}

/// Goes back to the last stop.
fn run_back(m: &mut Machine) -> Sought {
    loop {
        match m.run_back() {
            Sought::More => {}
            sought => return sought,
        }
    }
}

#[test]
fn the_dead_come_back_to_the_last_write_and_die_again() {
    let mut m = keep(tiny(&COUNTS, None), 100, 1 << 30, Vec::new());
    assert!(!run(&mut m, u64::MAX), "it dies");
    let (dead, count) = (state(&mut m), word(&m, 0x500));
    assert_eq!(count, 0x600);
    let last = m.last_write(Linear(0x500), 2).expect("a write");
    assert_eq!((last.place.1, last.old, last.new), (0x7c03, vec![0xff, 5], vec![0, 6]));
    assert_eq!(state(&mut m), dead, "it stays where it is");
    let stop = DataStop { at: Linear(0x500), len: 2, read: false, write: true };
    m.add_data_stop(stop);
    for n in 1..300 {
        assert_eq!(run_back(&mut m), Sought::Stop(Hit::Data(stop)));
        assert_eq!((m.cpu.eip, word(&m, 0x500)), (0x7c03, count - n));
    }
    assert!(m.remove_data_stop(stop));
    m.stops.add_code(CodeStop::Hardware(0x7c00));
    assert_eq!(run_back(&mut m), Sought::Stop(Hit::Code(CodeStop::Hardware(0x7c00))));
    assert_eq!(run_back(&mut m), Sought::Begin);
    assert_eq!(m.step_back(), None);
    assert!(m.stops.remove_code(CodeStop::Hardware(0x7c00)));
    assert!(!run(&mut m, u64::MAX), "it dies again");
    assert_eq!(state(&mut m), dead);
}

#[test]
fn what_a_debugger_writes_begins_another_future() {
    let mut m = keep(tiny(&COUNTS, None), 100, 1 << 30, Vec::new());
    run(&mut m, 2000);
    m.give(Input::Serial(vec![1; 5]));
    // In the present a write is a part of the history.
    m.give(Input::Memory(GuestPhys(0x500), vec![0, 0x80]));
    assert_eq!(m.take_history_note(), None);
    let written = m.moment();
    run(&mut m, 3000);
    let (late, then) = (state(&mut m), word(&m, 0x500));
    assert!(then > 0x8000);
    m.go_to(1900);
    assert!(m.in_the_past() && word(&m, 0x500) < 0x8000 && m.moment() < written);
    run(&mut m, 3000);
    assert_eq!(state(&mut m), late, "the write is made again");
    m.go_to(1000);
    m.give(Input::Memory(GuestPhys(0x500), vec![0, 0x40]));
    let note = m.take_history_note().expect("a sentence");
    assert!(note.contains("at instruction 1000") && note.contains("dropped"), "{note}");
    assert!(!m.in_the_past());
    let info = m.history_info().expect("a history");
    assert_eq!((info.inputs, info.end), (1, None));
    run(&mut m, 3000);
    assert!((0x4000..0x8000).contains(&word(&m, 0x500)));
    m.go_to(900);
    run(&mut m, 3000);
    assert!((0x4000..0x8000).contains(&word(&m, 0x500)), "also in the new past");
}

/// Writes sectors 1, 2, 3… to the disk by PIO, each filled with its number; see the comments.
const WRITES: [u8; 50] = [
    0xfc, // cld
    0x31, 0xdb, // xor bx, bx
    0x43, // next: inc bx
    0xba, 0xf2, 0x01, 0xb0, 0x01, 0xee, // out 1f2h, 1
    0x42, 0x88, 0xd8, 0xee, // out 1f3h, bl
    0x42, 0x30, 0xc0, 0xee, // out 1f4h, 0
    0x42, 0xee, // out 1f5h, 0
    0x42, 0xb0, 0xe0, 0xee, // out 1f6h, e0h
    0x42, 0xb0, 0x30, 0xee, // out 1f7h, 30h
    0xec, 0xa8, 0x08, 0x74, 0xfb, // wait for DRQ
    0xba, 0xf0, 0x01, 0xb9, 0x00, 0x01, 0x89, 0xd8, // mov dx, 1f0h; mov cx, 256; mov ax, bx
    0xef, 0xe2, 0xfd, // again: out dx, ax; loop again
    0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, // mov dx, 1f7h; in al, dx; test al, 80h
];

#[test]
fn a_disk_goes_back_too() {
    let overlay = Overlay::new(Box::new(MemoryDisk::new(vec![0xee; 64 * SECTOR])));
    // Then: jnz to the IN; cmp bx, 40; jne next; jmp $.
    let code = [&WRITES[..], &[0x75, 0xfb, 0x83, 0xfb, 0x28, 0x75, 0xca, 0xeb, 0xfe]].concat();
    let mut m = keep(tiny(&code, Some(Box::new(overlay.clone()))), 700, 1 << 20, vec![overlay.clone()]);
    let mut sector = |lba: u64| {
        let mut buf = [0; SECTOR];
        overlay.clone().read(lba, &mut buf).expect("a sector");
        buf[0]
    };
    while sector(2) != 2 {
        let now = m.cpu.now;
        assert!(run(&mut m, now + 100) && now < 10_000_000);
    }
    let early = m.cpu.retired();
    while sector(30) != 30 {
        let now = m.cpu.now;
        assert!(run(&mut m, now + 100) && now < 100_000_000);
    }
    let late = m.moment();
    assert!(m.go_to(early));
    assert_eq!([1, 2, 3, 30, 40].map(&mut sector), [1, 2, 0xee, 0xee, 0xee]);
    run(&mut m, late.ticks);
    assert_eq!([1, 2, 3, 30, 40].map(&mut sector), [1, 2, 3, 30, 0xee]);
    overlay.finish().expect("it goes down");
    assert_eq!([1, 30, 40].map(&mut sector), [1, 30, 0xee]);
}

//! Saved machines go on as if nothing had happened: in memory and through a file, cut at any point.

use crate::common::guest;
use crate::common::seed;
use crate::fuzz::bytes::Bytes;
use crate::fuzz::machine;
use proptest::prelude::*;
use subring::cpu::Model;
use subring::load::builtin::{self, Builtin};
use subring::load::{Format, Guest};
use subring::machine::{Limits, Machine, Outcome, State};
use subring::media::{Disk, MemoryDisk};
use subring::snapshot::container::{self, Kind};

/// Runs to `ticks`; how it ended, if it did.
fn run(m: &mut Machine, ticks: u64) -> Option<Outcome> {
    loop {
        match m.run(Limits::until(ticks)) {
            Outcome::Reached => return None,
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
}

/// `state` after a way through the bytes of a file.
fn through_a_file(state: &State) -> State {
    let file = container::encode(Kind::Snapshot, state).expect("it has a form");
    container::decode(Kind::Snapshot, std::path::Path::new("memory"), &file).expect("it is whole")
}

/// The media of a built-in guest's machine, empty: their content is in the state.
fn from_file(guest: &Builtin, state: &State) -> Machine {
    let len = guest.bytes.len();
    let kind = subring::load::identify(guest.name.as_ref(), guest.bytes, len as u64, Format::Auto);
    let blank = || Some(Box::new(MemoryDisk::new(vec![0; len])) as Box<dyn Disk>);
    let disk = if kind.as_ref().is_ok_and(|k| *k == Guest::Disk) { blank() } else { None };
    let floppy = if kind.is_ok_and(|k| k == Guest::Floppy) { blank() } else { None };
    Machine::from_state(state, [disk, None, None, None], [floppy, None], None).expect("a machine")
}

/// The serial output that collects in a machine, taken.
fn output(m: &mut Machine) -> Vec<u8> {
    m.world.board.take_serial_output(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    /// A machine restored from a file ends, and stands at each cut on the way, where the uninterrupted one
    /// does.
    #[test]
    fn a_restored_guest_goes_on_bit_by_bit(
        which in 0..builtin::ALL.len(),
        cut in 0u64..2_000_000,
        steps in prop::collection::vec(1u64..400_000, 1..5),
    ) {
        let guest = &builtin::ALL[which];
        let mut plain = guest::machine(guest);
        let ended = run(&mut plain, cut);
        let mut restored = from_file(guest, &through_a_file(&plain.save()));
        prop_assert_eq!(plain.state_hash(), restored.state_hash());
        let mut at = cut;
        for step in steps.into_iter().take(if ended.is_some() { 0 } else { usize::MAX }) {
            at += step;
            let ends = (run(&mut plain, at), run(&mut restored, at));
            prop_assert_eq!(ends.0, ends.1);
            prop_assert_eq!(plain.state_hash(), restored.state_hash(), "{} at {}", guest.name, at);
            prop_assert_eq!(output(&mut plain), output(&mut restored));
            prop_assert_eq!(&plain.counts, &restored.counts);
            prop_assert_eq!((plain.world.tlb.fills, plain.world.tlb.flushes), (restored.world.tlb.fills, restored.world.tlb.flushes));
            if ends.0.is_some() {
                break;
            }
        }
    }
}

/// A hypervisor's machine, saved while its guest runs and while it does itself, goes on as it would have.
#[test]
fn a_restored_hypervisor_goes_on() {
    for cpu in [Model::Yonah, Model::YonahEpt] {
        let mut non_root = 0;
        let mut plain = guest::hypervisor(cpu);
        for (n, cut) in (100_000..1_100_000).step_by(50_021).enumerate() {
            assert_eq!(run(&mut plain, cut), None);
            // Every other time within the guest, if it runs soon.
            for _ in 0..if n % 2 == 0 { 5_000 } else { 0 } {
                if plain.cpu.vmx.as_ref().is_some_and(|vmx| vmx.non_root()) {
                    non_root += 1;
                    break;
                }
                let next = plain.cpu.now + 1;
                assert_eq!(run(&mut plain, next), None);
            }
            let state = through_a_file(&plain.save());
            let mut restored =
                Machine::from_state(&state, [const { None }; 4], [None, None], None).expect("a machine");
            let cut = plain.cpu.now;
            for to in [cut + 1, cut + 30_011] {
                assert_eq!(run(&mut plain, to), run(&mut restored, to));
                assert_eq!(plain.state_hash(), restored.state_hash(), "{cpu}, saved at {cut}, at {to}");
            }
        }
        assert!(non_root > 0, "{cpu}: saved {non_root} times in non-root operation");
    }
}

#[test]
fn random_machines_go_on_in_memory() {
    seed::each(60, 24_000, |data| {
        let mut plain = machine::machine(&mut Bytes::new(data));
        let mut other = machine::machine(&mut Bytes::new(data));
        // The other one goes its own way first: restoring leaves nothing of that.
        run(&mut other, 3000);
        for cut in [u64::from(data[0]) + 1, 700, 2000] {
            let ended = run(&mut plain, cut);
            other.restore(&plain.save()).expect("the same machine");
            assert_eq!(plain.state_hash(), other.state_hash(), "at {cut}");
            if ended.is_some() {
                break;
            }
            for to in [cut + 1, cut + 57, cut + 1500] {
                let mut again = machine::machine(&mut Bytes::new(data));
                again.restore(&plain.save()).expect("the same machine");
                let ends = (run(&mut other, to), run(&mut again, to));
                assert_eq!(ends.0, ends.1);
                assert_eq!(other.state_hash(), again.state_hash(), "from {cut} to {to}");
                if ends.0.is_some() {
                    break;
                }
            }
            let mut whole = machine::machine(&mut Bytes::new(data));
            run(&mut whole, cut + 1500);
            assert_eq!(whole.state_hash(), other.state_hash(), "whole, from {cut}");
        }
    });
}

#[test]
fn a_state_goes_into_no_other_machine() {
    let find = |name| builtin::find(name).expect("a built-in guest");
    let hello = guest::machine(find("hello"));
    let mut boot = guest::machine(find("boot"));
    let message = boot.restore(&hello.save()).expect_err("it has a disk and the other has none").to_string();
    assert!(message.contains("is not what the saved machine had"), "{message}");
}

//! The bare machine is the same to the bit whichever engine realises its instructions: the built-in guests,
//! held against the interpreter at points in time that no unit of translated code knows of.

use crate::common::guest;
use subring::bus::Clock;
use subring::cell::Engine;
use subring::lab::state;
use subring::load::builtin;
use subring::machine::{Limits, Machine, Outcome};

/// Ticks that a guest gets, at most.
const TICKS: u64 = 3_000_000;

/// Runs to `to`; how it ended, if it did.
fn run_to(m: &mut Machine, to: u64) -> Option<Outcome> {
    while m.cpu.now < to {
        match m.run(Limits::until(to)) {
            Outcome::Reached => {}
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
    None
}

/// Holds `guest` to be the same on both engines, every `stride` ticks, and all that is saved of it now and
/// then.
fn hold(name: &str, hz: u64, stride: u64) {
    let guest = builtin::find(name).expect("a built-in guest");
    let [mut interp, mut portable] = [(); 2].map(|()| guest::machine_at(guest, Clock::new(hz)));
    portable.set_engine(Engine::Portable);
    for n in 1.. {
        let to = (interp.cpu.now + stride).min(TICKS);
        let (a, b) = (run_to(&mut interp, to), run_to(&mut portable, to));
        let ended = a.is_some() || to == TICKS;
        let differences = state::differences(&interp, &portable);
        assert!(
            a == b && differences.is_empty(),
            "{name} at {hz} Hz by {to}: {a:?}, {b:?}: {differences:#?}"
        );
        if n % 16 == 0 || ended {
            let saved = [&interp, &portable].map(|m| postcard::to_allocvec(&m.save()).expect("a state"));
            assert!(saved[0] == saved[1], "{name} at {hz} Hz by {to}: what is saved differs");
        }
        if ended {
            break;
        }
    }
    assert!(interp.cpu.retired() > 1000, "{name} ran");
}

#[test]
fn built_in_guests_are_the_same_on_each_engine() {
    for guest in builtin::ALL {
        hold(guest.name, 100_000_000, 70_001);
        hold(guest.name, 1_000_000, 90_007);
    }
}

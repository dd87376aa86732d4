//! Engines differ in host time alone: on the bare machine a guest is the same to the bit whatever realises
//! its instructions, with its TLB, its clock, its chips and what a saved state holds of them.

use super::bytes::Bytes;
use super::equivalence::runner;
use super::pair::run_to;
use super::{kernel, machine, seed};
use proptest::prelude::*;
use serde_json::Value;
use subring::cell::Engine;
use subring::lab::state;
use subring::machine::{Machine, Outcome, Wants, Watcher};

/// Bytes of a random guest.
const LEN: usize = 16_000;

/// An observer that keeps nothing.
struct Nobody;

impl subring::event::Sink for Nobody {
    fn record(&mut self, _: subring::clock::When, _: &subring::event::Event<'_>) {}
}

/// Runs both to each of `stops`, and holds them to be the same there, in a saved state, too. The other
/// engine's machine is traced from some stops on, and no longer from others.
fn hold(mut interp: Machine, mut other: Machine, stops: &[u64], engine: Engine) -> Result<(), String> {
    other.set_engine(engine);
    for (n, &to) in stops.iter().enumerate() {
        let insn = n % 5 == 3;
        let wants = Wants { insn, memory: n % 7 == 4, ..Wants::default() };
        other.watch((insn || wants.memory).then(|| Watcher { wants, sink: Box::new(Nobody) }));
        let (a, b): (Option<Outcome>, _) = (run_to(&mut interp, to), run_to(&mut other, to));
        let differences = state::differences(&interp, &other);
        if a != b || !differences.is_empty() {
            return Err(format!("to {to}: {a:?}, {b:?}: {differences:#?}"));
        }
        let saved = |m: &Machine| postcard::to_allocvec(&m.save()).map_err(|e| e.to_string());
        if saved(&interp)? != saved(&other)? {
            return Err(format!("to {to}: {}", parted(&interp, &other)));
        }
        if a.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// What differs of the saved states of two machines: fields, and what they hold.
fn parted(a: &Machine, b: &Machine) -> String {
    fn part(path: &str, a: &Value, b: &Value, out: &mut String) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                for (name, value) in a {
                    part(&format!("{path}.{name}"), value, &b[name], out);
                }
            }
            _ if a == b => {}
            _ => *out += &format!("{path}: {a} and {b:.400}\n"),
        }
    }
    let [a, b] = [a, b].map(|m| serde_json::to_value(m.save()).expect("a state"));
    let mut out = String::from("what is saved differs: ");
    part("", &a, &b, &mut out);
    out
}

/// Ticks to stop at: `gaps` apart.
fn stops(gaps: &[u64]) -> Vec<u64> {
    gaps.iter()
        .scan(0, |at, gap| {
            Some({
                *at += gap;
                *at
            })
        })
        .collect()
}

#[test]
fn generated_kernels_are_the_same_on_each_engine() {
    let gaps = proptest::collection::vec(1..900u64, 1..40);
    let result = runner(60).run(&(kernel::kernels(), gaps), |(ops, gaps)| {
        let (a, b) = (kernel::machine(&ops), kernel::machine(&ops));
        let gaps = [gaps, vec![20_000]].concat();
        hold(a, b, &stops(&gaps), Engine::Portable).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn random_machines_are_the_same_on_each_engine() {
    let gaps = proptest::collection::vec(1..40u64, 1..30);
    let result = runner(300).run(&(any::<u64>().no_shrink(), gaps), |(seed, gaps)| {
        let data = seed::bytes(seed, LEN);
        let make = || machine::machine(&mut Bytes::new(&data));
        let start = make().cpu.now;
        let stops: Vec<u64> = stops(&gaps).iter().map(|at| start + at).collect();
        hold(make(), make(), &stops, Engine::Portable).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

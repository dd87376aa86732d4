//! A divergence: the instruction after which two machines with one guest differ, what differs, and why. Found
//! by [`super::strides`] and [`super::boundaries`].

use super::diagnosis::{self, Mode};
use crate::clock::When;
use crate::decode::disassemble;
use crate::event::{Event, Sink};
use crate::lab::guest::Guest;
use crate::lab::state::{self, Difference};
use crate::machine::{Machine, Outcome, Wants, Watcher};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;

/// Where two machines part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Instructions that both have retired, with the same state after them.
    pub after: u64,
    /// CS of the instruction after which they differ.
    pub cs: u16,
    /// EIP of that instruction.
    pub eip: u32,
    /// Linear address of that instruction.
    pub linear: u32,
    /// Bytes of that instruction.
    pub bytes: Vec<u8>,
    /// Disassembly of that instruction.
    pub disassembly: String,
    /// The instruction is sensitive and not privileged.
    pub sensitive_unprivileged: bool,
    /// State that differs, the first machine's value first.
    pub differences: Vec<Difference>,
    /// The reason, in one sentence.
    pub why: String,
}

impl Divergence {
    /// This divergence, blamed on cached translations and not on the instruction.
    pub(super) fn cached(self, why: String) -> Self {
        Self { why, sensitive_unprivileged: false, ..self }
    }
}

/// How the two machines' runs ended; `None` of one that can go on.
pub(super) type Endings = (Option<Outcome>, Option<Outcome>);

/// State that differs, and how the runs ended where that differs.
pub(super) fn differences(a: &Machine, b: &Machine, ended: Endings) -> Vec<Difference> {
    let mut found = state::differences(a, b);
    if ended.0 != ended.1 {
        let piece = "ending".to_owned();
        found.push(Difference { piece, first: ending(a, ended.0), second: ending(b, ended.1) });
    }
    found
}

/// How a run ended, in words.
pub(super) fn ending(machine: &Machine, outcome: Option<Outcome>) -> String {
    match outcome {
        None | Some(Outcome::Reached) => "the guest goes on".into(),
        Some(Outcome::Exit(status)) => format!("exit status {status}"),
        Some(Outcome::TripleFault(fault)) => format!("triple fault: {}", machine.explain(&fault)),
        Some(Outcome::VmxAbort(why)) => format!("VMX abort: {why}"),
        Some(Outcome::HaltedForever | Outcome::Idle(_)) => "halted for ever".into(),
        Some(Outcome::PowerOff) => "power off".into(),
        Some(Outcome::Reset) => "reset".into(),
    }
}

/// An instruction that was tried.
pub(super) struct Insn {
    cs: u16,
    eip: u32,
    bytes: Vec<u8>,
    code32: bool,
    mode: Mode,
    linear: u32,
}

impl Insn {
    /// The instruction at CS:EIP of `machine`.
    fn next(machine: &Machine) -> Self {
        let cpu = &machine.cpu;
        Self {
            cs: cpu.segs[1].selector.0,
            eip: cpu.eip,
            bytes: machine.code_ahead(),
            code32: cpu.code32(),
            mode: Mode::of(cpu),
            linear: cpu.linear_eip(),
        }
    }
}

/// A sink that keeps instructions.
struct Keep {
    seen: Rc<RefCell<Vec<Insn>>>,
    mode: Mode,
    base: u32,
}

impl Sink for Keep {
    fn record(&mut self, _: When, event: &Event<'_>) {
        let Event::Insn { cs, eip, bytes, code32, .. } = event else { return };
        let linear = self.base.wrapping_add(*eip);
        let (cs, eip, bytes) = (*cs, *eip, bytes.to_vec());
        let insn = Insn { cs, eip, bytes, code32: *code32, mode: self.mode, linear };
        self.seen.borrow_mut().push(insn);
    }
}

/// Keeps the instructions that `guest` tries from now on.
pub(super) fn watch(guest: &mut Guest) -> Rc<RefCell<Vec<Insn>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let cpu = &guest.machine.cpu;
    let sink = Keep { seen: Rc::clone(&seen), mode: Mode::of(cpu), base: cpu.segs[1].base };
    let wants = Wants { insn: true, ..Wants::default() };
    guest.machine.watch(Some(Watcher { wants, sink: Box::new(sink) }));
    seen
}

/// The divergence at one of the instructions `seen` after `after` retired ones, after which `machine` is as
/// it is.
pub(super) fn report(
    after: u64,
    seen: Rc<RefCell<Vec<Insn>>>,
    machine: &Machine,
    differences: Vec<Difference>,
) -> Divergence {
    let mut tried = seen.take();
    if tried.is_empty() {
        tried.push(Insn::next(machine));
    }
    // An instruction that faults is followed by the first of its handler, before time moves on.
    let explain = |i: &Insn| diagnosis::explain(&i.bytes, i.code32, i.mode, &differences);
    let blamed = tried.iter().position(|i| explain(i).sensitive_unprivileged).unwrap_or(0);
    let insn = tried.swap_remove(blamed);
    let verdict = explain(&insn);
    let len = verdict.len.min(insn.bytes.len());
    Divergence {
        after,
        cs: insn.cs,
        eip: insn.eip,
        linear: insn.linear,
        disassembly: disassemble(&insn.bytes, insn.code32, insn.eip),
        bytes: insn.bytes[..len].to_vec(),
        sensitive_unprivileged: verdict.sensitive_unprivileged,
        differences,
        why: verdict.sentence,
    }
}

//! The first instruction after which two machines with one guest differ. They run side by side in growing strides and are
//! compared in full after each; the stride in which they part is halved until one instruction is left. What heals within a
//! stride goes unseen: [`super::boundary`] looks more often.

use super::guest::Guest;
use super::state::{self, Difference};
use super::why;
use crate::clock::When;
use crate::decode::disassemble;
use crate::error::Result;
use crate::event::{Event, Sink};
use crate::machine::{Machine, Outcome, State, Wants, Watcher};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;

/// Instructions between two comparisons: at first, and at most.
const FIRST_STRIDE: u64 = 1 << 4;
const LONGEST_STRIDE: u64 = 1 << 25;

/// Where two machines part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Instructions that both have retired, with the same state after them.
    pub after: u64,
    /// The instruction after which they differ: CS and EIP.
    pub cs: u16,
    /// EIP.
    pub eip: u32,
    /// Its linear address.
    pub linear: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The same for people.
    pub disassembly: String,
    /// It is sensitive and not privileged.
    pub sensitive_unprivileged: bool,
    /// What differs then, the first machine's value first.
    pub differences: Vec<Difference>,
    /// One sentence about it.
    pub why: String,
}

impl Divergence {
    /// The same of a difference that comes of what was cached, not of the instruction.
    pub(super) fn cached(self, why: &str) -> Self {
        Self { why: why.into(), sensitive_unprivileged: false, ..self }
    }
}

/// A point at which both were the same.
struct Mark {
    state: State,
    retired: u64,
    given: usize,
}

fn mark(guest: &Guest) -> Mark {
    Mark { state: guest.machine.save(), retired: guest.machine.cpu.retired(), given: guest.given() }
}

fn back(guest: &mut Guest, mark: &Mark) -> Result<()> {
    guest.machine.restore(&mark.state)?;
    guest.set_given(mark.given);
    Ok(())
}

/// How both are after running to an instruction count.
fn run_both(a: &mut Guest, b: &mut Guest, retired: u64) -> (Option<Outcome>, bool) {
    let (x, y) = (a.run_to(retired), b.run_to(retired));
    (x, x == y && state::same(&a.machine, &b.machine))
}

/// The first instruction before `limit` after which `b` differs from `a`; `None` if they end alike. `goes_on` is told
/// now and then how many instructions are the same, and asked whether to.
///
/// # Errors
/// When a machine cannot be put back into an earlier state.
pub fn first_divergence(
    a: &mut Guest,
    b: &mut Guest,
    limit: u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<Option<Divergence>> {
    let mut good = mark(a);
    let mut stride = FIRST_STRIDE;
    while goes_on(good.retired) {
        let to = good.retired.saturating_add(stride).min(limit);
        let (ended, same) = run_both(a, b, to);
        if !same {
            return narrow(a, b, good, to).map(Some);
        }
        if ended.is_some() || to == limit {
            return Ok(None);
        }
        good = mark(a);
        stride = (stride * 2).min(LONGEST_STRIDE);
    }
    Ok(None)
}

/// They are the same at `good` and differ by `bad`.
fn narrow(a: &mut Guest, b: &mut Guest, mut good: Mark, mut bad: u64) -> Result<Divergence> {
    while bad - good.retired > 1 {
        let middle = good.retired + (bad - good.retired) / 2;
        back(a, &good)?;
        back(b, &good)?;
        let (_, same) = run_both(a, b, middle);
        let retired = a.machine.cpu.retired();
        if same && retired > good.retired {
            good = mark(a);
        } else {
            bad = middle;
        }
    }
    back(a, &good)?;
    back(b, &good)?;
    let place = watch_one(a);
    a.run_to(good.retired + 1);
    b.run_to(good.retired + 1);
    a.machine.watch(None);
    let found = report(good.retired, place, &a.machine, state::differences(&a.machine, &b.machine));
    let open = !found.differences.is_empty() && agree_without_tlb(a, b, &good)?;
    Ok(if open { found.cached(why::LEFT_OPEN) } else { found })
}

/// Whether `a` is as `b` is one instruction after `good`, if it takes that with an empty TLB, which holds what is cached then or nothing.
/// `b` was put there, and what it has of a monitor's was made anew.
fn agree_without_tlb(a: &mut Guest, b: &Guest, good: &Mark) -> Result<bool> {
    for holding in [true, false] {
        back(a, good)?;
        a.machine.world.tlb.set_holding(holding);
        a.run_to(good.retired + 1);
        a.machine.world.tlb.set_holding(true);
        if state::same(&a.machine, &b.machine) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An instruction as it was seen.
pub(super) struct Insn {
    cs: u16,
    eip: u32,
    bytes: Vec<u8>,
    code32: bool,
    mode: why::Mode,
    linear: u32,
}

impl Insn {
    /// What `machine` is at: nothing else was seen.
    fn next(machine: &Machine) -> Self {
        let cpu = &machine.cpu;
        Self {
            cs: cpu.segs[1].selector.0,
            eip: cpu.eip,
            bytes: machine.code_ahead(),
            code32: cpu.code32(),
            mode: why::Mode::of(cpu),
            linear: cpu.linear_eip(),
        }
    }
}

/// Keeps the instructions that are reported.
struct Keep {
    seen: Rc<RefCell<Vec<Insn>>>,
    mode: why::Mode,
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

/// Watches the next instructions of `guest`.
pub(super) fn watch_one(guest: &mut Guest) -> Rc<RefCell<Vec<Insn>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let cpu = &guest.machine.cpu;
    let sink = Keep { seen: Rc::clone(&seen), mode: why::Mode::of(cpu), base: cpu.segs[1].base };
    let wants = Wants { insn: true, ..Wants::default() };
    guest.machine.watch(Some(Watcher { wants, sink: Box::new(sink) }));
    seen
}

/// What there is to say of the instructions that were `seen` after `after` retired ones; after which `machine` is as it is.
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
    // One that faults is followed by the first of its handler, before time moves on.
    let sensitive = |i: &Insn| why::explain(&i.bytes, i.code32, i.mode, &differences).sensitive_unprivileged;
    let blamed = tried.iter().position(sensitive).unwrap_or(0);
    let insn = tried.swap_remove(blamed);
    let verdict = why::explain(&insn.bytes, insn.code32, insn.mode, &differences);
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

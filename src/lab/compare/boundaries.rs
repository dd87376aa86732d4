//! Two machines compared at each boundary of the monitor: every exit and the end of every translation unit,
//! or, where nothing is translated, every instruction. Where [`super::strides`] misses what heals within a
//! stride, this finds whatever is wrong at a boundary.
//!
//! Between two boundaries only the pages that were written and the chips that were spoken to are compared.
//! The stretch in which the machines part is run again, on new machines by the same boundaries, translated
//! anew in units that end after 1, 2, 3… instructions: the shortest that goes wrong ends in the first wrong
//! instruction. If that instruction by itself is right, what came after an instruction made it wrong (flags
//! taken for dead); then the one is blamed that last gave a register its right value.

use super::diagnosis;
use super::divergence::{self, Divergence, Endings};
use crate::bus::Ticks;
use crate::error::Result;
use crate::lab::guest::Guest;
use crate::lab::state::{self, Followed};
use crate::machine::{Monitor, Outcome};
use crate::translate;
use std::mem::discriminant;

/// Turns between two looks whether to go on, also where the guest gets nowhere.
const LOOK: u64 = 1 << 10;

/// The result of a comparison.
pub struct Compared {
    /// Where the machines part first.
    pub divergence: Option<Divergence>,
    /// Both ended in the same state.
    pub same: bool,
    /// Boundaries at which both were compared.
    pub boundaries: u64,
}

/// Compares the machines that `make` makes, the bare one first, at each boundary of the second one's monitor
/// up to `limit` retired instructions. `goes_on` is told now and then how many are the same, and asked
/// whether to go on.
///
/// # Errors
/// When a machine cannot be made.
pub fn compare(
    mut make: impl FnMut() -> Result<(Guest, Guest)>,
    limit: u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<Compared> {
    let (mut a, mut b) = make()?;
    let mut since = Followed::new(&mut a.machine, &mut b.machine);
    let (mut boundaries, mut good) = (0, b.machine.cpu.now);
    let mut turns = 0u64;
    loop {
        turns += 1;
        if turns % LOOK == 1 && !goes_on(a.machine.cpu.retired()) {
            return Ok(Compared { divergence: None, same: false, boundaries });
        }
        let ended = b.run_to_boundary(limit);
        let (now, retired) = (b.machine.cpu.now, b.machine.cpu.retired());
        if ended.is_none() && now == good && retired < limit {
            // No instruction has retired: there may be an event under way, which the bare machine delivers in
            // one go.
            continue;
        }
        let other = if ended.is_some() { a.run_to(limit) } else { a.run_until(now, u64::MAX) };
        // A repeated comparison that faulted for the monitor's reasons has given its flags back, where the
        // bare machine stands between two of its iterations (`Cpu::string_flags`). Once it has gone on they
        // are the same again.
        let within = a.machine.cpu.mid_string && !b.machine.cpu.mid_string;
        if ended.is_none() && other.is_none() && within && retired < limit {
            continue;
        }
        boundaries += 1;
        let same = ended == other && since.are_same(&mut a.machine, &mut b.machine);
        if !same {
            let divergence = Some(pin(make, good, now.max(good + 1))?);
            return Ok(Compared { divergence, same, boundaries });
        }
        if ended.is_some() || retired >= limit {
            let same = state::same(&a.machine, &b.machine);
            return Ok(Compared { divergence: None, same, boundaries });
        }
        good = now;
    }
}

/// Two machines after a stretch of their runs.
struct Pair {
    a: Guest,
    b: Guest,
    ended: Endings,
}

impl Pair {
    /// Whether they part there: by their state or by how they ended.
    fn parts(&self) -> bool {
        self.ended.0 != self.ended.1 || !state::same(&self.a.machine, &self.b.machine)
    }

    /// [`Pair::parts`] where TLBs were emptied, so that another of several faults may come first when there
    /// is no way on.
    fn parts_by_kind(&self) -> bool {
        let kind = |outcome: Option<Outcome>| outcome.map(|o| discriminant(&o));
        kind(self.ended.0) != kind(self.ended.1) || !state::same(&self.a.machine, &self.b.machine)
    }

    fn differences(&self) -> Vec<state::Difference> {
        divergence::differences(&self.a.machine, &self.b.machine, self.ended)
    }
}

/// New machines, brought to tick `good` by the monitor's boundaries; the bare machine stays there. From there
/// on units are translated anew, `unit` instructions long at most, up to the tick `count` later.
fn again(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    good: Ticks,
    (count, unit): (u64, u64),
) -> Result<Pair> {
    let (mut a, mut b) = make()?;
    while b.machine.cpu.now < good && b.run_to_boundary(u64::MAX).is_none() {}
    if let Some(translation) = b.machine.monitor_mut().and_then(Monitor::translation_mut) {
        let translator = translation.translator_mut();
        let longest = translate::Limits::default().unit as u64;
        translator.limits_mut().unit = unit.min(longest) as usize;
        translator.forget();
    }
    let ended = (a.run_until(good, u64::MAX), b.run_until(good + count, u64::MAX));
    Ok(Pair { a, b, ended })
}

/// The machines are the same at tick `good`, and at the next boundary, `bad`, they are not.
fn pin(mut make: impl FnMut() -> Result<(Guest, Guest)>, good: Ticks, bad: Ticks) -> Result<Divergence> {
    let mut pair = |count, unit| -> Result<Pair> {
        let mut pair = again(&mut make, good, (count, unit))?;
        pair.ended.0 = pair.a.run_until(good + count, u64::MAX);
        Ok(pair)
    };
    let (mut right, mut wrong) = (0, bad - good);
    if !pair(wrong, wrong)?.parts() {
        return whole(make, good, bad);
    }
    while wrong - right > 1 {
        let middle = right + (wrong - right) / 2;
        if pair(middle, middle)?.parts() { wrong = middle } else { right = middle }
    }
    let blamed = if pair(wrong, 1)?.parts() {
        wrong
    } else {
        let Pair { mut a, b, .. } = again(&mut make, good, (wrong, wrong))?;
        last_writer(&mut a, &b, good, wrong)
    };
    let Pair { mut a, b, ended } = again(&mut make, good, (wrong, wrong))?;
    a.run_until(good + blamed - 1, u64::MAX);
    let after = a.machine.cpu.retired();
    let seen = divergence::watch(&mut a);
    let first = a.run_until(good + blamed, u64::MAX);
    a.machine.watch(None);
    // A processor that has shut down counts as halted from then on.
    let ended = (first.or_else(|| a.run_until(good + wrong, u64::MAX)), ended.1);
    let pair = Pair { a, b, ended };
    let found = divergence::report(after, seen, &pair.a.machine, pair.differences());
    let mut part = |emptied| part_after(&mut make, good, (blamed - 1, wrong), emptied);
    if !part(Emptied::None)? {
        return Ok(found);
    }
    let Some(why) = by_cached(&[Emptied::Bare, Emptied::BareForGood], part)? else { return Ok(found) };
    let mut before = again(&mut make, good, (blamed - 1, wrong))?;
    before.a.run_until(good + blamed - 1, u64::MAX);
    Ok(found.cached(why.sentence(&before.a, &before.b)))
}

/// A reason that lies in what is cached.
#[derive(Clone, Copy)]
enum Cached {
    LeftOpen,
    Held,
}

impl Cached {
    /// The sentence about it; `a` is about to run the instruction.
    fn sentence(self, a: &Guest, b: &Guest) -> String {
        match self {
            Self::LeftOpen => diagnosis::left_open(&a.machine, &b.machine),
            Self::Held => diagnosis::held(&a.machine, &b.machine),
        }
    }
}

/// The reason, if it lies in what is cached: `part` tells whether the machines part with TLBs emptied, the
/// bare machine's in these `ways`.
fn by_cached(ways: &[Emptied], mut part: impl FnMut(Emptied) -> Result<bool>) -> Result<Option<Cached>> {
    for emptied in ways {
        if !part(*emptied)? {
            return Ok(Some(Cached::LeftOpen));
        }
    }
    Ok(if part(Emptied::Both)? { None } else { Some(Cached::Held) })
}

/// Whose TLB is emptied.
#[derive(Clone, Copy)]
enum Emptied {
    None,
    /// The bare machine's, which goes on to hold what it caches.
    Bare,
    /// The bare machine's, which holds nothing from then on.
    BareForGood,
    /// The bare machine's, before the last of the instructions only: see [`stretch`].
    BareAtLast,
    /// The bare machine's, and what stands for it under the monitor.
    Both,
}

impl Emptied {
    /// Empties the TLBs.
    fn of(self, a: &mut Guest, b: &mut Guest) {
        match self {
            Self::None | Self::BareAtLast => {}
            Self::Bare => a.machine.flush_tlb(),
            Self::BareForGood => a.machine.world.tlb.set_holding(false),
            Self::Both => [a, b].into_iter().for_each(|guest| guest.machine.flush_tlb()),
        }
    }

    /// Whether `pair` parts, which ran with TLBs emptied so.
    fn parts(self, pair: &Pair) -> bool {
        if matches!(self, Self::None) { pair.parts() } else { pair.parts_by_kind() }
    }
}

/// Whether the machines part between two ticks after `good`, if both run to the first and TLBs are emptied
/// there.
fn part_after(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    good: Ticks,
    (from, to): (u64, u64),
    emptied: Emptied,
) -> Result<bool> {
    let mut pair = again(make, good, (from, from.max(1)))?;
    let Pair { a, b, ended } = &mut pair;
    a.run_until(good + from, u64::MAX);
    emptied.of(a, b);
    *ended = (a.run_until(good + to, u64::MAX), b.run_until(good + to, u64::MAX));
    Ok(emptied.parts(&pair))
}

/// Of the registers that `b` has wrong after `count` instructions from tick `good`, where `a` stands: the
/// first of the instructions that gave one of them its value last.
fn last_writer(a: &mut Guest, b: &Guest, good: Ticks, count: u64) -> u64 {
    let mut states = vec![a.machine.cpu.clone()];
    for n in 1..=count {
        a.run_until(good + n, u64::MAX);
        states.push(a.machine.cpu.clone());
    }
    let wrong = (0..8).filter(|&r| a.machine.cpu.regs[r] != b.machine.cpu.regs[r]);
    let writer = |r: usize| (1..=count as usize).rfind(|&n| states[n].regs[r] != states[n - 1].regs[r]);
    wrong.filter_map(writer).min().map_or(count, |n| n as u64)
}

/// Translated anew the stretch from `good` to `bad` is right: what was translated before went wrong, or what
/// was cached.
fn whole(mut make: impl FnMut() -> Result<(Guest, Guest)>, good: Ticks, bad: Ticks) -> Result<Divergence> {
    let (mut a, b) = as_it_was(&mut make, good)?;
    let after = a.machine.cpu.retired();
    let open = [Cached::LeftOpen, Cached::Held].map(|why| why.sentence(&a, &b));
    let seen = divergence::watch(&mut a);
    a.run_until(good + 1, u64::MAX);
    let pair = stretch(&mut make, (good, bad), Emptied::None)?;
    let found = divergence::report(after, seen, &pair.a.machine, pair.differences());
    let ways = [Emptied::Bare, Emptied::BareForGood, Emptied::BareAtLast];
    let part = |emptied: Emptied| Ok(emptied.parts(&stretch(&mut make, (good, bad), emptied)?));
    if pair.parts()
        && let Some(why) = by_cached(&ways, part)?
    {
        let [left_open, held] = open;
        return Ok(found.cached(if matches!(why, Cached::LeftOpen) { left_open } else { held }));
    }
    if pair.b.machine.translation().is_none() {
        return Ok(found);
    }
    let went = match bad - good {
        1 => "this instruction went wrong, and translated anew it does".into(),
        n => format!("the {n} instructions from here on went wrong together, and translated anew they do"),
    };
    let why = format!("{went} not: what ran was a stale translation, or one of other code");
    Ok(found.cached(why))
}

/// New machines, brought to tick `good` by the monitor's boundaries.
fn as_it_was(make: &mut impl FnMut() -> Result<(Guest, Guest)>, good: Ticks) -> Result<(Guest, Guest)> {
    let (mut a, mut b) = make()?;
    while b.machine.cpu.now < good && b.run_to_boundary(u64::MAX).is_none() {}
    a.run_until(good, u64::MAX);
    Ok((a, b))
}

/// New machines that have run from tick `good` to `bad`, the second one by boundaries.
fn stretch(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    (good, bad): (Ticks, Ticks),
    emptied: Emptied,
) -> Result<Pair> {
    let (mut a, mut b) = as_it_was(make, good)?;
    emptied.of(&mut a, &mut b);
    let mut ended = None;
    while b.machine.cpu.now < bad && ended.is_none() {
        ended = b.run_to_boundary(u64::MAX);
    }
    let mut to = bad;
    if matches!(emptied, Emptied::BareAtLast) {
        // The instruction at which it ended has not retired.
        let last = b.machine.cpu.now - u64::from(ended.is_none());
        a.run_until(last.max(good), u64::MAX);
        a.machine.flush_tlb();
        to = bad.max(last + 1);
    }
    let ended = (a.run_until(to, u64::MAX), ended);
    Ok(Pair { a, b, ended })
}

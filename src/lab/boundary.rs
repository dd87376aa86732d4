//! Two machines compared at each boundary of the monitor's: every exit, and the end of every translation unit, or without
//! translation every instruction, where nothing else tells what went wrong by itself. Where
//! [`super::lockstep`] runs in strides, and does not see what heals within one, this sees whatever is wrong at a boundary.
//!
//! Between two boundaries only the pages that were written and the chips that were spoken to are compared. The stretch in which
//! they part is run again, on new machines by the same boundaries, translated anew in units that end after 1, 2, 3…
//! instructions: the shortest that goes wrong ends in the first wrong instruction. If that one by itself is right, what came after
//! an instruction made that one wrong (flags taken for dead); then it is the one that last gave a register its right value.

use super::guest::Guest;
use super::lockstep::{Divergence, report, watch_one};
use super::state::{self, Followed};
use super::why;
use crate::bus::Ticks;
use crate::error::Result;
use crate::machine::Monitor;
use crate::machine::Outcome;
use crate::translate;
use std::mem::discriminant;

/// Turns between two looks whether to go on, also where the guest gets nowhere.
const LOOK: u64 = 1 << 10;

/// What came of it.
pub struct Compared {
    /// Where they part first.
    pub divergence: Option<Divergence>,
    /// Both ended in the same state.
    pub same: bool,
    /// Boundaries at which both were looked at.
    pub boundaries: u64,
}

/// Compares the machines that `make` makes, the bare one first, at each boundary of the second one's monitor up to `limit` retired
/// instructions. `goes_on` is told now and then how many are the same, and asked whether to.
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
            // No instruction has retired: there may be an event under way, which the bare machine delivers in one go.
            continue;
        }
        let other = if ended.is_some() { a.run_to(limit) } else { a.run_until(now, u64::MAX) };
        // A repeated comparison that faulted for the monitor's reasons has given its flags back, where the bare machine stands
        // between two of its iterations (`Cpu::string_flags`). Once it has gone on they are the same again.
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

/// New machines, brought to tick `good` by the monitor's boundaries; the bare machine stays there. From there on units are
/// translated anew, `unit` instructions long at most, up to the tick `count` later.
fn again(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    good: Ticks,
    (count, unit): (u64, u64),
) -> Result<(Guest, Guest)> {
    let (mut a, mut b) = make()?;
    while b.machine.cpu.now < good && b.run_to_boundary(u64::MAX).is_none() {}
    if let Some(translation) = b.machine.monitor_mut().and_then(Monitor::translation_mut) {
        let translator = translation.translator_mut();
        let longest = translate::Limits::default().unit as u64;
        translator.limits.unit = unit.min(longest) as usize;
        translator.forget();
    }
    b.run_until(good + count, u64::MAX);
    a.run_until(good, u64::MAX);
    Ok((a, b))
}

/// They are the same at tick `good`, and at the next boundary, `bad`, they are not.
fn pin(mut make: impl FnMut() -> Result<(Guest, Guest)>, good: Ticks, bad: Ticks) -> Result<Divergence> {
    let mut parts = |count, unit| -> Result<bool> {
        let (mut a, b) = again(&mut make, good, (count, unit))?;
        a.run_until(good + count, u64::MAX);
        Ok(!state::same(&a.machine, &b.machine))
    };
    let (mut right, mut wrong) = (0, bad - good);
    if !parts(wrong, wrong)? {
        return whole(make, good, bad);
    }
    while wrong - right > 1 {
        let middle = right + (wrong - right) / 2;
        if parts(middle, middle)? { wrong = middle } else { right = middle }
    }
    let alone = parts(wrong, 1)?;
    let (mut a, b) = again(&mut make, good, (wrong, wrong))?;
    let blamed = if alone { wrong } else { last_writer(&mut a, &b, good, wrong) };
    let (mut a, _) = make()?;
    a.run_until(good + blamed - 1, u64::MAX);
    let after = a.machine.cpu.retired();
    let seen = watch_one(&mut a);
    a.run_until(good + blamed, u64::MAX);
    a.machine.watch(None);
    a.run_until(good + wrong, u64::MAX);
    let found = report(after, seen, &a.machine, state::differences(&a.machine, &b.machine));
    let mut part = |emptied| part_after(&mut make, good, (blamed - 1, wrong), emptied);
    if !part(Emptied::None)? {
        return Ok(found);
    }
    let cached = by_cached(&[Emptied::Bare, Emptied::BareForGood], part)?;
    Ok(match cached {
        Some(why) => found.cached(why),
        None => found,
    })
}

/// Why they part, if it comes of what is cached: `part` tells whether they do with TLBs emptied, the bare machine's in these `ways`.
fn by_cached(
    ways: &[Emptied],
    mut part: impl FnMut(Emptied) -> Result<bool>,
) -> Result<Option<&'static str>> {
    for emptied in ways {
        if !part(*emptied)? {
            return Ok(Some(why::LEFT_OPEN));
        }
    }
    Ok(if part(Emptied::Both)? { None } else { Some(why::HELD) })
}

/// Whose TLB is emptied.
#[derive(Clone, Copy)]
enum Emptied {
    None,
    /// The bare machine's, which goes on to hold what it caches.
    Bare,
    /// That one, which holds nothing from then on.
    BareForGood,
    /// The bare machine's, before the last of the instructions only: see [`stretch`].
    BareAtLast,
    /// The bare machine's, and what stands for it under the monitor.
    Both,
}

impl Emptied {
    /// Empties it.
    fn of(self, a: &mut Guest, b: &mut Guest) {
        match self {
            Self::None | Self::BareAtLast => {}
            Self::Bare => a.machine.flush_tlb(),
            Self::BareForGood => a.machine.world.tlb.set_holding(false),
            Self::Both => [a, b].into_iter().for_each(|guest| guest.machine.flush_tlb()),
        }
    }
}

/// Whether they part between two ticks after `good`, if both run to the first and TLBs are emptied there.
fn part_after(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    good: Ticks,
    (from, to): (u64, u64),
    emptied: Emptied,
) -> Result<bool> {
    let (mut a, mut b) = again(make, good, (from, from.max(1)))?;
    a.run_until(good + from, u64::MAX);
    emptied.of(&mut a, &mut b);
    a.run_until(good + to, u64::MAX);
    b.run_until(good + to, u64::MAX);
    Ok(!state::same(&a.machine, &b.machine))
}

/// Which of the `count` instructions from tick `good`, where `a` stands, gave its register its value last, of those registers
/// that `b` has wrong after all of them; the first such one.
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

/// Translated anew the stretch from `good` to `bad` is right: what was translated before went wrong, or what was cached.
fn whole(mut make: impl FnMut() -> Result<(Guest, Guest)>, good: Ticks, bad: Ticks) -> Result<Divergence> {
    let (mut a, _) = as_it_was(&mut make, good)?;
    let after = a.machine.cpu.retired();
    let seen = watch_one(&mut a);
    a.run_until(good + 1, u64::MAX);
    let (a, b, same) = stretch(&mut make, (good, bad), Emptied::None)?;
    let found = report(after, seen, &a.machine, state::differences(&a.machine, &b.machine));
    let ways = [Emptied::Bare, Emptied::BareForGood, Emptied::BareAtLast];
    if !same && let Some(why) = by_cached(&ways, |emptied| Ok(!stretch(&mut make, (good, bad), emptied)?.2))?
    {
        return Ok(found.cached(why));
    }
    let translates = b.machine.translation().is_some();
    if !translates {
        return Ok(found);
    }
    let went = match bad - good {
        1 => "this instruction went wrong, and translated anew it does".into(),
        n => format!("the {n} instructions from here on went wrong together, and translated anew they do"),
    };
    let why = format!("{went} not: what ran was a stale translation, or one of other code");
    Ok(Divergence { why, sensitive_unprivileged: false, ..found })
}

/// New machines, brought to tick `good` by the monitor's boundaries.
fn as_it_was(make: &mut impl FnMut() -> Result<(Guest, Guest)>, good: Ticks) -> Result<(Guest, Guest)> {
    let (mut a, mut b) = make()?;
    while b.machine.cpu.now < good && b.run_to_boundary(u64::MAX).is_none() {}
    a.run_until(good, u64::MAX);
    Ok((a, b))
}

/// New machines that have run from tick `good` to `bad`, the second one by boundaries, and whether they end the same.
fn stretch(
    make: &mut impl FnMut() -> Result<(Guest, Guest)>,
    (good, bad): (Ticks, Ticks),
    emptied: Emptied,
) -> Result<(Guest, Guest, bool)> {
    let (mut a, mut b) = as_it_was(make, good)?;
    emptied.of(&mut a, &mut b);
    let mut ended = None;
    while b.machine.cpu.now < bad && ended.is_none() {
        ended = b.run_to_boundary(u64::MAX);
    }
    let mut to = bad;
    if matches!(emptied, Emptied::BareAtLast) {
        // The one at which it ended has not retired.
        let last = b.machine.cpu.now - u64::from(ended.is_none());
        a.run_until(last.max(good), u64::MAX);
        a.machine.flush_tlb();
        to = bad.max(last + 1);
    }
    // Which of several faults comes first when there is no way on depends on what is cached, too.
    let kind = |outcome: Option<Outcome>| outcome.map(|o| discriminant(&o));
    let alike = kind(a.run_until(to, u64::MAX)) == kind(ended);
    let same = alike && state::same(&a.machine, &b.machine);
    Ok((a, b, same))
}

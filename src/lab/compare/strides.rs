//! The first instruction after which two machines with one guest differ. The machines run side by side in
//! growing strides and are compared in full after each; the stride in which they part is halved until one
//! instruction is left. A difference that heals within a stride goes unseen: [`super::boundaries`] looks more
//! often.

use super::diagnosis;
use super::divergence::{self, Divergence, Endings};
use crate::error::Result;
use crate::lab::guest::Guest;
use crate::lab::state;
use crate::machine::State;

/// Instructions between two comparisons, at first.
const FIRST_STRIDE: u64 = 1 << 4;
/// Instructions between two comparisons, at most.
const LONGEST_STRIDE: u64 = 1 << 25;
/// Longer strides ask every so many instructions whether to go on.
const LOOK: u64 = 1 << 22;

/// A point at which both machines were the same.
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

/// Runs both to an instruction count, and asks `goes_on` now and then: how each ended, and whether they are
/// the same. `None` when it does not go on.
fn run_both(
    a: &mut Guest,
    b: &mut Guest,
    retired: u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Option<(Endings, bool)> {
    let mut at = a.machine.cpu.retired();
    loop {
        at = at.saturating_add(LOOK).min(retired);
        let ended = (a.run_to(at), b.run_to(at));
        let over = at == retired || ended.0.is_some() || ended.1.is_some();
        if over {
            return Some((ended, ended.0 == ended.1 && state::same(&a.machine, &b.machine)));
        }
        if !goes_on(at) {
            return None;
        }
    }
}

/// The first instruction before `limit` after which `b` differs from `a`; `None` if they end alike. `goes_on`
/// is told now and then how many instructions both have run, and asked whether to go on.
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
        let Some((ended, same)) = run_both(a, b, to, &mut goes_on) else { return Ok(None) };
        if !same {
            return narrow(a, b, good, to).map(Some);
        }
        if ended.0.is_some() || to == limit {
            return Ok(None);
        }
        good = mark(a);
        stride = (stride * 2).min(LONGEST_STRIDE);
    }
    Ok(None)
}

/// The machines are the same at `good` and differ by `bad`: the instruction at which they part.
fn narrow(a: &mut Guest, b: &mut Guest, mut good: Mark, mut bad: u64) -> Result<Divergence> {
    while bad - good.retired > 1 {
        let middle = good.retired + (bad - good.retired) / 2;
        back(a, &good)?;
        back(b, &good)?;
        let same = run_both(a, b, middle, |_| true).is_some_and(|(_, same)| same);
        let retired = a.machine.cpu.retired();
        if same && retired > good.retired {
            good = mark(a);
        } else {
            bad = middle;
        }
    }
    back(a, &good)?;
    back(b, &good)?;
    let seen = divergence::watch(a);
    let ended = (a.run_to(good.retired + 1), b.run_to(good.retired + 1));
    a.machine.watch(None);
    let differences = divergence::differences(&a.machine, &b.machine, ended);
    let found = divergence::report(good.retired, seen, &a.machine, differences);
    if found.differences.is_empty() || !agree_without_tlb(a, b, ended, &good)? {
        return Ok(found);
    }
    back(a, &good)?;
    let why = diagnosis::left_open(&a.machine, &b.machine);
    Ok(found.cached(why))
}

/// Whether `a`, with an empty TLB, is one instruction after `good` as `b` is, which ended so. The emptied TLB
/// may hold what is cached from then on, or nothing. `b` was put to `good` before, with nothing cached.
fn agree_without_tlb(a: &mut Guest, b: &Guest, ended: Endings, good: &Mark) -> Result<bool> {
    for holding in [true, false] {
        back(a, good)?;
        a.machine.world.tlb.set_holding(holding);
        let outcome = a.run_to(good.retired + 1);
        a.machine.world.tlb.set_holding(true);
        if outcome == ended.1 && state::same(&a.machine, &b.machine) {
            return Ok(true);
        }
    }
    Ok(false)
}

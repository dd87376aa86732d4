//! An exception that comes again and again, because its handler mends nothing or meets it itself.

use crate::cpu::gpr::ESP;
use crate::debug::Ending;
use crate::debug::facts::Facts;
use crate::exec::event::Event;
use crate::machine::history::Record;

/// As many exceptions in a row that are one and the same.
const SAME: usize = 8;

/// The exception that the guest meets again and again with nothing changed between but, perhaps, the depth of
/// its stack; and whether it comes from one place with the stack going deeper: the handler meets it itself.
fn repeating(f: &Facts<'_>) -> Option<(Record, bool)> {
    let all: Vec<&Record> = f.machine.history.records().collect();
    let mut exceptions = all.into_iter().rev().filter(|r| matches!(r.event, Event::Exception(_)));
    let last = *exceptions.next()?;
    let key = |r: &Record| {
        let mut regs = r.regs;
        regs[ESP] = 0;
        (r.event, r.cs, r.eip, regs, r.cr2)
    };
    let same: Vec<Record> = exceptions.take_while(|r| key(r) == key(&last)).copied().collect();
    let walks = same.first().is_some_and(|r| r.regs[ESP] != last.regs[ESP]);
    (same.len() + 1 >= SAME).then_some((last, walks))
}

/// Whether an exception repeats and nothing else has gone on since.
pub(super) fn repeats_now(f: &Facts<'_>) -> bool {
    repeating(f).is_some_and(|(r, _)| f.now().retired().saturating_sub(r.when.instructions) < 10_000)
}

pub(super) fn exception_repeats(f: &Facts<'_>) -> Option<String> {
    let (r, walks) = repeating(f).filter(|_| f.ending == Ending::Limit)?;
    let Event::Exception(fault) = r.event else { return None };
    let place = f.place(r.eip);
    Some(if walks {
        format!(
            "the handler of {fault} meets the same exception itself, at {place}, again and again: each time one more frame is on its stack; mend the handler first (are its data segments loaded, is what it touches mapped?)"
        )
    } else {
        format!(
            "{fault} at {place} comes again and again: its handler returns to the instruction that faulted without having mended what it faulted on; skip it, mend it, or stop there"
        )
    })
}

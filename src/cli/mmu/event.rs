//! `--at EVENT` and `--address RANGE` of `subring mmu`: what the words mean, and running a guest to an event.

use super::session::{Ran, Runner};
use crate::addr::{Linear, PAGE_SHIFT};
use crate::bus::Ticks;
use crate::cli::{args, place};
use crate::error::{Error, Result};
use crate::lab::digits::grouped;
use crate::load::Symbol;
use crate::machine::CodeStop;
use crate::report::Cause;
use crate::report::Change;
use std::ops::RangeInclusive;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Event {
    /// After so many instructions.
    Instruction(u64),
    /// When this instruction is next for the n-th time.
    Address { at: Linear, nth: u64 },
    /// After the instruction that took the n-th exit of these causes.
    Exit { causes: Vec<Cause>, nth: u64 },
    /// After the instruction of the n-th change of this kind, of entries in the range.
    Entry { change: Change, nth: u64 },
}

/// The kinds of changes, as `entry:` names them.
const CHANGES: [(&str, Change); 8] = [
    ("filled", Change::Filled),
    ("refilled", Change::Refilled),
    ("downgraded", Change::Downgraded),
    ("synced", Change::Synced),
    ("flushed", Change::Flushed),
    ("invalidated", Change::Invalidated),
    ("evicted", Change::Evicted),
    ("dropped", Change::Dropped),
];

/// What a change is called.
pub(super) fn change_name(change: Change) -> &'static str {
    CHANGES.iter().find(|(_, c)| *c == change).map_or("", |(name, _)| name)
}

fn usage<T>(text: String) -> Result<T> {
    Err(Error::Usage(text))
}

/// What else there is to do than to name another event.
fn otherwise(how: &Ran) -> &'static str {
    match how {
        Ran::Limit => "or a larger --budget or --time",
        _ => "or leave --at out to see the end of the run",
    }
}

/// Why a run that ended so, after so many instructions, has not come to the event `text`, which it `met` too few
/// times; and what to do.
pub(in crate::cli) fn missed(text: &str, how: &Ran, retired: u64, met: u64) -> String {
    let (ended, retired, or) = (how.sentence(), grouped(retired), otherwise(how));
    let smaller = "a smaller number behind #";
    let (times, give) = match met {
        0 => (String::new(), "another event"),
        1 => (" (the event did, once)".to_owned(), smaller),
        n => (format!(" (the event did, {n} times)"), smaller),
    };
    format!(
        "--at {text}: this did not happen{times}, and {ended} after {retired} instructions: give {give}, {or}"
    )
}

/// The event's name and which time is meant: `name`, or `name#N`.
pub(in crate::cli) fn numbered(text: &str) -> Result<(&str, u64)> {
    match text.rsplit_once('#') {
        Some((name, n)) => match n.parse() {
            Ok(n) if n > 0 => Ok((name, n)),
            _ => usage(format!("--at {text}: behind # stands which time is meant, from 1 on")),
        },
        None => Ok((text, 1)),
    }
}

impl Event {
    /// The event that `text` names.
    pub(super) fn parse(text: &str, symbols: &[Symbol]) -> Result<Self> {
        let (name, nth) = numbered(text)?;
        if let Some(cause) = name.strip_prefix("exit:") {
            return Ok(Self::Exit { causes: causes(cause)?, nth });
        }
        if let Some(kind) = name.strip_prefix("entry:") {
            let Some((_, change)) = CHANGES.iter().find(|(name, _)| *name == kind) else {
                let all = CHANGES.map(|(name, _)| name).join(", ");
                return usage(format!("`{kind}` is no change of an entry; they are {all}"));
            };
            return Ok(Self::Entry { change: *change, nth });
        }
        Self::point(text, (name, nth), symbols, "exit:CAUSE#N, entry:CHANGE#N")
    }

    /// The instruction count or the place that `name` is, in `text`; `others` are the other events that there are.
    pub(in crate::cli) fn point(
        text: &str,
        (name, nth): (&str, u64),
        symbols: &[Symbol],
        others: &str,
    ) -> Result<Self> {
        let is_count = name.starts_with(|c: char| c.is_ascii_digit()) && !name.starts_with("0x");
        if is_count {
            return match args::count(name) {
                Ok(n) if nth == 1 => Ok(Self::Instruction(n)),
                Ok(_) => usage(format!("--at {text}: an instruction count is reached once")),
                Err(e) => usage(format!("--at {text}: {e}")),
            };
        }
        let place = place::parse(name, symbols, "the guest")
            .or_else(|e| usage(format!("--at {text}: {e} (or an instruction count like 10M, {others})")))?;
        Ok(Self::Address { at: Linear(place.at), nth })
    }

    /// Whether only a monitor has such events.
    pub(super) fn needs_monitor(&self) -> bool {
        matches!(self, Self::Exit { .. } | Self::Entry { .. })
    }

    /// Runs `runner` to the event; another one for a second run comes from `again`.
    pub(in crate::cli) fn reach(
        &self,
        text: &str,
        mut runner: Runner,
        again: impl FnOnce() -> Result<Runner>,
    ) -> Result<(Runner, Ran)> {
        let missed = |how: &Ran, runner: &Runner, met: u64| {
            usage(self.missed(text, how, runner.guest.machine.cpu.retired(), met))
        };
        match self {
            Self::Instruction(n) => match runner.run(Ticks::MAX, *n) {
                Ran::There => Ok((runner, Ran::There)),
                Ran::Interrupted => Ok((runner, Ran::Interrupted)),
                how => missed(&how, &runner, 0),
            },
            Self::Address { at, nth } => {
                runner.guest.machine.stops.add_code(CodeStop::Software(at.0));
                for met in 0..*nth {
                    match runner.run(Ticks::MAX, u64::MAX) {
                        Ran::There if runner.guest.machine.stops.take_hit().is_some() => {}
                        Ran::Interrupted => return Ok((runner, Ran::Interrupted)),
                        how => return missed(&how, &runner, met),
                    }
                }
                Ok((runner, Ran::There))
            }
            Self::Exit { .. } | Self::Entry { .. } => {
                let (found, how, met) = self.find(&mut runner);
                match found {
                    Some(now) => {
                        let mut second = again()?;
                        let how = second.run(now + 1, u64::MAX);
                        Ok((second, if matches!(how, Ran::Interrupted) { how } else { Ran::There }))
                    }
                    None if matches!(how, Ran::Interrupted) => Ok((runner, how)),
                    None => missed(&how, &runner, met),
                }
            }
        }
    }

    /// Why a run that ended so, after so many instructions, has not come to the event, which it `met` too few
    /// times; and what to do.
    fn missed(&self, text: &str, how: &Ran, retired: u64, met: u64) -> String {
        if let Self::Instruction(_) = self {
            let (ended, retired, or) = (how.sentence(), grouped(retired), otherwise(how));
            return format!(
                "--at {text} counts retired instructions, and {ended} after {retired} of them: give a smaller count, {or}"
            );
        }
        missed(text, how, retired, met)
    }

    /// When the event happens: in a run that goes a little beyond it. Else how the run ended, and how often
    /// it happened.
    fn find(&self, runner: &mut Runner) -> (Option<Ticks>, Ran, u64) {
        let (mut met, mut found) = (0, None);
        if let Some(monitor) = runner.guest.machine.monitor_mut() {
            monitor.log_exits(true);
        }
        let how = runner.run_watched(|machine| {
            let Some(monitor) = machine.monitor_mut() else { return true };
            let exits = monitor.take_log();
            let entries = monitor.shadow_mut().map(|shadow| shadow.take_changes()).unwrap_or_default();
            let mut count = |now: Ticks, nth: u64| {
                met += 1;
                if met == nth {
                    found = Some(now);
                }
            };
            match self {
                Self::Exit { causes, nth } => {
                    exits.iter().filter(|e| causes.contains(&e.cause)).for_each(|e| count(e.now, *nth));
                }
                Self::Entry { change, nth } => {
                    entries.iter().filter(|e| e.change == *change).for_each(|e| count(e.origin.now, *nth));
                }
                Self::Instruction(_) | Self::Address { .. } => {}
            }
            found.is_some()
        });
        (found, how, met)
    }
}

/// The causes whose names begin with `name`; `any` is all.
fn causes(name: &str) -> Result<Vec<Cause>> {
    let named = |c: &Cause| {
        let key = c.key();
        let begins =
            key.starts_with(name) || key.strip_prefix("vmx-").is_some_and(|key| key.starts_with(name));
        name == "any" || (!name.is_empty() && begins)
    };
    let causes: Vec<Cause> = Cause::all().filter(named).collect();
    if causes.is_empty() {
        let all = Cause::all().map(Cause::key).collect::<Vec<_>>().join(", ");
        return usage(format!("`{name}` is no cause of exits; they are {all}, or any"));
    }
    Ok(causes)
}

/// The pages of `A` or `A..B`, where B is the first address beyond.
pub(super) fn pages(text: &str, symbols: &[Symbol]) -> Result<RangeInclusive<u32>> {
    let one = |part: &str| match place::parse(part.trim(), symbols, "the guest") {
        Ok(place) => Ok(place.at),
        Err(e) => usage(format!("--address {text}: {e}")),
    };
    let Some((from, to)) = text.split_once("..") else {
        let page = one(text)? >> PAGE_SHIFT;
        return Ok(page..=page);
    };
    let first = one(from)?;
    // 4 GiB are the end of all, and no address.
    let last = if is_4g(to) { u32::MAX } else { one(to)?.wrapping_sub(1) };
    if last < first || last == u32::MAX && !is_4g(to) {
        return usage(format!(
            "--address {text}: the range is empty; the second address is the first one beyond it"
        ));
    }
    Ok(first >> PAGE_SHIFT..=last >> PAGE_SHIFT)
}

fn is_4g(text: &str) -> bool {
    matches!(text.trim(), "0x100000000" | "4294967296")
}

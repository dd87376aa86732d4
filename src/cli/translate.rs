//! `subring translate`: the translation microscope. Runs a guest under binary translation and shows the units
//! of translated code that ran most, or those at an address: what became of each guest instruction, by which
//! rule and why.

use super::emulator::Emulator;
use super::ending::Ending;
use super::guest_args::GuestArgs;
use super::output::{out, tell_notes};
use super::place;
use super::session;
use super::terminal::{Console, Setup};
use super::translate_report::{self as report, Report, Unit};
use crate::cell::{Cell, Choice, Strategy};
use crate::error::{Error, Result};
use crate::lab::digits::grouped;
use crate::load::Symbol;
use crate::machine::{Monitor, TranslationView};
use crate::report::Counts;
use crate::translate::{RuleId, Tail, UnitInfo};
use crate::vmm::bt::rules;
use clap::Args;
use std::ops::Range;

/// Instructions that the guest is given when nothing else is said.
const DEFAULT_BUDGET: u64 = 100_000_000;
/// Dropped units that are kept to be shown.
const KEPT: usize = 1 << 18;
/// Units shown when nothing else is said.
const DEFAULT_HOT: usize = 10;

/// Printed below the options.
const HELP: &str = "\
Exit status:
  0      the units are shown, however the guest ended
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option, or nothing is translated at that place
  130    interrupted: what was translated so far is shown";

/// The options of `subring translate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    /// Show the units that cover this linear address (0x100e18), this symbol's code, or an address in it
    /// (name+0x10)
    #[arg(id = "place", long = "at", value_name = "ADDR|SYMBOL")]
    place: Option<String>,
    /// Show the units of a symbol's whole code; a symbol without a size ends where the next one begins
    #[arg(long, value_name = "NAME", conflicts_with = "place")]
    symbol: Option<String>,
    /// Show the units that end at an instruction which this rewriting rule is about (--list-rules lists them)
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Show the N units that ran most often [default: 10; with --at and --symbol all of them]
    #[arg(long, value_name = "N")]
    hot: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Whether the rewriting rules are to be listed, and nothing else.
    pub(super) fn lists_rules(&self) -> bool {
        self.guest.monitor.list_rules
    }

    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        self.check()?;
        let spec = self.guest.spec_unseen(Some(self.guest.monitor_for(self.cell()?)))?;
        let symbols = spec.plan.symbols.clone();
        let rule = self.rule.as_deref().map(rule).transpose()?;
        let place = self.code(&symbols)?;
        tell_notes(&spec.plan.notes);
        let mut pc = Emulator::new(spec, None, None)?;
        if let Some(translation) = pc.machine.monitor_mut().and_then(Monitor::translation_mut) {
            translation.translator_mut().keep_dropped(KEPT);
            translation.translator_mut().count_instructions();
        }
        let mut console = Console::open_with(Setup::silent())?;
        let limited = self.guest.budget.or(self.guest.time).or(self.guest.limit).is_some();
        let options = session::Options {
            budget: if limited { self.guest.budget } else { Some(DEFAULT_BUDGET) },
            progress: true,
            ..self.guest.session()
        };
        let end = session::drive(&mut pc, &mut console, &options)?;
        let monitor = pc.machine.monitor();
        let Some((monitor, translation)) = monitor.and_then(|m| Some((m, m.translation()?))) else {
            return Err(Error::Usage("this guest has no binary translator under it".into()));
        };
        let units = self.chosen(translation, place.as_ref(), rule);
        if units.is_empty() {
            if let Some(range) = &place
                && self.chosen(translation, Some(range), None).is_empty()
            {
                return Err(Error::Usage(self.nothing_at(range, end.retired, translation, monitor.counts())));
            }
            if let Some(rule) = &self.rule {
                return Err(Error::Usage(format!(
                    "--rule {rule}: no unit shown ends at an instruction that this rule is about"
                )));
            }
        }
        let shown = units.iter().map(|unit| Unit::of(unit, translation, &symbols)).collect();
        let text = Report {
            guest: self.guest.name(),
            ending: end.ending.sentence(),
            instructions: end.retired,
            translated: monitor.counts().translated,
            figures: monitor.report().translation.unwrap_or_default(),
            lost: translation.translator().lost_units(),
            units: shown,
        };
        out(if self.json { report::json(&text) } else { report::text(&text) }.as_bytes())?;
        Ok(if end.ending == Ending::Interrupted { 130 } else { 0 })
    }

    fn check(&self) -> Result<()> {
        let monitor = &self.guest.monitor;
        if monitor.strategy.is_some() && monitor.strategy() != Strategy::Bt {
            return Err(Error::Usage(
                "`translate` shows what binary translation makes of a guest: give --strategy bt, or leave it out"
                    .into(),
            ));
        }
        if self.hot == Some(0) {
            return Err(Error::Usage("--hot 0 shows nothing: give a number of units".into()));
        }
        self.cell()?;
        monitor.check_rule()
    }

    /// The translating cell that is asked for.
    fn cell(&self) -> Result<Cell> {
        Choice { strategy: Some(Strategy::Bt), ..self.guest.monitor.choice() }.cell()
    }

    /// The linear addresses that `--at` or `--symbol` names.
    fn code(&self, symbols: &[Symbol]) -> Result<Option<Range<u64>>> {
        let guest = self.guest.name();
        let (option, name, place) = match (&self.symbol, &self.place) {
            (Some(name), _) => ("--symbol", name, place::of_symbol(name, symbols, &guest)),
            (None, Some(text)) => ("--at", text, place::parse(text, symbols, &guest)),
            (None, None) => return Ok(None),
        };
        let place = place.map_err(|why| Error::Usage(format!("{option} {name}: {why}")))?;
        let start = u64::from(place.at);
        Ok(Some(start..start + u64::from(place.size.unwrap_or(1))))
    }

    /// The units at `place` in the order of their addresses, or the hottest.
    fn chosen<'a>(
        &self,
        translation: &'a dyn TranslationView,
        place: Option<&Range<u64>>,
        rule: Option<RuleId>,
    ) -> Vec<UnitInfo<'a>> {
        let mut units: Vec<_> = translation.translator().all_units().collect();
        if let Some(rule) = rule {
            units.retain(|unit| matches!(unit.plan.tail, Tail::Inline(by) | Tail::Callout(by) if by == rule));
        }
        let by_heat = |unit: &UnitInfo<'_>| (std::cmp::Reverse(unit.runs), unit.number);
        match place {
            Some(range) => {
                units.retain(|unit| {
                    let start = u64::from(unit.linear);
                    start < range.end && range.start < start + unit.code.len() as u64
                });
                if let Some(most) = self.hot {
                    units.sort_by_key(by_heat);
                    units.truncate(most);
                }
                units.sort_by_key(|unit| (unit.linear, unit.number));
            }
            None => {
                units.sort_by_key(by_heat);
                units.truncate(self.hot.unwrap_or(DEFAULT_HOT));
            }
        }
        units
    }

    /// Why there is no unit.
    fn nothing_at(
        &self,
        range: &Range<u64>,
        retired: u64,
        of: &dyn TranslationView,
        counts: &Counts,
    ) -> String {
        let mut text = format!(
            "nothing at {:#010x} is translated: in {} instructions the guest did not come there",
            range.start,
            grouped(retired)
        );
        if counts.direct > 0 {
            text += ", or it is user code, which runs by itself";
        }
        let lost = of.translator().lost_units();
        if lost > 0 {
            text += ", or its translation is among the ";
            text += &grouped(lost.into());
            text += " dropped ones that are no longer kept";
        }
        text
    }
}

/// The rewriting rule called `name`.
fn rule(name: &str) -> Result<RuleId> {
    rules::by_name(name).ok_or_else(|| {
        Error::Usage(format!("--rule {name} is no rewriting rule; --list-rules lists them all"))
    })
}

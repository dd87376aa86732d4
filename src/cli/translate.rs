//! `subring translate`: the translation microscope. Runs a guest under binary translation and shows the units of translated
//! code that ran most, or those at an address: what became of each guest instruction, by which rule and why.

use super::emulator::Emulator;
use super::ending::Ending;
use super::guest_args::GuestArgs;
use super::output::{out, tell_notes};
use super::session;
use super::terminal::{Console, Setup};
use super::translate_report::{self as report, Report, Unit};
use crate::cell::{Cell, Choice, Strategy};
use crate::error::{Error, Result};
use crate::lab::digits::grouped;
use crate::load::Symbol;
use crate::machine::{Monitor, TranslationView};
use crate::report::Counts;
use crate::translate::UnitInfo;
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
    /// Show the units that cover this linear address (0x100e18), this symbol's code, or an address in it (name+0x10)
    #[arg(id = "place", long = "at", value_name = "ADDR|SYMBOL")]
    place: Option<String>,
    /// Show the N units that ran most often [default: 10; with --at all of them]
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
        let spec = self.guest.spec_unseen(Some(self.guest.monitor.monitor(self.cell()?)))?;
        let symbols = spec.plan.symbols.clone();
        let place =
            self.place.as_deref().map(|text| place(text, &symbols, &self.guest.name())).transpose()?;
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
        let units = self.chosen(translation, place.as_ref());
        if let (Some(range), true) = (&place, units.is_empty()) {
            return Err(Error::Usage(self.nothing_at(range, end.retired, translation, monitor.counts())));
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

    /// The units at `place` in the order of their addresses, or the hottest.
    fn chosen<'a>(
        &self,
        translation: &'a dyn TranslationView,
        place: Option<&Range<u64>>,
    ) -> Vec<UnitInfo<'a>> {
        let mut units: Vec<_> = translation.translator().all_units().collect();
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

/// The linear addresses that `text` means: an address, or the code of a symbol, or an address in it.
fn place(text: &str, symbols: &[Symbol], guest: &str) -> Result<Range<u64>> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let at = super::args::address(text).map_err(|why| Error::Usage(format!("--at {text}: {why}")))?;
        return Ok(u64::from(at)..u64::from(at) + 1);
    }
    let (name, offset) = match text.split_once('+') {
        Some((name, offset)) => {
            let offset = super::args::address(offset);
            (name, Some(offset.map_err(|why| Error::Usage(format!("--at {text}: {why}")))?))
        }
        None => (text, None),
    };
    let Some(symbol) = symbols.iter().find(|symbol| symbol.name == name) else {
        let has = if symbols.is_empty() { "has no symbols" } else { "has no symbol of this name" };
        return Err(Error::Usage(format!("--at {text}: {guest} {has}; give an address like 0x100000")));
    };
    let start = u64::from(symbol.value) + u64::from(offset.unwrap_or(0));
    let size = if offset.is_some() { 1 } else { u64::from(symbol.size).max(1) };
    Ok(start..start + size)
}

//! Modelled cycles: events of a run, each at the price that one published table gives it. The table is a TOML file; the
//! default is `costs.toml`, with its sources.

use super::Trap;
use super::bt::TranslationFigures;
use super::exit::Cause;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// The default table's text.
pub const DEFAULT: &str = include_str!("costs.toml");

/// Bytes that a table's file has at most.
const LONGEST: u64 = 1 << 20;

/// What each event costs, in cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// An instruction that runs without intervention.
    pub instruction: u64,
    /// An interpreted instruction.
    pub interpreted: u64,
    exits: BTreeMap<Cause, u64>,
    translation: Translation,
}

/// What translation costs, in cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    instruction: u64,
    inline: u64,
    callout: u64,
    miss: u64,
    translated: u64,
}

/// The file's form. Numbers are read signed and may be left out, so that a negative or missing one gets its own sentence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    instruction: Option<i64>,
    interpreted: Option<i64>,
    #[serde(default)]
    exits: BTreeMap<String, i64>,
    #[serde(default)]
    translation: TranslationForm,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TranslationForm {
    instruction: Option<i64>,
    inline: Option<i64>,
    callout: Option<i64>,
    miss: Option<i64>,
    translated: Option<i64>,
}

impl Default for Costs {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the built-in table is whole; a test reads it")
    }
}

impl Costs {
    /// The table in the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Image`] when it is not such a table.
    pub fn read(path: &Path) -> Result<Self> {
        let read = |path: &Path| {
            let mut text = String::new();
            std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read(path).map_err(|e| Error::file("read", path, e))?;
        if text.len() as u64 == LONGEST {
            return Err(Error::image(
                path,
                format!("this is no cost table: it is longer than {LONGEST} bytes"),
            ));
        }
        Self::parse(&text).map_err(|reason| Error::image(path, reason))
    }

    /// The table that `text` holds.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let form: Form = toml::from_str(text).map_err(|e| {
            let first = e.message().lines().next().unwrap_or_default().to_owned();
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("this is no cost table: line {line}: {first}")
        })?;
        let cost = |name: &str, cycles: Option<i64>| {
            let cycles = cycles.ok_or_else(|| format!("the cost of `{name}` is missing"))?;
            u64::try_from(cycles)
                .map_err(|_| format!("the cost of `{name}` is negative: cycles count from 0"))
        };
        let known = |name: &String| Cause::ALL.iter().any(|c| c.name() == name);
        if let Some(name) = form.exits.keys().find(|name| !known(name)) {
            return Err(format!("`{name}` in [exits] is no kind of exit"));
        }
        let mut exits = BTreeMap::new();
        for cause in Cause::ALL {
            let name = cause.name();
            let Some(&cycles) = form.exits.get(name) else {
                return Err(format!("the cost of `{name}` is missing in [exits]"));
            };
            exits.insert(cause, cost(name, Some(cycles))?);
        }
        Ok(Self {
            instruction: cost("instruction", form.instruction)?,
            interpreted: cost("interpreted", form.interpreted)?,
            exits,
            translation: Translation {
                instruction: cost("translation.instruction", form.translation.instruction)?,
                inline: cost("translation.inline", form.translation.inline)?,
                callout: cost("translation.callout", form.translation.callout)?,
                miss: cost("translation.miss", form.translation.miss)?,
                translated: cost("translation.translated", form.translation.translated)?,
            },
        })
    }

    /// What an exit of `cause` costs.
    pub fn of(&self, cause: Cause) -> u64 {
        self.exits.get(&cause).copied().unwrap_or(0)
    }

    /// What a run under `monitor` cost.
    pub fn total(&self, monitor: &Trap) -> u64 {
        let Trap { counts, exits, .. } = monitor;
        let interpreted: u64 = counts.interpreted.values().sum();
        let of = |n: u64, cycles: u64| n.saturating_mul(cycles);
        let run = of(counts.direct, self.instruction).saturating_add(of(interpreted, self.interpreted));
        let run =
            exits.by_cause.iter().fold(run, |sum, (&cause, &n)| sum.saturating_add(of(n, self.of(cause))));
        let Some(translation) = &monitor.translation else { return run };
        let figures = TranslationFigures::of(translation);
        let price = &self.translation;
        [
            of(counts.translated, price.instruction),
            of(figures.inline, price.inline),
            of(figures.all_callouts(), price.callout),
            of(figures.misses, price.miss),
            of(figures.instructions, price.translated),
        ]
        .into_iter()
        .fold(run, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_whole() {
        let costs = Costs::parse(DEFAULT).unwrap();
        assert!(Cause::ALL.iter().all(|c| costs.of(*c) > 0));
    }

    #[test]
    fn a_bad_table_gets_a_sentence() {
        let with = |from: &str, to: &str| Costs::parse(&DEFAULT.replace(from, to)).unwrap_err();
        assert!(with("privileged = 1100", "privileged = -1").contains("`privileged` is negative"));
        assert!(with("halt = 1300", "").contains("`halt` is missing"));
        assert!(with("halt = 1300", "halt = 1300\nhelt = 1").contains("`helt`"));
        assert!(with("miss = 40", "").contains("`translation.miss` is missing"));
        assert!(with("callout = 214", "callout = -214").contains("`translation.callout` is negative"));
        assert!(with("interpreted = 100", "").contains("`interpreted` is missing"));
        assert!(Costs::parse("").unwrap_err().contains("is missing"));
        assert!(with("interpreted = 100", "interpreted = \"x\"").contains("no cost table"));
        assert!(Costs::parse("[[[").is_err());
    }
}

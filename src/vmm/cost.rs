//! Modelled cycles: events of a run, each at the price that one published table gives it. The table is a TOML file; the
//! default is `costs.toml`, with its sources.

use super::Trap;
use super::bt::TranslationFigures;
use super::exit::Cause;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeInteger, DeTable, DeValue};

/// The default table's text.
pub const DEFAULT: &str = include_str!("costs.toml");

/// Bytes that a table's file has at most.
const LONGEST: u64 = 1 << 20;

/// What an event costs at most, in cycles: more than any of them takes, and so few that no sum of a run's overflows.
const DEAREST: u64 = 1_000_000;

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
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|e| Error::file("read", path, e))?;
        if bytes.len() as u64 > LONGEST {
            return Err(Error::image(
                path,
                format!("this is no cost table: it is longer than {LONGEST} bytes"),
            ));
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::image(path, "this is no cost table: it is no text in UTF-8"))?;
        Self::parse(&text).map_err(|reason| Error::image(path, reason))
    }

    /// The table that `text` holds.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let file = DeTable::parse(text).map_err(|e| {
            let first = e.message().lines().next().unwrap_or_default().to_owned();
            format!("this is no cost table: line {}: {first}", line(text, e.span()))
        })?;
        let mut file = Table { text, name: "", entries: file.into_inner() };
        let mut exits = file.table("exits")?;
        let mut translation = file.table("translation")?;
        // What is misspelt first: what it should have been is missing then.
        file.has_only(&["instruction", "interpreted"])?;
        exits.has_only(&Cause::ALL.map(Cause::name))?;
        translation.has_only(&["instruction", "inline", "callout", "miss", "translated"])?;
        let costs = Self {
            instruction: file.cost("instruction")?,
            interpreted: file.cost("interpreted")?,
            exits: Cause::ALL
                .iter()
                .map(|cause| Ok((*cause, exits.cost(cause.name())?)))
                .collect::<std::result::Result<_, String>>()?,
            translation: Translation {
                instruction: translation.cost("instruction")?,
                inline: translation.cost("inline")?,
                callout: translation.cost("callout")?,
                miss: translation.cost("miss")?,
                translated: translation.cost("translated")?,
            },
        };
        if costs.instruction == 0 {
            return Err(
                "the cost of `instruction` is 0, and slowdowns are counted in it: give 1 or more".into()
            );
        }
        Ok(costs)
    }

    /// What an exit of `cause` costs.
    pub fn of(&self, cause: Cause) -> u64 {
        self.exits.get(&cause).copied().unwrap_or(0)
    }

    /// How many times longer `cycles` are than `retired` instructions take that run without intervention. None of no instructions.
    pub fn slowdown(&self, cycles: u64, retired: u64) -> Option<f64> {
        (retired > 0).then(|| cycles as f64 / retired.saturating_mul(self.instruction) as f64)
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

/// A table of the file, with those of its entries that nobody has taken yet.
struct Table<'a> {
    text: &'a str,
    /// Its name; empty for the file itself.
    name: &'static str,
    entries: DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The table `name` in this one; empty if there is none.
    fn table(&mut self, name: &'static str) -> std::result::Result<Self, String> {
        let entries = match self.entries.remove(name).map(|value| (value.span(), value.into_inner())) {
            None => DeTable::new(),
            Some((_, DeValue::Table(entries))) => entries,
            Some((span, other)) => {
                return Err(
                    self.wrong_kind(span, &format!("`{name}` is {}, and has to be a table", kind(&other)))
                );
            }
        };
        Ok(Self { text: self.text, name, entries })
    }

    /// The cost that is called `key`.
    fn cost(&mut self, key: &str) -> std::result::Result<u64, String> {
        // No exit is called as another cost is.
        let name = if self.name == "translation" { format!("translation.{key}") } else { key.to_owned() };
        let Some(value) = self.entries.remove(key) else {
            let place = if self.name == "exits" { " in [exits]" } else { "" };
            return Err(format!("the cost of `{name}` is missing{place}"));
        };
        let line = line(self.text, Some(value.span()));
        match value.get_ref() {
            DeValue::Integer(cycles) => {
                self::cycles(cycles).map_err(|why| format!("line {line}: the cost of `{name}` is {why}"))
            }
            other => {
                let why = format!(
                    "the cost of `{name}` is {}, and has to be a whole number of cycles",
                    kind(other)
                );
                Err(self.wrong_kind(value.span(), &why))
            }
        }
    }

    /// Refuses entries that are called otherwise.
    fn has_only(&self, names: &[&str]) -> std::result::Result<(), String> {
        let others = self.entries.keys().filter(|key| !names.contains(&key.get_ref().as_ref()));
        let Some(key) = others.min_by_key(|key| key.span().start) else { return Ok(()) };
        let (line, key) = (line(self.text, Some(key.span())), key.get_ref());
        Err(match self.name {
            "exits" => format!("line {line}: `{key}` in [exits] is no kind of exit"),
            "" => format!("line {line}: no cost is called `{key}`"),
            name => format!("line {line}: no cost in [{name}] is called `{key}`"),
        })
    }

    fn wrong_kind(&self, at: Range<usize>, why: &str) -> String {
        format!("this is no cost table: line {}: {why}", line(self.text, Some(at)))
    }
}

/// The line in `text` that a piece of it begins in.
fn line(text: &str, at: Option<Range<usize>>) -> usize {
    let before = text.bytes().take(at.map_or(0, |at| at.start));
    1 + before.filter(|byte| *byte == b'\n').count()
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// A cost, or what it is instead.
fn cycles(integer: &DeInteger<'_>) -> std::result::Result<u64, String> {
    let digits = integer.as_str();
    let beyond = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    match i128::from_str_radix(digits, integer.radix()).unwrap_or(beyond) {
        ..0 => Err("negative: cycles count from 0".into()),
        n => u64::try_from(n)
            .ok()
            .filter(|n| *n <= DEAREST)
            .ok_or_else(|| format!("larger than {DEAREST} cycles, the most that an event may cost")),
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
        assert!(with("halt = 1300", "helt = 1300").contains("`helt` in [exits] is no kind of exit"));
        assert!(with("miss = 40", "").contains("`translation.miss` is missing"));
        assert!(with("callout = 214", "callout = -214").contains("`translation.callout` is negative"));
        assert!(with("interpreted = 100", "").contains("`interpreted` is missing"));
        assert!(Costs::parse("").unwrap_err().contains("is missing"));
        assert!(with("interpreted = 100", "interpreted = \"x\"").contains("no cost table"));
        assert!(Costs::parse("[[[").is_err());
    }

    #[test]
    fn a_wrong_value_is_told_by_line_and_key() {
        let with = |from: &str, to: &str| {
            assert!(DEFAULT.contains(from), "{from}");
            Costs::parse(&DEFAULT.replace(from, to)).unwrap_err()
        };
        let line = |key: &str| 1 + DEFAULT.lines().take_while(|line| !line.starts_with(key)).count();
        for (value, kind) in
            [("\"x\"", "a string"), ("1.5", "a float"), ("true", "a boolean"), ("[1]", "an array")]
        {
            for (key, was, name) in
                [("halt", "halt = 1300", "halt"), ("callout", "callout = 214", "translation.callout")]
            {
                let words = format!(
                    "line {}: the cost of `{name}` is {kind}, and has to be a whole number",
                    line(key)
                );
                let told = with(was, &format!("{key} = {value}"));
                assert!(told.contains(&words), "{told}");
            }
        }
        for value in ["1_000_001", "9223372036854775807", "9223372036854775808", "0xffff_ffff_ffff_ffff_ffff"]
        {
            let told = with("halt = 1300", &format!("halt = {value}"));
            let words = format!("line {}: the cost of `halt` is larger than 1000000 cycles", line("halt"));
            assert!(told.contains(&words), "{told}");
        }
        let told = with("interpreted = 100", "interpreted = -99999999999999999999999999999999999999999999");
        assert!(told.contains("`interpreted` is negative"), "{told}");
        assert!(with("instruction = 1\n# An", "instruction = 0\n# An").contains("give 1 or more"));
        assert!(with("interpreted = 100", "interpreted = 100\nfoo = 1").contains("no cost is called `foo`"));
        assert!(with("miss = 40", "miss = 40\nhit = 1").contains("no cost in [translation] is called `hit`"));
        assert!(
            Costs::parse("exits = 3")
                .unwrap_err()
                .contains("line 1: `exits` is an integer, and has to be a table")
        );
    }

    #[test]
    fn all_costs_may_be_at_their_bounds() {
        let at = |n: u64| {
            let numbers = |line: &str| match line.split_once(" = ") {
                Some((key, _)) => format!("{key} = {}\n", if key == "instruction" { n.max(1) } else { n }),
                None => format!("{line}\n"),
            };
            Costs::parse(&DEFAULT.lines().map(numbers).collect::<String>()).unwrap()
        };
        assert_eq!((at(0).of(Cause::ALL[0]), at(DEAREST).of(Cause::ALL[0])), (0, DEAREST));
        assert_eq!(at(DEAREST).slowdown(3 * DEAREST, 2), Some(1.5));
        assert_eq!(at(0).slowdown(0, 0), None);
    }
}

//! A table of costs as a TOML file: [`Costs::read`], for `--costs`, and [`Costs::parse`]. A cost that the
//! file leaves out is the built-in table's. An error is told as `this is no cost table: line 3: …`, and
//! without a line only where it is the whole file's.

use super::{Cause, Costs, DEAREST, DEFAULT, Generation, Translation};
use crate::error::{Error, Result};
use crate::host::open_regular;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeInteger, DeTable, DeValue};

/// Bytes that a table's file has at most.
const LONGEST: u64 = 1 << 20;

/// What is found in a table, or what is wrong with it.
type Found<T> = std::result::Result<T, String>;

impl Costs {
    /// The table in the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, [`Error::Image`] when it is no regular file or no such table.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let (file, _) = open_regular(path)?;
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| Error::file("read", path, e))?;
        let costs = if bytes.len() as u64 > LONGEST {
            Err(no_table(&format!("it is longer than {LONGEST} bytes")))
        } else {
            String::from_utf8(bytes)
                .map_err(|_| no_table("it is no text in UTF-8"))
                .and_then(|text| Self::parse(&text))
        };
        costs.map_err(|reason| Error::image(path, reason))
    }

    /// The table that `text` holds.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        costs(text, Some(&Costs::default())).map_err(|why| no_table(&why))
    }

    /// The built-in table, which leaves nothing out.
    pub(super) fn built_in() -> Self {
        costs(DEFAULT, None).expect("the built-in table is whole; a test reads it")
    }
}

/// The one beginning of every sentence about a table.
fn no_table(why: &str) -> String {
    format!("this is no cost table: {why}")
}

/// The table that `text` holds, or why it holds none. What it leaves out is as in `base`.
fn costs(text: &str, base: Option<&Costs>) -> Found<Costs> {
    let file = DeTable::parse(text).map_err(|e| {
        let first = e.message().lines().next().unwrap_or_default().to_owned();
        format!("line {}: {first}", line(text, e.span()))
    })?;
    let mut file = Table { text, name: "", entries: file.into_inner() };
    let mut exits = file.table("exits")?;
    let mut translation = file.table("translation")?;
    let mut generations = file.table("generations")?;
    let mut nested = file.table("nested")?;
    // What is misspelt first: what it should have been is missing then.
    file.has_only(&["instruction", "interpreted", "fault"])?;
    exits.has_only(&Cause::RING.map(Cause::name))?;
    translation.has_only(&["instruction", "inline", "callout", "miss", "translated"])?;
    generations.has_only(&Generation::ALL.iter().map(|generation| generation.name()).collect::<Vec<_>>())?;
    nested.has_only(&["reference"])?;
    let usual = base.map(|base| &base.translation);
    Ok(Costs {
        instruction: file.divisor("instruction", base.map(|base| base.instruction))?,
        interpreted: file.cost("interpreted", base.map(|base| base.interpreted))?,
        fault: file.cost("fault", base.map(|base| base.fault))?,
        exits: Cause::RING
            .iter()
            .map(|cause| Ok((*cause, exits.cost(cause.name(), base.map(|base| base.of(*cause)))?)))
            .collect::<Found<_>>()?,
        translation: Translation {
            instruction: translation.cost("instruction", usual.map(|usual| usual.instruction))?,
            inline: translation.cost("inline", usual.map(|usual| usual.inline))?,
            callout: translation.cost("callout", usual.map(|usual| usual.callout))?,
            miss: translation.cost("miss", usual.map(|usual| usual.miss))?,
            translated: translation.cost("translated", usual.map(|usual| usual.translated))?,
        },
        generation: Generation::default(),
        round_trips: Generation::ALL
            .iter()
            .map(|generation| {
                let usual = base.and_then(|base| base.round_trips.get(generation).copied());
                Ok((*generation, generations.cost(generation.name(), usual)?))
            })
            .collect::<Found<_>>()?,
        reference: nested.cost("reference", base.map(|base| base.reference))?,
    })
}

/// A table of the file, with those of its entries that nobody has taken yet.
struct Table<'a> {
    text: &'a str,
    /// The table's name; empty for the file itself.
    name: &'static str,
    entries: DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The table `name` in this one; empty if there is none.
    fn table(&mut self, name: &'static str) -> Found<Self> {
        let entries = match self.entries.remove(name).map(|value| (value.span(), value.into_inner())) {
            None => DeTable::new(),
            Some((_, DeValue::Table(entries))) => entries,
            Some((span, other)) => {
                let why = format!("`{name}` is {}, and has to be a table", kind(&other));
                return Err(self.at(span, &why));
            }
        };
        Ok(Self { text: self.text, name, entries })
    }

    /// The cost that is called `key`; `usual` where it is left out.
    fn cost(&mut self, key: &str, usual: Option<u64>) -> Found<u64> {
        self.cost_of(key, usual, Ok)
    }

    /// The cost that slowdowns are counted in.
    fn divisor(&mut self, key: &str, usual: Option<u64>) -> Found<u64> {
        self.cost_of(key, usual, |cycles| match cycles {
            0 => Err("0, and slowdowns are counted in it: give 1 or more".into()),
            n => Ok(n),
        })
    }

    /// The cost that is called `key`, if it is a number that `fits`, which else says what it is.
    fn cost_of(&mut self, key: &str, usual: Option<u64>, fits: impl Fn(u64) -> Found<u64>) -> Found<u64> {
        // No exit is called as another cost is.
        let name = match self.name {
            "" | "exits" => key.to_owned(),
            table => format!("{table}.{key}"),
        };
        let Some(value) = self.entries.remove(key) else {
            return usual.ok_or_else(|| format!("the cost of `{name}` is missing"));
        };
        let cost = match value.get_ref() {
            DeValue::Integer(integer) => cycles(integer).and_then(fits),
            other => Err(format!("{}, and has to be a whole number of cycles", kind(other))),
        };
        cost.map_err(|what| self.at(value.span(), &format!("the cost of `{name}` is {what}")))
    }

    /// Refuses entries that are called otherwise.
    fn has_only(&self, names: &[&str]) -> Found<()> {
        let others = self.entries.keys().filter(|key| !names.contains(&key.get_ref().as_ref()));
        let Some(key) = others.min_by_key(|key| key.span().start) else { return Ok(()) };
        let name = key.get_ref();
        let why = match self.name {
            "exits" => format!("`{name}` in [exits] is no kind of exit"),
            "" => format!("no cost is called `{name}`"),
            table => format!("no cost in [{table}] is called `{name}`"),
        };
        Err(self.at(key.span(), &why))
    }

    /// What is wrong, after the line that it is in.
    fn at(&self, place: Range<usize>, why: &str) -> String {
        format!("line {}: {why}", line(self.text, Some(place)))
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
fn cycles(integer: &DeInteger<'_>) -> Found<u64> {
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
    use super::super::DEFAULT;
    use super::*;

    #[test]
    fn a_bad_table_gets_a_sentence() {
        let with = |from: &str, to: &str| Costs::parse(&DEFAULT.replace(from, to)).unwrap_err();
        assert!(with("privileged = 1100", "privileged = -1").contains("`privileged` is negative"));
        assert!(with("halt = 1300", "halt = 1300\nhelt = 1").contains("`helt`"));
        assert!(with("halt = 1300", "helt = 1300").contains("`helt` in [exits] is no kind of exit"));
        assert!(with("callout = 214", "callout = -214").contains("`translation.callout` is negative"));
        assert!(with("interpreted = 100", "interpreted = \"x\"").contains("no cost table"));
        assert!(Costs::parse("[[[").is_err());
    }

    #[test]
    fn what_a_table_leaves_out_is_built_in() {
        let built_in = Costs::default();
        assert_eq!(Costs::parse("").unwrap(), built_in);
        let halt = Costs::parse("[exits]\nhalt = 7\n").unwrap();
        assert_eq!((halt.of(Cause::Halt), halt.of(Cause::PortIo)), (7, built_in.of(Cause::PortIo)));
        assert_ne!(halt.hash(), built_in.hash());
        let miss = Costs::parse("interpreted = 3\n[translation]\nmiss = 41\n").unwrap();
        assert_eq!((miss.interpreted, miss.translation.miss), (3, 41));
        assert_eq!(miss.translation.callout, built_in.translation.callout);
        let without = DEFAULT.replace("halt = 1300", "");
        assert!(costs(&without, None).unwrap_err().contains("`halt` is missing"));
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
    fn every_sentence_begins_alike() {
        let zero = DEFAULT.lines().position(|line| line.starts_with("instruction = 1")).expect("it is there");
        let with = |from: &str, to: &str| Costs::parse(&DEFAULT.replacen(from, to, 1)).unwrap_err();
        let told = with("\ninstruction = 1", "\ninstruction = 0");
        let words = format!("line {}: the cost of `instruction` is 0, and slowdowns", zero + 1);
        assert!(told.contains(&words), "{told}");
        for (from, to) in [
            ("\ninstruction = 1", "\ninstruction = 0"),
            ("halt = 1300", "halt = -1"),
            ("halt = 1300", "halt = \"x\""),
            ("halt = 1300", "helt = 1300"),
            ("halt = 1300", "halt ="),
            ("[exits]", "[[exits]]"),
        ] {
            let told = with(from, to);
            assert!(told.starts_with("this is no cost table: line "), "{told}");
        }
    }
}

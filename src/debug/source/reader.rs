//! Walks DWARF: the line programs of all units once, and the tree of one unit for each question about
//! functions.
//!
//! Each row, entry, attribute, range and string byte costs *fuel*, so that no input takes long: `gimli` gives
//! errors for what is malformed, but tables that refer to each other crosswise can make a small file a great
//! labour.

use super::Place;
use gimli::{
    Abbreviations, AttributeValue as Value, DebugAbbrev, DebugAbbrevOffset, Dwarf, EndianSlice, LittleEndian,
    SectionId, Unit, UnitHeader, UnitOffset,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Steps that may be spent on one kernel: a few seconds.
pub(super) const FUEL: u64 = 200_000_000;
/// Rows and names that are kept.
const MOST_ROWS: usize = 8_000_000;
const MOST_FILES: usize = 200_000;
const LONGEST_NAME: usize = 1024;
/// Of names that refer to others.
const MOST_HOPS: usize = 8;

/// What is wrong with debug information.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it is damaged ({0})")]
    Damaged(#[from] gimli::Error),
    #[error("it is too large, or a riddle: reading it was given up")]
    Endless,
}

type Result<T> = std::result::Result<T, Trouble>;

/// Addresses from `start` to `end` come from one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    start: u32,
    end: u32,
    file: u32,
    line: u32,
    pub(super) unit: u32,
}

/// The lines of all addresses.
#[derive(Default)]
pub(super) struct Index {
    rows: Vec<Row>,
    files: Vec<String>,
}

impl Index {
    pub(super) fn find(&self, address: u32) -> Option<&Row> {
        let n = self.rows.partition_point(|r| r.start <= address);
        // Tables of dropped code may lie over others: a few are looked through.
        self.rows[..n].iter().rev().take(16).find(|r| address < r.end)
    }

    pub(super) fn place(&self, row: &Row) -> Place {
        Place { file: self.files[row.file as usize].clone(), line: row.line }
    }
}

/// A function around an address, and where it was called from if it is inlined.
pub(super) struct Call {
    pub(super) name: Option<String>,
    pub(super) from: Option<Place>,
}

/// Sections and fuel.
pub(super) struct Reader<'a, 'f> {
    dwarf: Dwarf<Slice<'a>>,
    headers: Vec<UnitHeader<Slice<'a>>>,
    abbreviations: HashMap<usize, Arc<Abbreviations>>,
    abbrev: &'a [u8],
    fuel: &'f mut u64,
}

impl<'a, 'f> Reader<'a, 'f> {
    pub(super) fn new(sections: &'a [(&'static str, Vec<u8>)], fuel: &'f mut u64) -> Result<Self> {
        let section = |name: &str| sections.iter().find(|s| s.0 == name).map_or(&[][..], |s| &s.1[..]);
        let load = |id: SectionId| Ok::<_, gimli::Error>(EndianSlice::new(section(id.name()), LittleEndian));
        let dwarf = Dwarf::load(load)?;
        let mut reader = Self {
            dwarf,
            headers: Vec::new(),
            abbreviations: HashMap::new(),
            abbrev: section(".debug_abbrev"),
            fuel,
        };
        let mut units = reader.dwarf.units();
        while let Some(header) = units.next()? {
            reader.charge(16)?;
            reader.headers.push(header);
        }
        Ok(reader)
    }

    fn charge(&mut self, steps: usize) -> Result<()> {
        *self.fuel = self.fuel.checked_sub(steps as u64).ok_or(Trouble::Endless)?;
        Ok(())
    }

    /// The table at an offset, read once. It ends where the next one that is referred to begins, so that all
    /// of them together cost what the section has.
    fn abbreviations(&mut self, at: usize) -> Result<Arc<Abbreviations>> {
        if let Some(table) = self.abbreviations.get(&at) {
            return Ok(Arc::clone(table));
        }
        let starts = self.headers.iter().map(|h| h.debug_abbrev_offset().0);
        let end =
            starts.filter(|start| *start > at).min().unwrap_or(self.abbrev.len()).min(self.abbrev.len());
        self.charge(self.headers.len() + end.saturating_sub(at))?;
        let table =
            DebugAbbrev::new(&self.abbrev[..end], LittleEndian).abbreviations(DebugAbbrevOffset(at))?;
        let table = Arc::new(table);
        self.abbreviations.insert(at, Arc::clone(&table));
        Ok(table)
    }

    fn unit(&mut self, n: usize) -> Result<Unit<Slice<'a>>> {
        let header = self.headers[n];
        let table = self.abbreviations(header.debug_abbrev_offset().0)?;
        // The first entry may have very many attributes without a byte each.
        let root = header.entries_raw(&table, None)?.read_abbreviation()?.map_or(0, |a| a.attributes().len());
        self.charge(16 + root)?;
        let unit = Unit::new_with_abbreviations(&self.dwarf, header, table)?;
        if let Some(program) = &unit.line_program {
            let h = program.header();
            self.charge(h.file_names().len() + h.include_directories().len() + h.raw_program_buf().len())?;
        }
        Ok(unit)
    }

    /// Runs the line programs.
    pub(super) fn index(&mut self) -> Result<Index> {
        let (mut rows, mut names) = (Vec::new(), BTreeMap::new());
        for n in 0..self.headers.len() {
            let unit = self.unit(n)?;
            self.unit_rows(&unit, n as u32, &mut rows, &mut names)?;
        }
        rows.sort_by_key(|r: &Row| (r.start, r.end));
        let mut files = vec![String::new(); names.len()];
        names.into_iter().for_each(|(name, n)| files[n as usize] = name);
        Ok(Index { rows, files })
    }

    fn unit_rows(
        &mut self,
        unit: &Unit<Slice<'a>>,
        n: u32,
        out: &mut Vec<Row>,
        names: &mut BTreeMap<String, u32>,
    ) -> Result<()> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let (mut files, mut rows) = (HashMap::<u64, u32>::new(), program.rows());
        let mut open: Option<(u64, u64, u32)> = None;
        while let Some((header, row)) = rows.next_row()? {
            let header = header.clone();
            self.charge(1)?;
            if let Some((start, file, line)) = open
                && let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(row.address()))
                && from < to
            {
                let file = match files.get(&file) {
                    Some(file) => *file,
                    None => {
                        let name = self.file(unit, &header, file)?;
                        let next = names.len() as u32;
                        let number = *names.entry(name).or_insert(next);
                        files.insert(file, number);
                        number
                    }
                };
                out.push(Row { start: from, end: to, file, line, unit: n });
            }
            if out.len() > MOST_ROWS || names.len() > MOST_FILES {
                return Err(Trouble::Endless);
            }
            let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
            open = line.filter(|_| !row.end_sequence()).map(|l| (row.address(), row.file_index(), l));
        }
        Ok(())
    }

    /// The name of a file of a unit, with its folder.
    fn file(
        &mut self,
        unit: &Unit<Slice<'a>>,
        header: &gimli::LineProgramHeader<Slice<'a>>,
        index: u64,
    ) -> Result<String> {
        let Some(file) = header.file(index) else { return Ok("?".into()) };
        let name = self.string(unit, file.path_name())?;
        let folder = match file.directory(header) {
            Some(folder) => self.string(unit, folder)?,
            None => String::new(),
        };
        let top = unit.comp_dir.map_or(String::new(), |dir| cut(dir.slice()));
        let joined = [top, folder, name].iter().fold(String::new(), |path, part| join(path, part));
        Ok(joined)
    }

    fn string(&mut self, unit: &Unit<Slice<'a>>, value: Value<Slice<'a>>) -> Result<String> {
        let text = self.dwarf.attr_string(unit, value)?;
        self.charge(text.len())?;
        Ok(cut(text.slice()))
    }

    /// The function that `address` lies in, and those that are inlined there, the outermost first.
    pub(super) fn calls(&mut self, unit: u32, address: u32) -> Result<Vec<Call>> {
        let unit = self.unit(unit as usize)?;
        let mut calls: Vec<(isize, Call)> = Vec::new();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            if calls.first().is_some_and(|(top, _)| depth <= *top) {
                break;
            }
            let Some(abbreviation) = entries.read_abbreviation()? else {
                self.charge(1)?;
                continue;
            };
            self.charge(1 + abbreviation.attributes().len())?;
            let inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
            if !inlined && abbreviation.tag() != gimli::DW_TAG_subprogram {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let mut found = Found::default();
            for spec in abbreviation.attributes() {
                found.take(&entries.read_attribute(*spec)?);
            }
            if inlined == calls.is_empty() || !self.covers(&unit, &found, address)? {
                continue;
            }
            let from = self.call_place(&unit, &found)?;
            calls.push((depth, Call { name: self.name(&unit, found, 0)?, from }));
        }
        Ok(calls.into_iter().map(|(_, call)| call).collect())
    }

    fn covers(&mut self, unit: &Unit<Slice<'a>>, found: &Found<'a>, address: u32) -> Result<bool> {
        let address = u64::from(address);
        if let Some(ranges) = found.ranges {
            let Some(mut ranges) = self.dwarf.attr_ranges(unit, ranges)? else { return Ok(false) };
            while let Some(range) = ranges.next()? {
                self.charge(1)?;
                if (range.begin..range.end).contains(&address) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let Some(low) = found.low.map(|low| self.dwarf.attr_address(unit, low)).transpose()?.flatten() else {
            return Ok(false);
        };
        let high = match found.high {
            Some(high) => match self.dwarf.attr_address(unit, high)? {
                Some(high) => Some(high),
                None => high.udata_value().and_then(|len| low.checked_add(len)),
            },
            None => None,
        };
        Ok(high.is_some_and(|high| (low..high).contains(&address)))
    }

    fn call_place(&mut self, unit: &Unit<Slice<'a>>, found: &Found<'a>) -> Result<Option<Place>> {
        let (Some(file), Some(line)) = (found.call_file, found.call_line) else { return Ok(None) };
        let (Some(program), Ok(line)) = (&unit.line_program, u32::try_from(line)) else { return Ok(None) };
        let header = program.header().clone();
        Ok(Some(Place { file: self.file(unit, &header, file)?, line }))
    }

    /// The name of a function: its own, or that of the entry it refers to.
    fn name(&mut self, unit: &Unit<Slice<'a>>, found: Found<'a>, hops: usize) -> Result<Option<String>> {
        if let Some(name) = found.name {
            return self.string(unit, name).map(Some);
        }
        let Some(at) = found.origin(unit).filter(|_| hops < MOST_HOPS) else { return Ok(None) };
        let mut entries = unit.entries_raw(Some(at))?;
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(None) };
        self.charge(1 + abbreviation.attributes().len())?;
        let mut found = Found::default();
        for spec in abbreviation.attributes() {
            found.take(&entries.read_attribute(*spec)?);
        }
        self.name(unit, found, hops + 1)
    }
}

/// The attributes of a function's entry that count here.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    name: Option<Value<Slice<'a>>>,
    refers: Option<Value<Slice<'a>>>,
    low: Option<Value<Slice<'a>>>,
    high: Option<Value<Slice<'a>>>,
    ranges: Option<Value<Slice<'a>>>,
    call_file: Option<u64>,
    call_line: Option<u64>,
}

impl<'a> Found<'a> {
    fn take(&mut self, attribute: &gimli::Attribute<Slice<'a>>) {
        let value = attribute.value();
        match attribute.name() {
            gimli::DW_AT_name => self.name = Some(value),
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => self.refers = Some(value),
            gimli::DW_AT_low_pc => self.low = Some(value),
            gimli::DW_AT_high_pc => self.high = Some(value),
            gimli::DW_AT_ranges => self.ranges = Some(value),
            gimli::DW_AT_call_file => {
                self.call_file = match value {
                    Value::FileIndex(n) => Some(n),
                    other => other.udata_value(),
                }
            }
            gimli::DW_AT_call_line => self.call_line = value.udata_value(),
            _ => {}
        }
    }

    /// The entry that it refers to, in the same unit.
    fn origin(&self, unit: &Unit<Slice<'a>>) -> Option<UnitOffset> {
        match self.refers? {
            Value::UnitRef(at) => Some(at),
            Value::DebugInfoRef(at) => at.to_unit_offset(&unit.header),
            _ => None,
        }
    }
}

/// Text of a bounded length, without what would disturb a terminal.
fn cut(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_NAME)]);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A path and what follows it; the latter alone if it begins at the root.
fn join(path: String, part: &str) -> String {
    let part = if part == "." { "" } else { part.strip_prefix("./").unwrap_or(part) };
    match (path.as_str(), part) {
        (path, "") => path.to_owned(),
        (_, absolute) if absolute.starts_with('/') => absolute.to_owned(),
        ("" | ".", part) => part.to_owned(),
        (path, part) => format!("{}/{part}", path.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::DebugSections;
    use std::path::Path;

    #[test]
    fn reading_ends_when_its_fuel_is_spent() {
        let file = include_bytes!("../../../guest-programs/nested/nested.elf");
        let debug = DebugSections::of(Path::new("nested.elf"), file).expect("debug information");
        let sections = debug.unpack().expect("whole");
        let spent = |mut fuel: u64| {
            let read = Reader::new(&sections, &mut fuel).and_then(|mut r| r.index());
            read.map(|_| fuel)
        };
        assert!(matches!(spent(2000), Err(Trouble::Endless)));
        assert!(FUEL - spent(FUEL).expect("enough") < 20_000, "a small kernel costs little");
    }

    #[test]
    fn paths_are_joined_as_the_compiler_meant_them() {
        assert_eq!(join(join(String::new(), "."), "./a.c"), "a.c");
        assert_eq!(join("src".into(), "a.c"), "src/a.c");
        assert_eq!(join("/src/".into(), "lib/a.c"), "/src/lib/a.c");
        assert_eq!(join("/src".into(), "/usr/a.h"), "/usr/a.h");
    }
}

//! Source lines: which line of which file an address comes from, and in which functions it lies, inlined ones
//! too. From DWARF (versions 2 to 5) by `gimli`; `reader.rs` walks it. Used by the post-mortem and by the
//! trace.
//!
//! The information is taken as hostile: reading it costs a bounded number of steps and bytes. When that is
//! spent or something makes no sense, there is a sentence instead of lines.

mod reader;
mod text;

use crate::load::DebugSections;
use reader::{Call, Index, Reader};
use serde::Serialize;
use std::cell::RefCell;
pub use text::Excerpt;

/// A line of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file's name, as the compiler had it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A function that an address lies in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where in it: the line of the address, or that of the call of what was inlined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The debug information of a kernel.
pub struct Source {
    sections: Vec<(&'static str, Vec<u8>)>,
    index: Index,
    /// What may still be spent on reading.
    fuel: RefCell<u64>,
    trouble: RefCell<Option<String>>,
    texts: text::Texts,
}

impl Source {
    /// Reads the line tables.
    pub fn new(debug: &DebugSections) -> Self {
        let mut fuel = reader::FUEL;
        let read = debug.unpack().and_then(|sections| {
            let index = Reader::new(&sections, &mut fuel).and_then(|mut r| r.index());
            index.map(|index| (sections, index)).map_err(|t| t.to_string())
        });
        let (read, trouble) = match read {
            Ok(read) => (read, None),
            Err(sentence) => (Default::default(), Some(sentence)),
        };
        Self {
            sections: read.0,
            index: read.1,
            fuel: RefCell::new(fuel),
            trouble: RefCell::new(trouble),
            texts: text::Texts::new(&debug.folder),
        }
    }

    /// Why there are no lines, or not all, in a sentence without its beginning.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// The line that the instruction at `address` comes from.
    pub fn place(&self, address: u32) -> Option<Place> {
        self.index.find(address).map(|row| self.index.place(row))
    }

    /// The functions that it lies in, the innermost first: those before the last are inlined.
    pub fn functions(&self, address: u32) -> Vec<Function> {
        let Some(row) = self.index.find(address) else { return Vec::new() };
        let mut fuel = self.fuel.borrow_mut();
        let calls = Reader::new(&self.sections, &mut fuel).and_then(|mut r| r.calls(row.unit, address));
        let calls = calls.unwrap_or_else(|trouble| {
            self.trouble.borrow_mut().get_or_insert(trouble.to_string());
            Vec::new()
        });
        let mut place = Some(self.index.place(row));
        let mut functions = Vec::new();
        for Call { name, from } in calls.into_iter().rev() {
            functions.push(Function { name: name.unwrap_or_else(|| "?".into()), place });
            place = from;
        }
        functions
    }

    /// The lines around a place, if the file is at hand.
    pub fn excerpt(&self, place: &Place) -> Option<Excerpt> {
        self.texts.excerpt(place)
    }

    /// The line itself.
    pub fn text(&self, place: &Place) -> Option<String> {
        self.texts.line(place)
    }
}

//! The text of source files, where they are at hand: below the current folder or below the kernel's. Files
//! elsewhere are not read, whatever a kernel's debug information names: it may come from somebody else.

use super::Place;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest file that is read, and the longest line that is shown.
const MOST: u64 = 16 << 20;
const WIDEST: usize = 160;
/// Lines before and after the one.
const AROUND: u32 = 2;

/// A few lines of a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// Where the middle one is.
    pub place: Place,
    /// Number and text of each.
    pub lines: Vec<(u32, String)>,
}

/// The files that were looked for.
pub(super) struct Texts {
    roots: Vec<PathBuf>,
    files: RefCell<BTreeMap<String, Option<String>>>,
}

impl Texts {
    pub(super) fn new(folder: &Path) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let roots = [folder, Path::new(".")].into_iter().filter_map(|p| p.canonicalize().ok()).collect();
        Self { roots, files: RefCell::default() }
    }

    fn with<T>(&self, file: &str, act: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let mut files = self.files.borrow_mut();
        let text = files.entry(file.to_owned()).or_insert_with(|| self.read(file));
        text.as_deref().and_then(act)
    }

    fn read(&self, file: &str) -> Option<String> {
        self.roots.iter().find_map(|root| {
            let path = root.join(file).canonicalize().ok()?;
            let allowed = self.roots.iter().any(|root| path.starts_with(root));
            let metadata = path.metadata().ok()?;
            if !allowed || !metadata.is_file() || metadata.len() > MOST {
                return None;
            }
            Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
        })
    }

    pub(super) fn line(&self, place: &Place) -> Option<String> {
        self.with(&place.file, |text| text.lines().nth(place.line.checked_sub(1)? as usize).map(shown))
    }

    pub(super) fn excerpt(&self, place: &Place) -> Option<Excerpt> {
        let first = place.line.saturating_sub(AROUND).max(1);
        let last = place.line.saturating_add(AROUND);
        let lines: Vec<(u32, String)> = self.with(&place.file, |text| {
            let numbered = (1..).zip(text.lines()).skip_while(|(n, _)| *n < first);
            Some(numbered.take_while(|(n, _)| *n <= last).map(|(n, line)| (n, shown(line))).collect())
        })?;
        lines.iter().any(|(n, _)| *n == place.line).then(|| Excerpt { place: place.clone(), lines })
    }
}

/// A line as a terminal may show it.
fn shown(line: &str) -> String {
    let plain = line.trim_end().replace('\t', "    ");
    plain.chars().map(|c| if c.is_control() { '?' } else { c }).take(WIDEST).collect()
}

//! `--dump-state` and `--dump-memory`: what the machine held when the run ended, for tools that compare two runs or
//! two machines (tests/differential does) and for a look after the fact.

use super::args;
use super::output::out;
use super::pc::Pc;
use crate::error::{Error, Result};
use crate::host::Output;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A range of guest-physical memory and the file it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: u32,
    len: u32,
    file: PathBuf,
}

/// `START:LEN=FILE`.
///
/// # Errors
/// A sentence.
pub fn range(text: &str) -> std::result::Result<Range, String> {
    const EXAMPLE: &str = "give a range and a file like 0x100000:64K=memory.bin";
    let (range, file) = text.split_once('=').ok_or(EXAMPLE)?;
    let (start, len) = range.split_once(':').ok_or(EXAMPLE)?;
    let (start, len) = (args::address(start)?, args::length(len)?);
    if file.is_empty() {
        return Err(EXAMPLE.into());
    }
    if u64::from(start) + u64::from(len) > 1 << 32 {
        return Err("the range reaches beyond 4 GiB".into());
    }
    Ok(Range { start, len, file: file.into() })
}

/// Notes about ranges that reach beyond `mem` bytes of RAM.
pub(super) fn beyond_ram(ranges: &[Range], mem: u32) -> Vec<String> {
    let beyond = ranges.iter().filter(|r| u64::from(r.start) + u64::from(r.len) > u64::from(mem));
    let note = |r: &Range| {
        format!(
            "--dump-memory: {:#x}:{:#x} reaches beyond the {} KiB of RAM: where no ROM or chip is, memory reads as FFh",
            r.start,
            r.len,
            mem >> 10
        )
    };
    beyond.map(note).collect()
}

/// The files of the dumps, open: a path that cannot be written is found before the run and not after it.
pub(super) struct Files {
    /// None within is standard output.
    state: Option<Option<(PathBuf, Output)>>,
    memory: Vec<(Range, Output)>,
}

impl Files {
    /// Creates them.
    pub(super) fn create(state: Option<&Path>, memory: &[Range]) -> Result<Self> {
        let state = match state {
            None => None,
            Some(path) if path == Path::new("-") => Some(None),
            Some(path) => Some(Some((path.to_owned(), Output::create(path)?))),
        };
        let memory =
            memory.iter().map(|r| Ok((r.clone(), Output::create(&r.file)?))).collect::<Result<_>>()?;
        Ok(Self { state, memory })
    }

    /// Fills them from `pc`.
    pub(super) fn write(self, pc: &dyn Pc) -> Result<()> {
        for (range, file) in self.memory {
            write_memory(pc, &range, file)?;
        }
        let Some(to) = self.state else { return Ok(()) };
        // All keys are strings and no value can fail to serialise.
        let text = serde_json::to_string_pretty(&pc.state()).unwrap_or_default() + "\n";
        match to {
            Some((path, mut file)) => {
                file.write_all(text.as_bytes()).map_err(|e| Error::file("write", &path, e))?;
                file.finish()
            }
            None => out(text.as_bytes()),
        }
    }
}

fn write_memory(pc: &dyn Pc, range: &Range, mut file: Output) -> Result<()> {
    const PIECE: u32 = 64 << 10;
    let mut buf = vec![0; PIECE.min(range.len) as usize];
    let mut done = 0;
    while done < range.len {
        let piece = &mut buf[..PIECE.min(range.len - done) as usize];
        pc.read_memory(range.start + done, piece);
        file.write_all(piece).map_err(|e| Error::file("write", &range.file, e))?;
        done += piece.len() as u32;
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_name_start_length_and_file() {
        let r = range("0x100000:64K=a=b").unwrap();
        assert_eq!((r.start, r.len, r.file.as_path()), (0x10_0000, 64 << 10, Path::new("a=b")));
        assert_eq!(range("16:0x20=f").unwrap().len, 32);
        assert_eq!(range("0xfffff000:4K=f").unwrap().len, 4096);
        for bad in ["", "1", "1:2", "1:2=", "x:2=f", "1:0=f", "0xfffff000:8K=f", "1:5G=f"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}

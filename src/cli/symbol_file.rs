//! `--symbols`: names and source lines for a kernel that comes from a disk, from the ELF file that the disk
//! was made of.

use super::args;
use crate::error::{Error, Result};
use crate::host::open_regular;
use crate::load::{DebugSections, Plan, elf};
use std::io::Read;
use std::path::PathBuf;

/// The largest file that is read for its symbols.
const LARGEST: u64 = 512 << 20;

/// `FILE[,OFFSET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolFile {
    path: PathBuf,
    /// Added to each address of the file, modulo 4 GiB.
    offset: u32,
}

/// Reads the option's value.
///
/// # Errors
/// A sentence.
pub(super) fn parse(text: &str) -> std::result::Result<SymbolFile, String> {
    let (path, offset) = match text.rsplit_once(',') {
        Some((path, offset)) => (path, signed(offset)?),
        None => (text, 0),
    };
    if path.is_empty() {
        return Err("give an ELF file, and perhaps an offset: kernel.elf,0x100000".into());
    }
    Ok(SymbolFile { path: path.into(), offset })
}

fn signed(text: &str) -> std::result::Result<u32, String> {
    match text.strip_prefix('-') {
        Some(rest) => Ok(args::address(rest)?.wrapping_neg()),
        None => args::address(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Adds what `files` name to what the guest's own image names.
pub(super) fn add(files: &[SymbolFile], plan: &mut Plan) -> Result<()> {
    for file in files {
        let path = file.path.as_path();
        let (opened, size) = open_regular(path)?;
        if size > LARGEST {
            return Err(Error::image(path, format!("{size} bytes are too many for a kernel's symbols")));
        }
        let mut bytes = Vec::new();
        opened.take(LARGEST).read_to_end(&mut bytes).map_err(|e| Error::file("read", path, e))?;
        let mut symbols = elf::symbols_of(path, &bytes)?;
        if symbols.is_empty() {
            let name = path.display();
            plan.notes.push(format!("{name} has no symbols: link it without -s, or do not strip it"));
        }
        symbols.iter_mut().for_each(|s| s.value = s.value.wrapping_add(file.offset));
        plan.symbols.append(&mut symbols);
        // Source lines are looked up by the addresses of the file.
        if plan.debug.is_none() && file.offset == 0 {
            plan.debug = DebugSections::of(path, &bytes);
        }
    }
    plan.symbols.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_an_offset() {
        let file = |path: &str, offset| SymbolFile { path: path.into(), offset };
        assert_eq!(parse("k.elf"), Ok(file("k.elf", 0)));
        assert_eq!(parse("k.elf,0x1000"), Ok(file("k.elf", 0x1000)));
        assert_eq!(parse("k.elf,-0xc0000000"), Ok(file("k.elf", 0x4000_0000)));
        assert!(parse("k.elf,x").is_err() && parse("").is_err() && parse(",1").is_err());
    }
}

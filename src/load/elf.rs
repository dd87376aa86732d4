//! ELF32 executables for the i386 (System V ABI, chapters 4 and 5): segments go to their physical addresses.
//!
//! The entry point is a virtual address; where a segment is linked apart from where it is loaded (p_vaddr and
//! p_paddr differ), the start is at the physical place of that address, as boot loaders do it.

use super::dwarf::DebugSections;
use super::guest::Around;
use super::part::{Part, check_parts, stack_top, writes_of};
use super::plan::{Entry, Plan};
use super::symbol::Symbol;
use crate::error::{Error, Result};
use object::LittleEndian as Le;
use object::elf::{self, FileHeader32, ProgramHeader32};
use object::read::StringTable;
use object::read::elf::{FileHeader, ProgramHeader, SectionTable, Sym};
use std::path::Path;

/// The longest symbol name that is kept.
const MAX_NAME: usize = 512;

/// Whether a file starts with the ELF magic.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// Plans the start of a plain ELF executable.
///
/// # Errors
/// [`Error::Image`] with what is wrong with it.
pub fn plan(path: &Path, bytes: &[u8], around: &Around) -> Result<Plan> {
    let (image, notes) = read(path, bytes, around.mem)?;
    let entry = Entry::Flat { eip: image.entry, eax: 0, ebx: 0, esp: stack_top(around.mem) };
    let plan = Plan::new(entry, writes_of(&image.parts)).with_loader(around, &image.parts);
    Ok(Plan { symbols: image.symbols, debug: DebugSections::of(path, bytes), notes, ..plan })
}

/// The symbols of an executable, wherever it is loaded; one without a symbol table has none.
///
/// # Errors
/// [`Error::Image`] when it is no 32-bit ELF file, or its symbol table is damaged.
pub fn symbols_of(path: &Path, bytes: &[u8]) -> Result<Vec<Symbol>> {
    let bad = |reason: &str| Error::image(path, reason.to_owned());
    check_ident(bytes).map_err(|reason| bad(&reason))?;
    let header = FileHeader32::<Le>::parse(bytes).map_err(|_| bad("the ELF header is cut short"))?;
    symbols(header, bytes).map_err(|_| bad("the symbol table is damaged"))
}

/// What an executable holds.
pub(super) struct Image<'a> {
    /// Its loaded segments by physical address.
    pub(super) parts: Vec<Part<'a>>,
    /// The physical address of its entry point.
    pub(super) entry: u32,
    pub(super) symbols: Vec<Symbol>,
}

/// Reads an executable and checks all of it against `mem` bytes of RAM; also gives notes for the user.
pub(super) fn read<'a>(path: &Path, bytes: &'a [u8], mem: u32) -> Result<(Image<'a>, Vec<String>)> {
    let bad = |reason: String| Error::image(path, reason);
    check_ident(bytes).map_err(bad)?;
    let header = FileHeader32::<Le>::parse(bytes).map_err(|_| bad("the ELF header is cut short".into()))?;
    check_kind(header).map_err(bad)?;
    let segments = program_headers(header, bytes).map_err(bad)?;
    let mut parts = Vec::new();
    for s in segments.iter().filter(|s| s.p_type(Le) == elf::PT_LOAD && s.p_memsz(Le) > 0) {
        parts.push(part(s, bytes).map_err(bad)?);
    }
    if parts.is_empty() {
        return Err(bad("the ELF file has no segment to load: link it as an executable".into()));
    }
    check_parts(path, &mut parts, mem)?;
    let entry = physical_entry(header.e_entry(Le), segments, &parts).map_err(bad)?;
    let mut notes = Vec::new();
    let symbols = symbols(header, bytes).unwrap_or_else(|_| {
        notes.push("the symbol table is damaged and was left out".to_owned());
        Vec::new()
    });
    Ok((Image { parts, entry, symbols }, notes))
}

/// Class and byte order, before anything is read in them.
fn check_ident(bytes: &[u8]) -> std::result::Result<(), String> {
    if !is_elf(bytes) {
        return Err("it is not an ELF file: it does not start with 7F 'ELF'".into());
    }
    if bytes.len() < size_of::<FileHeader32<Le>>() {
        return Err("the ELF header is cut short".into());
    }
    if bytes[5] == elf::ELFDATA2MSB.0 {
        return Err("it is a big-endian ELF file, for another processor: build it for i386".into());
    }
    match bytes[4] {
        c if c == elf::ELFCLASS32.0 => Ok(()),
        c if c == elf::ELFCLASS64.0 => {
            Err("it is a 64-bit ELF file, and this is a 32-bit machine: build it with -m32 (i386)".into())
        }
        c => Err(format!("its ELF class {c} is neither 32-bit nor 64-bit: the file is damaged")),
    }
}

/// Machine and type.
fn check_kind(header: &FileHeader32<Le>) -> std::result::Result<(), String> {
    let machine = header.e_machine(Le);
    if machine != elf::EM_386 {
        return Err(format!(
            "it is an ELF file for another processor (machine {}): build it for i386",
            machine.0
        ));
    }
    match header.e_type(Le) {
        elf::ET_EXEC => Ok(()),
        elf::ET_REL => Err("it is an object file, not an executable: link it first (ld -m elf_i386)".into()),
        elf::ET_DYN => {
            Err("it is position-independent or a shared library: link it with -static -no-pie".into())
        }
        elf::ET_CORE => Err("it is a core dump, not an executable".into()),
        t => Err(format!("its ELF type {} is not that of an executable", t.0)),
    }
}

fn program_headers<'a>(
    header: &FileHeader32<Le>,
    bytes: &'a [u8],
) -> std::result::Result<&'a [ProgramHeader32<Le>], String> {
    let (phnum, phoff) = (header.e_phnum(Le), header.e_phoff(Le));
    if phnum == 0 {
        return Err("the ELF file has no program headers: link it as an executable".into());
    }
    header.program_headers(Le, bytes).map_err(|_| {
        format!("its {phnum} program headers at {phoff:#x} are malformed or lie beyond the end of the file")
    })
}

/// One segment, with its bytes in the file.
fn part<'a>(s: &ProgramHeader32<Le>, bytes: &'a [u8]) -> std::result::Result<Part<'a>, String> {
    let (at, mem, file, offset) = (s.p_paddr(Le), s.p_memsz(Le), s.p_filesz(Le), s.p_offset(Le));
    if file > mem {
        return Err(format!(
            "the segment at {at:#x} has more bytes in the file ({file:#x}) than in memory ({mem:#x})"
        ));
    }
    let start = offset as usize;
    let content = start.checked_add(file as usize).and_then(|end| bytes.get(start..end));
    // A segment of .bss alone may have any offset.
    let content = if file == 0 { Some(&[][..]) } else { content };
    let bytes = content.ok_or_else(|| {
        format!("the segment at {at:#x} lies beyond the end of the file ({file:#x} bytes at {offset:#x}): the file is cut short")
    })?;
    Ok(Part { at, mem, bytes })
}

/// The entry point as a physical address, which must lie in a segment.
fn physical_entry(
    entry: u32,
    segments: &[ProgramHeader32<Le>],
    parts: &[Part<'_>],
) -> std::result::Result<u32, String> {
    for s in segments.iter().filter(|s| s.p_type(Le) == elf::PT_LOAD) {
        if let Some(offset) = entry.checked_sub(s.p_vaddr(Le))
            && offset < s.p_memsz(Le)
        {
            return Ok(s.p_paddr(Le).wrapping_add(offset));
        }
    }
    if parts.iter().any(|p| p.holds(entry)) {
        return Ok(entry);
    }
    Err(format!("its entry point {entry:#x} is in none of its segments: check ENTRY() in the linker script"))
}

/// Functions, objects and labels with a name and a place, by address. What the names take is bounded by the file.
fn symbols(header: &FileHeader32<Le>, bytes: &[u8]) -> object::read::Result<Vec<Symbol>> {
    // Section names are not needed, and a file may lack them.
    let sections: SectionTable<'_, FileHeader32<Le>> =
        SectionTable::new(header.section_headers(Le, bytes)?, StringTable::default());
    let table = sections.symbols(Le, bytes, elf::SHT_SYMTAB)?;
    let mut room = bytes.len();
    let mut out = Vec::new();
    for sym in table.iter() {
        let kind = sym.st_type();
        let wanted = kind == elf::STT_FUNC || kind == elf::STT_OBJECT || kind == elf::STT_NOTYPE;
        if !wanted || sym.is_undefined(Le) {
            continue;
        }
        let name = sym.name(Le, table.strings())?;
        if name.is_empty() || name.len() > MAX_NAME {
            continue;
        }
        let Some(left) = room.checked_sub(name.len()) else { break };
        room = left;
        let name = String::from_utf8_lossy(name).into_owned();
        out.push(Symbol { name, value: sym.st_value(Le), size: sym.st_size(Le) });
    }
    out.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
    Ok(out)
}

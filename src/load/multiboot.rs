//! Multiboot 1 kernels (Multiboot Specification 0.6.96): the header, where everything goes, and the start state.
//! The information structure is built in `info`.

mod info;

use super::dwarf::DebugSections;
use super::elf;
use super::guest::{Around, Module};
use super::part::{LEGACY, Part, check_parts, stack_top, writes_of};
use super::plan::{Entry, Plan};
use super::symbol::Symbol;
use crate::addr::{GuestPhys, PAGE_SIZE};
use crate::error::{Error, Result};
use info::Placed;
use std::path::Path;

/// First word of the header.
const MAGIC: u32 = 0x1bad_b002;
/// First word of a Multiboot 2 header.
const MAGIC2: u32 = 0xe852_50d6;
/// In EAX at the start: the loader is a Multiboot one.
const LOADED: u32 = 0x2bad_b002;
/// The header lies within this many bytes of the file.
const REACH: usize = 8192;
/// How far a misplaced header is looked for, to tell the user.
const SUSPECT: usize = 1 << 20;

/// Header flag: the kernel wants to know the video mode.
const WANT_VIDEO: u32 = 1 << 2;
/// Header flags that a loader must understand.
const REQUIRED: u32 = 0xffff;
/// Those we do understand: page-aligned modules, memory sizes, video.
const KNOWN: u32 = 0b111;
/// Header flag: the address fields hold (the "a.out kludge").
const ADDRESSES: u32 = 1 << 16;

/// The little-endian word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn is_header(bytes: &[u8], at: usize) -> bool {
    let sum = || Some(MAGIC.wrapping_add(word(bytes, at + 4)?).wrapping_add(word(bytes, at + 8)?));
    word(bytes, at) == Some(MAGIC) && sum() == Some(0)
}

/// The offset of the header in the first 8 KiB of a file, if there is one.
pub fn find(head: &[u8]) -> Option<usize> {
    let head = &head[..head.len().min(REACH)];
    (0..head.len()).step_by(4).find(|&at| is_header(head, at))
}

/// Whether a file has a Multiboot 2 header (in its first 32 KiB, at a multiple of 8).
pub fn is_multiboot2(head: &[u8]) -> bool {
    let fields = |at| Some((word(head, at)?, word(head, at + 4)?, word(head, at + 8)?, word(head, at + 12)?));
    (0..head.len().min(32 << 10)).step_by(8).any(|at| {
        fields(at).is_some_and(|(magic, arch, len, sum)| {
            magic == MAGIC2 && magic.wrapping_add(arch).wrapping_add(len).wrapping_add(sum) == 0
        })
    })
}

/// Why a file that should be a Multiboot kernel is none.
pub fn why_not(head: &[u8]) -> String {
    let reach = &head[..head.len().min(REACH)];
    if let Some(at) = (0..reach.len()).step_by(4).find(|&at| word(reach, at) == Some(MAGIC)) {
        return format!("the Multiboot header at offset {at:#x} is cut short or its checksum is wrong");
    }
    out_of_reach(head).unwrap_or_else(|| "it has no Multiboot header in its first 8 KiB".into())
}

/// The sentence about a valid header that lies where no loader looks.
fn out_of_reach(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(SUSPECT)];
    let at = (REACH - 8..bytes.len()).step_by(4).find(|&at| is_header(bytes, at))?;
    Some(format!(
        "its Multiboot header is at offset {at:#x}, out of reach: it must be in the first 8 KiB of the file, so put its section first in the linker script"
    ))
}

/// Refuses an image whose Multiboot header is out of reach, unless the user named its format.
pub(super) fn refuse_out_of_reach(path: &Path, bytes: &[u8]) -> Result<()> {
    match out_of_reach(bytes) {
        Some(reason) => Err(Error::image(path, reason)),
        None => Ok(()),
    }
}

/// What of the kernel goes where, and where it starts.
struct Kernel<'a> {
    parts: Vec<Part<'a>>,
    entry: u32,
    symbols: Vec<Symbol>,
}

/// Plans the start of the kernel whose header is at `header`.
///
/// # Errors
/// [`Error::Image`] with what is wrong with it, or does not fit.
pub fn plan(path: &Path, bytes: &[u8], header: usize, around: &Around) -> Result<Plan> {
    let flags =
        word(bytes, header + 4).ok_or_else(|| Error::image(path, "the Multiboot header is cut short"))?;
    if flags & REQUIRED & !KNOWN != 0 {
        return Err(Error::image(
            path,
            format!("its Multiboot header demands unknown features (flags {:#x})", flags & REQUIRED & !KNOWN),
        ));
    }
    let (kernel, mut notes) = kernel(path, bytes, header, flags, around.mem)?;
    if flags & WANT_VIDEO != 0 {
        notes.push("it asks for a video mode; the screen stays in VGA text mode".into());
    }
    let mut parts = kernel.parts;
    let placed = place_modules(path, &mut parts, &around.modules, around.mem)?;
    let info = info::build(&cmdline(path, around), &placed, around);
    let at = place_info(path, &mut parts, info.len(), around.mem)?;
    let len = info.len() as u32;
    let mut writes = writes_of(&parts);
    writes.push((GuestPhys(at), info.at(at)));
    let entry = Entry::Flat { eip: kernel.entry, eax: LOADED, ebx: at, esp: stack_top(around.mem) };
    let debug = DebugSections::of(path, bytes);
    parts.push(Part { at, mem: len, bytes: &[] });
    let plan = Plan::new(entry, writes).with_loader(around, &parts);
    Ok(Plan { symbols: kernel.symbols, debug, notes, ..plan })
}

/// The kernel's name and the user's words after it, as boot loaders pass it.
fn cmdline(path: &Path, around: &Around) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match &around.cmdline {
        Some(args) => format!("{name} {args}"),
        None => name,
    }
}

fn kernel<'a>(
    path: &Path,
    bytes: &'a [u8],
    header: usize,
    flags: u32,
    mem: u32,
) -> Result<(Kernel<'a>, Vec<String>)> {
    if flags & ADDRESSES != 0 {
        let kernel = by_addresses(bytes, header).map_err(|reason| Error::image(path, reason))?;
        let mut kernel = kernel;
        check_parts(path, &mut kernel.parts, mem)?;
        return Ok((kernel, Vec::new()));
    }
    if !elf::is_elf(bytes) {
        return Err(Error::image(
            path,
            "its Multiboot header gives no load addresses (flag 16), and the file is no ELF: set that flag, or link it as ELF",
        ));
    }
    let (image, notes) = elf::read(path, bytes, mem)?;
    Ok((Kernel { parts: image.parts, entry: image.entry, symbols: image.symbols }, notes))
}

/// The header's own address fields (3.1.3): header, load, load end, bss end, entry.
fn by_addresses(bytes: &[u8], header: usize) -> std::result::Result<Kernel<'_>, String> {
    let field = |i: usize| {
        word(bytes, header + 12 + 4 * i)
            .ok_or_else(|| "the address fields of its Multiboot header are cut short".to_string())
    };
    let (header_addr, load, load_end, bss_end, entry) =
        (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
    let before = header_addr.checked_sub(load).filter(|&n| n as usize <= header).ok_or_else(|| {
        format!("its Multiboot header's load address {load:#x} does not fit its own address {header_addr:#x} at file offset {header:#x}")
    })?;
    let start = header - before as usize;
    let available = bytes.len() - start;
    let len = match load_end {
        0 => available,
        end => end
            .checked_sub(load)
            .ok_or(format!("its load end address {end:#x} is below its load address {load:#x}"))?
            as usize,
    };
    if len > available {
        return Err(format!(
            "its Multiboot header wants {len:#x} bytes loaded and the file has {available:#x}: the file is cut short"
        ));
    }
    let len32 = u32::try_from(len).map_err(|_| "the image is larger than 4 GiB".to_string())?;
    let end =
        load.checked_add(len32).ok_or(format!("{len:#x} bytes at {load:#x} would reach beyond 4 GiB"))?;
    let mem = match bss_end {
        0 => len32,
        bss if bss >= end => bss - load,
        bss => return Err(format!("its bss end address {bss:#x} is below the end of its data {end:#x}")),
    };
    let part = Part { at: load, mem, bytes: &bytes[start..start + len] };
    if !part.holds(entry) {
        return Err(format!("its entry point {entry:#x} is outside of the loaded image"));
    }
    Ok(Kernel { parts: vec![part], entry, symbols: Vec::new() })
}

/// Puts the modules on pages above the kernel.
fn place_modules<'a>(
    path: &Path,
    parts: &mut Vec<Part<'a>>,
    modules: &'a [Module],
    mem: u32,
) -> Result<Vec<Placed<'a>>> {
    let mut next = parts.iter().map(Part::end).max().unwrap_or(0).max(LEGACY.end);
    let mut placed = Vec::new();
    for module in modules {
        let at = next.next_multiple_of(u64::from(PAGE_SIZE));
        next = at + module.bytes.len() as u64;
        if next > u64::from(mem) {
            return Err(Error::image(
                path,
                format!(
                    "the module `{}` ({} bytes) does not fit above the kernel: give at least --mem {}K",
                    module.string,
                    module.bytes.len(),
                    next.div_ceil(4096) * 4
                ),
            ));
        }
        // Both are below `mem`, which is 32 bits.
        let at = at as u32;
        parts.push(Part { at, mem: module.bytes.len() as u32, bytes: &module.bytes });
        placed.push(Placed { at, module });
    }
    Ok(placed)
}

/// Finds room for the information structure: low memory if the kernel leaves some, else above everything.
fn place_info(path: &Path, parts: &mut [Part<'_>], len: usize, mem: u32) -> Result<u32> {
    const LOW: std::ops::Range<u64> = 0x1_0000..0x9_0000;
    let len = len as u64;
    parts.sort_by_key(|p| p.at);
    let mut at = LOW.start;
    for p in parts.iter() {
        if u64::from(p.at) < at + len && p.end() > at {
            at = p.end().next_multiple_of(16);
        }
    }
    if at + len > LOW.end.min(u64::from(mem)) {
        let top = parts.iter().map(Part::end).max().unwrap_or(0).max(LEGACY.end);
        at = top.next_multiple_of(u64::from(PAGE_SIZE));
    }
    if at + len > u64::from(mem) {
        return Err(Error::image(
            path,
            "no memory is left for the Multiboot information: give a larger --mem",
        ));
    }
    Ok(at as u32)
}

//! Guest images: what a file is, and the plan that brings it into a machine.
//!
//! [`identify`] looks at the head of a file, [`plan`] turns the whole of it into a [`Plan`]: bytes to store, and
//! where and in which state the processor starts; `cli` reads the files, [`Plan::carry_out`] does it. Every field of
//! an image is taken as hostile.

pub mod acpi;
pub mod bzimage;
pub mod disk;
mod dwarf;
pub mod elf;
pub mod flat;
mod identify;
mod memory_map;
pub mod multiboot;

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::machine::Machine;
pub use dwarf::DebugSections;
pub use identify::{HEAD, identify};
use std::path::Path;

/// What is to be stored in RAM before the start, and how the processor starts. RAM is zero at power-on, so the
/// zeroed parts of an image (.bss) need no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where which bytes go; disjoint, and all of them in RAM.
    pub writes: Vec<(GuestPhys, Vec<u8>)>,
    /// How the processor starts.
    pub entry: Entry,
    /// What the image calls its addresses, in order of address.
    pub symbols: Vec<Symbol>,
    /// Its debug information, if it has any.
    pub debug: Option<DebugSections>,
    /// What the user should know: things asked for by the image and not given.
    pub notes: Vec<String>,
}

/// The processor's state at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Real mode at `cs:ip`; the other segment registers hold `cs` too, SP is 0xFFFE, interrupts are off.
    Real {
        /// Code segment.
        cs: u16,
        /// Offset of the first instruction.
        ip: u16,
    },
    /// 32-bit protected mode with flat 4 GiB segments, paging and interrupts off, A20 open.
    Flat {
        /// The first instruction.
        eip: u32,
        /// EAX (0x2BADB002 for Multiboot).
        eax: u32,
        /// EBX (the Multiboot information structure).
        ebx: u32,
        /// Top of a small stack in low memory.
        esp: u32,
    },
    /// As `Flat`, with the segments that the Linux boot protocol asks for.
    Linux {
        /// The first instruction.
        eip: u32,
        /// ESI: the boot parameters.
        esi: u32,
        /// The global descriptor table that CS (10h) and the data segments (18h) come from.
        gdt: u32,
    },
    /// The reset vector: firmware runs and boots the disk.
    Firmware,
}

/// One name from an image's symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name, as in the file.
    pub name: String,
    /// Its (virtual) address.
    pub value: u32,
    /// Bytes it covers; 0 where the file does not say.
    pub size: u32,
}

/// The name for `address` among `symbols`, which are in the order of their addresses: the symbol before it, and how far
/// it is from there.
pub fn symbol_at(symbols: &[Symbol], address: u32) -> Option<String> {
    let n = symbols.partition_point(|s| s.value <= address);
    let symbol = symbols[..n].iter().rev().find(|s| !s.name.is_empty())?;
    let offset = address - symbol.value;
    let inside = symbol.size == 0 || offset < symbol.size;
    inside.then(|| if offset == 0 { symbol.name.clone() } else { format!("{}+{offset:#x}", symbol.name) })
}

/// What a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Bytes without a header.
    Flat,
    /// A 32-bit ELF executable that is started as it is.
    Elf,
    /// A Multiboot 1 kernel; its header is at this offset.
    Multiboot(usize),
    /// A Linux kernel, as its boot protocol has it.
    Linux,
    /// A hard disk image.
    Disk,
    /// A floppy image.
    Floppy,
    /// A CD image.
    Cdrom,
}

/// What the user says a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Find out.
    #[default]
    Auto,
    /// Bytes without a header.
    Flat,
    /// An ELF executable, even if it has a Multiboot header.
    Elf,
    /// A Multiboot 1 kernel.
    Multiboot,
    /// A hard disk image.
    Disk,
    /// A floppy image.
    Floppy,
    /// A CD image.
    Cdrom,
}

/// The mode in which a flat binary starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 16-bit real mode.
    Real,
    /// 32-bit protected mode.
    Flat,
}

/// A boot module: a file handed to a Multiboot kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What the kernel is told: the file's name and its arguments.
    pub string: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// What is around the image: the machine it goes into and what the user passes to it.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Bytes of RAM.
    pub mem: u32,
    /// The command line, for Multiboot and Linux.
    pub cmdline: Option<String>,
    /// The initial RAM disk, for Linux.
    pub initrd: Option<Vec<u8>>,
    /// The modules, for Multiboot.
    pub modules: Vec<Module>,
    /// Where a flat binary goes.
    pub at: Option<u32>,
    /// How a flat binary starts.
    pub mode: Option<Mode>,
    /// Whether the machine has a hard disk that the kernel can be told it came from.
    pub has_disk: bool,
    /// Whether the user named the format: then no other one is suspected.
    pub named: bool,
}

/// Where the small stack of a 32-bit start ends, in a machine with all of its low memory.
const STACK_TOP: u32 = 0x9_f000;
/// The VGA window and the firmware region: no place for an image.
const LEGACY: std::ops::Range<u64> = 0xa_0000..0x10_0000;

/// Plans the start of `guest`, whose file content is `bytes` (empty for a disk, floppy or CD: those are attached).
///
/// # Errors
/// [`Error::Image`] when the image cannot be loaded, [`Error::Usage`] when an option does not go with it.
pub fn plan(path: &Path, bytes: &[u8], guest: Guest, around: &Around) -> Result<Plan> {
    check_options(guest, around)?;
    match guest {
        Guest::Flat => flat::plan(path, bytes, around),
        Guest::Elf => elf::plan(path, bytes, around),
        Guest::Multiboot(at) => multiboot::plan(path, bytes, at, around),
        Guest::Linux => bzimage::plan(path, bytes, around),
        Guest::Disk | Guest::Floppy | Guest::Cdrom => Ok(Plan::firmware()),
    }
}

/// Refuses options that would do nothing for this kind of guest.
fn check_options(guest: Guest, around: &Around) -> Result<()> {
    let multiboot = matches!(guest, Guest::Multiboot(_));
    let what = guest.describe();
    let refuse = |option: &str, for_what: &str| {
        Err(Error::Usage(format!("{option} is for {for_what}, and this guest is {what}")))
    };
    if around.cmdline.is_some() && !multiboot && guest != Guest::Linux {
        return refuse("--append", "a Multiboot or Linux kernel");
    }
    if around.initrd.is_some() && guest != Guest::Linux {
        return refuse("--initrd", "a Linux kernel");
    }
    if !around.modules.is_empty() && !multiboot {
        return refuse("--module", "a Multiboot kernel");
    }
    if around.at.is_some() && guest != Guest::Flat {
        return refuse("--at", "a flat binary");
    }
    if around.mode.is_some() && guest != Guest::Flat {
        return refuse("--mode", "a flat binary");
    }
    Ok(())
}

impl Guest {
    /// The kind, with its article.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Flat => "a flat binary",
            Self::Elf => "an ELF executable",
            Self::Multiboot(_) => "a Multiboot kernel",
            Self::Linux => "a Linux kernel",
            Self::Disk => "a hard disk image",
            Self::Floppy => "a floppy image",
            Self::Cdrom => "a CD image",
        }
    }
}

impl Plan {
    /// Stores the image and sets the processor up for it, the chips as a BIOS leaves them.
    pub fn carry_out(&self, machine: &mut Machine) {
        for (at, bytes) in &self.writes {
            machine.store(*at, bytes);
        }
        if self.entry != Entry::Firmware {
            machine.chips_as_after_post();
        }
        match self.entry {
            Entry::Real { cs, ip } => machine.start_real(cs, ip),
            Entry::Flat { eip, eax, ebx, esp } => machine.start_flat(eip, eax, ebx, esp),
            Entry::Linux { eip, esi, gdt } => machine.start_linux(eip, esi, gdt),
            Entry::Firmware => {}
        }
    }

    /// Nothing to store: firmware starts and boots what is attached.
    pub fn firmware() -> Self {
        Self {
            writes: Vec::new(),
            entry: Entry::Firmware,
            symbols: Vec::new(),
            debug: None,
            notes: Vec::new(),
        }
    }
}

/// A part of an image: where it goes, how much memory it takes, and which bytes of the file it comes from.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    at: u32,
    mem: u32,
    bytes: &'a [u8],
}

impl Part<'_> {
    fn end(&self) -> u64 {
        u64::from(self.at) + u64::from(self.mem)
    }
    fn holds(&self, at: u32) -> bool {
        at >= self.at && u64::from(at) < self.end()
    }
}

/// Sorts `parts` by address and checks that they lie in RAM, off the legacy regions, and apart from each other.
fn check_parts(path: &Path, parts: &mut [Part<'_>], mem: u32) -> Result<()> {
    parts.sort_by_key(|p| p.at);
    for p in parts.iter() {
        check_range(path, p.at, u64::from(p.mem), mem)?;
    }
    for pair in parts.windows(2) {
        if pair[0].end() > u64::from(pair[1].at) {
            return Err(Error::image(
                path,
                format!(
                    "two of its segments overlap, at {:#x} and {:#x}: check the linker script's addresses",
                    pair[0].at, pair[1].at
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that `len` bytes at `at` can be loaded into a machine with `mem` bytes of RAM.
fn check_range(path: &Path, at: u32, len: u64, mem: u32) -> Result<()> {
    let end = u64::from(at) + len;
    if end > 1 << 32 {
        return Err(Error::image(path, format!("{len:#x} bytes at {at:#x} would reach beyond 4 GiB")));
    }
    if end > u64::from(mem) {
        let reason = format!(
            "{len:#x} bytes at {at:#x} do not fit into {} of memory: give at least --mem {}K",
            kib(mem),
            end.div_ceil(4096) * 4
        );
        return Err(Error::image(path, reason));
    }
    if u64::from(at) < LEGACY.end && end > LEGACY.start {
        return Err(Error::image(
            path,
            format!(
                "{len:#x} bytes at {at:#x} would cover the VGA window or firmware at A0000-FFFFF: link it lower, or at 1 MiB and up"
            ),
        ));
    }
    Ok(())
}

/// A memory size for a message.
fn kib(mem: u32) -> String {
    if mem.is_multiple_of(1 << 20) { format!("{} MiB", mem >> 20) } else { format!("{} KiB", mem >> 10) }
}

/// The stores of `parts`.
fn writes_of(parts: &[Part<'_>]) -> Vec<(GuestPhys, Vec<u8>)> {
    parts.iter().filter(|p| !p.bytes.is_empty()).map(|p| (GuestPhys(p.at), p.bytes.to_vec())).collect()
}

/// Top of the stack that a 32-bit start gets.
fn stack_top(mem: u32) -> u32 {
    STACK_TOP.min(mem) & !0xf
}

//! What a guest is, and what the user passes to it.

use clap::ValueEnum;

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

/// What the user says a file is (`--format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Detect it from the file's head
    #[default]
    Auto,
    /// Bytes without a header
    Flat,
    /// An ELF executable, started as it is
    Elf,
    /// A Multiboot 1 kernel
    Multiboot,
    /// A raw hard disk image
    Disk,
    /// A raw floppy image
    Floppy,
    /// A CD image
    Cdrom,
}

/// The mode in which a flat binary starts (`--mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// 16-bit real mode
    Real,
    /// 32-bit protected mode with flat segments
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
    /// Whether the guest gets nothing that its boot protocol does not promise.
    pub strict: bool,
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

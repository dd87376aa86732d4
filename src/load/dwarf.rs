//! The debug information of an ELF file, as it lies there: DWARF sections, compressed or not. What they say is read by
//! `debug::source`, when somebody asks.

use object::read::elf::ElfFile32;
use object::{CompressedData, CompressionFormat, LittleEndian, Object, ObjectSection};
use std::path::{Path, PathBuf};

/// Bytes that the sections of one file may have, unpacked.
const MOST: u64 = 512 << 20;

/// The sections that file:line and function names come from.
const NAMES: [&str; 10] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_types",
];

/// The debug information of a file, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSections {
    sections: Vec<Section>,
    /// The folder of the file: sources may be near it.
    pub folder: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    name: &'static str,
    format: CompressionFormat,
    bytes: Vec<u8>,
    unpacked: u64,
}

impl DebugSections {
    /// Those of the ELF file `bytes` at `path`; none if it has no line table, or is no file to find any in.
    pub fn of(path: &Path, bytes: &[u8]) -> Option<Self> {
        let file = ElfFile32::<LittleEndian>::parse(bytes).ok()?;
        let section = |name: &&'static str| {
            let data = file.section_by_name(name)?.compressed_data().ok()?;
            let CompressedData { format, data, uncompressed_size } = data;
            Some(Section { name, format, bytes: data.to_vec(), unpacked: uncompressed_size })
        };
        let sections: Vec<Section> = NAMES.iter().filter_map(section).collect();
        sections
            .iter()
            .any(|s| s.name == ".debug_line" && !s.bytes.is_empty())
            .then(|| Self { sections, folder: path.parent().unwrap_or(Path::new("")).to_owned() })
    }

    /// The content of the sections by name.
    ///
    /// # Errors
    /// A sentence: they are damaged, packed in an unknown way, or too large.
    pub fn unpack(&self) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
        let total = self.sections.iter().fold(0u64, |sum, s| sum.saturating_add(s.unpacked));
        if total > MOST {
            return Err(format!("it has {} MiB, and {} are read at most", total >> 20, MOST >> 20));
        }
        self.sections.iter().map(|s| Ok((s.name, s.unpack()?))).collect()
    }
}

impl Section {
    fn unpack(&self) -> Result<Vec<u8>, String> {
        let packed =
            CompressedData { format: self.format, data: &self.bytes, uncompressed_size: self.unpacked };
        let unpacked = packed.decompress().map_err(|_| format!("{} cannot be unpacked", self.name))?;
        Ok(unpacked.into_owned())
    }
}

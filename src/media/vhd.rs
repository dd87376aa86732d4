//! VHD images (Virtual Hard Disk Image Format Specification 1.0, Microsoft 2006), to read: fixed, which is a
//! raw image and a footer, and dynamic, where a table says which blocks are there. Numbers are big-endian.

use super::disk::SECTOR;
use super::file::{HostFile, be32, be64};
use super::reader::{Image, by_units};
use super::table::Table;
use crate::error::{Error, Result};
use std::io;

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// The table's word for a block that is not there: all zeros.
const ABSENT: u32 = u32::MAX;
/// The largest disk that the format has: 2040 GiB.
const LARGEST: u64 = 2040 << 30;

/// Whether `tail`, the last 512 bytes of a file, is the footer of a fixed disk, whole.
pub(super) fn is_fixed_footer(tail: &[u8]) -> bool {
    tail.len() == SECTOR && tail.starts_with(b"conectix") && be32(tail, 60) == FIXED && sum_fits(tail, 64)
}

/// The one's complement of the sum of all bytes but the sum itself, at `at`.
fn sum_fits(bytes: &[u8], at: usize) -> bool {
    let all: u32 = bytes.iter().map(|b| u32::from(*b)).sum();
    let own: u32 = bytes[at..at + 4].iter().map(|b| u32::from(*b)).sum();
    !(all - own) == be32(bytes, at)
}

/// An opened image.
pub(super) struct Vhd {
    file: HostFile,
    sectors: u64,
    blocks: Option<Blocks>,
}

/// Where a dynamic disk's blocks are.
struct Blocks {
    /// Sectors of data in a block.
    size: u64,
    /// Sectors of bitmap before them.
    bitmap: u64,
    /// The sector of each block in the file.
    table: Table<4>,
}

impl Vhd {
    /// Reads the footer, or its copy at the begin, and what it leads to.
    pub(super) fn open(file: HostFile) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::image(file.path(), reason));
        let footer = file.part(file.len().saturating_sub(512), 512)?;
        let valid = |f: &[u8]| f.len() == SECTOR && f.starts_with(b"conectix") && sum_fits(f, 64);
        let footer = if valid(&footer) { footer } else { file.part(0, 512)? };
        if !valid(&footer) {
            return refuse("it is no VHD image, or a damaged one: its footer's checksum does not fit");
        }
        let size = be64(&footer, 48);
        if size == 0 || !size.is_multiple_of(SECTOR as u64) || size > LARGEST {
            return refuse("the VHD image is damaged: its size makes no sense");
        }
        let sectors = size / SECTOR as u64;
        match be32(&footer, 60) {
            FIXED if file.len() < size + SECTOR as u64 => refuse("the VHD image is cut short"),
            FIXED => Ok(Self { file, sectors, blocks: None }),
            DYNAMIC => {
                let blocks = Blocks::read(&file, be64(&footer, 16), sectors)?;
                Ok(Self { file, sectors, blocks: Some(blocks) })
            }
            DIFFERENCING => refuse(
                "it is a differencing VHD image, and those are not read: merge it with its parent first",
            ),
            kind => refuse(&format!("the VHD image is of type {kind}: fixed and dynamic ones are read")),
        }
    }
}

impl Blocks {
    fn read(file: &HostFile, at: u64, sectors: u64) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::image(file.path(), reason));
        let header = file.part(at, 1024)?;
        if header.len() < 1024 || !header.starts_with(b"cxsparse") || !sum_fits(&header, 36) {
            return refuse("the VHD image is damaged: its dynamic header's checksum does not fit");
        }
        let (table, entries, size) = (be64(&header, 16), u64::from(be32(&header, 28)), be32(&header, 32));
        if !size.is_power_of_two() || !(SECTOR as u32..=256 << 20).contains(&size) {
            return refuse("the VHD image is damaged: its block size makes no sense");
        }
        let size = u64::from(size) / SECTOR as u64;
        let needed = sectors.div_ceil(size);
        let table = Table::new(file, table, needed).filter(|_| entries >= needed);
        let Some(table) = table else {
            return refuse("the VHD image is damaged: its block table is too short");
        };
        Ok(Self { size, bitmap: size.div_ceil(8 * SECTOR as u64), table })
    }
}

impl Image for Vhd {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let Some(blocks) = &mut self.blocks else { return self.file.read(lba * SECTOR as u64, buf) };
        by_units(lba, buf, blocks.size, |block, within, piece| {
            match u32::from_be_bytes(blocks.table.get(&self.file, block)?) {
                ABSENT => {
                    piece.fill(0);
                    Ok(())
                }
                at => self.file.read((u64::from(at) + blocks.bitmap + within) * SECTOR as u64, piece),
            }
        })
    }
}

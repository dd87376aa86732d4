//! VMDK images (VMware Virtual Disk Format 1.1, VMware 2007), to read: a sparse file with its descriptor
//! inside (monolithicSparse, streamOptimized), or a text that names the extents, flat, sparse or zero
//! (monolithicFlat, twoGbMaxExtentFlat, twoGbMaxExtentSparse). Numbers are little-endian and count sectors.

use super::disk::SECTOR;
use super::file::{HostFile, le32, le64};
use super::files::Files;
use super::reader::{Image, by_units};
use super::table::Table;
use super::unpack::{Packing, unpack};
use crate::error::{Error, Result};
use std::io;
use std::path::Path;

const MAGIC: &[u8] = b"KDMV";
/// The header's word for "look into the footer".
const IN_FOOTER: u64 = u64::MAX;
/// Flags of the header: entries of 1 mean zeros; grains are compressed.
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
/// Bytes of a descriptor at most.
const DESCRIPTOR: u64 = 1 << 20;
/// Sectors of a grain at most: 64 MiB, far more than anyone makes.
const LARGEST_GRAIN: u64 = 1 << 17;
/// Sectors of a compressed grain at most: 2 MiB. One is unpacked in memory as a whole; who makes such images
/// takes 64 KiB.
const LARGEST_PACKED: u64 = 1 << 12;
/// Extents at most: 2 GiB each.
const EXTENTS: usize = 2048;
/// Sectors of an image at most: 64 TiB.
const LARGEST: u64 = 1 << 37;

/// Whether a file that begins with `head` is a descriptor.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    const FIRST: &[u8] = b"# Disk Descriptor";
    head.len() >= FIRST.len() && head[..FIRST.len()].eq_ignore_ascii_case(FIRST)
}

/// An opened image: its extents, in order.
pub(super) struct Vmdk {
    extents: Vec<Extent>,
    sectors: u64,
    /// The extent that was read last: only it has anything in memory.
    last: usize,
}

struct Extent {
    first: u64,
    sectors: u64,
    data: Data,
}

enum Data {
    Zero,
    Flat(HostFile, u64),
    Sparse(Sparse),
}

impl Vmdk {
    /// Reads the descriptor and opens what it names.
    pub(super) fn open(file: HostFile, files: &mut Files) -> Result<Self> {
        let head = file.part(0, 512)?;
        if is_descriptor(&head) {
            return Self::of_descriptor(&file, files);
        }
        if !head.starts_with(MAGIC) {
            return Err(Error::image(file.path(), "it is no VMDK image of version 4, the one that is read"));
        }
        let sparse = Sparse::open(file, true)?;
        let sectors = sparse.capacity;
        let extents = vec![Extent { first: 0, sectors, data: Data::Sparse(sparse) }];
        Ok(Self { extents, sectors, last: 0 })
    }

    fn of_descriptor(file: &HostFile, files: &mut Files) -> Result<Self> {
        let refuse = |reason: String| Err(Error::image(file.path(), reason));
        let text = String::from_utf8_lossy(&file.part(0, DESCRIPTOR)?).into_owned();
        no_parent(file.path(), &text)?;
        let (mut extents, mut sectors) = (Vec::new(), 0u64);
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            if !matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) {
                continue;
            }
            let len = words.next().and_then(|n| n.parse::<u64>().ok()).filter(|n| (1..=LARGEST).contains(n));
            let (Some(len), Some(kind)) = (len, words.next()) else {
                return refuse(format!("the VMDK descriptor has an extent that makes no sense: {line}"));
            };
            let data = extent(file, kind, line, len, files)?;
            extents.push(Extent { first: sectors, sectors: len, data });
            sectors += len;
            if extents.len() > EXTENTS || sectors > LARGEST {
                return refuse("the VMDK descriptor has too many extents".into());
            }
        }
        if extents.is_empty() {
            return refuse("the VMDK descriptor names no extent".into());
        }
        Ok(Self { extents, sectors, last: 0 })
    }
}

/// The extent that a line of the descriptor names: `RW 4192256 SPARSE "disk-s001.vmdk"`.
fn extent(descriptor: &HostFile, kind: &str, line: &str, len: u64, files: &mut Files) -> Result<Data> {
    let refuse = |reason: String| Err(Error::image(descriptor.path(), reason));
    if kind == "ZERO" {
        return Ok(Data::Zero);
    }
    let mut quoted = line.splitn(3, '"').skip(1);
    let (Some(name), Some(after)) = (quoted.next(), quoted.next()) else {
        return refuse(format!("the VMDK descriptor has an extent without a file: {line}"));
    };
    if !matches!(kind, "FLAT" | "SPARSE") {
        return refuse(format!(
            "the VMDK image has an extent of type {kind}: FLAT, SPARSE and ZERO are read"
        ));
    }
    let path = files.resolve(descriptor.path(), Path::new(name))?;
    match kind {
        "FLAT" => {
            let at = after.trim();
            let at = if at.is_empty() { Some(0) } else { at.parse::<u64>().ok() };
            let file = files.open(&path, false)?;
            match at.filter(|at| *at <= LARGEST && (at + len) * SECTOR as u64 <= file.len()) {
                Some(at) => Ok(Data::Flat(file, at * SECTOR as u64)),
                None => Err(Error::image(path, "the VMDK extent is shorter than its descriptor says")),
            }
        }
        _ => {
            let sparse = Sparse::open(files.open(&path, false)?, false)?;
            if sparse.capacity < len {
                return Err(Error::image(path, "the VMDK extent is smaller than its descriptor says"));
            }
            Ok(Data::Sparse(sparse))
        }
    }
}

/// Refuses an image that holds only what differs from another one.
fn no_parent(path: &Path, text: &str) -> Result<()> {
    let parent = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("parentCID").then(|| value.trim().to_ascii_lowercase())
    });
    match parent {
        Some(id) if id != "ffffffff" => Err(Error::image(
            path,
            "the VMDK image stands on a parent, and such are not read: convert it with `qemu-img convert -O qcow2`",
        )),
        _ => Ok(()),
    }
}

/// A file of grains with the tables that find them.
struct Sparse {
    file: HostFile,
    capacity: u64,
    /// Sectors in a grain.
    grain: u64,
    /// Grains in a table.
    per_table: u64,
    directory: Table<4>,
    zero_grains: bool,
    compressed: bool,
    /// The table that was used last, and its place.
    table: (u32, Vec<u32>),
    /// The grain that was unpacked last, and its place.
    unpacked: (u32, Vec<u8>),
}

impl Sparse {
    fn open(file: HostFile, with_descriptor: bool) -> Result<Self> {
        let damaged = |what: &str| Error::image(file.path(), format!("the VMDK image is damaged: {what}"));
        let mut header = file.part(0, 512)?;
        if header.len() == SECTOR && header.starts_with(MAGIC) && le64(&header, 56) == IN_FOOTER {
            // The footer stands before the marker for the end of the stream.
            header = file.part(file.len().saturating_sub(1024), 512)?;
        }
        if header.len() < SECTOR || !header.starts_with(MAGIC) {
            return Err(damaged("there is no header where one should be"));
        }
        let version = le32(&header, 4);
        if !(1..=3).contains(&version) {
            return Err(Error::image(
                file.path(),
                format!("the VMDK image is of version {version}: 1 to 3 are read"),
            ));
        }
        let flags = le32(&header, 8);
        let (capacity, grain) = (le64(&header, 12), le64(&header, 20));
        let per_table = u64::from(le32(&header, 44));
        if capacity == 0 || capacity > LARGEST || !grain.is_power_of_two() || grain > LARGEST_GRAIN {
            return Err(damaged("its capacity or grain size makes no sense"));
        }
        if !(1..=1 << 16).contains(&per_table) {
            return Err(damaged("its tables' size makes no sense"));
        }
        if with_descriptor {
            let at = le64(&header, 28).saturating_mul(SECTOR as u64);
            let len = le64(&header, 36).saturating_mul(SECTOR as u64).min(DESCRIPTOR);
            no_parent(file.path(), &String::from_utf8_lossy(&file.part(at, len)?))?;
        }
        let entries = capacity.div_ceil(grain * per_table);
        let directory = Table::new(&file, le64(&header, 56).saturating_mul(SECTOR as u64), entries);
        let Some(directory) = directory else {
            return Err(damaged("its grain directory is cut short"));
        };
        if flags & COMPRESSED != 0 && grain > LARGEST_PACKED {
            return Err(damaged("its compressed grains are too large"));
        }
        Ok(Self {
            file,
            capacity,
            grain,
            per_table,
            directory,
            zero_grains: flags & ZERO_GRAINS != 0,
            compressed: flags & COMPRESSED != 0,
            table: (0, Vec::new()),
            unpacked: (0, Vec::new()),
        })
    }

    /// The sector of grain `n` in the file; 0 for one that is not there.
    fn locate(&mut self, n: u64) -> io::Result<u32> {
        let at = u32::from_le_bytes(self.directory.get(&self.file, n / self.per_table)?);
        if at == 0 {
            return Ok(0);
        }
        if self.table.0 != at || self.table.1.is_empty() {
            let mut bytes = vec![0; self.per_table as usize * 4];
            self.file.read(u64::from(at) * SECTOR as u64, &mut bytes)?;
            self.table = (at, (0..self.per_table as usize).map(|i| le32(&bytes, i * 4)).collect());
        }
        let entry = self.table.1[(n % self.per_table) as usize];
        Ok(if self.zero_grains && entry == 1 { 0 } else { entry })
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        by_units(lba, buf, self.grain, |grain, within, piece| match self.locate(grain)? {
            0 => {
                piece.fill(0);
                Ok(())
            }
            at if self.compressed => {
                self.unpack(at)?;
                let within = within as usize * SECTOR;
                piece.copy_from_slice(&self.unpacked.1[within..within + piece.len()]);
                Ok(())
            }
            at => self.file.read((u64::from(at) + within) * SECTOR as u64, piece),
        })
    }

    /// Gives back what is kept of the tables and grains used last.
    fn forget(&mut self) {
        self.directory.forget();
        (self.table, self.unpacked) = ((0, Vec::new()), (0, Vec::new()));
    }

    /// Unpacks the grain at sector `at`: its number (8 bytes), the length (4 bytes), a zlib stream.
    fn unpack(&mut self, at: u32) -> io::Result<()> {
        if self.unpacked.0 == at {
            return Ok(());
        }
        let (at_byte, size) = (u64::from(at) * SECTOR as u64, self.grain as usize * SECTOR);
        let mut marker = [0; 12];
        self.file.read(at_byte, &mut marker)?;
        let len = le32(&marker, 8) as usize;
        if len > 2 * size + 1024 {
            return Err(self.file.damaged("a compressed grain is larger than a plain one"));
        }
        let mut packed = vec![0; len];
        self.file.read(at_byte + 12, &mut packed)?;
        let mut grain = vec![0; size];
        // The last grain of an image may be a short one.
        if unpack(Packing::Zlib, &packed, &mut grain).is_none() {
            return Err(self.file.damaged("a compressed grain cannot be unpacked"));
        }
        self.unpacked = (at, grain);
        Ok(())
    }
}

impl Image for Vmdk {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut lba, mut buf) = (lba, buf);
        while !buf.is_empty() {
            let n = self.extents.partition_point(|e| e.first <= lba) - 1;
            if n != self.last
                && let Data::Sparse(sparse) = &mut self.extents[self.last].data
            {
                sparse.forget();
            }
            self.last = n;
            let extent = &mut self.extents[n];
            let within = lba - extent.first;
            let here = ((extent.sectors - within).min((buf.len() / SECTOR) as u64)) as usize;
            let (piece, rest) = buf.split_at_mut(here * SECTOR);
            match &mut extent.data {
                Data::Zero => piece.fill(0),
                Data::Flat(file, at) => file.read(*at + within * SECTOR as u64, piece)?,
                Data::Sparse(sparse) => sparse.read(within, piece)?,
            }
            (lba, buf) = (lba + here as u64, rest);
        }
        Ok(())
    }
}

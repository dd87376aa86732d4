//! qcow2 images, versions 2 and 3 (docs/interop/qcow2.txt of QEMU): read and written, with backing files,
//! compressed clusters (read), zero clusters, and internal snapshots that stay as they are.
//!
//! **A crash of the program never damages the image.** Nothing is held back: a write is in the file, data and
//! tables, before the guest hears of it. What a write needs comes in this order: the data into a cluster that
//! is free; the cluster's refcount; the entry of the L2 table, eight bytes that are never seen in halves.
//! Killed before the last, the disk has the old content, and at worst a counted cluster that nothing uses.
//! Only then is what was replaced counted down. This is about the program; the host keeps the order in its
//! memory, not on its disk, so after a loss of power only what was there at the guest's last FLUSH CACHE is
//! sure to be readable.

mod counts;
mod header;
mod tables;

use super::disk::{Content, Disk, SECTOR, check_range, read_only};
use super::file::{HostFile, be64};
use super::format::ImageFormat;
use super::table::Table;
use super::unpack::unpack;
use crate::error::{Error, Result};
use counts::Counts;
use header::{Header, PLACE};
use std::io;
use std::path::Path;
use tables::Tables;

/// The cluster is used once: here.
const COPIED: u64 = 1 << 63;
const PACKED: u64 = 1 << 62;
/// The cluster reads as zeros (version 3).
const ZERO: u64 = 1;

/// An opened image.
pub(super) struct Qcow2 {
    file: HostFile,
    header: Header,
    l1: Table<8>,
    tables: Tables,
    /// The cluster that was unpacked last, and its entry.
    unpacked: (u64, Vec<u8>),
    backing: Option<Box<dyn Disk>>,
    /// Of an image that is written to.
    counts: Option<Counts>,
}

/// The meaning of an L2 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    /// Not here: the backing file has it, or it is zeros.
    Absent,
    /// Zeros, perhaps with a cluster that is kept for it.
    Zero(Option<u64>),
    /// At this place.
    Plain(u64),
    /// Compressed: the entry.
    Packed(u64),
}

impl Qcow2 {
    /// Reads the header and the tables that are kept whole.
    /// The images of a chain share the room for L2 tables: one that lies under `above` others takes its part.
    pub(super) fn open(file: HostFile, write: bool, above: usize) -> Result<Self> {
        let header = Header::read(&file, write)?;
        let Some(mut l1) = Table::new(&file, header.l1_at, header.l1_len) else {
            return Err(Error::image(file.path(), "the qcow2 image is damaged: its L1 table is cut short"));
        };
        let counts = write.then(|| Counts::read(&file, &header, &mut l1)).transpose();
        let counts = counts.map_err(|e| Error::file("read", file.path(), e))?;
        let tables = Tables::new(1 << header.cluster_bits, above);
        Ok(Self { file, header, l1, tables, unpacked: (0, Vec::new()), backing: None, counts })
    }

    /// The image's own file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The backing file, and its format where the header tells it.
    pub(super) fn backing_file(&self) -> Result<Option<(String, Option<ImageFormat>)>> {
        let Some((name, format)) = &self.header.backing else { return Ok(None) };
        Ok(Some((backing_name(self.file.path(), name)?, *format)))
    }

    /// Puts the image on its backing file.
    pub(super) fn set_backing(&mut self, disk: Box<dyn Disk>) {
        self.backing = Some(disk);
    }

    /// Clears the header's autoclear bits before the first write: they stand for structures (bitmaps of dirty
    /// clusters) that are not kept up to date here. An image that is not written to stays as it is, so that the
    /// hash in a snapshot still names it.
    fn clear_unknown(&mut self) -> io::Result<()> {
        if self.header.autoclear && self.counts.is_some() {
            self.file.write(88, &[0; 8])?;
            self.header.autoclear = false;
        }
        Ok(())
    }

    fn cluster_size(&self) -> usize {
        1 << self.header.cluster_bits
    }
    /// Entries in an L2 table.
    fn per_table(&self) -> u64 {
        self.cluster_size() as u64 / 8
    }

    /// The L2 entry of guest cluster `n`.
    fn entry(&mut self, n: u64) -> io::Result<u64> {
        let table = u64::from_be_bytes(self.l1.get(&self.file, n / self.per_table())?) & PLACE;
        if table == 0 {
            return Ok(0);
        }
        let slot = (n % self.per_table()) as usize;
        Ok(be64(self.tables.get(&self.file, table)?, slot * 8))
    }

    fn decode(&self, entry: u64) -> io::Result<Cluster> {
        if entry & PACKED != 0 {
            return Ok(Cluster::Packed(entry));
        }
        let place = entry & PLACE;
        if !place.is_multiple_of(self.cluster_size() as u64) {
            return Err(self.file.damaged("a cluster does not begin where one can"));
        }
        if entry & ZERO != 0 {
            if self.header.version == 2 {
                return Err(self.file.damaged("version 2 has no zero clusters"));
            }
            return Ok(Cluster::Zero((place != 0).then_some(place)));
        }
        Ok(if place == 0 { Cluster::Absent } else { Cluster::Plain(place) })
    }

    /// Fills `buf` from offset `within` of guest cluster `n`, which is `cluster`.
    fn read_cluster(&mut self, n: u64, cluster: Cluster, within: usize, buf: &mut [u8]) -> io::Result<()> {
        match cluster {
            Cluster::Absent => {
                let lba = (n << self.header.cluster_bits) / SECTOR as u64 + (within / SECTOR) as u64;
                read_backing(self.backing.as_deref_mut(), lba, buf)
            }
            Cluster::Zero(_) => {
                buf.fill(0);
                Ok(())
            }
            Cluster::Plain(place) => self.file.read(place + within as u64, buf),
            Cluster::Packed(entry) => {
                self.unpack(entry)?;
                buf.copy_from_slice(&self.unpacked.1[within..within + buf.len()]);
                Ok(())
            }
        }
    }

    /// Where a compressed cluster lies: its first byte, and the bytes up to the end of its last sector.
    fn packed_span(&self, entry: u64) -> (u64, u64) {
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let at = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & (PACKED - 1)) >> offset_bits;
        (at, (sectors + 1) * SECTOR as u64 - at % SECTOR as u64)
    }

    fn unpack(&mut self, entry: u64) -> io::Result<()> {
        if self.unpacked.0 == entry {
            return Ok(());
        }
        let (at, len) = self.packed_span(entry);
        let (mut packed, mut cluster) = (vec![0; len as usize], vec![0; self.cluster_size()]);
        self.file.read(at, &mut packed)?;
        if unpack(self.header.packing, &packed, &mut cluster) != Some(cluster.len()) {
            return Err(self.file.damaged("a compressed cluster cannot be unpacked"));
        }
        self.unpacked = (entry, cluster);
        Ok(())
    }

    fn counts(&mut self) -> io::Result<(&mut Counts, &mut HostFile)> {
        match &mut self.counts {
            Some(counts) => Ok((counts, &mut self.file)),
            None => read_only(),
        }
    }

    /// Whether the cluster at `place` is this disk's alone, so that it may change where it is.
    fn sole(&mut self, entry: u64, place: u64) -> io::Result<bool> {
        let (counts, file) = self.counts()?;
        match counts.get(file, place)? {
            0 => {
                Err(file
                    .damaged("a cluster in use is counted as free; `qemu-img check -r all` may repair it"))
            }
            n => Ok(n == 1 && entry & COPIED != 0),
        }
    }

    /// The L2 table for guest cluster `n`, one that may be changed: made if there is none, copied if it is
    /// shared.
    fn own_table(&mut self, n: u64) -> io::Result<u64> {
        let index = n / self.per_table();
        let entry = u64::from_be_bytes(self.l1.get(&self.file, index)?);
        let old = entry & PLACE;
        if old != 0 && self.sole(entry, old)? {
            return Ok(old);
        }
        let content = match old {
            0 => vec![0; self.cluster_size()],
            old => self.tables.get(&self.file, old)?.clone(),
        };
        let (counts, file) = self.counts()?;
        let new = counts.free(file)?;
        file.write(new, &content)?;
        counts.take(file, new)?;
        counts.claim(new, true);
        self.tables.forget(new);
        let entry = new | COPIED;
        self.l1.set(&mut self.file, index, entry.to_be_bytes())?;
        if old != 0 {
            let (counts, file) = self.counts()?;
            if counts.drop_one(file, old)? == 0 {
                counts.claim(old, false);
            }
        }
        Ok(new)
    }

    /// Writes `data` at offset `within` of guest cluster `n`.
    fn write_cluster(&mut self, n: u64, within: usize, data: &[u8]) -> io::Result<()> {
        let table = self.own_table(n)?;
        let entry = self.entry(n)?;
        let old = self.decode(entry)?;
        let kept = match old {
            Cluster::Plain(place) | Cluster::Zero(Some(place)) => {
                let (counts, file) = self.counts()?;
                if counts.owns(place) {
                    return Err(file.damaged("a cluster of the disk is one of its own tables"));
                }
                if place >= file.len() {
                    return Err(file.damaged("a cluster of the disk lies behind the end of the file"));
                }
                self.sole(entry, place)?.then_some(place)
            }
            _ => None,
        };
        if let (Cluster::Plain(place), Some(_)) = (old, kept) {
            return self.file.write(place + within as u64, data);
        }
        let place = match kept {
            Some(place) => place,
            None => {
                let (counts, file) = self.counts()?;
                counts.free(file)?
            }
        };
        self.fill(n, old, place, within, data)?;
        if kept.is_none() {
            let (counts, file) = self.counts()?;
            counts.take(file, place)?;
        }
        let slot = (n % self.per_table()) as usize;
        self.tables.set(&mut self.file, table, slot * 8, &(place | COPIED).to_be_bytes())?;
        if kept.is_none() { self.release(old) } else { Ok(()) }
    }

    /// Fills the cluster at `place` with what guest cluster `n` had, and `data` over it.
    fn fill(&mut self, n: u64, old: Cluster, place: u64, within: usize, data: &[u8]) -> io::Result<()> {
        let size = self.cluster_size();
        let zeros = matches!(old, Cluster::Zero(_)) || (old == Cluster::Absent && self.backing.is_none());
        if zeros && place >= self.file.len() {
            // Behind the end of the file are zeros already.
            self.file.extend(place + size as u64)?;
            return self.file.write(place + within as u64, data);
        }
        let mut whole = vec![0; size];
        if data.len() < size {
            self.read_cluster(n, old, 0, &mut whole)?;
        }
        whole[within..within + data.len()].copy_from_slice(data);
        self.file.write(place, &whole)
    }

    /// Counts down what an entry, now replaced, stood for.
    fn release(&mut self, old: Cluster) -> io::Result<()> {
        let size = self.cluster_size() as u64;
        let (from, to) = match old {
            Cluster::Absent | Cluster::Zero(None) => return Ok(()),
            Cluster::Plain(place) | Cluster::Zero(Some(place)) => (place, place + size),
            Cluster::Packed(entry) => {
                let (at, len) = self.packed_span(entry);
                // The place may hold another cluster soon.
                self.unpacked = (0, Vec::new());
                (at & !(size - 1), at + len)
            }
        };
        let (counts, file) = self.counts()?;
        for place in (from..to).step_by(size as usize) {
            counts.drop_one(file, place)?;
        }
        Ok(())
    }

    /// Splits `len` bytes from `lba` on by clusters: cluster, offset within, bytes.
    fn pieces(&self, lba: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> + use<> {
        let size = self.cluster_size() as u64;
        let (mut at, end) = (lba * SECTOR as u64, lba * SECTOR as u64 + len as u64);
        std::iter::from_fn(move || {
            let within = at % size;
            let here = (size - within).min(end - at);
            let piece = (at / size, within as usize, here as usize);
            at += here;
            (here != 0).then_some(piece)
        })
    }
}

/// Sectors of the backing file; zeros where there is none, or behind its end.
fn read_backing(backing: Option<&mut (dyn Disk + 'static)>, lba: u64, buf: &mut [u8]) -> io::Result<()> {
    let Some(disk) = backing else {
        buf.fill(0);
        return Ok(());
    };
    let there = disk.sectors().saturating_sub(lba).min((buf.len() / SECTOR) as u64) as usize * SECTOR;
    buf[there..].fill(0);
    if there == 0 { Ok(()) } else { disk.read(lba, &mut buf[..there]) }
}

/// The name of the backing file, which is one of this host.
fn backing_name(image: &Path, name: &str) -> Result<String> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let scheme = name.split('/').next().unwrap_or("");
    if scheme.contains(':') && !Path::new(name).is_absolute() {
        let reason = format!("its backing file `{name}` is no file of this host, and nothing else is opened");
        return Err(Error::image(image, reason));
    }
    Ok(name.to_owned())
}

impl Disk for Qcow2 {
    fn sectors(&self) -> u64 {
        self.header.size / SECTOR as u64
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        let mut done = 0;
        for (n, within, len) in self.pieces(lba, buf.len()) {
            let entry = self.entry(n)?;
            let cluster = self.decode(entry)?;
            self.read_cluster(n, cluster, within, &mut buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        self.clear_unknown()?;
        let mut done = 0;
        for (n, within, len) in self.pieces(lba, data.len()) {
            self.write_cluster(n, within, &data[done..done + len])?;
            done += len;
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.counts.is_some() { self.file.sync() } else { Ok(()) }
    }
    fn read_only(&self) -> bool {
        self.counts.is_none()
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, content: &Content) -> bool {
        *content == Content::Host
    }
}

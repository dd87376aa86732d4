//! A medium whose writes stay in memory (`--snapshot`): the medium below is only read.

use super::disk::{Content, Disk, SECTOR, Sector, check_range};
use std::collections::BTreeMap;
use std::io;

/// A medium whose writes stay in memory.
pub struct Snapshot {
    base: Box<dyn Disk>,
    written: BTreeMap<u64, [u8; SECTOR]>,
}

impl Snapshot {
    /// A snapshot over `base`, which is only read from now on.
    pub fn new(base: Box<dyn Disk>) -> Self {
        Self { base, written: BTreeMap::new() }
    }

    /// Sectors that differ from the base.
    pub fn written(&self) -> usize {
        self.written.len()
    }
}

impl Disk for Snapshot {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = lba.saturating_add((buf.len() / SECTOR) as u64);
        self.base.read(lba, buf)?;
        for (at, sector) in self.written.range(lba..end) {
            let offset = (at - lba) as usize * SECTOR;
            buf[offset..offset + SECTOR].copy_from_slice(sector);
        }
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        for (i, chunk) in data.chunks_exact(SECTOR).enumerate() {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(chunk);
            self.written.insert(lba + i as u64, sector);
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&self) -> Content {
        let sectors = self.written.iter().map(|(&at, bytes)| (at, Sector(*bytes)));
        Content::Snapshot(Box::new(self.base.save()), sectors.collect())
    }
    fn restore(&mut self, content: &Content) -> bool {
        let Content::Snapshot(base, written) = content else {
            // Saved before there was a snapshot over it.
            let restored = self.base.restore(content);
            if restored {
                self.written.clear();
            }
            return restored;
        };
        self.written = written.iter().map(|(at, sector)| (*at, sector.0)).collect();
        let last = self.written.last_key_value();
        last.is_none_or(|(&at, _)| at < self.sectors()) && self.base.restore(base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::*;

    #[test]
    fn a_snapshot_reads_its_own_writes_over_the_base() {
        let mut disk = Snapshot::new(Box::new(MemoryDisk::new(vec![1; 3 * SECTOR])));
        disk.write(1, &[2; SECTOR]).unwrap();
        let mut buf = [0; 3 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        assert_eq!([buf[0], buf[SECTOR], buf[2 * SECTOR]], [1, 2, 1]);
        assert_eq!(disk.written(), 1);
    }

    #[test]
    fn a_snapshot_takes_back_what_a_medium_without_one_saved() {
        let saved = MemoryDisk::new(vec![1; 2 * SECTOR]).save();
        let mut disk = Snapshot::new(Box::new(MemoryDisk::new(vec![0; 2 * SECTOR])));
        disk.write(1, &[2; SECTOR]).unwrap();
        assert!(disk.restore(&saved) && disk.written() == 0);
        let mut buf = [0; 2 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        assert_eq!(buf, [1; 2 * SECTOR]);
        assert!(!disk.restore(&Content::Host), "of another kind");
    }
}

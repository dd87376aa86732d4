//! A medium that can be taken back to an earlier point of the run: what the guest writes stays in memory, the
//! sectors written since a point are known, and at the end all of it goes to the medium below.
//!
//! A debugging session with a history puts one over each disk and floppy (`machine::rewind` reads and sets
//! the sectors, `cli` ends it). Its own `save` and `restore` are those of the medium below, which stands
//! still meanwhile.

use super::disk::{Content, Disk, SECTOR};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sector's bytes.
pub type Sector = [u8; SECTOR];

struct Shared {
    base: Box<dyn Disk>,
    sectors: BTreeMap<u64, Sector>,
    /// Sectors written since [`Overlay::take_written`] was last called.
    written: BTreeSet<u64>,
}

/// The sectors written over a medium. Clones are handles to one overlay: the drive has one, the debugger's
/// history another.
#[derive(Clone)]
pub struct Overlay(Arc<Mutex<Shared>>);

impl Overlay {
    /// An empty overlay over `base`, which is only read until [`Overlay::finish`].
    pub fn new(base: Box<dyn Disk>) -> Self {
        let shared = Shared { base, sectors: BTreeMap::new(), written: BTreeSet::new() };
        Self(Arc::new(Mutex::new(shared)))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sectors written since this was last called.
    pub fn take_written(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.shared().written)
    }

    /// The sector's bytes if it was written to; `None` where the medium below still shows.
    pub fn sector(&self, lba: u64) -> Option<Sector> {
        self.shared().sectors.get(&lba).copied()
    }

    /// Puts a sector back to what [`Overlay::sector`] gave for it.
    pub fn set_sector(&self, lba: u64, bytes: Option<Sector>) {
        let sectors = &mut self.shared().sectors;
        match bytes {
            Some(bytes) => _ = sectors.insert(lba, bytes),
            None => _ = sectors.remove(&lba),
        }
    }

    /// Writes all sectors to the medium below, and flushes that.
    ///
    /// # Errors
    /// The error of the medium below. Sectors that could not be written stay in the overlay.
    pub fn finish(&self) -> io::Result<()> {
        let Shared { base, sectors, .. } = &mut *self.shared();
        if sectors.is_empty() {
            return Ok(());
        }
        for (&lba, bytes) in &*sectors {
            base.write(lba, bytes)?;
        }
        base.flush()?;
        sectors.clear();
        Ok(())
    }
}

impl Disk for Overlay {
    fn sectors(&self) -> u64 {
        self.shared().base.sectors()
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut shared = self.shared();
        shared.base.read(lba, buf)?;
        let end = lba.saturating_add((buf.len() / SECTOR) as u64);
        for (at, sector) in shared.sectors.range(lba..end) {
            let offset = (at - lba) as usize * SECTOR;
            buf[offset..offset + SECTOR].copy_from_slice(sector);
        }
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        let mut shared = self.shared();
        let end = lba.checked_add((data.len() / SECTOR) as u64);
        if end.is_none_or(|end| end > shared.base.sectors()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sector lies outside the medium"));
        }
        shared.base.admits(lba, data)?;
        for (at, chunk) in (lba..).zip(data.chunks_exact(SECTOR)) {
            let mut sector = [0; SECTOR];
            sector.copy_from_slice(chunk);
            shared.sectors.insert(at, sector);
            shared.written.insert(at);
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn read_only(&self) -> bool {
        self.shared().base.read_only()
    }
    fn save(&self) -> Content {
        self.shared().base.save()
    }
    fn restore(&mut self, content: &Content) -> bool {
        self.shared().base.restore(content)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::*;

    #[test]
    fn writes_go_back_and_in_the_end_down() {
        let overlay = Overlay::new(Box::new(MemoryDisk::new(vec![1; 3 * SECTOR])));
        let mut disk = overlay.clone();
        disk.write(1, &[2; SECTOR]).unwrap();
        assert_eq!(overlay.take_written().into_iter().collect::<Vec<_>>(), [1]);
        assert!(overlay.take_written().is_empty());
        assert_eq!(disk.save(), Content::Memory(vec![1; 3 * SECTOR]), "the medium below stands still");
        let before = overlay.sector(2);
        disk.write(2, &[3; SECTOR]).unwrap();
        overlay.set_sector(2, before);
        let mut buf = [0; 3 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        assert_eq!([buf[0], buf[SECTOR], buf[2 * SECTOR]], [1, 2, 1]);
        assert!(disk.write(3, &[0; SECTOR]).is_err() && disk.write(u64::MAX, &[0; SECTOR]).is_err());
        overlay.finish().unwrap();
        let below: Vec<u8> = [[1; SECTOR], [2; SECTOR], [1; SECTOR]].concat();
        assert_eq!(disk.save(), Content::Memory(below));
    }
}

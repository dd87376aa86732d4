//! A medium in memory.

use super::disk::{Content, Disk, SECTOR, check_range};
use std::io;

/// A medium in memory.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// A medium of `bytes`, filled up with zeros to a whole sector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Self { bytes }
    }

    /// The content of the medium.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        let at = lba as usize * SECTOR;
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        Ok(())
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        let at = lba as usize * SECTOR;
        self.bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn save(&self) -> Content {
        Content::Memory(self.bytes.clone())
    }
    fn restore(&mut self, content: &Content) -> bool {
        match content {
            Content::Memory(bytes) if bytes.len() == self.bytes.len() => {
                self.bytes.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_end_is_an_error() {
        let mut disk = MemoryDisk::new(vec![0; 700]);
        assert_eq!(disk.sectors(), 2);
        assert!(disk.read(2, &mut [0; SECTOR]).is_err());
        assert!(disk.write(u64::MAX, &[0; SECTOR]).is_err());
    }
}

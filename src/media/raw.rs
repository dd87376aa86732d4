//! Raw image files: the sectors, one after the other. A guarded one takes no write that would make the file
//! look like an image of another format.

use super::disk::{Content, Disk, SECTOR, check_range};
use super::format::ImageFormat;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A raw image file. An incomplete last sector reads filled up with zeros.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    path: PathBuf,
    sectors: u64,
    read_only: bool,
    guarded: bool,
}

impl FileDisk {
    /// The medium in `file`, whose size counts from now on. Errors name it by `path`.
    ///
    /// # Errors
    /// When the host does not tell the size.
    pub fn new(mut file: File, path: &Path, read_only: bool) -> io::Result<Self> {
        let bytes = file.seek(SeekFrom::End(0))?;
        let sectors = bytes.div_ceil(SECTOR as u64);
        Ok(Self { file, path: path.to_owned(), sectors, read_only, guarded: false })
    }

    /// Makes the medium refuse writes that would make the file look like an image of another format;
    /// [`super::image`] says why.
    #[must_use]
    pub fn guard(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// Refuses a write of `data` at `lba` if a guarded medium would then look like an image of another
    /// format.
    fn check_disguise(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        let looks = if self.guarded { self.format_after(lba, data)? } else { ImageFormat::Raw };
        if looks == ImageFormat::Raw {
            return Ok(());
        }
        let text = format!(
            "the guest would make this raw disk look like a {} image; if it may, name the disk's format: --disk FILE,format=raw",
            looks.name()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// The format that the file's content would tell after a write of `data` at `lba`.
    fn format_after(&mut self, lba: u64, data: &[u8]) -> io::Result<ImageFormat> {
        const SIZE: u64 = SECTOR as u64;
        let (start, end) = (lba * SIZE, lba * SIZE + data.len() as u64);
        let len = self.file.seek(SeekFrom::End(0))?.max(end);
        // The last 512 bytes do not begin with a sector when the file's size is odd.
        let tail = len.saturating_sub(SIZE);
        for (at, is_head) in [(0, true), (tail, false)] {
            if start >= at + SIZE || end <= at {
                continue;
            }
            let mut piece = [0; SECTOR];
            self.file.seek(SeekFrom::Start(at))?;
            self.fill(&mut piece)?;
            let (from, to) = (start.max(at), end.min(at + SIZE));
            piece[(from - at) as usize..(to - at) as usize]
                .copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
            let looks = if is_head { ImageFormat::of_head(&piece) } else { ImageFormat::of_tail(&piece) };
            if looks != ImageFormat::Raw {
                return Ok(looks);
            }
        }
        Ok(ImageFormat::Raw)
    }

    /// An error that says which file it is about: a machine has several.
    fn named(&self, e: io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}", self.path.display()))
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(lba * SECTOR as u64))?;
        let got = self.fill(buf)?;
        let last_sector = lba + (buf.len() / SECTOR) as u64 == self.sectors && buf.len() - got < SECTOR;
        if got < buf.len() && !last_sector {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image became shorter than it was"));
        }
        buf[got..].fill(0);
        Ok(())
    }

    /// Reads until `buf` is full or the file ends.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            match self.file.read(&mut buf[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }
}

impl Disk for FileDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self, lba, buf.len())?;
        self.read_sectors(lba, buf).map_err(|e| self.named(e))
    }
    fn write(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        check_range(self, lba, data.len())?;
        self.check_disguise(lba, data).map_err(|e| self.named(e))?;
        let sought = self.file.seek(SeekFrom::Start(lba * SECTOR as u64));
        sought.and_then(|_| self.file.write_all(data)).map_err(|e| self.named(e))
    }
    fn admits(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        self.check_disguise(lba, data).map_err(|e| self.named(e))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| self.named(e))
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn save(&self) -> Content {
        Content::Host
    }
    fn restore(&mut self, content: &Content) -> bool {
        *content == Content::Host
    }
}

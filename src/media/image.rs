//! Image files: which format one is in, and opening it with all that it stands on. The command line opens
//! every disk and floppy here; [`crate::load`] asks what a file's head is.
//!
//! The format is found by content, unless the user names it. A guest could abuse that: it writes the header
//! of a qcow2 image to its raw disk, with a file of the host as the backing file, and the next run shows it
//! that file. So a disk that was *found* to be raw takes no write to its first or last sector that would make
//! it look like anything else ([`FileDisk::guard`]), however often it is opened again ([`Format::Detected`]);
//! one that the user *called* raw does, and stays raw by that name.

use super::disk::Disk;
use super::file::HostFile;
use super::files::{Allowed, Files};
use super::format::ImageFormat;
use super::qcow2::Qcow2;
use super::raw::FileDisk;
use super::reader::ReadOnly;
use super::vhd::Vhd;
use super::vmdk::Vmdk;
use crate::error::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An opened image.
pub struct Image {
    /// The disk that the image holds.
    pub disk: Box<dyn Disk>,
    /// The format that the content told or the user named.
    pub format: ImageFormat,
    /// Whether the content told the format, and not the user.
    pub detected: bool,
    /// The files that the content comes from, the image's own first.
    pub files: Vec<PathBuf>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("format", &self.format)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// How the format of an image is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The format is not known: the content is to tell it.
    Detect,
    /// The content told this format when the image was opened before. A raw disk stays guarded.
    Detected(ImageFormat),
    /// The user names this format.
    Named(ImageFormat),
}

impl From<Option<ImageFormat>> for Format {
    fn from(named: Option<ImageFormat>) -> Self {
        named.map_or(Self::Detect, Self::Named)
    }
}

/// Opens the image at `path`, which names no files outside its own folder.
///
/// # Errors
/// The errors of [`open_with`].
pub fn open(path: &Path, format: Option<ImageFormat>, write: bool) -> Result<Image> {
    open_with(path, format.into(), write, &Allowed::default())
}

/// Opens the image at `path` and the files that it stands on.
///
/// # Errors
/// [`Error::File`] or [`Error::Image`], which says what is wrong with the image or not supported.
pub fn open_with(path: &Path, format: Format, write: bool, allowed: &Allowed) -> Result<Image> {
    let mut chain = Chain { files: Files::of(path, allowed)?, waiting: Vec::new() };
    let (disk, found) = chain.open(path, format, write)?;
    let detected = !matches!(format, Format::Named(_));
    Ok(Image { disk, format: found, detected, files: chain.files.into_paths() })
}

/// Images that may stand on each other. Each keeps tables in memory; together they take what one may
/// ([`Qcow2::open`] divides it).
const DEEPEST: usize = 32;

/// The way down a chain of backing files.
struct Chain {
    files: Files,
    /// Device and inode of the images that wait for what they stand on.
    waiting: Vec<(u64, u64)>,
}

impl Chain {
    /// Opens an image, and whatever it stands on to read.
    fn open(&mut self, path: &Path, format: Format, write: bool) -> Result<(Box<dyn Disk>, ImageFormat)> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file("open", path, e))?;
        let identity = (metadata.dev(), metadata.ino());
        if self.waiting.contains(&identity) {
            return Err(Error::image(
                path,
                "the image is its own backing file, by way of others or directly",
            ));
        }
        if self.waiting.len() == DEEPEST {
            let reason =
                format!("more than {DEEPEST} images stand on each other: merge some with `qemu-img commit`");
            return Err(Error::image(path, reason));
        }
        let file = self.files.open(path, write)?;
        let found = match format {
            Format::Detected(format) | Format::Named(format) => format,
            Format::Detect => detect(&file)?,
        };
        if write && matches!(found, ImageFormat::Vhd | ImageFormat::Vmdk) {
            let reason = format!(
                "{} images are not written to: give --snapshot to keep the guest's writes in memory, or convert it with `qemu-img convert -O qcow2`",
                found.name()
            );
            return Err(Error::image(path, reason));
        }
        self.waiting.push(identity);
        let disk: Box<dyn Disk> = match found {
            ImageFormat::Raw => Box::new(raw(file, write, !matches!(format, Format::Named(_)))?),
            ImageFormat::Qcow2 => Box::new(self.qcow2(file, write)?),
            ImageFormat::Vhd => Box::new(ReadOnly(Vhd::open(file)?)),
            ImageFormat::Vmdk => Box::new(ReadOnly(Vmdk::open(file, &mut self.files)?)),
        };
        self.waiting.pop();
        Ok((disk, found))
    }

    /// A qcow2 image on its backing file.
    fn qcow2(&mut self, file: HostFile, write: bool) -> Result<Qcow2> {
        let mut image = Qcow2::open(file, write, self.waiting.len() - 1)?;
        if let Some((name, format)) = image.backing_file()? {
            let path = self.files.resolve(image.path(), Path::new(&name));
            let opened = path.and_then(|path| self.open(&path, format.into(), false));
            // One sentence for a whole chain: the image that the user named, and what is wrong below.
            let top = self.waiting.len() == 1;
            let (disk, _) = opened.map_err(|e| match top {
                true => Error::image(image.path(), format!("its backing file cannot be opened: {e}")),
                false => e,
            })?;
            image.set_backing(disk);
        }
        Ok(image)
    }
}

/// The format that a file's content tells.
fn detect(file: &HostFile) -> Result<ImageFormat> {
    Ok(match ImageFormat::of_head(&file.part(0, 512)?) {
        ImageFormat::Raw => ImageFormat::of_tail(&file.part(file.len().saturating_sub(512), 512)?),
        other => other,
    })
}

fn raw(file: HostFile, write: bool, guard: bool) -> Result<FileDisk> {
    let path = file.path().to_owned();
    let disk = FileDisk::new(file.into_file(), &path, !write).map_err(|e| Error::file("read", &path, e))?;
    Ok(if guard { disk.guard() } else { disk })
}

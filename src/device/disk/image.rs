//! Image files: which format one is in, and opening it with all that it stands on. The command line opens every disk
//! and floppy here; [`crate::load`] asks what a file's head is.
//!
//! The format is found by content, unless the user names it. A guest could abuse that: it writes the header of a qcow2
//! image to its raw disk, with a file of the host as the backing file, and the next run shows it that file. So a disk
//! that was *found* to be raw takes no write to its first or last sector that would make it look like anything else
//! ([`FileDisk::guard`](super::FileDisk::guard)); one that the user *called* raw does, and stays raw by that name.

use super::host::HostFile;
use super::{Disk, FileDisk, ReadOnly, qcow2, vhd, vmdk};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The formats of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    /// The sectors, one after the other.
    Raw,
    /// QEMU's, versions 2 and 3.
    Qcow2,
    /// Virtual PC's, fixed or dynamic.
    Vhd,
    /// VMware's.
    Vmdk,
}

impl ImageFormat {
    /// The format of this name; QEMU's names are taken too.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "vhd" | "vpc" => Some(Self::Vhd),
            "vmdk" => Some(Self::Vmdk),
            _ => None,
        }
    }

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "VHD",
            Self::Vmdk => "VMDK",
        }
    }

    /// The format of a file that begins with `head`: one sector, or less if there is no more. A fixed VHD begins like a
    /// raw image and is told by its end: see [`ImageFormat::of_tail`].
    pub fn of_head(head: &[u8]) -> Self {
        if head.starts_with(b"QFI\xfb") {
            Self::Qcow2
        } else if head.starts_with(b"conectix") {
            Self::Vhd
        } else if head.starts_with(b"KDMV") || head.starts_with(b"COWD") || vmdk::is_descriptor(head) {
            Self::Vmdk
        } else {
            Self::Raw
        }
    }

    /// The format of a file whose head says nothing and whose last 512 bytes are `tail`.
    pub fn of_tail(tail: &[u8]) -> Self {
        if vhd::is_fixed_footer(tail) { Self::Vhd } else { Self::Raw }
    }
}

/// An opened image.
pub struct Image {
    /// Its sectors.
    pub disk: Box<dyn Disk>,
    /// What it was found, or said, to be.
    pub format: ImageFormat,
    /// The files that its content comes from, itself first.
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

/// Opens the image at `path`: of this format, or of the one that its content tells.
///
/// # Errors
/// [`Error::File`] or [`Error::Image`] with what is wrong with it, or what of it is not built.
pub fn open(path: &Path, format: Option<ImageFormat>, write: bool) -> Result<Image> {
    let mut chain = Chain::default();
    let (disk, format) = chain.open(path, format, write)?;
    Ok(Image { disk, format, files: chain.files })
}

/// The files that were opened on the way down a chain of backing files.
#[derive(Default)]
pub(super) struct Chain {
    files: Vec<PathBuf>,
    /// Device and inode of the images that wait for what they stand on.
    waiting: Vec<(u64, u64)>,
}

/// Images that may stand on each other.
const DEEPEST: usize = 64;

impl Chain {
    /// Opens a file that is a part of the image, and notes it down.
    pub(super) fn file(&mut self, path: &Path, write: bool) -> Result<HostFile> {
        let file = HostFile::open(path, write)?;
        self.files.push(path.to_owned());
        Ok(file)
    }

    /// Opens an image, and whatever it stands on to read.
    pub(super) fn open(
        &mut self,
        path: &Path,
        format: Option<ImageFormat>,
        write: bool,
    ) -> Result<(Box<dyn Disk>, ImageFormat)> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file("open", path, e))?;
        let identity = (metadata.dev(), metadata.ino());
        if self.waiting.contains(&identity) {
            return Err(Error::image(
                path,
                "the image is its own backing file, by way of others or directly",
            ));
        }
        if self.waiting.len() == DEEPEST {
            return Err(Error::image(path, format!("more than {DEEPEST} images stand on each other")));
        }
        let file = self.file(path, write)?;
        let found = match format {
            Some(format) => format,
            None => match ImageFormat::of_head(&file.part(0, 512)?) {
                ImageFormat::Raw => ImageFormat::of_tail(&file.part(file.len().saturating_sub(512), 512)?),
                other => other,
            },
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
            ImageFormat::Raw => Box::new(raw(file, write, format.is_none())?),
            ImageFormat::Qcow2 => Box::new(qcow2::Qcow2::open(file, write, self)?),
            ImageFormat::Vhd => Box::new(ReadOnly(vhd::Vhd::open(file)?)),
            ImageFormat::Vmdk => Box::new(ReadOnly(vmdk::Vmdk::open(file, self)?)),
        };
        self.waiting.pop();
        Ok((disk, found))
    }
}

fn raw(file: HostFile, write: bool, guard: bool) -> Result<FileDisk> {
    let path = file.path().to_owned();
    let disk = FileDisk::new(file.into_file(), &path, !write).map_err(|e| Error::file("read", &path, e))?;
    Ok(if guard { disk.guard() } else { disk })
}

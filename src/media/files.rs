//! The files that an image is made of: its own, its extents, and those that it stands on; and which files of
//! the host an image may name at all.
//!
//! An image from a stranger can name any file of the user's as its backing file or extent, and the guest then
//! reads it. So a name in an image leads to files in the image's own folder, or below it, and to those below
//! the folders that the user allows. The name counts with `..` and symbolic links followed.

use super::file::HostFile;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The folders, besides an image's own, whose files an image or a snapshot may name (`--allow-path`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    folders: Vec<PathBuf>,
}

impl Allowed {
    /// Allows the files below `folders`.
    ///
    /// # Errors
    /// [`Error::File`] when one is not there.
    pub fn new(folders: &[PathBuf]) -> Result<Self> {
        let folders = folders.iter().map(|f| f.canonicalize().map_err(|e| Error::file("open", f, e)));
        Ok(Self { folders: folders.collect::<Result<_>>()? })
    }

    /// Allows the files below the folder of the file at `path`, too.
    ///
    /// # Errors
    /// [`Error::File`] when the folder is not there.
    pub fn with_folder_of(&self, path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(|e| Error::file("open", path, e))?;
        Ok(Self { folders: self.folders.iter().cloned().chain([folder]).collect() })
    }

    /// The file `name`, with links followed, if it lies in one of the folders.
    ///
    /// # Errors
    /// [`Error::File`] when it is not there; [`Error::Image`], about the file `by` that names it, when it
    /// lies elsewhere.
    pub fn resolve(&self, by: &Path, name: &Path) -> Result<PathBuf> {
        let path = name.canonicalize().map_err(|e| Error::file("open", name, e))?;
        if self.folders.iter().any(|folder| path.starts_with(folder)) {
            return Ok(path);
        }
        let folder = path.parent().unwrap_or(&path);
        Err(Error::image(
            by,
            format!(
                "it names the file {}, outside of its own folder, and whoever made it may want to read or change that: if you trust it, \
                 give --allow-path {}",
                path.display(),
                folder.display()
            ),
        ))
    }
}

/// The files that were opened for an image, in order.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    allowed: Allowed,
}

impl Files {
    /// Begins with no file, for the image that the user names `image`.
    pub(super) fn of(image: &Path, allowed: &Allowed) -> Result<Self> {
        Ok(Self { paths: Vec::new(), allowed: allowed.with_folder_of(image)? })
    }

    /// Opens a file that the user named, or that has been resolved, and notes it down.
    pub(super) fn open(&mut self, path: &Path, write: bool) -> Result<HostFile> {
        let file = HostFile::open(path, write)?;
        self.paths.push(path.to_owned());
        Ok(file)
    }

    /// The file that the image `by` names `name`; relative names count from the folder of `by`.
    pub(super) fn resolve(&self, by: &Path, name: &Path) -> Result<PathBuf> {
        self.allowed.resolve(by, &by.parent().unwrap_or(Path::new("")).join(name))
    }

    /// The names of the files.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.paths
    }
}

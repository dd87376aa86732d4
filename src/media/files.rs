//! The files that an image is made of: its own, its extents, and those that it stands on.

use super::host::HostFile;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The files that were opened for an image, in order.
#[derive(Default)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
}

impl Files {
    /// Opens a file that is a part of the image, and notes it down.
    pub(super) fn open(&mut self, path: &Path, write: bool) -> Result<HostFile> {
        let file = HostFile::open(path, write)?;
        self.paths.push(path.to_owned());
        Ok(file)
    }

    /// The names of the files.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.paths
    }
}

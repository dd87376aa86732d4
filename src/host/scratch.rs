//! Folders for tests of this module.

use std::path::{Path, PathBuf};

/// A folder that goes when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder, for the test `name`.
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("subring-host-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A folder for a test's files.

// Each test takes what it needs of this.
#![allow(dead_code)]

use std::path::PathBuf;

/// A folder that goes when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// One of its own for the test `name`.
    pub(crate) fn new(name: &str) -> Self {
        let (crate_name, process) = (env!("CARGO_CRATE_NAME"), std::process::id());
        let dir = std::env::temp_dir().join(format!("subring-{crate_name}-{process}-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// The path of the file `name` in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes that file; its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

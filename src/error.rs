//! `Error`: the host's trouble, or bad input. Never a guest's fault (that is [`crate::cpu::fault::Fault`]),
//! never an exit.

use std::path::{Path, PathBuf};

/// What can go wrong on our side of the machine. Each message is one sentence for the user: what was wrong,
/// and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was attempted: "open", "read", …
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The host refused something that is not about a named file.
    #[error("the host refused to {action}: {source}")]
    Host {
        /// What was attempted.
        action: &'static str,
        /// What the host said.
        source: std::io::Error,
    },
    /// An image that cannot be loaded, with the reason.
    #[error("{}: {reason}", path.display())]
    Image {
        /// Which image.
        path: PathBuf,
        /// What is wrong with it and what would be right, as a sentence.
        reason: String,
    },
    /// An option that means nothing, or a combination that does.
    #[error("{0}")]
    Usage(String),
}

/// `Result` with our [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// By its message: enough to tell two states of a machine apart.
impl std::hash::Hash for Error {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

impl Error {
    /// An I/O failure on a named file.
    pub fn file(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::File { action, path: path.as_ref().to_owned(), source }
    }

    /// An image that cannot be loaded.
    pub fn image(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Image { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}

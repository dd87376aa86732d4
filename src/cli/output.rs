//! Standard output and standard error, as all commands write them.

use crate::error::{Error, Result};
use std::io::Write;

/// Writes to standard error. A failure (a full disk behind it) has nowhere to be told.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints the notes of the loader.
pub(crate) fn tell_notes(notes: &[String]) {
    notes.iter().for_each(|note| tell(&format!("subring: note: {note}\n")));
}

/// Writes to standard output and flushes.
pub(crate) fn out(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Host { action: "write to standard output", source })
}

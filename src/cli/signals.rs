//! Signals that end a command.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A flag that a signal sets.
pub(super) fn watch_signals() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(number, Arc::clone(&flag))
            .map_err(|source| Error::Host { action: "watch for signals", source })?;
    }
    Ok(flag)
}

//! Hooks [`crate::machine`] up to [`super::session::Pc`].

use super::session::{Pc, Spec};
use crate::error::{Error, Result};

/// Builds the machine of a `run`.
///
/// # Errors
/// [`Error`] when it cannot be built as asked.
pub fn build(_spec: Spec) -> Result<Box<dyn Pc>> {
    Err(Error::Usage(
        "this build holds the loaders and the command line only, and no machine to run on".into(),
    ))
}

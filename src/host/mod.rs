//! Files of the host: opened without waiting for anybody, locked against other programs, and written so that
//! an older file is replaced by a whole one or stays.
//!
//! Every file that the user names is read through [`open_regular`] and written through one of [`NewFile`],
//! [`Output`] and [`stream`].

mod input;
mod lock;
mod output;
#[cfg(test)]
mod scratch;

pub use input::{open_regular, open_to_write};
pub use lock::{InUse, lock};
pub use output::{NewFile, Output, stream};

//! The side that is judged by the host's processor.

use super::case::Subject;

/// The subject under test; none before the crate has an interpreter, and then the host judges itself.
pub fn subject() -> Option<Box<dyn Subject>> {
    None
}

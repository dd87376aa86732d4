//! `subring guests`: the built-in guests.

use super::builtin;
use crate::error::Result;

pub(super) fn run() -> Result<u8> {
    let mut text = String::new();
    for b in builtin::ALL {
        text += &format!("{:<12} {}\n", b.name, b.about);
    }
    super::out(text.as_bytes())?;
    Ok(0)
}

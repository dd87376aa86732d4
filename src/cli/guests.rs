//! `subring guests`: the built-in guests.

use super::output::out;
use crate::error::Result;
use crate::load::builtin;

pub(super) fn run() -> Result<u8> {
    let mut text = String::new();
    for b in builtin::ALL {
        text += &format!("{:<12} {}\n", b.name, b.about);
    }
    out(text.as_bytes())?;
    Ok(0)
}

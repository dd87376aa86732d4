//! `subring` alone: boots the built-in guests one after the other, each with its console and what it cost.

use super::run::Run;
use super::session::Build;
use super::{builtin, out, report};
use crate::error::Result;

/// Runs each guest of [`builtin::DEMO`]; the first status that is not 0 is the program's.
pub(super) fn run(build: &Build) -> Result<u8> {
    let mut status = 0;
    for b in builtin::DEMO.iter().filter_map(|name| builtin::find(name)) {
        out(format!("── {}: {}\n", b.name, b.about).as_bytes())?;
        let end = Run::builtin(b.name).drive(build)?;
        out(format!("── {}\n{}\n", end.ending.sentence(), report::summary(&end)).as_bytes())?;
        if status == 0 {
            status = end.ending.status();
        }
    }
    out(b"`subring guests` lists the built-in guests, `subring run --help` says how to boot your own.\n")?;
    Ok(status)
}

//! `subring` alone: boots the built-in guests one after the other, each with its console and what it cost.

use super::emulator::Emulator;
use super::output::out;
use super::report;
use super::session;
use super::terminal::{Console, Setup};
use crate::error::Result;
use crate::load::{DEFAULT_MEM, Spec, builtin};

/// Runs each guest of [`builtin::DEMO`]; the first status that is not 0 is the program's.
pub(super) fn run() -> Result<u8> {
    let mut status = 0;
    for guest in builtin::DEMO.iter().filter_map(|name| builtin::find(name)) {
        out(format!("── {}: {}\n", guest.name, guest.about).as_bytes())?;
        let mut pc = Emulator::new(Spec::builtin(guest, DEFAULT_MEM, None)?, None, None)?;
        let mut console = Console::open_with(Setup { stream: true, ..Setup::silent() })?;
        let end = session::drive(&mut pc, &mut console, &session::Options::default())?;
        out(format!("── {}\n{}\n", end.ending.sentence(), report::summary(&end)).as_bytes())?;
        if status == 0 {
            status = end.ending.status();
        }
    }
    out(b"`subring guests` lists the built-in guests, `subring run --help` says how to boot your own.\n")?;
    Ok(status)
}

//! `subring mmu --watch`: the changes of shadow entries as they come, a line each. Neighbouring pages that
//! change alike, by the same instruction, share a line.

use super::Names;
use super::json;
use super::session::{Ran, Runner};
use super::text::change_line;
use crate::addr::{PAGE_OFFSET, PAGE_SIZE};
use crate::cli::output::out;
use crate::error::Result;
use crate::machine::Monitor;
use crate::report::Noted;
use std::fmt::Write;
use std::rc::Rc;

/// Runs to the end; returns how it was reached.
pub(super) fn watch(runner: &mut Runner, names: &Names, as_json: bool) -> Result<Ran> {
    let mut failed = None;
    let ran = runner.run_watched(|machine| {
        let Some(shadow) = machine.monitor_mut().and_then(Monitor::shadow_mut) else { return true };
        let log = shadow.take_changes();
        let text = if as_json { json::changes(names, &log) } else { lines(names, &log) };
        if let Err(e) = out(text.as_bytes()) {
            failed = Some(e);
        }
        failed.is_some()
    });
    failed.map_or(Ok(ran), Err)
}

/// Whether `next` is the same change of the page behind.
fn goes_on(noted: &Noted, next: &Noted) -> bool {
    Rc::ptr_eq(&noted.origin, &next.origin)
        && (noted.root, noted.change, noted.about) == (next.root, next.change, next.about)
        && (noted.leaf.user, noted.leaf.write) == (next.leaf.user, next.leaf.write)
        && next.at.0 == noted.at.0.wrapping_add(PAGE_SIZE)
}

fn lines(names: &Names, log: &[Noted]) -> String {
    let mut text = String::new();
    for run in log.chunk_by(goes_on) {
        let (first, last) = (&run[0], run[run.len() - 1].at.0 | PAGE_OFFSET);
        let pages = run.len() as u64;
        _ = writeln!(text, "{:08x}-{last:08x} {}", first.at.0, change_line(names, first, pages));
    }
    text
}

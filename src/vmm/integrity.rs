//! In the library's own tests: the check that the guest's own run left the monitor's frames unchanged. The
//! frames are hashed before the real processor runs and after; outside of tests the check is empty and costs
//! nothing.

use crate::addr::MachineAddr;
use crate::mem::Ram;

#[cfg(test)]
thread_local! {
    static WATCHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static BROKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Checks this thread's monitors from now on, or no longer, and begins to count anew.
#[cfg(test)]
pub(crate) fn watch(on: bool) {
    WATCHED.set(on);
    BROKEN.set(0);
}

/// Runs of the guest that changed a frame of the monitor's.
#[cfg(test)]
pub(crate) fn broken() -> u64 {
    BROKEN.get()
}

/// A hash of what the monitor's `frames` hold, if this thread is checked.
#[inline(always)]
pub(super) fn take<I: Iterator<Item = MachineAddr>>(ram: &Ram, frames: impl FnOnce() -> I) -> Option<u64> {
    #[cfg(test)]
    if WATCHED.get() {
        return Some(super::audit::digest(ram, frames()));
    }
    let _ = (ram, frames);
    None
}

/// Counts a run that changed what the monitor's `frames` held `before`.
#[inline(always)]
pub(super) fn check<I: Iterator<Item = MachineAddr>>(
    before: Option<u64>,
    ram: &Ram,
    frames: impl FnOnce() -> I,
) {
    #[cfg(test)]
    if before.is_some() && before != take(ram, frames) {
        BROKEN.set(BROKEN.get() + 1);
    }
    #[cfg(not(test))]
    let _ = (before, ram, frames);
}

//! In the library's own tests: whether the guest's own run changed what is the monitor's. All frames of the monitor's are
//! hashed before the real processor runs and after; elsewhere this is nothing, and costs nothing.

use super::descriptors::Descriptors;
use super::memory::PageTables;
use crate::mem::Ram;

#[cfg(test)]
thread_local! {
    static WATCHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static BROKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// From now on this thread's monitors are watched, or no more; none is broken yet.
#[cfg(test)]
pub(crate) fn watch(on: bool) {
    WATCHED.set(on);
    BROKEN.set(0);
}

/// Runs of the guest that changed what is the monitor's.
#[cfg(test)]
pub(crate) fn broken() -> u64 {
    BROKEN.get()
}

/// What the monitor's frames hold now, if somebody watches.
#[inline(always)]
pub(super) fn take(ram: &Ram, tables: &PageTables, descriptors: &Descriptors) -> Option<u64> {
    #[cfg(test)]
    if WATCHED.get() {
        return Some(super::audit::digest(ram, tables, descriptors));
    }
    let _ = (ram, tables, descriptors);
    None
}

/// Compares with what they held before.
#[inline(always)]
pub(super) fn check(before: Option<u64>, ram: &Ram, tables: &PageTables, descriptors: &Descriptors) {
    #[cfg(test)]
    if before.is_some() && before != take(ram, tables, descriptors) {
        BROKEN.set(BROKEN.get() + 1);
    }
    let _ = (before, ram, tables, descriptors);
}

//! What several test binaries share.

#![allow(dead_code, reason = "not every binary uses all of it")]

pub(crate) mod apic;
pub(crate) mod boot_sector;
pub(crate) mod guest;
pub(crate) mod program;
pub(crate) mod scratch;
pub(crate) mod seed;

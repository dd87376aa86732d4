//! Machines side by side: one guest on the bare machine and under a monitor.
//!
//! [`state`] compares two machines as the guest can; [`guest`] feeds a machine a recorded session's input; [`lockstep`]
//! finds the first instruction after which two machines differ, [`boundary`] the same by looking at each boundary of a monitor's; [`why`] says what it is about. [`mappings`] puts a guest's page
//! tables beside a monitor's.

pub mod boundary;
pub mod guest;
pub mod lockstep;
pub mod mappings;
pub mod state;
pub mod why;

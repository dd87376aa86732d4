//! Machines side by side: one guest on the bare machine and under a monitor.
//!
//! [`guest`] feeds a machine a recorded session's input; [`state`] compares two machines as the guest can;
//! [`compare`] runs a guest in a list of cells and finds where they part; [`mappings`] puts a guest's page
//! tables beside a monitor's; [`nested_walk`] follows a walk through both dimensions; [`digits`] writes numbers.

pub mod compare;
pub mod digits;
pub mod guest;
pub mod mappings;
pub mod nested_walk;
pub mod state;

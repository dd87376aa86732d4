//! The post-mortem of guests that die: each usual mistake is made by a tiny guest here, and its sentence asserted; the
//! text of a few reports is golden; healthy guests get none.

mod guest;
mod handled;
mod healthy;
mod hypervisors;
mod mistakes;
mod report;

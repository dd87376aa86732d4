//! The post-mortem of guests that die: each usual mistake is made by a tiny guest here, and its sentence asserted; the
//! text of a few reports is golden; healthy guests get none.

#[path = "post_mortem/guest.rs"]
mod guest;
#[path = "post_mortem/healthy.rs"]
mod healthy;
#[path = "post_mortem/mistakes.rs"]
mod mistakes;
#[path = "post_mortem/report.rs"]
mod report;

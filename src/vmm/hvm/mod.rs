//! Hardware assist: the unmodified guest in VMX non-root operation on a real processor that has the extensions,
//! its kernel in ring 0 (Uhlig et al., IEEE Computer 2005; SDM vol. 3, chapters 23 to 28). The monitor is a
//! hypervisor: a control structure says which instructions and events leave the guest, and each VM exit arrives
//! here as a value. What exits and is the guest's to do is emulated on the virtual processor, by the semantics
//! that the bare machine runs.
//!
//! Guest addresses are translated by shadow page tables, which every strategy shares, or by the processor's own
//! walk through two dimensions.
//!
//! | file | what it is |
//! |---|---|
//! | `monitor` | the loop, and what observers see |
//! | `state` | both processors, tables, counts |
//! | `controls` | the control structure as the monitor sets it up |
//! | `v` | the map from the virtual processor to the real one, and back |
//! | `entry` | entering the guest, running it, and leaving it |
//! | `exits` | what a VM exit means |
//! | `paging` | who translates, and bringing tables up to date |
//! | `emulate` | running instructions on the virtual processor |

mod controls;
mod emulate;
mod entry;
mod exits;
mod monitor;
mod paging;
mod state;
mod v;

pub(super) use monitor::HvmMonitor;
pub(super) use paging::Paging;
pub(super) use state::{Hvm, PAGES};

//! Ring compression (Robin and Irvine, USENIX Security 2000; Bugnion et al., TOCS 2012): the guest runs on
//! the real processor with its kernel in ring 1. An instruction that faults there is emulated on the virtual
//! processor by the semantics that the bare machine runs, or the fault is the guest's own and is reflected.
//!
//! | file | what it is |
//! |---|---|
//! | `execution` | the seam: who runs the guest's code |
//! | `monitor` | the loop, and what observers see |
//! | `state` | both processors, tables, counts |
//! | `sync` | bringing shadows up to date |
//! | `image` | composing the real processor's state, and direct execution |
//! | `fault` | what a stop of the real processor means |
//! | `emulate` | running instructions on the virtual processor |

mod emulate;
mod execution;
mod fault;
mod image;
mod monitor;
mod state;
mod sync;

pub(super) use emulate::runs_directly;
pub(super) use execution::Execution;
pub(super) use monitor::RingMonitor;
pub(super) use state::{Reaction, RingCompression};

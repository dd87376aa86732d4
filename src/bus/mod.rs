//! What connects processor, memory and chips: the physical memory map. The units that all of them speak,
//! access widths and ticks of the clock, lie below and are named from here.

pub mod phys;

pub use crate::clock::{Clock, Ticks};
pub use crate::width::Width;

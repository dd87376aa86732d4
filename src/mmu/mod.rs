//! From linear to guest-physical addresses: the walk that the manual describes, and the TLB in front of it.

pub mod ept;
mod large;
mod mapping;
pub mod pae;
pub mod paging;
pub mod reserved;
#[cfg(test)]
mod testing;
pub mod tlb;
#[cfg(test)]
mod tlb_model;
pub mod two_dimensional;

//! Guest RAM: one mappable object, with the page generations that caches of decoded code key on.

mod p2m;
mod ram;
mod traces;
pub use p2m::P2m;
pub use ram::{Ram, Saved};
pub use traces::Traces;

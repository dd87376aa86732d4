//! Guest RAM: one mappable object, with the page generations that caches of decoded code key on.

mod ram;
pub use ram::{Ram, Saved};

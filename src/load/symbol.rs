//! Names of an image's addresses; the table itself is [`crate::symbols`].

pub use crate::symbols::Symbol;
use crate::symbols::name_in;

/// The name for `address` among `symbols`, which are in the order of their addresses: the symbol before it, and how far
/// it is from there.
pub fn symbol_at(symbols: &[Symbol], address: u32) -> Option<String> {
    name_in(symbols, address, address)
}

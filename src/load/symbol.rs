//! The names that an image has for its addresses.

/// One name from an image's symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name, as in the file.
    pub name: String,
    /// Its (virtual) address.
    pub value: u32,
    /// Bytes it covers; 0 where the file does not say.
    pub size: u32,
}

/// The name for `address` among `symbols`, which are in the order of their addresses: the symbol before it, and how far
/// it is from there.
pub fn symbol_at(symbols: &[Symbol], address: u32) -> Option<String> {
    let n = symbols.partition_point(|s| s.value <= address);
    let symbol = symbols[..n].iter().rev().find(|s| !s.name.is_empty())?;
    let offset = address - symbol.value;
    let inside = symbol.size == 0 || offset < symbol.size;
    inside.then(|| if offset == 0 { symbol.name.clone() } else { format!("{}+{offset:#x}", symbol.name) })
}

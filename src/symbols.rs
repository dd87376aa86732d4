//! Names for addresses: the symbol table of a kernel, or of several files, for post-mortems, traces,
//! debuggers and reports.

use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;

/// Bytes behind a symbol without a size that may still be called after it.
const NEAR: u32 = 1 << 16;

/// One name from a symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name, as in the file.
    pub name: String,
    /// The symbol's (virtual) address.
    pub value: u32,
    /// Bytes it covers; 0 where the file does not say.
    pub size: u32,
}

/// Symbols in the order of their addresses. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Arc<[Symbol]>);

impl Symbols {
    /// A table of these symbols, in any order.
    pub fn new(mut symbols: Vec<Symbol>) -> Self {
        symbols.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
        Self(symbols.into())
    }

    /// `name+offset` for an address in a symbol, or near behind one without a size.
    pub fn name(&self, at: u32) -> Option<String> {
        name_in(&self.0, at, at)
    }

    /// The address that `text` means: a number (hexadecimal after `0x`), or a symbol with or without `&` before it and an
    /// offset behind it, as gdb's users write it.
    ///
    /// # Errors
    /// A sentence that says what `text` is instead.
    pub fn address(&self, text: &str) -> Result<u32, String> {
        let text = text.trim();
        let bare = text.strip_prefix('&').unwrap_or(text);
        let (name, offset) = match bare.rsplit_once('+') {
            Some((name, offset)) => {
                let offset = number(offset).ok_or_else(|| format!("`{offset}` is no number"))?;
                (name.trim(), offset)
            }
            None => (bare, 0),
        };
        let at = match number(name) {
            Some(at) => at,
            None => self.find(name)?.value,
        };
        Ok(at.wrapping_add(offset))
    }

    /// The addresses that `text` means: `A-B` up to B itself, or the whole of a symbol.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn range(&self, text: &str) -> Result<RangeInclusive<u32>, String> {
        let range = match text.split_once('-') {
            Some((from, to)) => self.address(from)?..=self.address(to)?,
            None => {
                let (first, size) = match number(text.trim()) {
                    Some(at) => (at, 1),
                    None => self.find(text.trim()).map(|s| (s.value, s.size.max(1)))?,
                };
                first..=first.saturating_add(size - 1)
            }
        };
        if range.is_empty() { Err("its end is before its start".into()) } else { Ok(range) }
    }

    /// The symbol of this name.
    ///
    /// # Errors
    /// A sentence that says that there is none.
    pub fn find(&self, name: &str) -> Result<&Symbol, String> {
        self.0.iter().find(|s| s.name == name).ok_or_else(|| {
            if self.0.is_empty() {
                format!("there are no symbols, so `{name}` means nothing: give an address like 0x100000")
            } else {
                format!("there is no symbol `{name}`")
            }
        })
    }
}

impl Deref for Symbols {
    type Target = [Symbol];

    fn deref(&self) -> &[Symbol] {
        &self.0
    }
}

impl From<Vec<Symbol>> for Symbols {
    fn from(symbols: Vec<Symbol>) -> Self {
        Self::new(symbols)
    }
}

/// The name for `at` as an offset from the symbol that `inside` is in. Symbols are in the order of their
/// addresses.
pub fn name_in(symbols: &[Symbol], inside: u32, at: u32) -> Option<String> {
    let n = symbols.partition_point(|s| s.value <= inside);
    let s = symbols[..n].iter().rev().find(|s| !s.name.is_empty())?;
    let reach = if s.size == 0 { NEAR } else { s.size };
    if inside - s.value >= reach {
        return None;
    }
    let offset = at.wrapping_sub(s.value);
    Some(if offset == 0 { s.name.clone() } else { format!("{}+{offset:#x}", s.name) })
}

fn number(text: &str) -> Option<u32> {
    let digits = text.trim().replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Symbols {
        let symbol = |name: &str, value, size| Symbol { name: name.into(), value, size };
        Symbols::new(vec![symbol("tail", 0x3000, 0), symbol("main", 0x1000, 0x20), symbol("data", 0x2000, 4)])
    }

    #[test]
    fn an_address_is_named_after_the_symbol_it_is_in() {
        let t = table();
        assert_eq!(t.name(0x1000).as_deref(), Some("main"));
        assert_eq!(t.name(0x101f).as_deref(), Some("main+0x1f"));
        assert_eq!(t.name(0x1020), None, "behind its end");
        assert_eq!(t.name(0x3010).as_deref(), Some("tail+0x10"), "a label without a size reaches some way");
        assert_eq!(t.name(0x3000 + NEAR), None);
        assert_eq!(t.name(0xfff), None);
    }

    #[test]
    fn addresses_are_numbers_or_symbols_with_offsets() {
        let t = table();
        for (text, at) in [("0x1234", 0x1234), ("4096", 0x1000), ("main", 0x1000), ("&data", 0x2000)] {
            assert_eq!(t.address(text), Ok(at), "{text}");
        }
        assert_eq!(t.address("&main + 0x10"), Ok(0x1010));
        assert_eq!(t.range("main"), Ok(0x1000..=0x101f));
        assert_eq!(t.range("main-data+3"), Ok(0x1000..=0x2003));
        assert_eq!(t.range("0x10"), Ok(0x10..=0x10));
        assert!(t.range("data-main").unwrap_err().contains("before its start"));
        assert!(t.address("nobody").unwrap_err().contains("no symbol `nobody`"));
        assert!(t.address("main+x").unwrap_err().contains("no number"));
        assert!(Symbols::default().address("main").unwrap_err().contains("there are no symbols"));
    }
}

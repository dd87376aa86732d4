//! Places in a guest, as options name them: an address, or a symbol, perhaps with an offset.

use super::args;
use crate::addr::PAGE_OFFSET;
use crate::load::Symbol;

/// A place that an option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Linear address.
    pub(super) at: u32,
    /// Bytes of the symbol, where a symbol was named without an offset.
    pub(super) size: Option<u32>,
}

/// The place that `text` names: `0x100e18`, `kernel_main`, `kernel_main+0x10`.
///
/// # Errors
/// A sentence without its full stop.
pub(super) fn parse(text: &str, symbols: &[Symbol], guest: &str) -> Result<Place, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(Place { at: args::address(text)?, size: None });
    }
    let Some((name, offset)) = text.rsplit_once('+') else { return of_symbol(text, symbols, guest) };
    let offset = args::address(offset)?;
    let symbol = of_symbol(name, symbols, guest)?;
    Ok(Place { at: symbol.at.wrapping_add(offset), size: None })
}

/// The symbol called `name`. A symbol without a size, as assemblers write them, extends to the next symbol, or
/// to the end of its page if there is none.
///
/// # Errors
/// A sentence without its full stop.
pub(super) fn of_symbol(name: &str, symbols: &[Symbol], guest: &str) -> Result<Place, String> {
    let Some(symbol) = symbols.iter().find(|symbol| symbol.name == name) else {
        let has = if symbols.is_empty() { "no symbols".into() } else { format!("no symbol `{name}`") };
        return Err(format!("{guest} has {has}; give an address like 0x100000"));
    };
    let at = symbol.value;
    let size = if symbol.size > 0 {
        symbol.size
    } else {
        let next = symbols.iter().map(|other| other.value).filter(|&value| value > at).min();
        next.map_or(PAGE_OFFSET - (at & PAGE_OFFSET) + 1, |next| next - at)
    };
    Ok(Place { at, size: Some(size) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, value: u32, size: u32) -> Symbol {
        Symbol { value, size, name: name.into() }
    }

    #[test]
    fn addresses_symbols_and_offsets_are_places() {
        let symbols = [symbol("main", 0x10_0000, 0x20)];
        let at = |at, size| Ok(Place { at, size });
        assert_eq!(parse("0x7c00", &symbols, "g"), at(0x7c00, None));
        assert_eq!(parse("main", &symbols, "g"), at(0x10_0000, Some(0x20)));
        assert_eq!(parse("main+0x10", &symbols, "g"), at(0x10_0010, None));
        for text in ["no", "main+x", "0x1ffffffff", ""] {
            assert!(parse(text, &symbols, "g").is_err(), "{text}");
        }
        assert!(parse("main", &[], "g").unwrap_err().starts_with("g has no symbols; "));
    }

    #[test]
    fn a_symbol_without_a_size_ends_at_the_next_or_with_its_page() {
        let symbols = [symbol("entry", 0x10_0010, 0), symbol("next", 0x10_0018, 0)];
        assert_eq!(of_symbol("entry", &symbols, "g").unwrap().size, Some(8));
        assert_eq!(of_symbol("next", &symbols, "g").unwrap().size, Some(0xfe8));
    }
}

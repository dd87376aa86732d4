//! The parsers of the command line's values on any text.

use super::bytes::Bytes;
use subring::cli::{args, keys};

/// Pieces that values are made of.
#[rustfmt::skip]
const PIECES: [&str; 40] = [
    "0", "1", "9", "42", "999999999", "18446744073709551615", "4294967296", "0x", "ffff", "_", "-", "+", ".", ":", "T", "Z", " ",
    "K", "M", "G", "iB", "s", "ms", "us", "m", "2026", "-02-29", "12:30", "@", "\"", "<Enter>", "<", ">", "<C-", "x", "<lt>",
    "@+1s:", "@\"ok\":", "é", "\u{0}",
];

/// Parses the text that `data` means with every parser.
pub(crate) fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let mut text = String::new();
    while data.any() {
        if data.chance(240) { text.push_str(data.pick(&PIECES)) } else { text.push(char::from(data.u8())) }
    }
    let _ = (args::count(&text), args::address(&text), args::epoch(&text), args::micros(&text));
    assert!(args::memory(&text).is_ok_and(|n| n % 4096 == 0 && n <= 3 << 30) || args::memory(&text).is_err());
    assert!(args::hertz(&text).is_ok_and(|n| n >= 1000) || args::hertz(&text).is_err());
    let _ = keys::parse(&text);
    let _ = subring::console::keymap::from_terminal(text.as_bytes());
}

//! Characters and key names to keys: what `--keys` and a terminal in front of the VGA screen type.
//!
//! A key is named by its scan code set 1 make code (IBM PS/2 Technical Reference, Keyboards); the keyboard of
//! [`super::i8042`] turns it into the set that the guest chose.

use crate::error::{Error, Result};

/// A key going down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyEvent {
    /// The make code in scan code set 1, bit 7 clear.
    pub code: u8,
    /// Whether the key is one of those behind an E0 prefix.
    pub extended: bool,
    /// Down, else up.
    pub down: bool,
}

/// A key: its set 1 code and whether it is extended.
type Key = (u8, bool);

const SHIFT: Key = (0x2a, false);
const CTRL: Key = (0x1d, false);
const ALT: Key = (0x38, false);

/// The characters of each key of a US keyboard: plain, shifted, code.
const CHARACTERS: &[(&str, &str, u8)] = &[
    ("1234567890-=", "!@#$%^&*()_+", 0x02),
    ("qwertyuiop[]", "QWERTYUIOP{}", 0x10),
    ("asdfghjkl;'`", "ASDFGHJKL:\"~", 0x1e),
    ("\\zxcvbnm,./", "|ZXCVBNM<>?", 0x2b),
];

/// Keys by name, for `<name>`.
const NAMES: &[(&str, Key)] = &[
    ("enter", (0x1c, false)),
    ("return", (0x1c, false)),
    ("esc", (0x01, false)),
    ("escape", (0x01, false)),
    ("tab", (0x0f, false)),
    ("space", (0x39, false)),
    ("backspace", (0x0e, false)),
    ("bs", (0x0e, false)),
    ("up", (0x48, true)),
    ("down", (0x50, true)),
    ("left", (0x4b, true)),
    ("right", (0x4d, true)),
    ("home", (0x47, true)),
    ("end", (0x4f, true)),
    ("pageup", (0x49, true)),
    ("pgup", (0x49, true)),
    ("pagedown", (0x51, true)),
    ("pgdn", (0x51, true)),
    ("insert", (0x52, true)),
    ("ins", (0x52, true)),
    ("delete", (0x53, true)),
    ("del", (0x53, true)),
    ("f1", (0x3b, false)),
    ("f2", (0x3c, false)),
    ("f3", (0x3d, false)),
    ("f4", (0x3e, false)),
    ("f5", (0x3f, false)),
    ("f6", (0x40, false)),
    ("f7", (0x41, false)),
    ("f8", (0x42, false)),
    ("f9", (0x43, false)),
    ("f10", (0x44, false)),
    ("f11", (0x57, false)),
    ("f12", (0x58, false)),
    ("shift", SHIFT),
    ("ctrl", CTRL),
    ("alt", ALT),
    ("capslock", (0x3a, false)),
    ("numlock", (0x45, false)),
    ("scrolllock", (0x46, false)),
    ("printscreen", (0x37, true)),
    ("win", (0x5b, true)),
    ("menu", (0x5d, true)),
];

/// Escape sequences of terminals, after ESC.
const SEQUENCES: &[(&str, &str)] = &[
    ("[A", "up"),
    ("[B", "down"),
    ("[C", "right"),
    ("[D", "left"),
    ("OA", "up"),
    ("OB", "down"),
    ("OC", "right"),
    ("OD", "left"),
    ("[H", "home"),
    ("[F", "end"),
    ("[1~", "home"),
    ("[4~", "end"),
    ("[2~", "insert"),
    ("[3~", "delete"),
    ("[5~", "pageup"),
    ("[6~", "pagedown"),
    ("OP", "f1"),
    ("OQ", "f2"),
    ("OR", "f3"),
    ("OS", "f4"),
    ("[15~", "f5"),
    ("[17~", "f6"),
    ("[18~", "f7"),
    ("[19~", "f8"),
    ("[20~", "f9"),
    ("[21~", "f10"),
    ("[23~", "f11"),
    ("[24~", "f12"),
];

/// The key of `c` on a US keyboard, and whether Shift is held.
fn character(c: char) -> Option<(Key, bool)> {
    match c {
        ' ' => return Some(((0x39, false), false)),
        '\n' | '\r' => return Some(((0x1c, false), false)),
        '\t' => return Some(((0x0f, false), false)),
        '\u{8}' | '\u{7f}' => return Some(((0x0e, false), false)),
        '\u{1b}' => return Some(((0x01, false), false)),
        _ => {}
    }
    CHARACTERS.iter().find_map(|(plain, shifted, first)| {
        let at = |row: &str| row.chars().position(|x| x == c).map(|i| (first + i as u8, false));
        at(plain).map(|key| (key, false)).or_else(|| at(shifted).map(|key| (key, true)))
    })
}

fn named(name: &str) -> Option<Key> {
    NAMES.iter().find(|(n, _)| name.eq_ignore_ascii_case(n)).map(|(_, key)| *key)
}

/// Presses the modifiers and the key, then lets go in the opposite order.
fn stroke(modifiers: &[Key], key: Key, out: &mut Vec<KeyEvent>) {
    let event = |(code, extended): Key, down| KeyEvent { code, extended, down };
    out.extend(modifiers.iter().map(|&m| event(m, true)));
    out.push(event(key, true));
    out.push(event(key, false));
    out.extend(modifiers.iter().rev().map(|&m| event(m, false)));
}

fn type_character(c: char, out: &mut Vec<KeyEvent>) -> Option<()> {
    let (key, shift) = character(c)?;
    stroke(if shift { &[SHIFT] } else { &[] }, key, out);
    Some(())
}

/// `Ctrl-Alt-Del`, `F1`, `Ctrl-c`: modifiers, then a key's name or one character.
fn type_name(name: &str, out: &mut Vec<KeyEvent>) -> Option<()> {
    let mut modifiers = Vec::new();
    let mut rest = name;
    while let Some((prefix, tail)) = rest.split_once('-').filter(|(_, tail)| !tail.is_empty()) {
        let modifier = [("ctrl", CTRL), ("alt", ALT), ("shift", SHIFT)];
        modifiers.push(modifier.iter().find(|(n, _)| prefix.eq_ignore_ascii_case(n))?.1);
        rest = tail;
    }
    let mut chars = rest.chars();
    let key = match (chars.next(), chars.next()) {
        (Some(c), None) => character(if modifiers.is_empty() { c } else { c.to_ascii_lowercase() })?.0,
        _ if rest.eq_ignore_ascii_case("lt") => return type_character('<', out),
        _ => named(rest)?,
    };
    stroke(&modifiers, key, out);
    Some(())
}

/// The key events of a `--keys` string: characters of a US keyboard, and names in angle brackets such as
/// `<Enter>`, `<F1>`, `<Up>`, `<Ctrl-C>`, `<Alt-x>`; `<lt>` is the character `<`.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, a missing `>` or a character that no key types.
pub fn parse(keys: &str) -> Result<Vec<KeyEvent>> {
    let mut out = Vec::new();
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '<' {
            type_character(c, &mut out)
                .ok_or_else(|| Error::Usage(format!("no key of a US keyboard types {c:?}")))?;
            continue;
        }
        let (name, tail) = rest
            .split_once('>')
            .ok_or_else(|| Error::Usage("a key name lacks its '>'; write <lt> for the character".into()))?;
        type_name(name, &mut out).ok_or_else(|| {
            Error::Usage(format!("<{name}> names no key: try <Enter>, <Esc>, <Up>, <F1> or <Ctrl-C>"))
        })?;
        rest = tail;
    }
    Ok(out)
}

/// The key events of bytes that a terminal in raw mode sent; what no key types is left out.
pub fn from_terminal(bytes: &[u8]) -> Vec<KeyEvent> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let known = SEQUENCES.iter().find(|(s, _)| *first == 0x1b && tail.starts_with(s.as_bytes()));
        if let Some((sequence, name)) = known {
            let _ = type_name(name, &mut out);
            rest = &tail[sequence.len()..];
            continue;
        }
        match *first {
            b @ (0x08 | 0x09 | 0x0a | 0x0d | 0x1b) => drop(type_character(b.into(), &mut out)),
            b @ 1..=26 => drop(type_name(&format!("ctrl-{}", (b + b'a' - 1) as char), &mut out)),
            b => drop(type_character(b.into(), &mut out)),
        }
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(keys: &str) -> Vec<u8> {
        parse(keys).unwrap().iter().map(|k| k.code | if k.down { 0 } else { 0x80 }).collect()
    }

    #[test]
    fn characters_and_names_become_strokes() {
        assert_eq!(codes("a"), [0x1e, 0x9e]);
        assert_eq!(codes("A"), [0x2a, 0x1e, 0x9e, 0xaa]);
        assert_eq!(codes("<Enter>"), [0x1c, 0x9c]);
        assert_eq!(codes("<Ctrl-C>"), [0x1d, 0x2e, 0xae, 0x9d]);
        assert_eq!(codes("<lt>"), [0x2a, 0x33, 0xb3, 0xaa]);
        assert!(parse("<Up>").unwrap()[0].extended);
    }

    #[test]
    fn every_printable_character_has_a_key() {
        for c in ' '..='~' {
            assert!(character(c).is_some(), "{c:?}");
        }
    }

    #[test]
    fn bad_strings_are_refused() {
        for bad in ["<Nokey>", "<Enter", "\u{e9}", "<>", "<Foo-a>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn terminal_bytes_become_keys() {
        assert_eq!(from_terminal(b"\x1b[A"), parse("<Up>").unwrap());
        assert_eq!(from_terminal(b"\x03\r"), parse("<Ctrl-c><Enter>").unwrap());
        assert_eq!(from_terminal(b"\x1b"), parse("<Esc>").unwrap());
    }
}

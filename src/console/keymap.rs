//! Characters, key names and a terminal's bytes to keys of a US keyboard: the one table for scripted typing
//! and for the terminal in front of the VGA screen.
//!
//! A key is named by its scan code set 1 make code (IBM PS/2 Technical Reference, Keyboards); the keyboard of
//! [`crate::device::i8042`] turns it into the set that the guest chose.

use serde::{Deserialize, Serialize};

/// A key going down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyEvent {
    /// The make code in scan code set 1, bit 7 clear.
    pub code: u8,
    /// Whether the key is one of those behind an E0 prefix.
    pub extended: bool,
    /// Down, else up.
    pub down: bool,
}

/// A key: its set 1 code, and whether it stands behind an E0 prefix.
type Key = (u8, bool);

/// A key that is struck, with what is held meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    key: Key,
    shift: bool,
    ctrl: bool,
    alt: bool,
}

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

/// What can be held, by name.
const MODIFIERS: &[(&str, Key)] =
    &[("c", CTRL), ("ctrl", CTRL), ("a", ALT), ("alt", ALT), ("s", SHIFT), ("shift", SHIFT)];

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

/// The key of `c`, and whether Shift is held.
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

impl Stroke {
    fn plain(key: Key) -> Self {
        Self { key, shift: false, ctrl: false, alt: false }
    }

    /// The stroke that types `c`, if a US keyboard has one.
    pub fn of_char(c: char) -> Option<Self> {
        character(c).map(|(key, shift)| Self { shift, ..Self::plain(key) })
    }

    /// The stroke called `name`: `F1`, `Ctrl-Alt-Del`, `C-x`: what is held, then a key's name or one
    /// character.
    pub fn of_name(name: &str) -> Option<Self> {
        if let Some((held, rest)) =
            name.split_once('-').filter(|(held, rest)| !held.is_empty() && !rest.is_empty())
        {
            let modifier = MODIFIERS.iter().find(|(n, _)| held.eq_ignore_ascii_case(n))?.1;
            // Ctrl-C is the key C with Ctrl: a letter's case does not add Shift.
            let letter = rest.len() == 1 && rest.as_bytes()[0].is_ascii_alphabetic();
            let stroke = Self::of_name(&if letter { rest.to_ascii_lowercase() } else { rest.to_owned() })?;
            return Some(stroke.holding(modifier));
        }
        let mut chars = name.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            return Self::of_char(c);
        }
        named(name).map(Self::plain)
    }

    fn holding(self, modifier: Key) -> Self {
        match modifier {
            CTRL => Self { ctrl: true, ..self },
            ALT => Self { alt: true, ..self },
            _ => Self { shift: true, ..self },
        }
    }

    /// What is held goes down, the key goes down and up, and what is held comes up in the opposite order.
    pub fn events(self) -> Vec<KeyEvent> {
        let event = |(code, extended): Key, down| KeyEvent { code, extended, down };
        let held = [(self.ctrl, CTRL), (self.alt, ALT), (self.shift, SHIFT)];
        let held: Vec<Key> = held.into_iter().filter_map(|(on, key)| on.then_some(key)).collect();
        let mut events: Vec<KeyEvent> = held.iter().map(|&key| event(key, true)).collect();
        events.extend([event(self.key, true), event(self.key, false)]);
        events.extend(held.iter().rev().map(|&key| event(key, false)));
        events
    }
}

/// The strokes of bytes that a terminal in raw mode sent; what no key types is left out.
pub fn from_terminal(bytes: &[u8]) -> Vec<Stroke> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let known = SEQUENCES.iter().find(|(s, _)| *first == 0x1b && tail.starts_with(s.as_bytes()));
        if let Some((sequence, name)) = known {
            out.extend(Stroke::of_name(name));
            rest = &tail[sequence.len()..];
            continue;
        }
        // Ctrl with a letter or one of [ \ ] arrives as the low five bits of its code; some have a key of
        // their own.
        let typed = Stroke::of_char((*first).into());
        let letter = char::from(*first | 0x40).to_ascii_lowercase();
        let control = || Stroke::of_char(letter).map(|s| s.holding(CTRL));
        out.extend(typed.or_else(|| if *first < 0x20 { control() } else { None }));
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set 1 bytes without their E0.
    fn codes(stroke: Option<Stroke>) -> Vec<u8> {
        stroke.unwrap().events().iter().map(|k| k.code | if k.down { 0 } else { 0x80 }).collect()
    }

    #[test]
    fn characters_and_names_become_strokes() {
        assert_eq!(codes(Stroke::of_char('a')), [0x1e, 0x9e]);
        assert_eq!(codes(Stroke::of_char('A')), [0x2a, 0x1e, 0x9e, 0xaa]);
        assert_eq!(codes(Stroke::of_name("Enter")), [0x1c, 0x9c]);
        assert_eq!(codes(Stroke::of_name("Ctrl-C")), [0x1d, 0x2e, 0xae, 0x9d]);
        assert_eq!(Stroke::of_name("C-x"), Stroke::of_name("ctrl-X"));
        assert_eq!(codes(Stroke::of_name("C-A-Del")), [0x1d, 0x38, 0x53, 0xd3, 0xb8, 0x9d]);
        assert_eq!(codes(Stroke::of_name("C--")), [0x1d, 0x0c, 0x8c, 0x9d]);
        assert!(Stroke::of_name("Up").unwrap().events()[0].extended);
    }

    #[test]
    fn every_printable_character_has_a_key() {
        for c in ' '..='~' {
            assert!(Stroke::of_char(c).is_some(), "{c:?}");
        }
    }

    #[test]
    fn what_no_key_is_called_is_refused() {
        for bad in ["", "Nokey", "\u{e9}", "Foo-a", "C-", "-x"] {
            assert_eq!(Stroke::of_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn terminal_bytes_become_strokes() {
        let names = |names: &[&str]| names.iter().map(|n| Stroke::of_name(n).unwrap()).collect::<Vec<_>>();
        assert_eq!(from_terminal(b"\x1b[A\x1bOP\x1b[24~"), names(&["Up", "F1", "F12"]));
        assert_eq!(from_terminal(b"\x03\r\x7f\x1c"), names(&["C-c", "Enter", "Backspace", "C-\\"]));
        assert_eq!(from_terminal(b"\x1b"), names(&["Esc"]));
        assert_eq!(from_terminal(b"\xff\x00").len(), 1, "NUL is Ctrl-@");
    }
}

//! Scripted typing: the syntax of `--keys`, and the typist that presses keys at their points in guest time.
//!
//! A script is a sequence of steps `@WHEN:TEXT`. WHEN is `1.5s` (since power-on), `+2s` (after the step before) or
//! `"text"` (once a row of the screen contains it). TEXT is typed on a US keyboard, with `<Enter>`, `<Esc>`, `<Tab>`,
//! `<Backspace>`, `<Space>`, `<Up>`, `<Down>`, `<Left>`, `<Right>`, `<Home>`, `<End>`, `<PgUp>`, `<PgDn>`, `<Ins>`,
//! `<Del>`, `<F1>` to `<F12>`; `<C-x>`, `<A-x>`, `<S-x>` hold Ctrl, Alt, Shift; `<lt>` is `<` and `<at>` is `@`.
//! A script that does not start with `@` is typed from power-on.

use super::args;
use crate::bus::{Clock, Ticks};
use std::collections::VecDeque;

/// One key of the keyboard going down or up, by its code in scan code set 1 (0xE0xx for the extended keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// The make code.
    pub code: u16,
    /// Whether it goes down.
    pub down: bool,
}

/// A key with what is held while it is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The make code in set 1.
    pub code: u16,
    /// Shift is held.
    pub shift: bool,
    /// Ctrl is held.
    pub ctrl: bool,
    /// Alt is held.
    pub alt: bool,
}

/// When a step is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At this many microseconds of guest time.
    At(u64),
    /// This many microseconds after the end of the step before.
    After(u64),
    /// Once a row of the screen contains this.
    Shows(String),
}

/// Keys to type at a point of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStep {
    /// The point.
    pub when: When,
    /// The keys.
    pub keys: Vec<Key>,
}

const CTRL: u16 = 0x1d;
const ALT: u16 = 0x38;
const SHIFT: u16 = 0x2a;

/// The rows of a US keyboard in set 1: first code, plain, with Shift.
const ROWS: [(u16, &str, &str); 5] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
];

/// Keys that have a name.
const NAMED: [(&str, u16); 23] = [
    ("Enter", 0x1c),
    ("Return", 0x1c),
    ("Esc", 0x01),
    ("Escape", 0x01),
    ("Tab", 0x0f),
    ("Backspace", 0x0e),
    ("BS", 0x0e),
    ("Space", 0x39),
    ("Up", 0xe048),
    ("Down", 0xe050),
    ("Left", 0xe04b),
    ("Right", 0xe04d),
    ("Home", 0xe047),
    ("End", 0xe04f),
    ("PgUp", 0xe049),
    ("PgDn", 0xe051),
    ("Ins", 0xe052),
    ("Del", 0xe053),
    ("F11", 0x57),
    ("F12", 0x58),
    ("CapsLock", 0x3a),
    ("NumLock", 0x45),
    ("ScrollLock", 0x46),
];

impl Key {
    fn plain(code: u16) -> Self {
        Self { code, shift: false, ctrl: false, alt: false }
    }

    /// The key that types `c`, if a US keyboard has one.
    pub fn of_char(c: char) -> Option<Self> {
        match c {
            '\n' | '\r' => return Some(Self::plain(0x1c)),
            '\t' => return Some(Self::plain(0x0f)),
            '\x08' | '\x7f' => return Some(Self::plain(0x0e)),
            '\x1b' => return Some(Self::plain(0x01)),
            _ => {}
        }
        for (first, plain, shifted) in ROWS {
            for (row, shift) in [(plain, false), (shifted, true)] {
                if let Some(i) = row.find(c) {
                    return Some(Self { shift, ..Self::plain(first + i as u16) });
                }
            }
        }
        None
    }

    /// The key that `<name>` stands for.
    fn of_name(name: &str) -> Option<Self> {
        if let [m @ (b'C' | b'A' | b'S'), b'-', _, ..] = name.as_bytes() {
            let mut chars = name[2..].chars();
            let single = chars.next().filter(|_| chars.next().is_none());
            let key = single.map_or_else(|| Self::of_name(&name[2..]), Self::of_char)?;
            return Some(match m {
                b'C' => Self { ctrl: true, ..key },
                b'A' => Self { alt: true, ..key },
                _ => Self { shift: true, ..key },
            });
        }
        if name.eq_ignore_ascii_case("lt") {
            return Self::of_char('<');
        }
        if name.eq_ignore_ascii_case("at") {
            return Self::of_char('@');
        }
        if let Some(n) = name.strip_prefix(['F', 'f']).and_then(|n| n.parse::<u16>().ok())
            && (1..=10).contains(&n)
        {
            return Some(Self::plain(0x3a + n));
        }
        NAMED.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|&(_, code)| Self::plain(code))
    }

    /// Modifiers down, the key down and up, modifiers up.
    fn events(self) -> Vec<KeyEvent> {
        let held: Vec<u16> = [(self.ctrl, CTRL), (self.alt, ALT), (self.shift, SHIFT)]
            .into_iter()
            .filter_map(|(on, code)| on.then_some(code))
            .collect();
        let down = |code: u16| KeyEvent { code, down: true };
        let up = |code: u16| KeyEvent { code, down: false };
        let mut events: Vec<KeyEvent> = held.iter().copied().map(down).collect();
        events.extend([down(self.code), up(self.code)]);
        events.extend(held.iter().rev().copied().map(up));
        events
    }
}

/// Parses a script.
///
/// # Errors
/// A sentence that says what is wrong, and where.
pub fn parse(script: &str) -> Result<Vec<KeyStep>, String> {
    let mut rest = script;
    let mut steps = Vec::new();
    if !rest.is_empty() && !rest.starts_with('@') {
        let (keys, after) = text(rest)?;
        steps.push(KeyStep { when: When::At(0), keys });
        rest = after;
    }
    while let Some(step) = rest.strip_prefix('@') {
        let (when, after) = when(step)?;
        let (keys, after) = text(after)?;
        steps.push(KeyStep { when, keys });
        rest = after;
    }
    Ok(steps)
}

/// WHEN and its colon.
fn when(step: &str) -> Result<(When, &str), String> {
    if let Some(quoted) = step.strip_prefix('"') {
        let (text, after) = quoted.split_once('"').ok_or("the text after @\" has no closing quote")?;
        let after = after.strip_prefix(':').ok_or(format!("a colon must follow @\"{text}\""))?;
        if text.is_empty() {
            return Err("the text between the quotes is empty".into());
        }
        return Ok((When::Shows(text.into()), after));
    }
    let (time, after) =
        step.split_once(':').ok_or(format!("`@{step}` has no colon: write @WHEN:TEXT, and <at> for @"))?;
    let when = match time.strip_prefix('+') {
        Some(time) => When::After(args::micros(time).map_err(|e| format!("`@{time}`: {e}"))?),
        None => When::At(args::micros(time).map_err(|e| format!("`@{time}`: {e}; a text goes in quotes"))?),
    };
    Ok((when, after))
}

/// Keys up to the next `@`.
fn text(mut rest: &str) -> Result<(Vec<Key>, &str), String> {
    let mut keys = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c == '@' {
            break;
        }
        if let Some(named) = rest.strip_prefix('<') {
            // The closing bracket; `<C->>` has one as its key.
            let from = if named.starts_with(['C', 'A', 'S']) && named[1..].starts_with("->") { 3 } else { 0 };
            let end = named.get(from..).and_then(|n| n.find('>')).map(|i| i + from);
            let end = end.ok_or("a key name after < has no closing >: write <lt> for <")?;
            let name = &named[..end];
            keys.push(Key::of_name(name).ok_or(format!("no key is called <{name}>"))?);
            rest = &named[end + 1..];
        } else {
            keys.push(Key::of_char(c).ok_or(format!("a US keyboard has no key for `{c}`"))?);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok((keys, rest))
}

/// The keys that a terminal's bytes stand for: characters, and the cursor keys' escape sequences.
pub fn from_terminal(bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], u16); 14] = [
        (b"\x1b[A", 0xe048),
        (b"\x1b[B", 0xe050),
        (b"\x1b[C", 0xe04d),
        (b"\x1b[D", 0xe04b),
        (b"\x1b[H", 0xe047),
        (b"\x1b[F", 0xe04f),
        (b"\x1b[2~", 0xe052),
        (b"\x1b[3~", 0xe053),
        (b"\x1b[5~", 0xe049),
        (b"\x1b[6~", 0xe051),
        (b"\x1bOP", 0x3b),
        (b"\x1bOQ", 0x3c),
        (b"\x1bOR", 0x3d),
        (b"\x1bOS", 0x3e),
    ];
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some((sequence, code)) = SEQUENCES.iter().find(|(s, _)| rest.starts_with(s)) {
            keys.push(Key::plain(*code));
            rest = &rest[sequence.len()..];
            continue;
        }
        rest = after;
        let typed = Key::of_char(char::from(byte));
        let control = || Key::of_char(char::from(byte | 0x60)).map(|k| Key { ctrl: true, ..k });
        keys.extend(typed.or_else(|| if byte < 0x20 { control() } else { None }));
    }
    keys
}

/// Presses the keys of a script, one event per slice of guest time.
pub struct Typist {
    steps: VecDeque<KeyStep>,
    queue: VecDeque<KeyEvent>,
    clock: Clock,
    /// When the last step was done.
    done: Ticks,
}

impl Typist {
    /// A typist with its script.
    pub fn new(steps: Vec<KeyStep>, clock: Clock) -> Self {
        Self { steps: steps.into(), queue: VecDeque::new(), clock, done: 0 }
    }

    /// The event due at `now`; `shows` says whether the screen contains a text. With `stopped` guest time stands
    /// still, so a step that waits for time is due.
    pub fn next(&mut self, now: Ticks, stopped: bool, shows: impl Fn(&str) -> bool) -> Option<KeyEvent> {
        if self.queue.is_empty() {
            let due = match &self.steps.front()?.when {
                When::At(us) => stopped || now >= self.clock.micros(*us),
                When::After(us) => stopped || now >= self.done.saturating_add(self.clock.micros(*us)),
                When::Shows(text) => shows(text),
            };
            if !due {
                return None;
            }
            let step = self.steps.pop_front()?;
            self.queue.extend(step.keys.into_iter().flat_map(Key::events));
            self.done = now;
        }
        let event = self.queue.pop_front();
        self.done = now;
        event
    }

    /// Adds a key that the user struck at the terminal.
    pub fn type_now(&mut self, key: Key) {
        self.queue.extend(key.events());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_has_steps() {
        let steps = parse("@1.5s:a<Enter>@+300ms:B@\"grub>\":<C-c><at><lt><F10>").unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[0].when, When::At(1_500_000));
        assert_eq!(steps[0].keys, [Key::plain(0x1e), Key::plain(0x1c)]);
        assert_eq!(steps[1].when, When::After(300_000));
        assert_eq!(steps[1].keys, [Key { shift: true, ..Key::plain(0x30) }]);
        assert_eq!(steps[2].when, When::Shows("grub>".into()));
        assert_eq!(steps[2].keys[0], Key { ctrl: true, ..Key::plain(0x2e) });
        assert_eq!(steps[2].keys[3], Key::plain(0x44));
        assert_eq!(parse("x").unwrap()[0].when, When::At(0));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn bad_scripts_say_why() {
        for bad in
            ["@", "@x:y", "@1s", "@\"a:b", "@\"a\"b", "@\"\":b", "<Foo>", "<Enter", "é", "<C->", "<", "@1s:<"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_typist_waits_for_its_points() {
        let clock = Clock::new(1_000_000);
        let mut typist = Typist::new(parse("@1s:a@\"ok\":b@+1s:c").unwrap(), clock);
        assert_eq!(typist.next(999_999, false, |_| true), None);
        assert_eq!(typist.next(1_000_000, false, |_| false), Some(KeyEvent { code: 0x1e, down: true }));
        assert_eq!(typist.next(1_010_000, false, |_| false), Some(KeyEvent { code: 0x1e, down: false }));
        assert_eq!(typist.next(1_020_000, false, |_| false), None);
        assert_eq!(typist.next(1_030_000, false, |t| t == "ok").map(|e| e.code), Some(0x30));
        assert_eq!(typist.next(1_040_000, false, |_| false).map(|e| e.code), Some(0x30));
        assert_eq!(typist.next(2_030_000, false, |_| false), None);
        assert_eq!(typist.next(2_040_000, false, |_| false).map(|e| e.code), Some(0x2e));
    }

    #[test]
    fn terminal_bytes_become_keys() {
        assert_eq!(from_terminal(b"\x1b[A"), [Key::plain(0xe048)]);
        assert_eq!(from_terminal(b"\x03"), [Key { ctrl: true, ..Key::plain(0x2e) }]);
        assert_eq!(
            from_terminal(b"\r\x7f\x1b").iter().map(|k| k.code).collect::<Vec<_>>(),
            [0x1c, 0x0e, 0x01]
        );
    }

    proptest! {
        #[test]
        fn no_script_panics(script in "[@+\":<>a-zA-Z0-9.é-]{0,40}") {
            let _ = parse(&script);
        }
        #[test]
        fn no_terminal_input_panics(bytes: Vec<u8>) {
            let _ = from_terminal(&bytes);
        }
    }
}

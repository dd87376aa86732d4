//! Scripted typing: the syntax of `--keys`, as its help has it whole, and the typist that presses keys at their
//! points in guest time. Which key types what is [`crate::device::keymap`]'s table.

use super::args;
use crate::bus::{Clock, Ticks};
use crate::device::keymap::{KeyEvent, Stroke};
use std::collections::VecDeque;

/// The syntax, as `subring run --help` shows it.
pub(super) const HELP: &str = "\
Type on the keyboard: a sequence of steps @WHEN:TEXT

WHEN, in guest time:
  @1.5s:      at this time since power-on
  @+2s:       this long after the step before
  @\"grub>\":  once a row of the screen contains this text
TEXT is typed as on a US keyboard. Keys with names: <Enter> <Esc> <Tab> <Backspace> <Space>
<Up> <Down> <Left> <Right> <Home> <End> <PgUp> <PgDn> <Ins> <Del> <F1> to <F12>;
<C-x> <A-x> <S-x> hold Ctrl, Alt, Shift; <lt> types < and <at> types @.
A text without a WHEN before it is typed from power-on. Repeatable: the steps follow each other.";

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
    pub keys: Vec<Stroke>,
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
fn text(mut rest: &str) -> Result<(Vec<Stroke>, &str), String> {
    let mut keys = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c == '@' {
            break;
        }
        if let Some(after) = rest.strip_prefix('<') {
            let (name, after) =
                bracketed(after).ok_or("a key name after < has no closing >: write <lt> for <")?;
            keys.push(named(name).ok_or(format!("no key is called <{name}>"))?);
            rest = after;
        } else {
            keys.push(Stroke::of_char(c).ok_or(format!("a US keyboard has no key for `{c}`"))?);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok((keys, rest))
}

/// A name up to its closing bracket, and what follows. In `<C->>` the first bracket is the key.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let mut end = text.find('>')?;
    if text[..end].ends_with('-') && text[end + 1..].starts_with('>') {
        end += 1;
    }
    Some((&text[..end], &text[end + 1..]))
}

/// The key that `<name>` stands for.
fn named(name: &str) -> Option<Stroke> {
    match name {
        "lt" | "LT" => Stroke::of_char('<'),
        "at" | "AT" => Stroke::of_char('@'),
        _ => Stroke::of_name(name),
    }
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
            self.queue.extend(step.keys.into_iter().flat_map(Stroke::events));
            self.done = now;
        }
        let event = self.queue.pop_front();
        self.done = now;
        event
    }

    /// Adds a key that the user struck at the terminal.
    pub fn type_now(&mut self, key: Stroke) {
        self.queue.extend(key.events());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The strokes of these names.
    fn strokes(names: &[&str]) -> Vec<Stroke> {
        names.iter().map(|n| Stroke::of_name(n).unwrap()).collect()
    }

    #[test]
    fn a_script_has_steps() {
        let steps = parse("@1.5s:a<Enter>@+300ms:B@\"grub>\":<C-c><at><lt><F10><C->>").unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!((&steps[0].when, &steps[0].keys), (&When::At(1_500_000), &strokes(&["a", "Enter"])));
        assert_eq!((&steps[1].when, &steps[1].keys), (&When::After(300_000), &strokes(&["S-b"])));
        assert_eq!(steps[2].when, When::Shows("grub>".into()));
        assert_eq!(steps[2].keys, strokes(&["Ctrl-c", "@", "<", "F10", "C->"]));
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
        assert_eq!(
            typist.next(1_000_000, false, |_| false),
            Some(KeyEvent { code: 0x1e, extended: false, down: true })
        );
        assert_eq!(
            typist.next(1_010_000, false, |_| false),
            Some(KeyEvent { code: 0x1e, extended: false, down: false })
        );
        assert_eq!(typist.next(1_020_000, false, |_| false), None);
        assert_eq!(typist.next(1_030_000, false, |t| t == "ok").map(|e| e.code), Some(0x30));
        assert_eq!(typist.next(1_040_000, false, |_| false).map(|e| e.code), Some(0x30));
        assert_eq!(typist.next(2_030_000, false, |_| false), None);
        assert_eq!(typist.next(2_040_000, false, |_| false).map(|e| e.code), Some(0x2e));
    }

    proptest! {
        #[test]
        fn no_script_panics(script in "[@+\":<>a-zA-Z0-9.é-]{0,40}") {
            let _ = parse(&script);
        }
    }
}

//! Scripted typing, and what a hand does with the mouse: the syntax of `--keys`, as its help has it whole, and the
//! typist that presses keys at their points in guest time. Which key types what is [`crate::console::keymap`]'s table.

use super::args;
use crate::bus::{Clock, Ticks};
use crate::console::keymap::Stroke;
use crate::device::mouse::{Button, MouseEvent};
use crate::snapshot::recording::What;
use std::collections::VecDeque;

/// The syntax, as `subring run --help` shows it.
pub(super) const HELP: &str = "\
Type on the keyboard, move and click the mouse: a sequence of steps @WHEN:TEXT

WHEN, in guest time:
  @1.5s:      at this time since power-on
  @+2s:       this long after the step before
  @\"grub>\":  once a row of the screen or the output of the serial port contains this
              text (serial output counts once: a later step waits for it to come again)
TEXT is typed as on a US keyboard. Keys with names: <Enter> <Esc> <Tab> <Backspace> <Space>
<Up> <Down> <Left> <Right> <Home> <End> <PgUp> <PgDn> <Ins> <Del> <F1> to <F12>;
<C-x> <A-x> <S-x> hold Ctrl, Alt, Shift; <lt> types < and <at> types @.
The mouse: <Move:X,Y> by so many counts to the right and down, <Wheel:N> by N notches down;
<Click:left> <Press:left> <Release:left>, with left, right, middle, side or extra.
A text without a WHEN before it is typed from power-on. Repeatable: the steps follow each other.";

/// When a step is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At this many microseconds of guest time.
    At(u64),
    /// This many microseconds after the end of the step before.
    After(u64),
    /// Once a row of the screen or the serial output contains this.
    Shows(String),
}

/// Keys to type at a point of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStep {
    /// The point.
    pub when: When,
    /// The keys, and what the mouse does.
    pub keys: Vec<Deed>,
}

/// One thing that a hand does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Strikes a key.
    Key(Stroke),
    /// Moves or clicks the mouse, in parts that take their time.
    Mouse(Vec<MouseEvent>),
}

impl Deed {
    fn events(self) -> Vec<What> {
        match self {
            Self::Key(stroke) => stroke.events().into_iter().map(What::Key).collect(),
            Self::Mouse(events) => events.into_iter().map(What::Mouse).collect(),
        }
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
fn text(mut rest: &str) -> Result<(Vec<Deed>, &str), String> {
    let mut keys = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c == '@' {
            break;
        }
        if let Some(after) = rest.strip_prefix('<') {
            let (name, after) =
                bracketed(after).ok_or("a key name after < has no closing >: write <lt> for <")?;
            keys.push(deed(name)?);
            rest = after;
        } else {
            let stroke = Stroke::of_char(c).ok_or(format!("a US keyboard has no key for `{c}`"))?;
            keys.push(Deed::Key(stroke));
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

/// What `<name>` stands for.
fn deed(name: &str) -> Result<Deed, String> {
    // `<C-:>` is a key.
    if let Some((what, how)) = name.split_once(':').filter(|(what, _)| what.len() > 2) {
        return mouse(what, how).map(Deed::Mouse).map_err(|why| format!("<{name}>: {why}"));
    }
    named(name).map(Deed::Key).ok_or(format!("no key is called <{name}>"))
}

/// What `<what:how>` has the mouse do.
fn mouse(what: &str, how: &str) -> Result<Vec<MouseEvent>, String> {
    let count = |text: &str| match text.parse::<i16>() {
        Ok(n) => Ok(i32::from(n)),
        Err(_) => Err(format!("`{text}` is no number from -32768 to 32767")),
    };
    let button = || {
        let known = Button::NAMES.iter().find(|(name, _)| how.eq_ignore_ascii_case(name));
        known.map(|(_, button)| *button).ok_or(format!("no button of the mouse is called `{how}`"))
    };
    let turn = |down| button().map(|button| MouseEvent::Button { button, down });
    match what.to_ascii_lowercase().as_str() {
        "move" => {
            let (dx, dy) = how.split_once(',').ok_or("a comma must stand between X and Y")?;
            Ok(vec![MouseEvent::Move { dx: count(dx)?, dy: count(dy)? }])
        }
        "wheel" => Ok(vec![MouseEvent::Wheel(count(how)?)]),
        "click" => Ok(vec![turn(true)?, turn(false)?]),
        "press" => Ok(vec![turn(true)?]),
        "release" => Ok(vec![turn(false)?]),
        _ => Err("the mouse can Move, Wheel, Click, Press and Release".into()),
    }
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
    queue: VecDeque<What>,
    clock: Clock,
    /// When the last step was done.
    done: Ticks,
}

impl Typist {
    /// A typist with its script.
    pub fn new(steps: Vec<KeyStep>, clock: Clock) -> Self {
        Self { steps: steps.into(), queue: VecDeque::new(), clock, done: 0 }
    }

    /// The event due at `now`; `appears` says whether the guest shows a text. With `stopped` guest time stands
    /// still, so a step that waits for time is due.
    pub fn next(&mut self, now: Ticks, stopped: bool, mut appears: impl FnMut(&str) -> bool) -> Option<What> {
        if self.queue.is_empty() {
            let due = match &self.steps.front()?.when {
                When::At(us) => stopped || now >= self.clock.micros(*us),
                When::After(us) => stopped || now >= self.done.saturating_add(self.clock.micros(*us)),
                When::Shows(text) => appears(text),
            };
            if !due {
                return None;
            }
            let step = self.steps.pop_front()?;
            self.queue.extend(step.keys.into_iter().flat_map(Deed::events));
            self.done = now;
        }
        let event = self.queue.pop_front();
        self.done = now;
        event
    }

    /// Whether nothing is left to type.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.steps.is_empty()
    }

    /// Whether a step waits for a text.
    pub fn waits_for_text(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.when, When::Shows(_)))
    }

    /// A note about the steps that were not typed, if there are some.
    pub fn left(&self) -> Vec<String> {
        let Some(step) = self.steps.front() else { return Vec::new() };
        let why = match &step.when {
            When::Shows(text) => format!("\"{text}\" did not appear on the screen or the serial port"),
            When::At(_) | When::After(_) => "the run ended before its time".into(),
        };
        let steps = match self.steps.len() {
            1 => "a step of --keys was not typed".into(),
            n => format!("{n} steps of --keys were not typed"),
        };
        vec![format!("{steps}: {why}")]
    }

    /// Adds a key that the user struck at the terminal.
    pub fn type_now(&mut self, key: Stroke) {
        self.queue.extend(Deed::Key(key).events());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::keymap::KeyEvent;
    use proptest::prelude::*;

    /// The strokes of these names.
    fn strokes(names: &[&str]) -> Vec<Deed> {
        names.iter().map(|n| Deed::Key(Stroke::of_name(n).unwrap())).collect()
    }

    /// A key going down or up.
    fn key(code: u8, down: bool) -> Option<What> {
        Some(What::Key(KeyEvent { code, extended: false, down }))
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
        for bad in ["<Move:1>", "<Move:1,x>", "<Move:1,40000>", "<Wheel:>", "<Click:foot>", "<Shake:left>"] {
            assert!(parse(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn the_mouse_moves_turns_and_clicks() {
        let button = |button, down| MouseEvent::Button { button, down };
        let steps = parse("<Move:-3,40><wheel:-1><Click:left><Press:Right><Release:middle><C-:>").unwrap();
        let expected = [
            Deed::Mouse(vec![MouseEvent::Move { dx: -3, dy: 40 }]),
            Deed::Mouse(vec![MouseEvent::Wheel(-1)]),
            Deed::Mouse(vec![button(Button::Left, true), button(Button::Left, false)]),
            Deed::Mouse(vec![button(Button::Right, true)]),
            Deed::Mouse(vec![button(Button::Middle, false)]),
            strokes(&["C-:"]).remove(0),
        ];
        assert_eq!(steps[0].keys, expected);
    }

    #[test]
    fn a_typist_waits_for_its_points() {
        let clock = Clock::new(1_000_000);
        let mut typist = Typist::new(parse("@1s:a@\"ok\":b@+1s:c").unwrap(), clock);
        assert_eq!(typist.next(999_999, false, |_| true), None);
        assert_eq!(typist.next(1_000_000, false, |_| false), key(0x1e, true));
        assert_eq!(typist.next(1_010_000, false, |_| false), key(0x1e, false));
        assert_eq!(typist.next(1_020_000, false, |_| false), None);
        assert_eq!(typist.next(1_030_000, false, |t| t == "ok"), key(0x30, true));
        assert_eq!(typist.next(1_040_000, false, |_| false), key(0x30, false));
        assert_eq!(typist.next(2_030_000, false, |_| false), None);
        assert_eq!(typist.next(2_040_000, false, |_| false), key(0x2e, true));
    }

    proptest! {
        #[test]
        fn no_script_panics(script in "[@+\":<>a-zA-Z0-9.é-]{0,40}") {
            let _ = parse(&script);
        }
    }
}

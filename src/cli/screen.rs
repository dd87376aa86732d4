//! The VGA text screen, and its picture in the terminal: ANSI colours, redrawn row by row as it changes.

use super::output::out;
use crate::error::Result;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

/// Host time between two redraws.
const FRAME: Duration = Duration::from_millis(33);
/// VGA colours count in the order blue, green, red; ANSI ones in the order red, green, blue.
const ANSI: [u8; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

/// The VGA text screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextScreen {
    /// Cells in a row.
    pub columns: usize,
    /// The cells, row by row: a character and its VGA attribute.
    pub cells: Vec<(char, u8)>,
    /// Column and row of the cursor, if it shows.
    pub cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// The rows as text, without trailing blanks.
    pub fn lines(&self) -> Vec<String> {
        let row = |cells: &[(char, u8)]| {
            let text: String = cells.iter().map(|c| if c.0 == '\0' { ' ' } else { c.0 }).collect();
            text.trim_end().to_owned()
        };
        self.cells.chunks(self.columns.max(1)).map(row).collect()
    }

    /// Whether some row contains `text`.
    pub fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}

/// A screen that is shown while the guest runs, on the terminal's alternate screen.
pub struct Live {
    shown: TextScreen,
    drawn: Option<Instant>,
}

impl Live {
    /// Switches the terminal to its alternate screen.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when it cannot be written.
    pub fn open() -> Result<Self> {
        out(b"\x1b[?1049h\x1b[2J")?;
        Ok(Self { shown: TextScreen::default(), drawn: None })
    }

    /// Draws what changed, at most thirty times a second; `at_once` when no later call may come soon.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub fn draw(
        &mut self,
        at_once: bool,
        screen: impl FnOnce() -> Option<TextScreen>,
    ) -> std::io::Result<()> {
        if !at_once && self.drawn.is_some_and(|at| at.elapsed() < FRAME) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let Some(screen) = screen() else { return Ok(()) };
        if screen == self.shown {
            return Ok(());
        }
        let text = difference(&self.shown, &screen);
        self.shown = screen;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Shows text below the screen.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when the terminal cannot be written.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let row = self.shown.cells.len() / self.shown.columns.max(1) + 2;
        out(format!("\x1b[{row};1H\x1b[0m\x1b[J{text}").as_bytes())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = out(b"\x1b[0m\x1b[?25h\x1b[?1049l");
    }
}

/// The control sequences that turn `old` into `new`.
fn difference(old: &TextScreen, new: &TextScreen) -> String {
    let mut out = String::from("\x1b[?25l");
    let columns = new.columns.max(1);
    if old.columns != new.columns || old.cells.len() != new.cells.len() {
        out += "\x1b[0m\x1b[2J";
    }
    for (y, row) in new.cells.chunks(columns).enumerate() {
        let same = old.columns == new.columns && old.cells.chunks(columns).nth(y) == Some(row);
        if !same {
            let _ = write!(out, "\x1b[{};1H", y + 1);
            draw_row(&mut out, row);
        }
    }
    if let Some((x, y)) = new.cursor {
        let _ = write!(out, "\x1b[{};{}H\x1b[?25h", y + 1, x + 1);
    }
    out
}

fn draw_row(out: &mut String, row: &[(char, u8)]) {
    let mut current = None;
    for &(c, attribute) in row {
        if current != Some(attribute) {
            out.push_str(&colours(attribute));
            current = Some(attribute);
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out.push_str("\x1b[0m");
}

/// A VGA attribute as an ANSI sequence: foreground with intensity, background, blinking.
fn colours(attribute: u8) -> String {
    let foreground = ANSI[usize::from(attribute & 7)] + if attribute & 8 != 0 { 90 } else { 30 };
    let background = ANSI[usize::from(attribute >> 4 & 7)] + 40;
    let blink = if attribute & 0x80 != 0 { ";5" } else { "" };
    format!("\x1b[0;{foreground};{background}{blink}m")
}

/// The screen as plain lines, without the empty ones at its end.
pub fn dump(screen: &TextScreen) -> String {
    let mut lines = screen.lines();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_rows_are_drawn() {
        let screen = |text: &str| TextScreen {
            columns: 2,
            cells: text.chars().map(|c| (c, 0x1e)).collect(),
            cursor: Some((1, 0)),
        };
        let text = difference(&screen("abcd"), &screen("abxd"));
        assert_eq!(text, "\x1b[?25l\x1b[2;1H\x1b[0;93;44mxd\x1b[0m\x1b[1;2H\x1b[?25h");
        assert_eq!(dump(&screen("ab  ")), "ab\n");
        assert_eq!(dump(&TextScreen::default()), "");
    }
}

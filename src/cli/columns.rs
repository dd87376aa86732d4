//! Text for a terminal: tables in columns, and sentences of lines that fit.

use std::fmt::Write;

/// Characters of a line.
pub(super) const WIDTH: usize = 80;

/// A table: names, of which there are `names` columns, to the left, numbers to the right.
pub(super) fn in_columns<const N: usize>(
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    names: usize,
) -> String {
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|n| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a String cannot fail.
            let _ =
                if n < names { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// `text` in lines that fit, each but the first after `indent` blanks. A word that is longer than a line has
/// one.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for (n, word) in text.split(' ').enumerate() {
        let len = word.chars().count();
        if n > 0 && column + 1 + len > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += len;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("    w") || line.trim().is_empty()),
            "{text}"
        );
        assert_eq!(wrapped("  a b", 2), "  a b\n");
    }
}

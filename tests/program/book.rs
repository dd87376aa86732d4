//! What the book and the README show of the program is what the program says: each command on a built-in guest that stands there with its output (`    $ subring …`) is run, and its output must have the lines that are shown, in their order.
//!
//! `[…]` on a line of its own stands for any lines, at a line's end for the rest of it.

use crate::common::program::{subring, text};
use std::fs;

/// What stands for what is left out.
const GAP: &str = "[…]";

/// A command of a chapter and the output that is shown.
struct Session {
    chapter: String,
    command: Vec<String>,
    shown: Vec<String>,
}

/// The sessions of a chapter that show output.
fn sessions(chapter: &str, markdown: &str) -> Vec<Session> {
    let mut found: Vec<Session> = Vec::new();
    let mut open = false;
    for line in markdown.lines() {
        let Some(code) = line.strip_prefix("    ").or(line.is_empty().then_some("")) else {
            open = false;
            continue;
        };
        if let Some(command) = code.strip_prefix("$ subring ") {
            let command = words(command);
            found.push(Session { chapter: chapter.into(), command, shown: Vec::new() });
            open = true;
        } else if let (true, Some(session)) = (open, found.last_mut()) {
            session.shown.push(code.trim_end().to_owned());
        }
    }
    for session in &mut found {
        while session.shown.last().is_some_and(String::is_empty) {
            session.shown.pop();
        }
    }
    found.retain(|session| !session.shown.is_empty());
    found
}

/// A command line in words; a quoted one may have spaces.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// A line without the numbers of units, which depend on all that was translated before.
fn general(line: &str) -> String {
    let mut parts = line.trim_end().split("unit ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "unit " + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// The first shown line that `output` has not, where it should stand.
fn missing<'a>(shown: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines().map(general);
    let mut skips = false;
    for line in shown {
        if line == GAP {
            skips = true;
            continue;
        }
        let is = |found: String| match line.strip_suffix(GAP) {
            Some(start) => found.starts_with(&general(start)),
            None => found == general(line),
        };
        if !(if skips { lines.any(is) } else { lines.next().is_some_and(is) }) {
            return Some(line);
        }
        skips = false;
    }
    let complete = skips || lines.all(|line| line.is_empty());
    (!complete).then_some("the end: more follows, which […] must say")
}

#[test]
fn the_program_says_what_the_book_shows() {
    let root = env!("CARGO_MANIFEST_DIR");
    let pages =
        |folder| fs::read_dir(format!("{root}/{folder}")).expect("the book").flatten().map(|f| f.path());
    let chapters = pages("book/src").chain(pages("book/src/reference")).chain(pages("."));
    let chapters = chapters.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let guests = text(&subring(&["guests"]).stdout);
    let is_guest = |name: &String| guests.lines().any(|line| line.split_whitespace().next() == Some(name));
    let (mut wrong, mut run) = (Vec::new(), 0);
    for path in chapters {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let markdown = fs::read_to_string(&path).expect("a chapter");
        for session in sessions(&name, &markdown) {
            let Session { chapter, command, shown } = &session;
            // Others are on software that is not here; tests/real_software holds them.
            if command.first().is_none_or(|c| c != "classify") && !command.iter().any(is_guest) {
                continue;
            }
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            let output = text(&subring(&args).stdout);
            run += 1;
            if let Some(line) = missing(shown, &output) {
                wrong.push(format!("{chapter}: subring {}: not there: {line}\n{output}", command.join(" ")));
            }
        }
    }
    assert!(run > 0, "the scan finds sessions at all");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_shown_must_be_there_in_order() {
    let shown = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let output = "a\nb c\nd\n";
    for good in [&["a", "b c", "d"][..], &["a", GAP], &[GAP, "d"], &["a", "b […]", "d"], &[GAP, "b […]", GAP]]
    {
        assert_eq!(missing(&shown(good), output), None, "{good:?}");
    }
    for bad in [&["a", "d"][..], &["a"], &["b c", GAP], &[GAP, "d", "a"], &["a", "c […]", "d"]] {
        assert!(missing(&shown(bad), output).is_some(), "{bad:?}");
    }
    let found =
        sessions("x", "text\n\n    $ subring run 'a b' c\n    one\n\n    two\n\ntext\n    $ subring demo\n");
    assert_eq!((found.len(), &found[0].shown[..]), (1, &shown(&["one", "", "two"])[..]));
    assert_eq!(found[0].command, ["run", "a b", "c"]);
}

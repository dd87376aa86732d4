//! The rewriting rules on the command line: `--list-rules`, and `--without-rule`, which takes one away.

use crate::translate::RuleId;
use crate::vmm::bt::rules::{self, COLUMNS, RULES};
use std::fmt::Write;

/// The rule that is called `name`.
///
/// # Errors
/// A sentence with the names of all.
pub(super) fn named(name: &str) -> Result<RuleId, String> {
    let names = || RULES.iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
    rules::by_name(name).ok_or_else(|| format!("no rewriting rule is called {name}; there are {}", names()))
}

/// The text of `--list-rules`: what becomes of their instructions in each mode, and why.
pub(super) fn list() -> String {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    let mut out = format!("{:width$}", "rule");
    COLUMNS.iter().for_each(|column| _ = write!(out, "  {column}"));
    out += "  why\n";
    for rule in RULES {
        let _ = write!(out, "{:width$}", rule.name);
        for (n, column) in COLUMNS.iter().enumerate() {
            let what = match rule.letter(n) {
                'i' => "inline",
                'c' => "callout",
                _ => "-",
            };
            let _ = write!(out, "  {what:0$}", column.len());
        }
        let _ = writeln!(out, "  {}", rule.why);
    }
    out + "\n-        carried over: the real processor does the same, or faults, and the monitor emulates it\n\
           inline   a sequence on the virtual state, without an exit\n\
           callout  the monitor runs it on the virtual processor, without a fault\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rule_is_told_the_names_of_all() {
        assert_eq!(named("popf").map(|id| rules::by_id(id).name), Ok("POPF"));
        let text = named("POPE").expect_err("there is none");
        assert!(RULES.iter().all(|rule| text.contains(rule.name)), "{text}");
    }

    #[test]
    fn the_list_has_a_line_for_each_rule() {
        let text = list();
        for rule in RULES {
            let line = text.lines().find(|l| l.split(' ').next() == Some(rule.name)).expect(rule.name);
            assert!(line.ends_with(rule.why), "{line}");
        }
    }
}

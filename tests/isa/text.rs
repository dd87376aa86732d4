//! The text format: files into groups and cases. The README says what it means to a reader.

/// One case, with everything that it depends on, and where it stands.
pub struct Case {
    /// `file:line`.
    pub place: String,
    /// The manual's section and the group's title.
    pub group: String,
    /// The environment: what follows `env`.
    pub env: String,
    /// Directives and assignments that come before the case's own.
    pub setup: Vec<String>,
    /// The instruction bytes.
    pub code: Vec<u8>,
    /// Their disassembly, instructions separated by `; `.
    pub assembly: String,
    /// State in.
    pub input: Vec<String>,
    /// State out.
    pub output: Vec<String>,
}

/// The cases of a file.
///
/// # Errors
/// A sentence that starts with the place.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut scope = Scope::default();
    for (number, line) in logical_lines(text) {
        let place = format!("{file}:{number}");
        scope.line(&place, &line, &mut cases).map_err(|e| format!("{place}: {e}"))?;
    }
    Ok(cases)
}

/// Lines without comments, those that end in `\` joined with the next, each with the number of its first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (n, raw) in text.lines().enumerate() {
        let line = without_comment(raw).trim();
        let (line, more) = match line.strip_suffix('\\') {
            Some(head) => (head.trim(), true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, whole)) if open => {
                whole.push(' ');
                whole.push_str(line);
            }
            _ if line.is_empty() => {}
            _ => lines.push((n + 1, line.to_owned())),
        }
        open = more;
    }
    lines
}

/// A comment starts with `# ` (so that `#GP` is none).
fn without_comment(line: &str) -> &str {
    if line == "#" {
        return "";
    }
    line.split_once("# ").map_or(line, |(head, _)| head)
}

/// What holds for the cases to come: the file's, then the group's.
#[derive(Default)]
struct Scope {
    group: String,
    file_env: String,
    file_setup: Vec<String>,
    env: String,
    setup: Vec<String>,
}

impl Scope {
    fn line(&mut self, place: &str, line: &str, cases: &mut Vec<Case>) -> Result<(), String> {
        if line.contains('|') {
            cases.push(self.case(place, line)?);
        } else if let Some(title) = line.strip_prefix("group ") {
            self.group = title.trim().to_owned();
            self.env = self.file_env.clone();
            self.setup = self.file_setup.clone();
        } else if let Some(env) = line.strip_prefix("env ") {
            self.env = env.trim().to_owned();
            if self.group.is_empty() {
                self.file_env = self.env.clone();
            }
        } else {
            let setup = if self.group.is_empty() { &mut self.file_setup } else { &mut self.setup };
            setup.extend(pieces(line));
        }
        Ok(())
    }

    fn case(&self, place: &str, line: &str) -> Result<Case, String> {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [code, assembly, input, output] = columns[..] else {
            return Err(format!("a case has four columns, not {}", columns.len()));
        };
        if self.group.is_empty() {
            return Err("a case must stand in a `group` that names the manual's section".to_owned());
        }
        let code = code
            .split_whitespace()
            .map(|b| u8::from_str_radix(b, 16).map_err(|_| format!("`{b}` is not a byte")))
            .collect::<Result<Vec<u8>, String>>()?;
        Ok(Case {
            place: place.to_owned(),
            group: self.group.clone(),
            env: self.env.clone(),
            setup: self.setup.clone(),
            code,
            assembly: assembly.to_owned(),
            input: pieces(input),
            output: pieces(output),
        })
    }
}

/// Directives and runs of assignments, separated by `;`.
fn pieces(text: &str) -> Vec<String> {
    text.split(';').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

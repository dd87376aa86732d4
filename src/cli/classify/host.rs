//! `subring classify --host`: the user-mode half on this machine's own processor.

use crate::classify::host::{Did, LEFT_OUT, Line, child, kernel_answers, lines};
use crate::cpu::fault::vector_name;
use crate::error::{Error, Result};
use std::fmt::Write;
use std::process::{Command, Stdio};

/// The child: runs forms from number `from` on, and prints.
pub(super) fn run_child(from: usize, seed: u64) -> Result<u8> {
    let mut out = std::io::stdout().lock();
    child(from, seed, &mut out).map_err(Error::Usage)?;
    Ok(0)
}

/// The report.
pub(super) fn report(seed: u64) -> Result<String> {
    let lines = lines(seed, |from| start(from, seed))?;
    let label = |line: &Line| format!("{} [{}]", line.form.name, line.form.opcode);
    let width = lines.iter().map(|line| label(line).len()).max().unwrap_or(0);
    let mut text = String::from("at CPL 3, IOPL 0, on this processor, beside our classes\n\n");
    for line in &lines {
        let did = match &line.did {
            Did::Trapped(v) => format!("traps ({})", vector_name(*v as u8)),
            Did::Ran(shows) => format!("runs: {shows}"),
            Did::Died(how) => format!("the child died: {how}"),
        };
        let mark = if line.agrees() { " " } else { "*" };
        let _ = writeln!(text, "{mark} {:<width$} {:<20} {did}", label(line), line.class.name());
    }
    let differ: Vec<&Line> = lines.iter().filter(|l| !l.agrees()).collect();
    let _ = writeln!(text, "\n{} forms, {} do as classified", lines.len(), lines.len() - differ.len());
    if !differ.is_empty() {
        let _ = writeln!(text, "* does not: see the lines so marked");
    }
    if kernel_answers(&lines) {
        let _ = writeln!(
            text,
            "This host has UMIP on: SGDT, SIDT, SLDT, STR and SMSW fault, and where they run here it is Linux that answers\n\
             in the processor's place, with fixed values (GDT base fffe0000, limit 0), not the machine's."
        );
    } else if has_umip() {
        let _ =
            writeln!(text, "This host has UMIP, but its kernel does not answer in the processor's place.");
    }
    text += "Left out\n";
    for why in LEFT_OUT {
        let _ = writeln!(text, "  {why}");
    }
    Ok(text)
}

fn has_umip() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.split_whitespace().any(|w| w == "umip")
}

/// Runs a child from form `from` on: what it printed, and how it ended if not well.
fn start(from: usize, seed: u64) -> Result<(String, Option<String>)> {
    let host = |action| move |source| Error::Host { action, source };
    let program = std::env::current_exe().map_err(host("tell where this program is"))?;
    let (from, seed) = (from.to_string(), seed.to_string());
    let output = Command::new(program)
        .args(["classify", "--host-child", &from, "--seed", &seed])
        .stdin(Stdio::null())
        .output()
        .map_err(host("start a child process"))?;
    if output.status.code() == Some(1) || output.status.code() == Some(2) {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.trim().trim_start_matches("subring: ").to_owned();
        return Err(Error::Usage(why));
    }
    let end = (!output.status.success()).then(|| output.status.to_string());
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), end))
}

//! Packages: fetched once, unpacked, never committed.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where packages lie.
pub(crate) fn cache() -> PathBuf {
    project().join(".cache/debian")
}

/// A file of the project.
pub(crate) fn own(path: &str) -> PathBuf {
    project().join(path)
}

/// Whether all of `packages` are unpacked. If not, says so on standard error past the test harness's capture.
pub(crate) fn have(packages: &[&str]) -> bool {
    let script = project().join("tests/real_software/fetch.sh");
    let output = Command::new("sh").arg(script).arg(cache()).args(packages).output();
    let reason = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(e) => format!("sh does not run: {e}"),
    };
    assert!(!super::full(), "with SUBRING_FULL=1 nothing is skipped: {packages:?}: {reason}");
    skipped(&format!("packages {}: {reason}", packages.join(", ")));
    false
}

/// Says, past the test harness's capture, that the running test was left out.
pub(crate) fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // A line that cannot be shown changes nothing about the test.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {test}: {reason}\n").as_bytes());
}

/// A file of an unpacked package.
#[track_caller]
pub(crate) fn file(package: &str, path: &str) -> PathBuf {
    let file = cache().join(package).join(path);
    assert!(file.is_file(), "the package {package} has no {path}");
    file
}

//! Linux (package linux-image-686), saved in the middle of its boot and restored: the two halves are the whole.

use super::fetch::{cache, have};
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNEL: &str = "linux-image-686:i386";

fn kernel() -> PathBuf {
    let files = std::fs::read_dir(cache().join(KERNEL).join("boot")).expect("the package has a kernel");
    let mut files = files.map(|e| e.expect("a readable folder").path());
    files.find(|p| p.to_string_lossy().contains("vmlinuz")).expect("the package has a kernel")
}

/// Runs the program; what it put on standard output.
#[track_caller]
fn subring(args: &[&str], status: i32) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_subring")).args(args).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    output.stdout
}

/// Memory and the processor's state at the end of a run with `args`, and what it printed.
fn end(dir: &Path, args: &[&str], budget: &str) -> [Vec<u8>; 3] {
    let (memory, state) = (dir.join("memory"), dir.join("state"));
    let range = format!("0:64M={}", memory.display());
    let dumps =
        ["--budget", budget, "--dump-memory", &range, "--dump-state", state.to_str().expect("a name")];
    let printed = subring(&[&["run"], args, &dumps].concat(), 124);
    [printed, std::fs::read(memory).expect("a dump"), std::fs::read(state).expect("a dump")]
}

/// Unpacking itself; or, in full mode, among its interrupts and page tables.
#[test]
#[ignore = "needs packages from Debian"]
fn linux_cut_in_the_middle_of_its_boot_goes_on() {
    if !have(&[KERNEL]) {
        return;
    }
    let (cut, budget) = if super::full() { ("3G", "3200M") } else { ("60M", "90M") };
    let dir = std::env::temp_dir().join(format!("subring-linux-cut-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a scratch folder");
    let (kernel, file) = (kernel(), dir.join("linux.snap"));
    let (kernel, file) = (kernel.to_str().expect("a name"), file.to_str().expect("a name"));
    let guest = [kernel, "--mem", "64M", "--append", "console=ttyS0"];
    let head = subring(&[&["snapshot", "--at-instruction", cut, "--out", file], &guest[..]].concat(), 0);
    let [printed, memory, state] = end(&dir, &guest, budget);
    let [rest, memory_then, state_then] = end(&dir, &["--restore", file], budget);
    let _ = std::fs::remove_dir_all(&dir);
    assert!(memory == memory_then, "memory");
    assert_eq!(String::from_utf8_lossy(&state), String::from_utf8_lossy(&state_then));
    assert_eq!(String::from_utf8_lossy(&printed), String::from_utf8_lossy(&[head, rest].concat()));
}

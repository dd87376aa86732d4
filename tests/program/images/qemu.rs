//! qemu-img, which made the formats and judges what is written in them.

use std::process::Command;

/// Whether qemu-img is here; if not, `test` says loudly that it does not run.
pub(crate) fn here(test: &str) -> bool {
    let here = Command::new("qemu-img").arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        eprintln!("SKIPPED: {test}: no qemu-img on this machine (tests/install.sh installs it)");
    }
    here
}

/// Runs qemu-img and gives its status and what it said.
pub(crate) fn try_img(args: &[&str]) -> (i32, String) {
    let output = Command::new("qemu-img").args(args).output().expect("qemu-img starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// Runs qemu-img, which is to succeed.
#[track_caller]
pub(crate) fn img(args: &[&str]) {
    let (status, said) = try_img(args);
    assert_eq!(status, 0, "qemu-img {args:?}: {said}");
}

/// Holds that an image is sound: no corruption, and no leak either unless those are `tolerated`.
#[track_caller]
pub(crate) fn check(image: &str, tolerated: bool) {
    let (status, said) = try_img(&["check", "-f", "qcow2", image]);
    assert!(status == 0 || tolerated && status == 3, "qemu-img check {image}: {status}: {said}");
}

//! Real software from Debian's packages boots and runs unmodified, each piece with an asserted transcript.
//!
//! These tests are asked for, since they fetch 340 MB: `cargo test --test real_software -- --ignored`. Packages are
//! fetched into `.cache/debian` by `fetch.sh`. Where they cannot be had the test says SKIPPED, and why, on standard
//! error. `SUBRING_FULL=1` runs everything (minutes in a debug build), and then a skip is a failure.

mod after_post;
mod cdrom;
mod compare;
mod fetch;
mod gnumach;
mod grub;
mod grub_boots;
mod hard_disk;
mod initramfs;
mod invaders;
mod kvm;
mod linux;
mod linux_session;
mod memtest;
mod pc;
mod pinned;
mod qemu;
mod seabios;
mod snapshot;
mod syslinux;
mod translated;

/// Whether the long form of the tests is asked for.
fn full() -> bool {
    std::env::var_os("SUBRING_FULL").is_some_and(|v| v == "1")
}

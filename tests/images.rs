//! Disk images of every format against qemu-img, damaged ones, and a program that is killed while it writes to one.

#[path = "images/crash.rs"]
mod crash;
#[path = "images/damaged.rs"]
mod damaged;
#[path = "images/formats.rs"]
mod formats;
#[path = "images/options.rs"]
mod options;
#[path = "common/program.rs"]
mod program;
#[path = "images/qemu.rs"]
mod qemu;
#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/seed.rs"]
mod seed;

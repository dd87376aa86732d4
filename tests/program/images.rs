//! Disk images of every format against qemu-img, damaged ones, and a program that is killed while it writes to one.

mod crash;
mod damaged;
mod formats;
mod options;
mod qemu;
mod strangers;

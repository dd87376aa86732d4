//! The program as its users run it: each module runs `subring` and looks at what it prints, writes and ends with. What
//! a module compares with (golden texts, scripts) lies in the folder of its name.

#[path = "../common/mod.rs"]
mod common;

mod book;
mod cdrom;
mod classify;
mod cli;
mod compare;
mod debugging;
mod fuzz_cli;
mod gdb;
mod hypervisor;
mod images;
mod mmu;
mod options;
mod phases;
mod post_mortem;
mod runnable_guest;
mod snapshot_files;
mod source_lines;
mod theorem;
mod translate;
mod vmcs;
mod vmx;

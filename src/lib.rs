//! **subring**: one unmodified IA-32 kernel under every classic virtualization technique, on one deterministic
//! clock.
//!
//! The map, in reading order from the ground up. A module uses only rows above it (a test holds this):
//!
//! | module | what it is |
//! |---|---|
//! | [`addr`], [`width`], [`clock`], [`error`], [`saved`], [`symbols`] | address newtypes; access widths; time; the host's trouble; forms of saved state; names for addresses |
//! | [`host`] | files of the host: opened without waiting, locked, replaced whole |
//! | [`cell`] | the cube: strategy, MMU, coherence, engine, and which combinations mean something |
//! | [`event`] | what observers see: instructions, faults, interrupts, ports, memory |
//! | [`mem`] | guest RAM and its code marks |
//! | [`decode`] | our instruction form, lowered from iced-x86; the cache of decoded traces |
//! | [`cpu`] | registers, flags, segments with their hidden parts, control registers, faults |
//! | [`console`] | the keys of a PC's keyboard and the character set of its screen |
//! | [`bus`] | the physical memory map |
//! | [`mmu`] | segmentation checks, the page walker, the TLB |
//! | [`media`] | what a drive's medium is on the host: image files, memory, writes that can be taken back |
//! | [`device`] | one file per chip |
//! | [`firmware`] | the built-in BIOS; ACPI tables and the MP table |
//! | [`exec`] | the semantics of instructions, over the seam [`exec::env::Env`] |
//! | [`interp`] | the run loop over cached traces |
//! | [`translate`] | the binary translator: units, chaining, and the backend that runs them |
//! | [`classify`] | Popek and Goldberg's classification of the instruction set, derived by running it |
//! | [`report`] | what a monitor reports: exits, who ran the instructions, the terms of modelled cycles |
//! | [`machine`] | the board, reset, and running it |
//! | [`vmm`] | the monitors: trap and emulate, binary translation, hardware assist; shadow and nested page tables |
//! | [`snapshot`] | files of saved machines and of recorded input |
//! | [`load`] | guest images (flat, ELF, Multiboot, Linux, disks), and the machine that is built for one |
//! | [`debug`] | why a guest died, in plain English; the stub for gdb, which also goes back in time |
//! | [`lab`] | machines side by side: where they part, and what each costs |
//! | [`theorem`] | Popek and Goldberg's theorem on its own machine ⟨E, M, P, R⟩; apart from all the rest |
//! | [`cli`] | the commands |

// Tests that are compiled into the library name it as those outside do.
#[cfg(test)]
extern crate self as subring;

pub mod addr;
pub mod bus;
pub mod cell;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod console;
pub mod cpu;
pub mod debug;
pub mod decode;
pub mod device;
pub mod error;
pub mod event;
pub mod exec;
pub mod firmware;
pub mod host;
pub mod interp;
pub mod lab;
pub mod load;
pub mod machine;
pub mod media;
pub mod mem;
pub mod mmu;
pub mod report;
pub mod saved;
mod seeded;
pub mod snapshot;
pub mod symbols;
pub mod theorem;
pub mod translate;
pub mod vmm;
pub mod width;

//! Guest images, and the machines that are built for them.
//!
//! [`identify`] looks at the head of a file and says what [`Guest`] it is. [`plan()`] turns the whole file into a
//! [`Plan`]: bytes to store, and where and in which state the processor starts. A [`Spec`] adds memory, disks,
//! firmware and a monitor, and [`Spec::build`] makes the machine. `cli` reads the files. Every field of an image is
//! taken as hostile.

pub mod builtin;
pub mod bzimage;
pub mod disk;
mod dispatch;
mod dwarf;
pub mod elf;
pub mod flat;
mod guest;
mod identify;
mod loader_state;
mod memory_map;
pub mod multiboot;
mod part;
mod plan;
mod spec;
mod symbol;

pub use dispatch::plan;
pub use dwarf::DebugSections;
pub use guest::{Around, Format, Guest, Mode, Module};
pub use identify::{HEAD, identify};
pub use loader_state::LoaderState;
pub use plan::{Entry, Plan};
pub use spec::{DEFAULT_EPOCH, DEFAULT_MEM, Drive, Medium, Spec};
pub use symbol::{Symbol, symbol_at};

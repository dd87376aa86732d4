//! The semantics of instructions, over the seam [`env::Env`]. Interpreter, monitor and translator all call these
//! functions: each instruction's meaning exists once.

pub mod cpuid;
pub mod env;
pub mod event;
pub mod fpu;
pub mod frame;
pub mod operand;
pub mod ops;
pub mod pointers;
pub mod segload;
pub mod stack;
pub mod task;

pub use env::{Env, Handler};

#[cfg(test)]
pub(crate) mod testing;

//! The semantics of instructions, over the seam [`env::Env`]. Interpreter, monitor and translator all call these
//! functions: each instruction's meaning exists once.

pub mod env;
pub mod operand;
pub mod ops;
pub mod stack;

pub use env::{Env, Handler};

#[cfg(test)]
pub(crate) mod testing;

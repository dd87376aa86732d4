//! The semantics of instructions, over the seam [`env::Env`]. Interpreter, monitor and translator all call
//! these functions: each instruction's meaning exists once.

pub mod bind;
pub mod cpuid;
pub mod env;
pub mod event;
pub mod fpu;
pub mod frame;
pub mod msr;
pub mod operand;
pub mod ops;
pub mod pointers;
pub mod segload;
pub mod stack;
pub mod task;
pub mod vme;
pub mod vmx;

pub use bind::{Binder, ConditionBinder, Semantics};
pub use env::{Env, Handler, Quick};

#[cfg(test)]
pub(crate) mod testing;

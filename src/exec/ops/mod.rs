//! Instructions by family. Each file has semantic functions under their assembly syntax, and a module `bind`
//! that picks the compiled form for a decoded instruction, operation by operation.

pub mod alu;
pub mod bit;
pub mod branch;
pub mod data;
pub mod far;
pub mod flag;
pub mod fpu;
pub mod io;
pub mod mmx;
pub mod muldiv;
pub mod segment;
pub mod shift;
pub mod stack;
pub mod string;
pub mod system;
mod undefined;
pub mod vmx;

use super::{Binder, Env, Handler};
use crate::decode::op::for_each_op;
use crate::decode::{Insn, Op};

/// Declares `bind`, from the table of instructions: a family's module has an operation's choice under its
/// name.
macro_rules! choose {
    ($($module:ident, $Family:ident {
        $($Op:ident $flow:ident $memory:ident $reach:ident $flags:ident $ring:ident;)*
    })*) => {
        /// The function that executes `i`.
        pub fn bind<E: Env>(i: &Insn) -> Handler<E> {
            match i.op { $($(Op::$Op => $module::bind::$Op(i),)*)* }
        }
    };
}

for_each_op!(choose);

pub use alu::bind_with_condition;

/// What `B` makes of the semantics of `i`, compiled as closely for its form as there is a type; its flags are
/// left alone if nothing sees them. `None` where there is nothing but the function of [`bind`], and for
/// branches, which [`branch::bind_closely`] is for.
pub fn bind_closely<B: Binder>(i: &Insn, flags_dead: bool) -> Option<B::Bound> {
    match i.op {
        Op::Mov | Op::Movzx | Op::Movsx | Op::Lea | Op::Nop | Op::Cwd | Op::Xchg | Op::Cmov | Op::Setcc => {
            data::bind_closely::<B>(i)
        }
        Op::Imul2 | Op::Imul3 => muldiv::bind_closely::<B>(i),
        Op::Push | Op::Pop | Op::Leave => stack::bind_closely::<B>(i),
        Op::Shl | Op::Shr | Op::Sar => shift::bind_closely::<B>(i, flags_dead),
        _ => alu::bind_closely::<B>(i, flags_dead),
    }
}

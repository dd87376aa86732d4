//! Semantics as types: a backend that compiles a function of its own around an instruction's semantics is a
//! [`Binder`], and the families pick the types for it as they pick functions for `bind`.

use super::Env;
use crate::cpu::{Cpu, Fault};
use crate::decode::Insn;

/// What an instruction of one form does. It commits nothing before its last access that can fail, and reaches
/// nothing but registers and memory, so that it can be tried in [`super::Quick`] and, where that fails, be
/// run again.
pub trait Semantics {
    /// Does it, as a [`super::Handler`].
    ///
    /// # Errors
    /// The fault.
    fn run<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault>;
}

/// Compiles functions around semantics.
pub trait Binder {
    /// The compiled function.
    type Bound;
    /// Compiles a function around `S`.
    fn bind<S: Semantics>() -> Self::Bound;
}

/// Compiles functions around semantics and the condition of the Jcc that follows.
pub trait ConditionBinder {
    /// The compiled function.
    type Bound;
    /// Compiles a function around `S` and the condition with number `C`.
    fn bind<S: Semantics, const C: usize>() -> Self::Bound;
}

/// Declares `$Name`, the [`Semantics`] of the function `$f`, and `$bound`, which binds it: a name that the
/// macros of [`super::operand`] can complete.
macro_rules! semantics {
    ($Name:ident, $bound:ident, $f:ident $(, $T:ident: $Bound:ident)*) => {
        struct $Name<$($T),*>(std::marker::PhantomData<($($T,)*)>);
        impl<$($T: $Bound),*> $crate::exec::bind::Semantics for $Name<$($T),*> {
            #[inline(always)]
            fn run<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
                $f::<E $(, $T)*>(cpu, env, i)
            }
        }
        fn $bound<B: $crate::exec::bind::Binder $(, $T: $Bound)*>() -> B::Bound {
            B::bind::<$Name<$($T),*>>()
        }
    };
}

/// Declares a family's module `bind`: for each operation a function of its name, which picks the compiled
/// form for a decoded instruction, as the expression after it says.
macro_rules! binders {
    ($i:ident, $E:ident; $($Op:ident => $form:expr,)*) => {
        /// Each operation's choice of a compiled form.
        #[allow(non_snake_case, unused_variables, reason = "functions are named as operations, whose forms may be one")]
        pub(in crate::exec::ops) mod bind {
            use super::*;
            $(
                pub(in crate::exec::ops) fn $Op<$E: Env>($i: &Insn) -> Handler<$E> {
                    $form
                }
            )*
        }
    };
}

pub(crate) use {binders, semantics};

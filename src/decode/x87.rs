//! What an x87 instruction does, and the format of its memory operand (SDM vol. 1, 8.3). Forms that differ
//! only in the operand's format or in how often they pop are one operation: FIADD is [`FpuOp::Fadd`] of an
//! integer, FCOMPP is [`FpuOp::Fcom`] with two pops ([`super::Insn::extra`]).

/// Calls the macro `$consumer` with the table of x87 operations: the module of `exec::ops::fpu` that has the
/// handlers, each under its operation's name, and the operations.
macro_rules! for_each_fpu_op {
    ($consumer:ident) => {
        $consumer! {
            transfer {
                Fld Fst Fxch Fcmov
                Fld1 Fldl2t Fldl2e Fldpi Fldlg2 Fldln2 Fldz
            }
            arith {
                Fadd Fmul Fsub Fsubr Fdiv Fdivr
                Fchs Fabs Fsqrt Frndint Fscale Fxtract Fprem Fprem1
            }
            compare {
                Fcom Fucom Fcomi Fucomi Ftst Fxam
            }
            transcendental {
                F2xm1 Fyl2x Fyl2xp1 Fptan Fpatan Fsin Fcos Fsincos
            }
            control {
                Fincstp Fdecstp Ffree Fnop Wait
                Fninit Fnclex Fldcw Fnstcw Fnstsw Fnstenv Fldenv Fnsave Frstor Fxsave Fxrstor
                Obsolete
            }
            undefined {
                Undefined
            }
        }
    };
}

pub(crate) use for_each_fpu_op;

macro_rules! declare {
    ($($module:ident { $($Op:ident)* })*) => {
        /// An x87 operation: the manual's mnemonics. `Obsolete` is FNENI, FNDISI and FNSETPM of the 8087 and
        /// 287, which do nothing since; `Undefined` is an encoding of the escape opcodes that the manual
        /// leaves undefined, and whatever is not an x87 instruction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the variants are the manual's mnemonics")]
        pub enum FpuOp { $($($Op,)*)* }
    };
}

for_each_fpu_op!(declare);

/// The format of an x87 memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum FpuMem {
    None,
    Int16,
    Int32,
    Int64,
    Real32,
    Real64,
    Real80,
    Bcd,
}

impl FpuMem {
    /// Bytes of the operand.
    pub fn bytes(self) -> u32 {
        match self {
            FpuMem::None => 0,
            FpuMem::Int16 => 2,
            FpuMem::Int32 | FpuMem::Real32 => 4,
            FpuMem::Int64 | FpuMem::Real64 => 8,
            FpuMem::Real80 | FpuMem::Bcd => 10,
        }
    }
}

//! Instructions by family. Each file has semantic functions under their assembly syntax, and a `bind` that picks
//! the compiled form for a decoded instruction.

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

use super::{Binder, Env, Handler};
use crate::cpu::{Cpu, Fault};
use crate::decode::{Insn, Op};

/// The function that executes `i`.
#[rustfmt::skip]
pub fn bind<E: Env>(i: &Insn) -> Handler<E> {
    use Op::*;
    match i.op {
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test | Inc | Dec | Neg | Not | Xadd | Cmpxchg | Cmpxchg8b
            => alu::bind(i),
        JmpFar | CallFar | JmpFarMem | CallFarMem | Retf | Iret | Int | Int3 | Into | Int1 | Sysenter | Sysexit
            => far::bind(i),
        MovFromSeg | MovToSeg | PushSeg | PopSeg | LoadFar | Arpl | Lar | Lsl | Verr | Verw => segment::bind(i),
        Cli | Sti | Hlt | Lgdt | Lidt | Sgdt | Sidt | Lldt | Ltr | Sldt | Str | Lmsw | Smsw | Clts | Invd | Wbinvd
        | Invlpg | MovFromCr | MovToCr | MovFromDr | MovToDr | Cpuid | Rdtsc | Rdpmc | Rdmsr | Wrmsr
            => system::bind(i),
        Mov | Movzx | Movsx | Lea | Xchg | Bswap | Cmov | Setcc | Xlat | Lahf | Sahf | Cbw | Cwd | Salc | Nop
            => data::bind(i),
        Rol | Ror | Rcl | Rcr | Shl | Shr | Sar | Shld | Shrd => shift::bind(i),
        Mul | Imul | Imul2 | Imul3 | Div | Idiv | Aaa | Aas | Daa | Das | Aam | Aad => muldiv::bind(i),
        Bt | Bts | Btr | Btc | Bsf | Bsr => bit::bind(i),
        Clc | Stc | Cmc | Cld | Std => flag::bind(i),
        Movs | Cmps | Scas | Lods | Stos | Ins | Outs => string::bind(i),
        Push | Pop | Pusha | Popa | Pushf | Popf | Enter | Leave => stack::bind(i),
        Jcc | Jmp | Call | JmpInd | CallInd | Ret | Loop | Loope | Loopne | Jcxz | Bound => branch::bind(i),
        In | Out => io::bind(i),
        Fpu => fpu::bind(i),
        Emms | Movd | Movq
        | Paddb | Paddw | Paddd | Paddsb | Paddsw | Paddusb | Paddusw | Psubb | Psubw | Psubd | Psubsb
        | Psubsw | Psubusb | Psubusw | Pmullw | Pmulhw | Pmaddwd | Pcmpeqb | Pcmpeqw | Pcmpeqd | Pcmpgtb
        | Pcmpgtw | Pcmpgtd | Packsswb | Packssdw | Packuswb | Punpckhbw | Punpckhwd | Punpckhdq | Punpcklbw
        | Punpcklwd | Punpckldq | Pand | Pandn | Por | Pxor | Psllw | Pslld | Psllq | Psrlw | Psrld | Psrlq
        | Psraw | Psrad
            => mmx::bind(i),
        _ => undefined,
    }
}

pub use alu::bind_with_condition;

/// What `B` makes of the semantics of `i`, compiled as closely for its form as there is a type; its flags are left alone if
/// nothing sees them. `None` where there is nothing but the function of [`bind`], and for branches, which
/// [`branch::bind_closely`] is for.
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

/// UD2 and whatever is not built: #UD.
///
/// # Errors
/// Always #UD.
pub fn undefined<E: Env>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    Err(Fault::UD)
}

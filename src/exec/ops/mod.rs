//! Instructions by family. Each file has semantic functions under their assembly syntax, and a `bind` that picks
//! the compiled form for a decoded instruction.

pub mod alu;
pub mod far;
pub mod segment;
pub mod system;

use super::{Env, Handler};
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
        | Invlpg | MovFromCr | MovToCr | MovFromDr | MovToDr | Cpuid | Rdtsc | Rdpmc | Rdmsr | Wrmsr | Wait | Esc
            => system::bind(i),
        _ => undefined,
    }
}

/// UD2 and whatever is not built: #UD.
///
/// # Errors
/// Always #UD.
pub fn undefined<E: Env>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    Err(Fault::UD)
}

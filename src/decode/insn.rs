//! The decoded instruction: one flat, small struct for every form.

use super::x87::{FpuMem, FpuOp};
use crate::width::Width;

/// What an instruction does, apart from where its operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the manual's mnemonics")]
#[rustfmt::skip]
pub enum Op {
    // data
    Mov, Movzx, Movsx, Lea, Xchg, Bswap, Cmov, Setcc, Xlat, Lahf, Sahf, Cbw, Cwd, Salc, Nop,
    // alu
    Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not, Xadd, Cmpxchg, Cmpxchg8b,
    // shift
    Rol, Ror, Rcl, Rcr, Shl, Shr, Sar, Shld, Shrd,
    // muldiv
    Mul, Imul, Imul2, Imul3, Div, Idiv, Aaa, Aas, Daa, Das, Aam, Aad,
    // bit
    Bt, Bts, Btr, Btc, Bsf, Bsr,
    // flag
    Clc, Stc, Cmc, Cld, Std, Cli, Sti,
    // string
    Movs, Cmps, Scas, Lods, Stos, Ins, Outs,
    // stack
    Push, Pop, Pusha, Popa, Pushf, Popf, Enter, Leave,
    // branch
    Jcc, Jmp, Call, JmpInd, CallInd, Ret, Loop, Loope, Loopne, Jcxz,
    // far control transfer and interrupts
    JmpFar, CallFar, JmpFarMem, CallFarMem, Retf, Iret, Int, Int3, Into, Int1, Bound,
    Sysenter, Sysexit,
    // segment
    MovFromSeg, MovToSeg, PushSeg, PopSeg, LoadFar, Arpl, Lar, Lsl, Verr, Verw,
    // system
    Hlt, Lgdt, Lidt, Sgdt, Sidt, Lldt, Ltr, Sldt, Str, Lmsw, Smsw, Clts, Invd, Wbinvd, Invlpg,
    MovFromCr, MovToCr, MovFromDr, MovToDr, Cpuid, Rdtsc, Rdpmc, Rdmsr, Wrmsr,
    // io
    In, Out,
    // mmx
    Emms, Movd, Movq, Paddb, Paddw, Paddd, Paddsb, Paddsw, Paddusb, Paddusw, Psubb, Psubw, Psubd, Psubsb,
    Psubsw, Psubusb, Psubusw, Pmullw, Pmulhw, Pmaddwd, Pcmpeqb, Pcmpeqw, Pcmpeqd, Pcmpgtb, Pcmpgtw, Pcmpgtd,
    Packsswb, Packssdw, Packuswb, Punpckhbw, Punpckhwd, Punpckhdq, Punpcklbw, Punpcklwd, Punpckldq, Pand, Pandn,
    Por, Pxor, Psllw, Pslld, Psllq, Psrlw, Psrld, Psrlq, Psraw, Psrad,
    /// An x87 instruction, WAIT, FXSAVE, FXRSTOR; [`Insn::fpu`] says which.
    Fpu,
    /// UD0, UD1, UD2, and encodings that the manual leaves undefined.
    Ud,
    /// Defined on later processors, not built here: #UD, counted and named.
    Unbuilt,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// There is no such operand.
    None,
    /// A general register.
    Reg,
    /// Memory.
    Mem,
    /// An immediate.
    Imm,
}

/// A segment register, numbered as in ModRM.reg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the registers' names")]
pub enum SegReg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
}

impl SegReg {
    /// All six, by number.
    pub const ALL: [SegReg; 6] = [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs];

    /// The register's name, in lower case.
    pub fn name(self) -> &'static str {
        ["es", "cs", "ss", "ds", "fs", "gs"][self as usize]
    }
}

/// A repeat prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rep {
    /// No repeat prefix.
    Once,
    /// F3: REP, REPE.
    While,
    /// F2: REPNE (REP for strings that do not compare).
    Until,
}

/// A condition code, numbered as in the low four bits of Jcc, SETcc and CMOVcc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the manual's condition names")]
#[rustfmt::skip]
pub enum Cond { O, No, B, Ae, E, Ne, Be, A, S, Ns, P, Np, L, Ge, Le, G }

impl Cond {
    /// All sixteen, by number.
    #[rustfmt::skip]
    pub const ALL: [Cond; 16] = [
        Cond::O, Cond::No, Cond::B, Cond::Ae, Cond::E, Cond::Ne, Cond::Be, Cond::A,
        Cond::S, Cond::Ns, Cond::P, Cond::Np, Cond::L, Cond::Ge, Cond::Le, Cond::G,
    ];
}

/// The register number that stands for "none" in an address: it always reads as zero.
pub const NO_REG: u8 = 8;

/// A decoded instruction.
///
/// General registers are numbered as in ModRM (0 EAX … 7 EDI; for bytes 0 AL … 3 BL, 4 AH … 7 BH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub op: Op,
    /// Operand width.
    pub width: Width,
    /// Where the first operand is.
    pub dst: Place,
    /// Where the second operand is.
    pub src: Place,
    /// The first operand's register, if it is one (a general, control, debug or segment register's number).
    pub dst_reg: u8,
    /// The second operand's register, if it is one.
    pub src_reg: u8,
    /// The memory operand's base register or [`NO_REG`].
    pub base: u8,
    /// The memory operand's index register or [`NO_REG`].
    pub index: u8,
    /// log2 of the scale.
    pub scale: u8,
    /// The memory operand's segment, overrides applied.
    pub seg: SegReg,
    /// Bytes of the instruction.
    pub len: u8,
    /// The condition of Jcc, SETcc, CMOVcc.
    pub cond: Cond,
    /// The repeat prefix.
    pub rep: Rep,
    /// Whether a LOCK prefix is there (only where the manual allows one; else the decoder gives [`Op::Ud`]).
    pub lock: bool,
    /// Width of the source where it differs: MOVZX, MOVSX.
    pub src_width: Width,
    /// The count of a shift by CL is in CL (then `src` is `Reg`); ENTER's level; how often an x87 instruction pops;
    /// 1 for MOVD and MOVQ from an MMX register; unused elsewhere.
    pub extra: u8,
    /// Which x87 operation it is.
    pub fpu: FpuOp,
    /// The format of an x87 or MMX operation's memory operand.
    pub fpu_mem: FpuMem,
    /// A far pointer's selector; an x87 instruction's opcode as FOP holds it.
    pub selector: u16,
    /// And-mask of effective addresses: FFFF or FFFFFFFF.
    pub addr_mask: u32,
    /// The memory operand's displacement.
    pub disp: u32,
    /// The immediate, sign-extended to 32 bits as the form says; a near branch's displacement; a far pointer's
    /// offset.
    pub imm: u32,
}

impl Insn {
    /// An instruction of `op` with no operands, `len` bytes long.
    pub fn bare(op: Op, len: u8) -> Self {
        Self {
            op,
            width: Width::Dword,
            dst: Place::None,
            src: Place::None,
            dst_reg: 0,
            src_reg: 0,
            base: NO_REG,
            index: NO_REG,
            scale: 0,
            seg: SegReg::Ds,
            len,
            cond: Cond::O,
            rep: Rep::Once,
            lock: false,
            src_width: Width::Dword,
            extra: 0,
            fpu: FpuOp::Undefined,
            fpu_mem: FpuMem::None,
            selector: 0,
            addr_mask: !0,
            disp: 0,
            imm: 0,
        }
    }

    /// Whether this instruction changes EIP only within the code segment, and nothing else that a trace depends on.
    pub fn is_near_branch(&self) -> bool {
        use Op::*;
        matches!(self.op, Jcc | Jmp | JmpInd | Call | CallInd | Ret | Loop | Loope | Loopne | Jcxz)
    }

    /// Whether a trace must end after this instruction: it can change EIP otherwise than by falling through, the
    /// processor's mode, what is mapped, or when the next event is due. A trace goes on after a conditional branch;
    /// if that is taken, it is left there.
    #[rustfmt::skip]
    pub fn ends_trace(&self) -> bool {
        use Op::*;
        match self.op {
            Jmp | Call | JmpInd | CallInd | Ret | Loop | Loope | Loopne | Jcxz
            | JmpFar | CallFar | JmpFarMem | CallFarMem | Retf | Iret | Int | Int3 | Into | Int1 | Bound
            | Sysenter | Sysexit | Cli | Sti | Popf | MovToSeg | PopSeg | LoadFar
            | Hlt | Lgdt | Lidt | Lldt | Ltr | Lmsw | Clts | Invd | Wbinvd | Invlpg
            | MovToCr | MovFromDr | MovToDr | Cpuid | Rdtsc | Rdpmc | Rdmsr | Wrmsr
            | In | Out | Ins | Outs | Ud | Unbuilt => true,
            Movs | Cmps | Scas | Lods | Stos => self.rep != Rep::Once,
            _ => false,
        }
    }

    /// Whether it may touch memory elsewhere after it has read some: an iteration of it, if it is repeated. What was read can be a
    /// page-table entry that the later access marks. Operands of 64 bits and more, and descriptors, are read in parts.
    #[rustfmt::skip]
    pub fn touches_after_reading(&self) -> bool {
        use Op::*;
        match self.op {
            Movs | Cmps | Ins | Outs | In | Out | Popa | Enter | Cmpxchg8b
            | CallFar | JmpFar | JmpFarMem | CallFarMem | Retf | Iret | Int | Int3 | Into | Int1 | Bound
            | MovToSeg | PopSeg | LoadFar | Lar | Lsl | Verr | Verw | Lldt | Ltr | Lgdt | Lidt => true,
            Push | Pop | CallInd => self.dst == Place::Mem || self.src == Place::Mem,
            // An environment, or all registers.
            Fpu if self.fpu_mem == FpuMem::None => self.dst == Place::Mem || self.src == Place::Mem,
            _ => self.fpu_mem.bytes() > 4,
        }
    }
}

//! The decoded instruction: one flat, small struct for every form.

use super::op::{Flow, Memory, Op};
use super::x87::{FpuMem, FpuOp};
use crate::width::Width;

/// The longest instruction that IA-32 allows, in bytes (SDM vol. 2, 2.3.11).
pub const MAX_INSN_LEN: usize = 15;

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
    /// The operation.
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
    /// The count of a shift by CL is in CL (then `src` is `Reg`); ENTER's level; how often an x87 instruction
    /// pops; 1 for MOVD and MOVQ from an MMX register; unused elsewhere.
    pub extra: u8,
    /// The x87 operation.
    pub fpu: FpuOp,
    /// The format of an x87 or MMX operation's memory operand.
    pub fpu_mem: FpuMem,
    /// A far pointer's selector; an x87 instruction's opcode as FOP holds it.
    pub selector: u16,
    /// And-mask of effective addresses: FFFF or FFFFFFFF.
    pub addr_mask: u32,
    /// The memory operand's displacement.
    pub disp: u32,
    /// The immediate, sign-extended to 32 bits as the form says; a near branch's displacement; a far
    /// pointer's offset.
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

    /// Whether an operand is in memory. Implied operands, of string instructions and of the stack, do not
    /// count.
    pub fn has_memory_operand(&self) -> bool {
        self.dst == Place::Mem || self.src == Place::Mem
    }

    /// Whether this instruction changes EIP only within the code segment, and nothing else that a trace
    /// depends on.
    pub fn is_near_branch(&self) -> bool {
        matches!(self.op.facts().flow, Flow::Conditional | Flow::Direct | Flow::Indirect)
    }

    /// Whether a trace must end after this instruction: EIP can change otherwise than by falling through, and
    /// so can the processor's mode, what is mapped, or when the next event is due. A trace goes on after a
    /// conditional branch; if that is taken, it is left there.
    pub fn ends_trace(&self) -> bool {
        match self.op.facts().flow {
            Flow::Next | Flow::Conditional => false,
            Flow::Direct | Flow::Indirect | Flow::Leaves => true,
            Flow::Repeats => self.rep != Rep::Once,
        }
    }

    /// Whether the instruction may access memory again after it has read some ([`Memory`]).
    pub fn touches_after_reading(&self) -> bool {
        match self.op.facts().memory {
            Memory::Once => false,
            Memory::More => true,
            Memory::Operand => self.has_memory_operand(),
            Memory::Wide => self.fpu_mem.bytes() > 4,
            Memory::Image if self.fpu_mem == FpuMem::None => self.has_memory_operand(),
            Memory::Image => self.fpu_mem.bytes() > 4,
        }
    }
}

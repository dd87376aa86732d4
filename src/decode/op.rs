//! The table of instructions: one line for each operation, with every fact that is one of the operation
//! alone.
//!
//! `for_each_op!` hands the table to whoever needs a part of it: [`Op`], [`Family`] and [`Facts`] are made
//! from it here, and `exec::ops` makes the choice of handlers from it. An operation without a line, without a
//! fact or without a handler does not compile.

/// Calls the macro `$consumer` with the table.
///
/// A group is a family: the module of `exec::ops` that has the handlers, each under its operation's name, and
/// the [`Family`]. A line is an operation with its [`Flow`], [`Memory`], [`Reach`], [`Flags`] and [`Ring`].
macro_rules! for_each_op {
    ($consumer:ident) => {
        $consumer! {
        //  operation  flow         memory   reach      flags   ring
        data, Data {
            Mov        Next         Once     Operands   Keeps   Innocuous;
            Movzx      Next         Once     Operands   Keeps   Innocuous;
            Movsx      Next         Once     Operands   Keeps   Innocuous;
            Lea        Next         Once     Registers  Keeps   Innocuous;
            Xchg       Next         Once     Operands   Keeps   Innocuous;
            Bswap      Next         Once     Registers  Keeps   Innocuous;
            Cmov       Next         Once     Operands   Uses    Innocuous;
            Setcc      Next         Once     Operands   Uses    Innocuous;
            Xlat       Next         Once     World      Keeps   Innocuous;
            Lahf       Next         Once     Registers  Uses    Innocuous;
            Sahf       Next         Once     Registers  Uses    Innocuous;
            Cbw        Next         Once     Registers  Keeps   Innocuous;
            Cwd        Next         Once     Registers  Keeps   Innocuous;
            Salc       Next         Once     Registers  Uses    Innocuous;
            Nop        Next         Once     Registers  Keeps   Innocuous;
            Pause      Next         Once     World      Keeps   Innocuous;
        }
        alu, Alu {
            Add        Next         Once     Operands   Writes  Innocuous;
            Or         Next         Once     Operands   Writes  Innocuous;
            Adc        Next         Once     Operands   Uses    Innocuous;
            Sbb        Next         Once     Operands   Uses    Innocuous;
            And        Next         Once     Operands   Writes  Innocuous;
            Sub        Next         Once     Operands   Writes  Innocuous;
            Xor        Next         Once     Operands   Writes  Innocuous;
            Cmp        Next         Once     Operands   Writes  Innocuous;
            Test       Next         Once     Operands   Writes  Innocuous;
            Inc        Next         Once     Operands   Uses    Innocuous;
            Dec        Next         Once     Operands   Uses    Innocuous;
            Neg        Next         Once     Operands   Writes  Innocuous;
            Not        Next         Once     Operands   Keeps   Innocuous;
            Xadd       Next         Once     Operands   Uses    Innocuous;
            Cmpxchg    Next         Once     Operands   Uses    Innocuous;
            Cmpxchg8b  Next         More     World      Uses    Innocuous;
        }
        shift, Shift {
            Rol        Next         Once     Operands   Uses    Innocuous;
            Ror        Next         Once     Operands   Uses    Innocuous;
            Rcl        Next         Once     Operands   Uses    Innocuous;
            Rcr        Next         Once     Operands   Uses    Innocuous;
            Shl        Next         Once     Operands   Uses    Innocuous;
            Shr        Next         Once     Operands   Uses    Innocuous;
            Sar        Next         Once     Operands   Uses    Innocuous;
            Shld       Next         Once     Operands   Uses    Innocuous;
            Shrd       Next         Once     Operands   Uses    Innocuous;
        }
        muldiv, Muldiv {
            Mul        Next         Once     Operands   Uses    Innocuous;
            Imul       Next         Once     Operands   Uses    Innocuous;
            Imul2      Next         Once     Operands   Uses    Innocuous;
            Imul3      Next         Once     Operands   Uses    Innocuous;
            Div        Next         Once     World      Uses    Innocuous;
            Idiv       Next         Once     World      Uses    Innocuous;
            Aaa        Next         Once     Registers  Uses    Innocuous;
            Aas        Next         Once     Registers  Uses    Innocuous;
            Daa        Next         Once     Registers  Uses    Innocuous;
            Das        Next         Once     Registers  Uses    Innocuous;
            Aam        Next         Once     World      Uses    Innocuous;
            Aad        Next         Once     Registers  Uses    Innocuous;
        }
        bit, Bit {
            Bt         Next         Once     Operands   Uses    Innocuous;
            Bts        Next         Once     Operands   Uses    Innocuous;
            Btr        Next         Once     Operands   Uses    Innocuous;
            Btc        Next         Once     Operands   Uses    Innocuous;
            Bsf        Next         Once     Operands   Uses    Innocuous;
            Bsr        Next         Once     Operands   Uses    Innocuous;
        }
        flag, Flag {
            Clc        Next         Once     Registers  Uses    Innocuous;
            Stc        Next         Once     Registers  Uses    Innocuous;
            Cmc        Next         Once     Registers  Uses    Innocuous;
            Cld        Next         Once     Registers  Keeps   Innocuous;
            Std        Next         Once     Registers  Keeps   Innocuous;
        }
        string, String {
            Movs       Repeats      More     World      Keeps   Innocuous;
            Cmps       Repeats      More     World      Uses    Innocuous;
            Scas       Repeats      Once     World      Uses    Innocuous;
            Lods       Repeats      Once     World      Keeps   Innocuous;
            Stos       Repeats      Once     World      Keeps   Innocuous;
            Ins        Leaves       More     World      Keeps   PortString;
            Outs       Leaves       More     World      Keeps   PortString;
        }
        stack, Stack {
            Push       Next         Operand  World      Keeps   Innocuous;
            Pop        Next         Operand  World      Keeps   Innocuous;
            Pusha      Next         Once     World      Keeps   Innocuous;
            Popa       Next         More     World      Keeps   Innocuous;
            Pushf      Next         Once     World      Uses    ShowsFlags;
            Popf       Leaves       Once     World      Uses    LosesFlags;
            Enter      Next         More     World      Keeps   Innocuous;
            Leave      Next         Once     World      Keeps   Innocuous;
        }
        branch, Branch {
            Jcc        Conditional  Once     World      Uses    Innocuous;
            Jmp        Direct       Once     World      Keeps   Innocuous;
            Call       Direct       Once     World      Keeps   Innocuous;
            JmpInd     Indirect     Once     World      Keeps   Innocuous;
            CallInd    Indirect     Operand  World      Keeps   Innocuous;
            Ret        Indirect     Once     World      Keeps   Innocuous;
            Loop       Direct       Once     World      Keeps   Innocuous;
            Loope      Direct       Once     World      Uses    Innocuous;
            Loopne     Direct       Once     World      Uses    Innocuous;
            Jcxz       Direct       Once     World      Keeps   Innocuous;
            Bound      Leaves       More     World      Uses    Innocuous;
        }
        far, Far {
            JmpFar     Leaves       More     World      Uses    JumpsFar;
            CallFar    Leaves       More     World      Uses    CallsFar;
            JmpFarMem  Leaves       More     World      Uses    JumpsFar;
            CallFarMem Leaves       More     World      Uses    CallsFar;
            Retf       Leaves       More     World      Uses    ReturnsFar;
            Iret       Leaves       More     World      Uses    Returns;
            Int        Leaves       More     World      Uses    Gate;
            Int3       Leaves       More     World      Uses    Exception;
            Into       Leaves       More     World      Uses    Overflow;
            Int1       Leaves       More     World      Uses    Exception;
            Sysenter   Leaves       Once     World      Uses    Enters;
            Sysexit    Leaves       Once     World      Uses    Cpl0;
        }
        segment, Segment {
            MovFromSeg Next         Once     World      Keeps   ReadsSelector;
            MovToSeg   Leaves       More     World      Uses    LoadsSelector;
            PushSeg    Next         Once     World      Keeps   PushesSelector;
            PopSeg     Leaves       More     World      Uses    LoadsSelector;
            LoadFar    Leaves       More     World      Uses    LoadsSelector;
            Arpl       Next         Once     World      Uses    Innocuous;
            Lar        Next         More     World      Uses    AsksRights;
            Lsl        Next         More     World      Uses    AsksRights;
            Verr       Next         More     World      Uses    AsksAccess;
            Verw       Next         More     World      Uses    AsksAccess;
        }
        system, System {
            Cli        Leaves       Once     World      Uses    Iopl;
            Sti        Leaves       Once     World      Uses    Iopl;
            Hlt        Leaves       Once     World      Uses    Cpl0;
            Lgdt       Leaves       More     World      Uses    Cpl0;
            Lidt       Leaves       More     World      Uses    Cpl0;
            Sgdt       Next         Once     World      Uses    ShowsGdtr;
            Sidt       Next         Once     World      Uses    ShowsIdtr;
            Lldt       Leaves       More     World      Uses    Cpl0;
            Ltr        Leaves       More     World      Uses    Cpl0;
            Sldt       Next         Once     World      Uses    ShowsLdtr;
            Str        Next         Once     World      Uses    ShowsTr;
            Lmsw       Leaves       Once     World      Uses    Cpl0;
            Smsw       Next         Once     World      Uses    ShowsCr0;
            Clts       Leaves       Once     World      Uses    Cpl0;
            Invd       Leaves       Once     World      Uses    Cpl0;
            Wbinvd     Leaves       Once     World      Uses    Cpl0;
            Invlpg     Leaves       Once     World      Uses    Cpl0;
            MovFromCr  Next         Once     World      Uses    Cpl0;
            MovToCr    Leaves       Once     World      Uses    Cpl0;
            MovFromDr  Leaves       Once     World      Uses    Cpl0;
            MovToDr    Leaves       Once     World      Uses    Cpl0;
            Cpuid      Leaves       Once     World      Uses    Innocuous;
            Rdtsc      Leaves       Once     World      Uses    ShowsTime;
            Rdpmc      Leaves       Once     World      Uses    Counter;
            Rdmsr      Leaves       Once     World      Uses    Cpl0;
            Wrmsr      Leaves       Once     World      Uses    Cpl0;
        }
        vmx, Vmx {
            Vmxon      Leaves       Once     World      Uses    Undefined;
            Vmxoff     Leaves       Once     World      Uses    Undefined;
            Vmclear    Leaves       Once     World      Uses    Undefined;
            Vmptrld    Leaves       Once     World      Uses    Undefined;
            Vmptrst    Leaves       Once     World      Uses    Undefined;
            Vmread     Leaves       Once     World      Uses    Undefined;
            Vmwrite    Leaves       Once     World      Uses    Undefined;
            Vmlaunch   Leaves       Once     World      Uses    Undefined;
            Vmresume   Leaves       Once     World      Uses    Undefined;
            Vmcall     Leaves       Once     World      Uses    Undefined;
            Invept     Leaves       Once     World      Uses    Undefined;
            Invvpid    Leaves       Once     World      Uses    Undefined;
        }
        io, Io {
            In         Leaves       More     World      Keeps   Port;
            Out        Leaves       More     World      Keeps   Port;
        }
        mmx, Mmx {
            Emms       Next         Wide     World      Keeps   Innocuous;
            Movd       Next         Wide     World      Keeps   Innocuous;
            Movq       Next         Wide     World      Keeps   Innocuous;
            Paddb      Next         Wide     World      Keeps   Innocuous;
            Paddw      Next         Wide     World      Keeps   Innocuous;
            Paddd      Next         Wide     World      Keeps   Innocuous;
            Paddsb     Next         Wide     World      Keeps   Innocuous;
            Paddsw     Next         Wide     World      Keeps   Innocuous;
            Paddusb    Next         Wide     World      Keeps   Innocuous;
            Paddusw    Next         Wide     World      Keeps   Innocuous;
            Psubb      Next         Wide     World      Keeps   Innocuous;
            Psubw      Next         Wide     World      Keeps   Innocuous;
            Psubd      Next         Wide     World      Keeps   Innocuous;
            Psubsb     Next         Wide     World      Keeps   Innocuous;
            Psubsw     Next         Wide     World      Keeps   Innocuous;
            Psubusb    Next         Wide     World      Keeps   Innocuous;
            Psubusw    Next         Wide     World      Keeps   Innocuous;
            Pmullw     Next         Wide     World      Keeps   Innocuous;
            Pmulhw     Next         Wide     World      Keeps   Innocuous;
            Pmaddwd    Next         Wide     World      Keeps   Innocuous;
            Pcmpeqb    Next         Wide     World      Keeps   Innocuous;
            Pcmpeqw    Next         Wide     World      Keeps   Innocuous;
            Pcmpeqd    Next         Wide     World      Keeps   Innocuous;
            Pcmpgtb    Next         Wide     World      Keeps   Innocuous;
            Pcmpgtw    Next         Wide     World      Keeps   Innocuous;
            Pcmpgtd    Next         Wide     World      Keeps   Innocuous;
            Packsswb   Next         Wide     World      Keeps   Innocuous;
            Packssdw   Next         Wide     World      Keeps   Innocuous;
            Packuswb   Next         Wide     World      Keeps   Innocuous;
            Punpckhbw  Next         Wide     World      Keeps   Innocuous;
            Punpckhwd  Next         Wide     World      Keeps   Innocuous;
            Punpckhdq  Next         Wide     World      Keeps   Innocuous;
            Punpcklbw  Next         Wide     World      Keeps   Innocuous;
            Punpcklwd  Next         Wide     World      Keeps   Innocuous;
            Punpckldq  Next         Wide     World      Keeps   Innocuous;
            Pand       Next         Wide     World      Keeps   Innocuous;
            Pandn      Next         Wide     World      Keeps   Innocuous;
            Por        Next         Wide     World      Keeps   Innocuous;
            Pxor       Next         Wide     World      Keeps   Innocuous;
            Psllw      Next         Wide     World      Keeps   Innocuous;
            Pslld      Next         Wide     World      Keeps   Innocuous;
            Psllq      Next         Wide     World      Keeps   Innocuous;
            Psrlw      Next         Wide     World      Keeps   Innocuous;
            Psrld      Next         Wide     World      Keeps   Innocuous;
            Psrlq      Next         Wide     World      Keeps   Innocuous;
            Psraw      Next         Wide     World      Keeps   Innocuous;
            Psrad      Next         Wide     World      Keeps   Innocuous;
        }
        fpu, Fpu {
            Fpu        Next         Image    World      Uses    ShowsX87;
        }
        undefined, Undefined {
            Ud         Leaves       Once     World      Uses    Undefined;
            Unbuilt    Leaves       Once     World      Uses    Undefined;
        }
        }
    };
}

pub(crate) use for_each_op;

/// Makes the types and the facts of the table.
macro_rules! declare {
    ($($module:ident, $Family:ident {
        $($Op:ident $flow:ident $memory:ident $reach:ident $flags:ident $ring:ident;)*
    })*) => {
        /// What an instruction does, apart from where its operands are: the manual's mnemonics, and more than
        /// one name where one mnemonic stands for different things. `Fpu` is an x87 instruction, WAIT, FXSAVE
        /// or FXRSTOR ([`super::Insn::fpu`] says which); `Ud` is UD0, UD1, UD2 and what the manual leaves
        /// undefined; `Unbuilt` is defined on later processors only: #UD, counted and named.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the variants are the manual's mnemonics")]
        pub enum Op { $($($Op,)*)* }

        /// A family of instructions: those of one file of `exec::ops`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the variants are the files' names")]
        pub enum Family { $($Family,)* }

        impl Op {
            /// All operations, in the table's order.
            pub const ALL: &[Op] = &[$($(Op::$Op,)*)*];
        }

        const FACTS: &[Facts] = &[$($(
            Facts {
                family: Family::$Family,
                flow: Flow::$flow,
                memory: Memory::$memory,
                reach: Reach::$reach,
                flags: Flags::$flags,
                ring: Ring::$ring,
            },
        )*)*];
    };
}

for_each_op!(declare);

/// What the table says of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The family.
    pub family: Family,
    /// Where execution goes on.
    pub flow: Flow,
    /// How memory is accessed.
    pub memory: Memory,
    /// What the operation can touch.
    pub reach: Reach,
    /// What becomes of the arithmetic flags.
    pub flags: Flags,
    /// What ring compression makes of the operation.
    pub ring: Ring,
}

impl Op {
    /// The operation's line in the table.
    #[inline]
    pub fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }
}

/// Where execution goes on after an instruction, and whether a trace or a translation unit can go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// At the next instruction.
    Next,
    /// At the next instruction or a near target (Jcc): a trace goes on, and is left where the branch is
    /// taken.
    Conditional,
    /// At a near target that the instruction names, or for LOOP and JCXZ at the next instruction.
    Direct,
    /// At a near target from a register or memory.
    Indirect,
    /// At the next instruction; with a repeat prefix also at the instruction itself.
    Repeats,
    /// Anywhere, or with another mode, mapping or time of the next event: a trace ends.
    Leaves,
}

/// How an instruction accesses memory: whether it may access more after it has read some. What was read can
/// be a page-table entry that the later access marks as accessed or dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Not at all, or only once, or reads last.
    Once,
    /// More than once, reading first; an iteration counts where the instruction is repeated.
    More,
    /// As [`Memory::More`] where an operand is in memory: the other access is the stack's.
    Operand,
    /// The operand, in parts if it is wider than 32 bits.
    Wide,
    /// As [`Memory::Wide`], or an environment or all registers, where the operand has no format.
    Image,
}

/// What an instruction can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Registers and flags only. The instruction cannot fault.
    Registers,
    /// As [`Reach::Registers`] where no operand is in memory.
    Operands,
    /// More than that, or the instruction can fault by itself.
    World,
}

/// What becomes of the six arithmetic flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// None is read or written.
    Keeps,
    /// All are written and none is read.
    Writes,
    /// Some are read, or left as they were beside others that are written.
    Uses,
}

/// What ring compression (CPL 1, IOPL 0) makes of an instruction of a guest's kernel. `classify::verdict` has
/// the class and the reason for each; some depend on the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The instruction neither shows nor changes the machine's resources or its mode.
    Innocuous,
    /// Faults unless CPL is 0.
    Cpl0,
    /// Faults where CPL is greater than IOPL.
    Iopl,
    /// IN and OUT: fault where CPL is greater than IOPL and the I/O map denies the port.
    Port,
    /// INS and OUTS: as [`Ring::Port`], but with a count of 0 nothing happens.
    PortString,
    /// INT3 and INT1: the vector is an exception's.
    Exception,
    /// INTO: the vector is an exception's, where OF is set.
    Overflow,
    /// RDPMC: faults unless CR4.PCE is set.
    Counter,
    /// SYSENTER: enters ring 0.
    Enters,
    /// POPF: IF and IOPL are dropped without a fault.
    LosesFlags,
    /// IRET: IF and IOPL are dropped without a fault, and the real ring counts.
    Returns,
    /// INT n: the gate's frame shows the real CS and EFLAGS.
    Gate,
    /// SGDT.
    ShowsGdtr,
    /// SIDT.
    ShowsIdtr,
    /// SLDT.
    ShowsLdtr,
    /// STR.
    ShowsTr,
    /// SMSW.
    ShowsCr0,
    /// PUSHF: shows the real IF and IOPL.
    ShowsFlags,
    /// RDTSC.
    ShowsTime,
    /// FNSTENV, FNSAVE and FXSAVE store the CS of the last x87 instruction; other x87 instructions are
    /// innocuous.
    ShowsX87,
    /// MOV from CS or SS shows the real ring.
    ReadsSelector,
    /// PUSH of CS or SS shows the real ring.
    PushesSelector,
    /// LAR and LSL ask the real descriptors, at the real ring.
    AsksRights,
    /// VERR and VERW ask the real descriptors, at the real ring.
    AsksAccess,
    /// Loads of segment registers: checked against the real ring and descriptors.
    LoadsSelector,
    /// Far JMP: checked against the real ring and descriptors.
    JumpsFar,
    /// Far CALL: checked as a far JMP, and pushes the real CS.
    CallsFar,
    /// Far RET: the real ring tells whether the return is to an outer one.
    ReturnsFar,
    /// #UD in every mode.
    Undefined,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_the_facts_of_its_line() {
        assert_eq!(Op::ALL.len(), FACTS.len());
        for (n, &op) in Op::ALL.iter().enumerate() {
            assert_eq!(op as usize, n, "{op:?}");
        }
        assert_eq!(Op::Unbuilt.facts().ring, Ring::Undefined);
        assert_eq!(Op::Jcc.facts().flow, Flow::Conditional);
    }

    #[test]
    fn what_cannot_fault_neither_leaves_a_trace_nor_is_sensitive() {
        for &op in Op::ALL {
            let facts = op.facts();
            if facts.reach != Reach::World {
                assert_eq!(
                    (facts.flow, facts.ring, facts.memory),
                    (Flow::Next, Ring::Innocuous, Memory::Once),
                    "{op:?}"
                );
            }
        }
    }

    #[test]
    fn what_changes_the_mode_or_the_mapping_ends_a_trace() {
        // MOV from a control register changes nothing, and HLT is in the list since time goes on without it.
        for &op in Op::ALL {
            if op.facts().ring == Ring::Cpl0 && op != Op::MovFromCr {
                assert_eq!(op.facts().flow, Flow::Leaves, "{op:?}");
            }
        }
    }
}

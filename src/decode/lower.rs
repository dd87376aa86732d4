//! From iced-x86's instruction to ours, and disassembly. The one file that names iced-x86.
//!
//! Only what IA-32 had up to the Pentium II is lowered to a real operation. What iced-x86 knows beyond that
//! is [`Op::Unbuilt`]; what no processor defines is [`Op::Ud`]; both raise #UD in the guest.

use super::insn::{Cond, Insn, MAX_INSN_LEN, NO_REG, Place, Rep, SegReg};
use super::op::Op;
use super::x87::{FpuMem, FpuOp};
use crate::width::Width;
use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, Formatter, Instruction, MemorySize, Mnemonic, NasmFormatter,
    OpKind, Register,
};

/// The outcome of decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An instruction ([`Op::Ud`] for an invalid one).
    Insn(Insn),
    /// The bytes end within an instruction that could go on.
    Truncated,
    /// The instruction is longer than 15 bytes: #GP(0).
    TooLong,
}

pub(super) const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC
    | DecoderOptions::NO_MPFX_0FBD
    | DecoderOptions::FORCE_RESERVED_NOP
    | DecoderOptions::NO_WBNOINVD;

/// Decodes the instruction at the start of `bytes`; `code32` is CS.D.
pub fn decode(bytes: &[u8], code32: bool) -> Decoded {
    let bytes = &bytes[..bytes.len().min(MAX_INSN_LEN)];
    let mut decoder = Decoder::with_ip(bitness(code32), bytes, 0, OPTIONS);
    let raw = decoder.decode();
    let whole = bytes.len() == MAX_INSN_LEN;
    match decoder.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes if !whole => return Decoded::Truncated,
        _ if whole && raw.len() == MAX_INSN_LEN && runs_on(bytes, code32) => return Decoded::TooLong,
        _ => return Decoded::Insn(undefined(&raw, bytes)),
    }
    Decoded::Insn(lower(&raw, bytes, code32))
}

/// Whether fifteen bytes that iced-x86 calls invalid do not end within them: without the first prefix they
/// still ask for more. (If they end, the instruction is undefined and as long as one may be.)
fn runs_on(bytes: &[u8], code32: bool) -> bool {
    let mut decoder = Decoder::with_ip(bitness(code32), &bytes[1..], 0, OPTIONS);
    let _ = decoder.decode();
    decoder.last_error() == DecoderError::NoMoreBytes
}

/// What iced calls invalid: #UD, but for the x87 escapes, where #NM goes before it.
fn undefined(raw: &Instruction, bytes: &[u8]) -> Insn {
    let (opcode, locked) = (escape(bytes), bytes.iter().take_while(|b| is_prefix(**b)).any(|&b| b == 0xf0));
    let op = if opcode.is_some() && !locked { Op::Fpu } else { Op::Ud };
    Insn::bare(op, raw.len().max(1) as u8)
}

/// The assembly text (NASM syntax) of the instruction at the start of `bytes`, at address `eip`.
pub fn disassemble(bytes: &[u8], code32: bool, eip: u32) -> String {
    let mut decoder = Decoder::with_ip(bitness(code32), bytes, u64::from(eip), OPTIONS);
    let raw = decoder.decode();
    let mut formatter = NasmFormatter::new();
    let options = formatter.options_mut();
    options.set_branch_leading_zeros(false);
    options.set_uppercase_hex(false);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    let mut text = String::new();
    formatter.format(&raw, &mut text);
    text
}

/// The mnemonic of the instruction at the start of `bytes`, in lower case.
pub fn mnemonic(bytes: &[u8], code32: bool) -> String {
    let mut decoder = Decoder::with_ip(bitness(code32), bytes, 0, OPTIONS);
    format!("{:?}", decoder.decode().mnemonic()).to_lowercase()
}

pub(super) fn bitness(code32: bool) -> u32 {
    if code32 { 32 } else { 16 }
}

/// The operand- and address-size prefixes and the repeat prefix in force.
struct Prefixes {
    operand: bool,
    address: bool,
}

fn prefixes(bytes: &[u8]) -> Prefixes {
    let mut p = Prefixes { operand: false, address: false };
    for b in bytes {
        match b {
            0x66 => p.operand = true,
            0x67 => p.address = true,
            b if is_prefix(*b) => {}
            _ => break,
        }
    }
    p
}

fn lower(raw: &Instruction, bytes: &[u8], code32: bool) -> Insn {
    let p = prefixes(bytes);
    let osize = if code32 ^ p.operand { Width::Dword } else { Width::Word };
    let (op, cond) = operation(raw);
    let mut insn = Insn::bare(op, raw.len() as u8);
    insn.cond = cond;
    insn.lock = raw.has_lock_prefix();
    insn.rep = rep(raw);
    insn.addr_mask = if code32 ^ p.address { !0 } else { 0xffff };
    insn.width = width(raw, op, osize);
    insn.src_width = insn.width;
    place_operands(raw, &mut insn);
    adjust(raw, &mut insn);
    if op == Op::Fpu {
        adjust_x87(raw, bytes, &mut insn);
    }
    if is_mmx(raw) && (insn.dst == Place::Mem || insn.src == Place::Mem) {
        insn.fpu_mem = if raw.memory_size().size() == 4 { FpuMem::Int32 } else { FpuMem::Int64 };
    }
    insn
}

fn rep(raw: &Instruction) -> Rep {
    if raw.has_repne_prefix() {
        Rep::Until
    } else if raw.has_rep_prefix() {
        Rep::While
    } else {
        Rep::Once
    }
}

/// The operand width: byte where the form is, else as the operand-size attribute says, but for the forms
/// whose width is fixed.
fn width(raw: &Instruction, op: Op, osize: Width) -> Width {
    use Op::*;
    match op {
        MovFromCr | MovToCr | MovFromDr | MovToDr => Width::Dword,
        MovToSeg | Arpl | Lldt | Ltr | Lmsw | Verr | Verw => Width::Word,
        MovFromSeg | Sldt | Str | Smsw if raw.op0_kind() == OpKind::Memory => Width::Word,
        Setcc | Xlat | Salc | Lahf | Sahf | Aaa | Aas | Daa | Das | Aam | Aad => Width::Byte,
        Movs | Cmps | Scas | Lods | Stos | Ins | Outs => string_width(raw),
        Out => {
            if raw.op1_register() == Register::AL {
                Width::Byte
            } else {
                osize
            }
        }
        Lar | Lsl | Movzx | Movsx => osize,
        _ if is_byte_operand(raw) => Width::Byte,
        _ => osize,
    }
}

fn is_byte_operand(raw: &Instruction) -> bool {
    if raw.op_count() == 0 {
        return false;
    }
    match raw.op0_kind() {
        OpKind::Register => raw.op0_register().size() == 1,
        OpKind::Memory => raw.memory_size().size() == 1 && raw.mnemonic() != Mnemonic::Invlpg,
        _ => false,
    }
}

fn string_width(raw: &Instruction) -> Width {
    use Mnemonic::*;
    match raw.mnemonic() {
        Movsb | Cmpsb | Scasb | Lodsb | Stosb | Insb | Outsb => Width::Byte,
        Movsw | Cmpsw | Scasw | Lodsw | Stosw | Insw | Outsw => Width::Word,
        _ => Width::Dword,
    }
}

fn place_operands(raw: &Instruction, insn: &mut Insn) {
    for i in 0..raw.op_count().min(2) {
        let (place, reg) = match raw.op_kind(i) {
            OpKind::Register => (Place::Reg, number(raw.op_register(i))),
            OpKind::Memory => (Place::Mem, 0),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::FarBranch16 | OpKind::FarBranch32 => {
                (Place::Imm, 0)
            }
            kind if is_immediate(kind) => (Place::Imm, 0),
            _ => (Place::None, 0),
        };
        if i == 0 {
            (insn.dst, insn.dst_reg) = (place, reg);
        } else {
            (insn.src, insn.src_reg) = (place, reg);
        }
    }
    place_immediate(raw, insn);
    place_memory(raw, insn);
}

fn is_immediate(kind: OpKind) -> bool {
    use OpKind::*;
    matches!(kind, Immediate8 | Immediate16 | Immediate32 | Immediate8to16 | Immediate8to32 | Immediate8_2nd)
}

fn place_immediate(raw: &Instruction, insn: &mut Insn) {
    for i in 0..raw.op_count() {
        match raw.op_kind(i) {
            OpKind::NearBranch16 => {
                insn.imm = u32::from(raw.near_branch16()).wrapping_sub(raw.len() as u32);
            }
            OpKind::NearBranch32 => insn.imm = raw.near_branch32().wrapping_sub(raw.len() as u32),
            OpKind::FarBranch16 => {
                insn.imm = u32::from(raw.far_branch16());
                insn.selector = raw.far_branch_selector();
            }
            OpKind::FarBranch32 => {
                insn.imm = raw.far_branch32();
                insn.selector = raw.far_branch_selector();
            }
            OpKind::Immediate8_2nd => insn.extra = raw.immediate8_2nd(),
            kind if is_immediate(kind) => insn.imm = raw.immediate(i) as u32,
            _ => {}
        }
    }
}

fn place_memory(raw: &Instruction, insn: &mut Insn) {
    let has_memory = insn.dst == Place::Mem || insn.src == Place::Mem;
    let reg = |r| if r == Register::None { NO_REG } else { number(r) };
    if has_memory {
        insn.base = reg(raw.memory_base());
        insn.index = reg(raw.memory_index());
        insn.scale = raw.memory_index_scale().trailing_zeros() as u8;
        insn.disp = raw.memory_displacement32();
    }
    insn.seg = match raw.segment_prefix() {
        Register::None if has_memory => segment(raw.memory_segment()),
        Register::None => SegReg::Ds,
        prefix => segment(prefix),
    };
}

/// What the general placement does not cover.
fn adjust(raw: &Instruction, insn: &mut Insn) {
    use Op::*;
    match insn.op {
        Movzx | Movsx => {
            let byte = match raw.op1_kind() {
                OpKind::Register => raw.op1_register().size() == 1,
                _ => raw.memory_size().size() == 1,
            };
            insn.src_width = if byte { Width::Byte } else { Width::Word };
        }
        Lar | Lsl => insn.src_width = Width::Word,
        // A far load's first operand is a register, its segment in `extra`.
        LoadFar => insn.extra = segment(far_load_segment(raw.mnemonic())) as u8,
        // Shifts by one carry no immediate in the encoding; iced gives 1. The third operand of SHLD and SHRD
        // is an immediate or CL.
        Shld | Shrd => insn.extra = u8::from(raw.op2_kind() == OpKind::Register),
        Aam | Aad => insn.src = Place::Imm,
        Movd | Movq => insn.extra = u8::from(matches!(raw.code(), Code::Movd_rm32_mm | Code::Movq_mmm64_mm)),
        _ => {}
    }
}

fn far_load_segment(mnemonic: Mnemonic) -> Register {
    match mnemonic {
        Mnemonic::Les => Register::ES,
        Mnemonic::Lss => Register::SS,
        Mnemonic::Lfs => Register::FS,
        Mnemonic::Lgs => Register::GS,
        _ => Register::DS,
    }
}

fn segment(r: Register) -> SegReg {
    match r {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => SegReg::Ds,
    }
}

/// A register's number within its class.
fn number(r: Register) -> u8 {
    // iced numbers AL CL DL BL AH CH DH BH in the machine's order.
    r.number() as u8
}

fn operation(raw: &Instruction) -> (Op, Cond) {
    use Mnemonic as M;
    let plain = |op| (op, Cond::O);
    match raw.mnemonic() {
        M::Jo => (Op::Jcc, Cond::O),
        M::Jno => (Op::Jcc, Cond::No),
        M::Jb => (Op::Jcc, Cond::B),
        M::Jae => (Op::Jcc, Cond::Ae),
        M::Je => (Op::Jcc, Cond::E),
        M::Jne => (Op::Jcc, Cond::Ne),
        M::Jbe => (Op::Jcc, Cond::Be),
        M::Ja => (Op::Jcc, Cond::A),
        M::Js => (Op::Jcc, Cond::S),
        M::Jns => (Op::Jcc, Cond::Ns),
        M::Jp => (Op::Jcc, Cond::P),
        M::Jnp => (Op::Jcc, Cond::Np),
        M::Jl => (Op::Jcc, Cond::L),
        M::Jge => (Op::Jcc, Cond::Ge),
        M::Jle => (Op::Jcc, Cond::Le),
        M::Jg => (Op::Jcc, Cond::G),
        M::Seto => (Op::Setcc, Cond::O),
        M::Setno => (Op::Setcc, Cond::No),
        M::Setb => (Op::Setcc, Cond::B),
        M::Setae => (Op::Setcc, Cond::Ae),
        M::Sete => (Op::Setcc, Cond::E),
        M::Setne => (Op::Setcc, Cond::Ne),
        M::Setbe => (Op::Setcc, Cond::Be),
        M::Seta => (Op::Setcc, Cond::A),
        M::Sets => (Op::Setcc, Cond::S),
        M::Setns => (Op::Setcc, Cond::Ns),
        M::Setp => (Op::Setcc, Cond::P),
        M::Setnp => (Op::Setcc, Cond::Np),
        M::Setl => (Op::Setcc, Cond::L),
        M::Setge => (Op::Setcc, Cond::Ge),
        M::Setle => (Op::Setcc, Cond::Le),
        M::Setg => (Op::Setcc, Cond::G),
        M::Fcmovb => (Op::Fpu, Cond::B),
        M::Fcmove => (Op::Fpu, Cond::E),
        M::Fcmovbe => (Op::Fpu, Cond::Be),
        M::Fcmovu => (Op::Fpu, Cond::P),
        M::Fcmovnb => (Op::Fpu, Cond::Ae),
        M::Fcmovne => (Op::Fpu, Cond::Ne),
        M::Fcmovnbe => (Op::Fpu, Cond::A),
        M::Fcmovnu => (Op::Fpu, Cond::Np),
        M::Cmovo => (Op::Cmov, Cond::O),
        M::Cmovno => (Op::Cmov, Cond::No),
        M::Cmovb => (Op::Cmov, Cond::B),
        M::Cmovae => (Op::Cmov, Cond::Ae),
        M::Cmove => (Op::Cmov, Cond::E),
        M::Cmovne => (Op::Cmov, Cond::Ne),
        M::Cmovbe => (Op::Cmov, Cond::Be),
        M::Cmova => (Op::Cmov, Cond::A),
        M::Cmovs => (Op::Cmov, Cond::S),
        M::Cmovns => (Op::Cmov, Cond::Ns),
        M::Cmovp => (Op::Cmov, Cond::P),
        M::Cmovnp => (Op::Cmov, Cond::Np),
        M::Cmovl => (Op::Cmov, Cond::L),
        M::Cmovge => (Op::Cmov, Cond::Ge),
        M::Cmovle => (Op::Cmov, Cond::Le),
        M::Cmovg => (Op::Cmov, Cond::G),
        _ => plain(unconditional(raw)),
    }
}

#[rustfmt::skip]
fn unconditional(raw: &Instruction) -> Op {
    use Mnemonic as M;
    use Op::*;
    match raw.mnemonic() {
        M::Mov => moves(raw),
        M::Movzx => Movzx, M::Movsx => Movsx, M::Lea => Lea, M::Xchg => Xchg, M::Bswap => Bswap,
        M::Xlatb => Xlat, M::Lahf => Lahf, M::Sahf => Sahf, M::Salc => Salc,
        M::Cbw | M::Cwde => Cbw, M::Cwd | M::Cdq => Cwd,
        M::Nop | M::Reservednop => Nop,
        M::Pause => Pause,
        M::Add => Add, M::Or => Or, M::Adc => Adc, M::Sbb => Sbb, M::And => And, M::Sub => Sub, M::Xor => Xor,
        M::Cmp => Cmp, M::Test => Test, M::Inc => Inc, M::Dec => Dec, M::Neg => Neg, M::Not => Not,
        M::Xadd => Xadd, M::Cmpxchg => Cmpxchg, M::Cmpxchg8b => Cmpxchg8b,
        M::Rol => Rol, M::Ror => Ror, M::Rcl => Rcl, M::Rcr => Rcr, M::Shl | M::Sal => Shl, M::Shr => Shr,
        M::Sar => Sar, M::Shld => Shld, M::Shrd => Shrd,
        M::Mul => Mul, M::Div => Div, M::Idiv => Idiv,
        M::Imul => match raw.op_count() { 1 => Imul, 2 => Imul2, _ => Imul3 },
        M::Aaa => Aaa, M::Aas => Aas, M::Daa => Daa, M::Das => Das, M::Aam => Aam, M::Aad => Aad,
        M::Bt => Bt, M::Bts => Bts, M::Btr => Btr, M::Btc => Btc, M::Bsf => Bsf, M::Bsr => Bsr,
        M::Clc => Clc, M::Stc => Stc, M::Cmc => Cmc, M::Cld => Cld, M::Std => Std, M::Cli => Cli, M::Sti => Sti,
        M::Movsb | M::Movsw => Movs,
        M::Movsd if is_string(raw) => Movs,
        M::Cmpsb | M::Cmpsw => Cmps,
        M::Cmpsd if is_string(raw) => Cmps,
        M::Scasb | M::Scasw | M::Scasd => Scas,
        M::Lodsb | M::Lodsw | M::Lodsd => Lods,
        M::Stosb | M::Stosw | M::Stosd => Stos,
        M::Insb | M::Insw | M::Insd => Ins,
        M::Outsb | M::Outsw | M::Outsd => Outs,
        M::Push => if raw.op0_kind() == OpKind::Register && raw.op0_register().is_segment_register() { PushSeg }
                   else { Push },
        M::Pop => if raw.op0_kind() == OpKind::Register && raw.op0_register().is_segment_register() { PopSeg }
                  else { Pop },
        M::Pusha | M::Pushad => Pusha, M::Popa | M::Popad => Popa,
        M::Pushf | M::Pushfd => Pushf, M::Popf | M::Popfd => Popf,
        M::Enter => Enter, M::Leave => Leave,
        M::Jmp => jumps(raw, Jmp, JmpInd, JmpFar, JmpFarMem),
        M::Call => jumps(raw, Call, CallInd, CallFar, CallFarMem),
        M::Ret => Ret, M::Retf => Retf,
        M::Loop => Loop, M::Loope => Loope, M::Loopne => Loopne, M::Jcxz | M::Jecxz => Jcxz,
        M::Iret | M::Iretd => Iret,
        M::Int => Int, M::Int3 => Int3, M::Into => Into, M::Int1 => Int1, M::Bound => Bound,
        M::Sysenter => Sysenter, M::Sysexit => Sysexit,
        M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => LoadFar,
        M::Arpl => Arpl, M::Lar => Lar, M::Lsl => Lsl, M::Verr => Verr, M::Verw => Verw,
        M::Hlt => Hlt, M::Lgdt => Lgdt, M::Lidt => Lidt, M::Sgdt => Sgdt, M::Sidt => Sidt,
        M::Lldt => Lldt, M::Ltr => Ltr, M::Sldt => Sldt, M::Str => Str, M::Lmsw => Lmsw, M::Smsw => Smsw,
        M::Clts => Clts, M::Invd => Invd, M::Wbinvd => Wbinvd, M::Invlpg => Invlpg,
        M::Cpuid => Cpuid, M::Rdtsc => Rdtsc, M::Rdpmc => Rdpmc, M::Rdmsr => Rdmsr, M::Wrmsr => Wrmsr,
        M::In => In, M::Out => Out,
        M::Vmxon => Vmxon, M::Vmxoff => Vmxoff, M::Vmclear => Vmclear, M::Vmptrld => Vmptrld,
        M::Vmptrst => Vmptrst, M::Vmread => Vmread, M::Vmwrite => Vmwrite, M::Vmlaunch => Vmlaunch,
        M::Vmresume => Vmresume, M::Vmcall => Vmcall, M::Invept => Invept, M::Invvpid => Invvpid,
        M::Ud0 | M::Ud1 | M::Ud2 => Ud,
        _ if is_mmx(raw) => mmx(raw),
        _ if x87(raw).0 != FpuOp::Undefined => Fpu,
        _ => Unbuilt,
    }
}

fn is_string(raw: &Instruction) -> bool {
    matches!(raw.code(), Code::Movsd_m32_m32 | Code::Cmpsd_m32_m32)
}

/// Whether an operand is an MMX register, or it is EMMS.
fn is_mmx(raw: &Instruction) -> bool {
    let register = |n| raw.op_kind(n) == OpKind::Register && raw.op_register(n).is_mm();
    raw.mnemonic() == Mnemonic::Emms || (0..raw.op_count()).any(register)
}

/// The MMX operation. What SSE and its successors added to the MMX registers is not built.
#[rustfmt::skip]
fn mmx(raw: &Instruction) -> Op {
    use Mnemonic as M;
    use Op::*;
    match raw.code() {
        Code::Movd_mm_rm32 | Code::Movd_rm32_mm => return Movd,
        Code::Movq_mm_mmm64 | Code::Movq_mmm64_mm => return Movq,
        _ => {}
    }
    match raw.mnemonic() {
        M::Emms => Emms, M::Paddb => Paddb, M::Paddw => Paddw, M::Paddd => Paddd, M::Paddsb => Paddsb,
        M::Paddsw => Paddsw, M::Paddusb => Paddusb, M::Paddusw => Paddusw, M::Psubb => Psubb, M::Psubw => Psubw,
        M::Psubd => Psubd, M::Psubsb => Psubsb, M::Psubsw => Psubsw, M::Psubusb => Psubusb,
        M::Psubusw => Psubusw, M::Pmullw => Pmullw, M::Pmulhw => Pmulhw, M::Pmaddwd => Pmaddwd,
        M::Pcmpeqb => Pcmpeqb, M::Pcmpeqw => Pcmpeqw, M::Pcmpeqd => Pcmpeqd, M::Pcmpgtb => Pcmpgtb,
        M::Pcmpgtw => Pcmpgtw, M::Pcmpgtd => Pcmpgtd, M::Packsswb => Packsswb, M::Packssdw => Packssdw,
        M::Packuswb => Packuswb, M::Punpckhbw => Punpckhbw, M::Punpckhwd => Punpckhwd,
        M::Punpckhdq => Punpckhdq, M::Punpcklbw => Punpcklbw, M::Punpcklwd => Punpcklwd,
        M::Punpckldq => Punpckldq, M::Pand => Pand, M::Pandn => Pandn, M::Por => Por, M::Pxor => Pxor,
        M::Psllw => Psllw, M::Pslld => Pslld, M::Psllq => Psllq, M::Psrlw => Psrlw, M::Psrld => Psrld,
        M::Psrlq => Psrlq, M::Psraw => Psraw, M::Psrad => Psrad,
        _ => Unbuilt,
    }
}

/// The x87 operation, and how often it pops.
#[rustfmt::skip]
fn x87(raw: &Instruction) -> (FpuOp, u8) {
    use FpuOp::*;
    use Mnemonic as M;
    match raw.mnemonic() {
        M::Fld | M::Fild | M::Fbld => (Fld, 0),
        M::Fst | M::Fist => (Fst, 0),
        M::Fstp | M::Fistp | M::Fbstp | M::Fstpnce => (Fst, 1),
        M::Fxch => (Fxch, 0),
        M::Fcmovb | M::Fcmove | M::Fcmovbe | M::Fcmovu | M::Fcmovnb | M::Fcmovne | M::Fcmovnbe | M::Fcmovnu
            => (Fcmov, 0),
        M::Fld1 => (Fld1, 0), M::Fldl2t => (Fldl2t, 0), M::Fldl2e => (Fldl2e, 0), M::Fldpi => (Fldpi, 0),
        M::Fldlg2 => (Fldlg2, 0), M::Fldln2 => (Fldln2, 0), M::Fldz => (Fldz, 0),
        M::Fadd | M::Fiadd => (Fadd, 0), M::Faddp => (Fadd, 1),
        M::Fmul | M::Fimul => (Fmul, 0), M::Fmulp => (Fmul, 1),
        M::Fsub | M::Fisub => (Fsub, 0), M::Fsubp => (Fsub, 1),
        M::Fsubr | M::Fisubr => (Fsubr, 0), M::Fsubrp => (Fsubr, 1),
        M::Fdiv | M::Fidiv => (Fdiv, 0), M::Fdivp => (Fdiv, 1),
        M::Fdivr | M::Fidivr => (Fdivr, 0), M::Fdivrp => (Fdivr, 1),
        M::Fchs => (Fchs, 0), M::Fabs => (Fabs, 0), M::Fsqrt => (Fsqrt, 0), M::Frndint => (Frndint, 0),
        M::Fscale => (Fscale, 0), M::Fxtract => (Fxtract, 0), M::Fprem => (Fprem, 0), M::Fprem1 => (Fprem1, 0),
        M::Fcom | M::Ficom => (Fcom, 0), M::Fcomp | M::Ficomp => (Fcom, 1), M::Fcompp => (Fcom, 2),
        M::Fucom => (Fucom, 0), M::Fucomp => (Fucom, 1), M::Fucompp => (Fucom, 2),
        M::Fcomi => (Fcomi, 0), M::Fcomip => (Fcomi, 1), M::Fucomi => (Fucomi, 0), M::Fucomip => (Fucomi, 1),
        M::Ftst => (Ftst, 0), M::Fxam => (Fxam, 0),
        M::F2xm1 => (F2xm1, 0), M::Fyl2x => (Fyl2x, 0), M::Fyl2xp1 => (Fyl2xp1, 0),
        M::Fptan => (Fptan, 0), M::Fpatan => (Fpatan, 0),
        M::Fsin => (Fsin, 0), M::Fcos => (Fcos, 0), M::Fsincos => (Fsincos, 0),
        M::Fincstp => (Fincstp, 0), M::Fdecstp => (Fdecstp, 0), M::Ffree => (Ffree, 0), M::Ffreep => (Ffree, 1),
        M::Fnop => (Fnop, 0), M::Wait => (Wait, 0),
        M::Fninit => (Fninit, 0), M::Fnclex => (Fnclex, 0), M::Fldcw => (Fldcw, 0), M::Fnstcw => (Fnstcw, 0),
        M::Fnstsw => (Fnstsw, 0), M::Fnstenv => (Fnstenv, 0), M::Fldenv => (Fldenv, 0),
        M::Fnsave => (Fnsave, 0), M::Frstor => (Frstor, 0), M::Fxsave => (Fxsave, 0), M::Fxrstor => (Fxrstor, 0),
        M::Fneni | M::Fndisi | M::Fnsetpm => (Obsolete, 0),
        _ => (Undefined, 0),
    }
}

fn x87_memory(raw: &Instruction) -> FpuMem {
    if raw.op_count() == 0 || raw.op0_kind() != OpKind::Memory {
        return FpuMem::None;
    }
    match raw.memory_size() {
        MemorySize::Int16 => FpuMem::Int16,
        MemorySize::Int32 => FpuMem::Int32,
        MemorySize::Int64 => FpuMem::Int64,
        MemorySize::Float32 => FpuMem::Real32,
        MemorySize::Float64 => FpuMem::Real64,
        MemorySize::Float80 => FpuMem::Real80,
        MemorySize::Bcd => FpuMem::Bcd,
        _ => FpuMem::None,
    }
}

fn adjust_x87(raw: &Instruction, bytes: &[u8], insn: &mut Insn) {
    (insn.fpu, insn.extra) = x87(raw);
    insn.fpu_mem = x87_memory(raw);
    insn.selector = escape(bytes).unwrap_or(0);
    // FCOMPP and FUCOMPP do not name their operand.
    if matches!(insn.fpu, FpuOp::Fcom | FpuOp::Fucom) && raw.op_count() == 0 {
        insn.src_reg = 1;
    }
}

/// The opcode as FOP holds it, of an instruction whose opcode byte is D8-DF.
fn escape(bytes: &[u8]) -> Option<u16> {
    let at = bytes.iter().position(|b| !is_prefix(*b))?;
    let (first, second) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    (first & 0xf8 == 0xd8).then_some(u16::from(first & 7) << 8 | u16::from(second))
}

fn is_prefix(b: u8) -> bool {
    matches!(b, 0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3)
}

fn jumps(raw: &Instruction, near: Op, indirect: Op, far: Op, far_memory: Op) -> Op {
    match raw.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 => near,
        OpKind::FarBranch16 | OpKind::FarBranch32 => far,
        _ => match raw.code() {
            Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Call_m1616 | Code::Call_m1632 => far_memory,
            _ => indirect,
        },
    }
}

fn moves(raw: &Instruction) -> Op {
    let class = |i| match raw.op_kind(i) {
        OpKind::Register => raw.op_register(i),
        _ => Register::None,
    };
    let (dst, src) = (class(0), class(1));
    if dst.is_segment_register() {
        Op::MovToSeg
    } else if src.is_segment_register() {
        Op::MovFromSeg
    } else if dst.is_cr() {
        if valid_control(dst) { Op::MovToCr } else { Op::Ud }
    } else if src.is_cr() {
        if valid_control(src) { Op::MovFromCr } else { Op::Ud }
    } else if dst.is_dr() {
        Op::MovToDr
    } else if src.is_dr() {
        Op::MovFromDr
    } else if dst.is_tr() || src.is_tr() {
        Op::Ud
    } else {
        Op::Mov
    }
}

fn valid_control(r: Register) -> bool {
    matches!(r, Register::CR0 | Register::CR2 | Register::CR3 | Register::CR4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(bytes: &[u8], code32: bool) -> Insn {
        match decode(bytes, code32) {
            Decoded::Insn(i) => i,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn widths_follow_the_form_and_the_prefix() {
        assert_eq!(insn(&[0x00, 0xc8], true).width, Width::Byte);
        assert_eq!(insn(&[0x01, 0xc8], true).width, Width::Dword);
        assert_eq!(insn(&[0x66, 0x01, 0xc8], true).width, Width::Word);
        assert_eq!(insn(&[0x01, 0xc8], false).width, Width::Word);
        assert_eq!(insn(&[0x0f, 0x20, 0xc0], false).width, Width::Dword);
        assert_eq!(insn(&[0xee], true).width, Width::Byte);
        assert_eq!(insn(&[0xf3, 0xa4], true).rep, Rep::While);
        assert_eq!(insn(&[0xa7], true).width, Width::Dword);
    }

    #[test]
    fn byte_registers_are_numbered_as_in_modrm() {
        let i = insn(&[0x88, 0xe1], true); // mov cl, ah
        assert_eq!((i.dst_reg, i.src_reg), (1, 4));
    }

    #[test]
    fn branches_are_relative_to_the_next_instruction() {
        assert_eq!(insn(&[0xeb, 0xfe], true).imm, !0 - 1);
        assert_eq!(insn(&[0xe8, 0x10, 0, 0, 0], true).imm, 0x10);
        assert_eq!(insn(&[0xeb, 0xfe], false).imm & 0xffff, 0xfffe);
    }

    #[test]
    fn fifteen_bytes_are_the_limit() {
        let mut long = vec![0x66; 14];
        long.push(0x90);
        assert!(matches!(decode(&long, true), Decoded::Insn(_)));
        long.insert(0, 0x66);
        assert_eq!(decode(&long, true), Decoded::TooLong);
        assert_eq!(decode(&[0x66], true), Decoded::Truncated);
    }

    #[test]
    fn a_lock_prefix_is_undefined_where_the_manual_forbids_it() {
        assert_eq!(insn(&[0xf0, 0x01, 0xc8], true).op, Op::Ud);
        assert_eq!(insn(&[0xf0, 0x01, 0x08], true).op, Op::Add);
        assert_eq!(insn(&[0xf0, 0x89, 0x08], true).op, Op::Ud);
    }

    #[test]
    fn later_instructions_are_unbuilt() {
        assert_eq!(insn(&[0x0f, 0x28, 0xc1], true).op, Op::Unbuilt); // movaps
        assert_eq!(insn(&[0x0f, 0xda, 0xc1], true).op, Op::Unbuilt); // pminub mm0,mm1: SSE
        assert_eq!(insn(&[0x66, 0x0f, 0xfc, 0xc1], true).op, Op::Unbuilt); // paddb xmm0,xmm1
        assert_eq!(insn(&[0x0f, 0x0b], true).op, Op::Ud);
        assert_eq!(insn(&[0x0f, 0x1f, 0x00], true).op, Op::Nop);
        assert_eq!(insn(&[0xf3, 0x0f, 0xbc, 0xc1], true).op, Op::Bsf);
    }

    #[test]
    fn x87_forms_are_told_by_operand_and_pops() {
        let x = |bytes: &[u8]| {
            let i = insn(bytes, true);
            assert_eq!(i.op, Op::Fpu);
            (i.fpu, i.fpu_mem, i.extra, i.dst_reg, i.src_reg)
        };
        assert_eq!(x(&[0xd9, 0xe8]), (FpuOp::Fld1, FpuMem::None, 0, 0, 0));
        assert_eq!(x(&[0xdc, 0xeb]), (FpuOp::Fsub, FpuMem::None, 0, 3, 0)); // fsub st3,st0
        assert_eq!(x(&[0xde, 0xc2]), (FpuOp::Fadd, FpuMem::None, 1, 2, 0)); // faddp st2,st0
        assert_eq!(x(&[0xd8, 0xd5]), (FpuOp::Fcom, FpuMem::None, 0, 0, 5)); // fcom st0,st5
        assert_eq!(x(&[0xde, 0xd9]), (FpuOp::Fcom, FpuMem::None, 2, 0, 1)); // fcompp
        assert_eq!(x(&[0xd9, 0xc3]), (FpuOp::Fld, FpuMem::None, 0, 3, 0)); // fld st3
        assert_eq!(x(&[0xdf, 0x30]), (FpuOp::Fst, FpuMem::Bcd, 1, 0, 0)); // fbstp [eax]
        assert_eq!(x(&[0xde, 0x00]), (FpuOp::Fadd, FpuMem::Int16, 0, 0, 0)); // fiadd word [eax]
        assert_eq!(insn(&[0x66, 0xdc, 0x00], true).selector, 0x400);
        assert_eq!(x(&[0xd9, 0xd1]).0, FpuOp::Undefined);
        assert_eq!(insn(&[0xf0, 0xd9, 0xe8], true).op, Op::Ud);
    }

    #[test]
    fn mmx_forms_are_told_by_their_registers() {
        let x = |bytes: &[u8]| {
            let i = insn(bytes, true);
            (i.op, i.extra, i.fpu_mem, i.dst, i.dst_reg, i.src, i.src_reg)
        };
        let (reg, mem, imm) = (Place::Reg, Place::Mem, Place::Imm);
        assert_eq!(x(&[0x0f, 0x6e, 0xd3]), (Op::Movd, 0, FpuMem::None, reg, 2, reg, 3)); // movd mm2,ebx
        assert_eq!(x(&[0x0f, 0x7e, 0xd3]), (Op::Movd, 1, FpuMem::None, reg, 3, reg, 2)); // movd ebx,mm2
        assert_eq!(x(&[0x0f, 0x7f, 0x10]), (Op::Movq, 1, FpuMem::Int64, mem, 0, reg, 2)); // movq [eax],mm2
        assert_eq!(x(&[0x0f, 0x60, 0x10]), (Op::Punpcklbw, 0, FpuMem::Int32, reg, 2, mem, 0));
        assert_eq!(x(&[0x0f, 0x71, 0xe5, 3]), (Op::Psraw, 0, FpuMem::None, reg, 5, imm, 0)); // psraw mm5,3
        assert_eq!(insn(&[0x0f, 0x77], true).op, Op::Emms);
        assert_eq!(insn(&[0xf0, 0x0f, 0xfc, 0x00], true).op, Op::Ud);
    }

    #[test]
    fn segments_default_by_base_register() {
        assert_eq!(insn(&[0x8b, 0x45, 0x04], true).seg, SegReg::Ss); // mov eax,[ebp+4]
        assert_eq!(insn(&[0x64, 0x8b, 0x00], true).seg, SegReg::Fs);
        assert_eq!(insn(&[0x2e, 0xac], true).seg, SegReg::Cs); // cs lodsb
    }
}

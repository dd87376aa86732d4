//! From a unit of the guest's code to code for the host: instructions are carried over one by one, with the registers and the
//! flags of the same names, and memory operands moved into the window. What is outside of the subset ends the code.
//!
//! A unit's code charges the clock for all of the unit, once, and leaves if too little time is left: in front of an
//! instruction that writes all flags and can do nothing else but change registers, so that the charge may destroy them; where
//! there is none, at the start, with the flags saved in R8. There is always time for one more unit: the backend's margin.

use super::host::LEAVE;
use crate::decode::op::Flags;
use crate::decode::{Insn, Op, Place};
use crate::translate::backend::Whole;
use crate::translate::plan::{SIDE_EXITS, Step, Tail};
use crate::width::Width;
use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, IcedError, Instruction, MemoryOperand, OpKind, Register,
};

/// How memory operands reach the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The operand as it is, with 32-bit registers (a prefix, 67h) and GS, whose base is the window's.
    Gs,
    /// R14, the window's base, and a register that holds the zero-extended address; computed first unless the operand has no
    /// more than a base register and a displacement.
    Base,
}

/// Where code leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Through this way out, to this EIP.
    Way(usize, u32),
    /// So many instructions of the body are done, and so many ticks are charged.
    At(u8, u8),
}

/// Where an instruction of the body starts: what a fault in it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) at: u64,
    pub(super) done: u8,
    pub(super) charged: u8,
}

/// A way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The displacement of the branch that takes it.
    pub(super) site: u64,
    /// Where that leads as long as it is not linked.
    pub(super) unlinked: u64,
    /// EIP there.
    pub(super) eip: u32,
}

/// The code of a unit.
pub(super) struct Emitted {
    pub(super) code: Vec<u8>,
    pub(super) sites: Vec<Site>,
    /// The exits, which are numbered from the first that was asked for.
    pub(super) exits: Vec<Exit>,
    pub(super) ways: [Option<Way>; 2 + SIDE_EXITS],
    /// The flags are saved around the charge.
    pub(super) saves_flags: bool,
}

/// A branch in the making.
enum Branch {
    /// Jcc, by the number of its condition.
    If(u8),
    /// JMP.
    Always,
}

/// The code for `unit`, to run at `start`, with its exits numbered from `first`; `None` if nothing of it is in the subset.
pub(super) fn emit(unit: &Whole<'_>, addressing: Addressing, start: u64, first: u32) -> Option<Emitted> {
    let carried = carried_over(unit, addressing);
    let steps = &unit.plan.body;
    let whole = carried.len() == steps.len();
    let tail = if whole { Ending::of(unit, addressing) } else { None };
    if carried.is_empty() && tail.is_none() {
        return None;
    }
    let mut asm = Assembler::new(start, first);
    let side_exit = steps[..carried.len()].iter().position(|step| step.side_exit.is_some());
    let charge = unit.plan.count();
    // Without a way out there is nothing to charge for: what comes next is not generated code.
    let place = if tail.is_some() || side_exit.is_some() {
        let free =
            steps[..side_exit.unwrap_or(carried.len())].iter().position(|step| kills_flags(&step.insn));
        Some(free.ok_or(0usize))
    } else {
        None
    };
    let (mut charged, mut eip) = (0, unit.eip);
    let mut short = None;
    if place == Some(Err(0)) {
        short = Some(asm.charge_with_flags(charge)?);
        charged = charge;
    }
    for (n, (step, code)) in steps.iter().zip(&carried).enumerate() {
        let done = n as u8;
        if place == Some(Ok(n)) {
            asm.sub_left(charge)?;
            short = Some((asm.branch(Branch::If(8))?, done, false));
            charged = charge;
        }
        eip = eip.wrapping_add(u32::from(step.insn.len));
        match step.side_exit {
            Some(exit) => {
                let site = asm.branch(Branch::If(step.insn.cond as u8))?;
                let target = eip.wrapping_add(step.insn.imm);
                asm.side_exits.push((2 + usize::from(exit), site, target, charged - (done + 1)));
            }
            None => {
                asm.sites.push(Site { at: asm.here(), done, charged });
                asm.code.extend_from_slice(code);
            }
        }
    }
    match tail {
        None => asm.exit(Exit::At(carried.len() as u8, charged))?,
        Some(ending) => {
            let end = eip.wrapping_add(unit.plan.last.map_or(0, |i| u32::from(i.len)));
            asm.sites.push(Site { at: asm.here(), done: carried.len() as u8, charged });
            asm.ending(ending, end)?;
        }
    }
    if let Some((site, done, saved)) = short {
        asm.land(site);
        if saved {
            asm.restore_flags()?;
        }
        asm.exit(Exit::At(done, charge))?;
    }
    asm.finish_side_exits()?;
    let saves_flags = place == Some(Err(0));
    Some(Emitted { code: asm.code, sites: asm.sites, exits: asm.exits, ways: asm.ways, saves_flags })
}

/// The host's code for each instruction of the body, up to the first that is outside of the subset; none for a Jcc.
fn carried_over(unit: &Whole<'_>, addressing: Addressing) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(32, unit.code, DecoderOptions::NO_PAUSE);
    let mut carried = Vec::new();
    for step in &unit.plan.body {
        let raw = decoder.decode();
        let code = if !unit.code32 || raw.len() != usize::from(step.insn.len) {
            None
        } else if step.side_exit.is_some() {
            (step.insn.width == Width::Dword).then(Vec::new)
        } else {
            carry_over(step, &raw, addressing)
        };
        match code {
            Some(code) => carried.push(code),
            None => break,
        }
    }
    carried
}

/// Whether an instruction writes all arithmetic flags, reads none, and reaches registers only.
fn kills_flags(i: &Insn) -> bool {
    i.op.facts().flags == Flags::Writes && !i.has_memory_operand()
}

/// Whether an instruction is in the subset: what leaves no flag undefined, and is not locked or repeated.
fn in_subset(i: &Insn) -> bool {
    use Op::*;
    let registers = i.dst != Place::Mem && i.src != Place::Mem;
    let simple = matches!(
        i.op,
        Mov | Movzx
            | Movsx
            | Lea
            | Bswap
            | Cmov
            | Setcc
            | Cbw
            | Cwd
            | Nop
            | Add
            | Or
            | Adc
            | Sbb
            | And
            | Sub
            | Xor
            | Cmp
            | Test
            | Inc
            | Dec
            | Neg
            | Not
            | Clc
            | Stc
            | Cmc
    );
    // XCHG with memory is locked.
    let stack = matches!(i.op, Push | Pop | Leave) && i.width == Width::Dword;
    !i.lock && (simple || stack || i.op == Xchg && registers)
}

/// The host's code for an instruction of the guest's.
fn carry_over(step: &Step, raw: &Instruction, addressing: Addressing) -> Option<Vec<u8>> {
    let i = &step.insn;
    if !in_subset(i) {
        return None;
    }
    let mut out = Sequence { addressing, insns: Vec::new() };
    match i.op {
        Op::Nop => {}
        Op::Push => out.push(raw)?,
        Op::Pop => out.pop(raw)?,
        Op::Leave => out.leave()?,
        _ => out.moved(raw, i.op == Op::Lea)?,
    }
    out.encode()
}

/// The host's instructions for one of the guest's.
struct Sequence {
    addressing: Addressing,
    insns: Vec<Instruction>,
}

/// The guest's stack pointer, as it is and as part of a 64-bit address.
const ESP: Register = Register::R12D;
const RSP: Register = Register::R12;
/// The scratch register.
const TEMP: Register = Register::R8D;

impl Sequence {
    fn encode(&self) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(64);
        for i in &self.insns {
            // None of them depends on where it is.
            encoder.encode(i, 0).ok()?;
        }
        Some(encoder.take_buffer())
    }

    fn add(&mut self, i: Result<Instruction, IcedError>) -> Option<()> {
        self.insns.push(i.ok()?);
        Some(())
    }

    /// The dword in the window at a register and a displacement.
    fn stack(&self, base: Register, disp: i64) -> MemoryOperand {
        match self.addressing {
            Addressing::Gs => MemoryOperand::new(base, Register::None, 1, disp, 1, false, Register::GS),
            Addressing::Base => {
                MemoryOperand::new(Register::R14, base.full_register(), 1, disp, 1, false, Register::None)
            }
        }
    }

    /// ESP moves; no flag does.
    fn move_stack(&mut self, by: i64) -> Option<()> {
        self.add(Instruction::with2(Code::Lea_r32_m, ESP, MemoryOperand::with_base_displ(RSP, by)))
    }

    fn push(&mut self, raw: &Instruction) -> Option<()> {
        let top = self.stack(ESP, -4);
        match raw.op0_kind() {
            OpKind::Register => {
                self.add(Instruction::with2(Code::Mov_rm32_r32, top, general(raw.op0_register())?))?
            }
            OpKind::Memory => {
                let mut load = Instruction::with2(Code::Mov_r32_rm32, TEMP, top).ok()?;
                copy_memory(raw, &mut load);
                self.moved(&load, false)?;
                self.add(Instruction::with2(Code::Mov_rm32_r32, top, TEMP))?;
            }
            _ => self.add(Instruction::with2(Code::Mov_rm32_imm32, top, raw.immediate(0) as i32))?,
        }
        self.move_stack(-4)
    }

    fn pop(&mut self, raw: &Instruction) -> Option<()> {
        if raw.op0_kind() != OpKind::Register {
            return None;
        }
        let (to, top) = (general(raw.op0_register())?, self.stack(ESP, 0));
        self.add(Instruction::with2(Code::Mov_r32_rm32, to, top))?;
        if to == ESP { Some(()) } else { self.move_stack(4) }
    }

    fn leave(&mut self) -> Option<()> {
        let top = self.stack(Register::EBP, 0);
        self.add(Instruction::with2(Code::Mov_r32_rm32, TEMP, top))?;
        self.add(Instruction::with2(Code::Lea_r32_m, ESP, MemoryOperand::with_base_displ(Register::RBP, 4)))?;
        self.add(Instruction::with2(Code::Mov_r32_rm32, Register::EBP, TEMP))
    }

    /// The same instruction, its registers the host's, its memory operand in the window; with `lea`, only computed.
    fn moved(&mut self, raw: &Instruction, lea: bool) -> Option<()> {
        let mut host = *raw;
        host.set_code(host_form(raw.code()));
        let mut memory = false;
        for n in 0..host.op_count() {
            match host.op_kind(n) {
                OpKind::Register => host.set_op_register(n, general(host.op_register(n))?),
                OpKind::Memory => memory = true,
                _ => {}
            }
        }
        if memory {
            self.place(&mut host, lea)?;
        }
        self.insns.push(host);
        Some(())
    }

    /// Moves the memory operand of `host`, whose segment is flat.
    fn place(&mut self, host: &mut Instruction, lea: bool) -> Option<()> {
        let narrow = |r: Register| r.is_gpr16();
        let (base, index) = (host.memory_base(), host.memory_index());
        let flat = matches!(host.memory_segment(), Register::DS | Register::ES | Register::SS);
        if narrow(base) || narrow(index) || host.memory_displ_size() == 2 || !(flat || lea) {
            return None;
        }
        let (base, index) = (address_register(base), address_register(index));
        let disp = host.memory_displacement32();
        host.set_segment_prefix(Register::None);
        if self.addressing == Addressing::Gs && !lea {
            host.set_memory_base(base);
            host.set_memory_index(index);
            host.set_segment_prefix(Register::GS);
            if base == Register::None && index == Register::None {
                host.set_memory_displ_size(4);
            }
            return Some(());
        }
        let wide = |r: Register| if r == Register::None { r } else { r.full_register() };
        let (base, index, scale) = (wide(base), wide(index), host.memory_index_scale());
        let offset = i64::from(disp as i32);
        let simple = index == Register::None || base == Register::None && scale == 1;
        let one = if base == Register::None { index } else { base };
        let (base, index, scale, offset) = if lea {
            (base, index, scale, offset)
        } else if simple && (one != Register::None || offset >= 0) {
            (Register::R14, one, 1, offset)
        } else {
            if one == Register::None {
                self.add(Instruction::with2(Code::Mov_r32_imm32, TEMP, disp))?;
            } else {
                let address =
                    MemoryOperand::new(base, index, scale, offset, displ_size(offset), false, Register::None);
                self.add(Instruction::with2(Code::Lea_r32_m, TEMP, address))?;
            }
            (Register::R14, Register::R8, 1, 0)
        };
        host.set_memory_base(base);
        host.set_memory_index(index);
        host.set_memory_index_scale(scale);
        host.set_memory_displacement64(offset as u64);
        let absolute = base == Register::None && index == Register::None;
        host.set_memory_displ_size(if absolute { 8 } else { displ_size(offset) });
        Some(())
    }
}

/// None, or as small as it can be.
fn displ_size(offset: i64) -> u32 {
    u32::from(offset != 0)
}

fn copy_memory(from: &Instruction, to: &mut Instruction) {
    to.set_memory_base(from.memory_base());
    to.set_memory_index(from.memory_index());
    to.set_memory_index_scale(from.memory_index_scale());
    to.set_memory_displacement64(from.memory_displacement64());
    to.set_memory_displ_size(from.memory_displ_size());
    to.set_segment_prefix(from.segment_prefix());
}

/// The host's register for a general register of the guest's; `None` for any other.
fn general(r: Register) -> Option<Register> {
    match r {
        Register::ESP => Some(ESP),
        Register::SP => Some(Register::R12W),
        Register::R8D => Some(r),
        _ if r.is_gpr() && r.number() < 8 => Some(r),
        _ => None,
    }
}

/// The same in an address, with no register at all.
fn address_register(r: Register) -> Register {
    if r == Register::ESP { ESP } else { r }
}

/// Forms that 64-bit mode has under other names.
fn host_form(code: Code) -> Code {
    match code {
        Code::Inc_r16 => Code::Inc_rm16,
        Code::Inc_r32 => Code::Inc_rm32,
        Code::Dec_r16 => Code::Dec_rm16,
        Code::Dec_r32 => Code::Dec_rm32,
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        _ => code,
    }
}

/// How a unit ends, if its tail is in the subset.
enum Ending {
    Fall,
    Conditional {
        cond: u8,
        by: u32,
    },
    Jump {
        by: u32,
    },
    /// The return address goes to the stack first.
    Call {
        by: u32,
        push: Addressing,
    },
}

impl Ending {
    fn of(unit: &Whole<'_>, push: Addressing) -> Option<Self> {
        if !unit.code32 {
            return None;
        }
        match (unit.plan.tail, &unit.plan.last) {
            (Tail::Fall, _) => Some(Self::Fall),
            (_, Some(i)) if i.width != Width::Dword => None,
            (Tail::Conditional, Some(i)) => Some(Self::Conditional { cond: i.cond as u8, by: i.imm }),
            (Tail::Direct, Some(i)) if i.op == Op::Jmp => Some(Self::Jump { by: i.imm }),
            (Tail::Direct, Some(i)) if i.op == Op::Call => Some(Self::Call { by: i.imm, push }),
            _ => None,
        }
    }
}

/// Code in the making.
struct Assembler {
    start: u64,
    first: u32,
    code: Vec<u8>,
    sites: Vec<Site>,
    exits: Vec<Exit>,
    ways: [Option<Way>; 2 + SIDE_EXITS],
    /// Jcc in the body: the way out, the branch, EIP there, and the ticks that it gives back.
    side_exits: Vec<(usize, u64, u32, u8)>,
}

impl Assembler {
    fn new(start: u64, first: u32) -> Self {
        let (sites, exits, side_exits) = (Vec::new(), Vec::new(), Vec::new());
        Self { start, first, code: Vec::new(), sites, exits, ways: Default::default(), side_exits }
    }

    fn here(&self) -> u64 {
        self.start + self.code.len() as u64
    }

    fn add(&mut self, i: Result<Instruction, IcedError>) -> Option<()> {
        let mut encoder = Encoder::new(64);
        encoder.encode(&i.ok()?, self.here()).ok()?;
        self.code.append(&mut encoder.take_buffer());
        Some(())
    }

    /// A branch to be landed; returns where its displacement is.
    fn branch(&mut self, branch: Branch) -> Option<u64> {
        use Code::*;
        let code = match branch {
            Branch::Always => Jmp_rel32_64,
            Branch::If(cond) => {
                let by_number = [
                    Jo_rel32_64,
                    Jno_rel32_64,
                    Jb_rel32_64,
                    Jae_rel32_64,
                    Je_rel32_64,
                    Jne_rel32_64,
                    Jbe_rel32_64,
                    Ja_rel32_64,
                    Js_rel32_64,
                    Jns_rel32_64,
                    Jp_rel32_64,
                    Jnp_rel32_64,
                    Jl_rel32_64,
                    Jge_rel32_64,
                    Jle_rel32_64,
                    Jg_rel32_64,
                ];
                by_number[usize::from(cond & 15)]
            }
        };
        self.add(Instruction::with_branch(code, self.here()))?;
        Some(self.here() - 4)
    }

    /// The branch whose displacement is at `site` leads here.
    fn land(&mut self, site: u64) {
        let by = (self.here() - (site + 4)) as i32;
        let at = (site - self.start) as usize;
        self.code[at..at + 4].copy_from_slice(&by.to_le_bytes());
    }

    /// Leaves.
    fn exit(&mut self, exit: Exit) -> Option<()> {
        let number = self.first + self.exits.len() as u32;
        self.exits.push(exit);
        self.add(Instruction::with2(Code::Mov_r32_imm32, TEMP, number))?;
        let leave = MemoryOperand::with_base_displ(Register::R13, LEAVE as i64);
        self.add(Instruction::with1(Code::Jmp_rm64, leave))
    }

    fn sub_left(&mut self, ticks: u8) -> Option<()> {
        self.add(Instruction::with2(Code::Sub_rm64_imm8, Register::R15, i32::from(ticks)))
    }

    /// Charges the clock, with the flags saved meanwhile. Returns the branch that is taken if too little is left.
    fn charge_with_flags(&mut self, ticks: u8) -> Option<(u64, u8, bool)> {
        self.add(Instruction::with2(Code::Mov_r32_rm32, TEMP, Register::EAX))?;
        self.add(Ok(Instruction::with(Code::Lahf)))?;
        self.add(Instruction::with1(Code::Seto_rm8, Register::AL))?;
        self.sub_left(ticks)?;
        let short = self.branch(Branch::If(8))?;
        self.restore_flags()?;
        Some((short, 0, true))
    }

    /// Flags from AX, EAX from the scratch register.
    fn restore_flags(&mut self) -> Option<()> {
        self.add(Instruction::with2(Code::Add_AL_imm8, Register::AL, 127))?;
        self.add(Ok(Instruction::with(Code::Sahf)))?;
        self.add(Instruction::with2(Code::Mov_r32_rm32, Register::EAX, TEMP))
    }

    /// The branch at `site` is the way out `way`, to `eip`; it leaves here as long as it is not linked.
    fn way_out(&mut self, way: usize, site: u64, eip: u32) -> Option<()> {
        self.land(site);
        self.ways[way] = Some(Way { site: self.start + (site - self.start), unlinked: self.here(), eip });
        self.exit(Exit::Way(way, eip))
    }

    /// The tail; the unit ends at `end`.
    fn ending(&mut self, ending: Ending, end: u32) -> Option<()> {
        let (taken, target) = match ending {
            Ending::Fall => (None, end),
            Ending::Conditional { cond, by } => {
                (Some((self.branch(Branch::If(cond))?, end.wrapping_add(by))), end)
            }
            Ending::Jump { by } => (None, end.wrapping_add(by)),
            Ending::Call { by, push } => {
                let mut sequence = Sequence { addressing: push, insns: Vec::new() };
                let top = sequence.stack(ESP, -4);
                sequence.add(Instruction::with2(Code::Mov_rm32_imm32, top, end))?;
                sequence.move_stack(-4)?;
                self.code.append(&mut sequence.encode()?);
                (None, end.wrapping_add(by))
            }
        };
        let always = self.branch(Branch::Always)?;
        if let Some((site, eip)) = taken {
            self.way_out(0, site, eip)?;
        }
        self.way_out(usize::from(target == end), always, target)
    }

    /// What the Jcc in the body branch to: they give back what of the unit did not run.
    fn finish_side_exits(&mut self) -> Option<()> {
        for (way, site, eip, back) in std::mem::take(&mut self.side_exits) {
            self.land(site);
            if back > 0 {
                let left = MemoryOperand::with_base_displ(Register::R15, i64::from(back));
                self.add(Instruction::with2(Code::Lea_r64_m, Register::R15, left))?;
            }
            let branch = self.branch(Branch::Always)?;
            self.way_out(way, branch, eip)?;
        }
        Some(())
    }
}

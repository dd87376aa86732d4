//! MMX (SDM vol. 1, 9; vol. 3, 12; vol. 2): 64-bit registers of packed integers, which are the significands
//! of the x87's registers. The arithmetic is in `packed`; here are operands, moves and what an instruction
//! does to the x87's state.
//!
//! The order within an instruction: #UD by CR0.EM; #NM by CR0.TS; a pending x87 exception, as for the x87;
//! the memory operand, whose fault leaves the x87 as it was; the state (vol. 3, table 12-2: TOP is 0, all
//! registers are valid); the result, whose register gets an exponent and sign of ones.

mod packed;

use super::fpu::memory::{read, write};
use super::fpu::report;
use crate::cpu::{Cpu, Cr0, Fault};
use crate::decode::{Insn, Place};
use crate::exec::bind::binders;
use crate::exec::{Env, Handler};

/// The compiled form of `MNEMONIC mm, mm/m64`, whose function of the two operands is in [`packed`].
macro_rules! two {
    ($name:ident) => {
        |cpu, env, i| binary(cpu, env, i, 8, packed::$name)
    };
}

/// The compiled form of `MNEMONIC mm, mm/m32`: the low halves interleaved.
macro_rules! low {
    ($name:ident) => {
        |cpu, env, i| binary(cpu, env, i, 4, packed::$name)
    };
}

/// The compiled form of `MNEMONIC mm, mm/m64` and `MNEMONIC mm, imm8`: a shift, and its count.
macro_rules! shift {
    ($name:ident) => {
        |cpu, env, i| shift(cpu, env, i, packed::$name)
    };
}

binders! { i, E;
    Emms      => emms,
    Movd      => if i.extra != 0 { movd_store } else { movd_load },
    Movq      => if i.extra != 0 { movq_store } else { movq_load },
    Paddb     => two!(paddb),
    Paddw     => two!(paddw),
    Paddd     => two!(paddd),
    Paddsb    => two!(paddsb),
    Paddsw    => two!(paddsw),
    Paddusb   => two!(paddusb),
    Paddusw   => two!(paddusw),
    Psubb     => two!(psubb),
    Psubw     => two!(psubw),
    Psubd     => two!(psubd),
    Psubsb    => two!(psubsb),
    Psubsw    => two!(psubsw),
    Psubusb   => two!(psubusb),
    Psubusw   => two!(psubusw),
    Pmullw    => two!(pmullw),
    Pmulhw    => two!(pmulhw),
    Pmaddwd   => two!(pmaddwd),
    Pcmpeqb   => two!(pcmpeqb),
    Pcmpeqw   => two!(pcmpeqw),
    Pcmpeqd   => two!(pcmpeqd),
    Pcmpgtb   => two!(pcmpgtb),
    Pcmpgtw   => two!(pcmpgtw),
    Pcmpgtd   => two!(pcmpgtd),
    Packsswb  => two!(packsswb),
    Packssdw  => two!(packssdw),
    Packuswb  => two!(packuswb),
    Punpckhbw => two!(punpckhbw),
    Punpckhwd => two!(punpckhwd),
    Punpckhdq => two!(punpckhdq),
    Punpcklbw => low!(punpcklbw),
    Punpcklwd => low!(punpcklwd),
    Punpckldq => low!(punpckldq),
    Pand      => two!(pand),
    Pandn     => two!(pandn),
    Por       => two!(por),
    Pxor      => two!(pxor),
    Psllw     => shift!(psllw),
    Pslld     => shift!(pslld),
    Psllq     => shift!(psllq),
    Psrlw     => shift!(psrlw),
    Psrld     => shift!(psrld),
    Psrlq     => shift!(psrlq),
    Psraw     => shift!(psraw),
    Psrad     => shift!(psrad),
}

/// The checks before an MMX instruction. False: the instruction waits for FERR#, and is to end; EIP names it
/// again.
fn begin<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<bool, Fault> {
    if cpu.cr0.contains(Cr0::EM) {
        return Err(Fault::UD);
    }
    if cpu.cr0.contains(Cr0::TS) {
        return Err(Fault::NM);
    }
    if cpu.fpu.pending() { report(cpu, env, i) } else { Ok(true) }
}

/// `bytes` bytes of memory at the operand, zero-extended.
fn memory<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, bytes: usize) -> Result<u64, Fault> {
    let mut value = [0; 8];
    read(cpu, env, i, &mut value[..bytes])?;
    Ok(u64::from_le_bytes(value))
}

/// The second operand: an MMX register, or `bytes` bytes of memory.
fn source<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, bytes: usize) -> Result<u64, Fault> {
    if i.src == Place::Mem { memory(cpu, env, i, bytes) } else { Ok(cpu.fpu.mm(i.src_reg)) }
}

fn binary<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
    bytes: usize,
    f: fn(u64, u64) -> u64,
) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let b = source(cpu, env, i, bytes)?;
    cpu.fpu.enter_mmx();
    cpu.fpu.set_mm(i.dst_reg, f(cpu.fpu.mm(i.dst_reg), b));
    Ok(())
}

fn shift<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, f: fn(u64, u64) -> u64) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let count = if i.src == Place::Imm { u64::from(i.imm as u8) } else { source(cpu, env, i, 8)? };
    cpu.fpu.enter_mmx();
    cpu.fpu.set_mm(i.dst_reg, f(cpu.fpu.mm(i.dst_reg), count));
    Ok(())
}

// MOVD mm, r/m32
fn movd_load<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let value = if i.src == Place::Mem { memory(cpu, env, i, 4)? } else { u64::from(cpu.reg(i.src_reg)) };
    cpu.fpu.enter_mmx();
    cpu.fpu.set_mm(i.dst_reg, value);
    Ok(())
}

// MOVD r/m32, mm
fn movd_store<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let value = cpu.fpu.mm(i.src_reg) as u32;
    if i.dst == Place::Mem {
        write(cpu, env, i, &value.to_le_bytes())?;
    } else {
        cpu.set(i.dst_reg, value);
    }
    cpu.fpu.enter_mmx();
    Ok(())
}

// MOVQ mm, mm/m64
fn movq_load<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    binary(cpu, env, i, 8, |_, b| b)
}

// MOVQ mm/m64, mm
fn movq_store<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let value = cpu.fpu.mm(i.src_reg);
    if i.dst == Place::Mem {
        write(cpu, env, i, &value.to_le_bytes())?;
        cpu.fpu.enter_mmx();
    } else {
        cpu.fpu.enter_mmx();
        cpu.fpu.set_mm(i.dst_reg, value);
    }
    Ok(())
}

// EMMS: all registers are empty; the x87 may be used again
fn emms<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if begin(cpu, env, i)? {
        cpu.fpu.enter_mmx();
        cpu.fpu.set_full(0);
    }
    Ok(())
}

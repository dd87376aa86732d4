//! Memory operands of the x87: of two to 512 bytes, over the seam's doublewords. All of an operand is checked before any
//! of it is written.

use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::{Cpu, Fault};
use crate::decode::{FpuMem, Insn};
use crate::exec::Env;
use crate::exec::fpu::{Operand, convert};
use crate::exec::operand::{ea, readable, writable};

/// Eight bytes and more are aligned to eight (SDM vol. 3, table 6-7); the seam looks after what is narrower.
fn aligned(cpu: &Cpu, at: Linear, align: u32) -> Result<(), Fault> {
    if cpu.checks_alignment() && at.0 & (align - 1) != 0 { Err(Fault::AC) } else { Ok(()) }
}

fn alignment(i: &Insn) -> u32 {
    if i.fpu_mem.bytes() >= 8 { 8 } else { 1 }
}

/// Reads `bytes.len()` bytes at the memory operand, in steps of the operand size where that is what is aligned.
pub(super) fn read<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, bytes: &mut [u8]) -> Result<(), Fault> {
    let at = readable(cpu, i.seg, ea(cpu, i), bytes.len() as u32)?;
    aligned(cpu, at, alignment(i))?;
    let step = step(i);
    let mut done = 0;
    while done < bytes.len() {
        let from = at.offset(done as u32);
        if step == 4 && bytes.len() - done >= 4 {
            bytes[done..done + 4].copy_from_slice(&env.load::<u32>(cpu, from, cpu.user)?.to_le_bytes());
            done += 4;
        } else {
            bytes[done..done + 2].copy_from_slice(&env.load::<u16>(cpu, from, cpu.user)?.to_le_bytes());
            done += 2;
        }
    }
    Ok(())
}

/// Writes `bytes` at the memory operand.
pub(super) fn write<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, bytes: &[u8]) -> Result<(), Fault> {
    let at = writable(cpu, i.seg, ea(cpu, i), bytes.len() as u32)?;
    aligned(cpu, at, alignment(i))?;
    env.probe(cpu, at, bytes.len() as u32, cpu.user, true)?;
    let step = step(i);
    let mut done = 0;
    while done < bytes.len() {
        let to = at.offset(done as u32);
        match bytes[done..] {
            [a, b, c, d, ..] if step == 4 => {
                env.store(cpu, to, u32::from_le_bytes([a, b, c, d]), cpu.user)?;
                done += 4;
            }
            [a, b, ..] => {
                env.store(cpu, to, u16::from_le_bytes([a, b]), cpu.user)?;
                done += 2;
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Environments in the 16-bit format are made of words; all else of doublewords.
fn step(i: &Insn) -> usize {
    if i.fpu_mem == FpuMem::None && i.width == Width::Word { 2 } else { 4 }
}

/// The memory operand as a number.
pub(super) fn number<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<Operand, Fault> {
    let mut bytes = [0; 10];
    read(cpu, env, i, &mut bytes[..i.fpu_mem.bytes() as usize])?;
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    let quad = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    Ok(match i.fpu_mem {
        FpuMem::Int16 => Operand::from_int(i64::from(quad as i16)),
        FpuMem::Int32 => Operand::from_int(i64::from(quad as i32)),
        FpuMem::Int64 => Operand::from_int(quad as i64),
        FpuMem::Real32 => Operand::from_single(quad as u32),
        FpuMem::Real64 => Operand::from_double(quad),
        FpuMem::Bcd => convert::from_decimal(&bytes),
        FpuMem::Real80 | FpuMem::None => Operand::new(crate::cpu::F80::from_bytes(&bytes)),
    })
}

/// Checks that the memory operand can be written.
pub(super) fn check<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let len = i.fpu_mem.bytes();
    let at = writable(cpu, i.seg, ea(cpu, i), len)?;
    aligned(cpu, at, alignment(i))?;
    env.probe(cpu, at, len, cpu.user, true)
}

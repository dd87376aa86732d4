//! Memory operands of the x87 and of MMX: of two to 512 bytes, over the seam's words and doublewords. All of
//! an operand is checked before any of it is written.

use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::{Cpu, Fault};
use crate::decode::{FpuMem, FpuOp, Insn};
use crate::exec::Env;
use crate::exec::fpu::{Operand, convert};
use crate::exec::operand::{ea, readable, writable};

/// The area of an operand is aligned as its elements are (SDM vol. 3, table 6-7).
fn aligned(cpu: &Cpu, i: &Insn, at: Linear) -> Result<(), Fault> {
    let of = match i.fpu_mem.bytes() {
        0 => unit(i),
        bytes => bytes.min(8),
    };
    cpu.check_alignment(at, of)
}

/// Bytes of an environment's elements.
fn unit(i: &Insn) -> u32 {
    match i.fpu {
        FpuOp::Fxsave | FpuOp::Fxrstor => 8,
        FpuOp::Fldcw | FpuOp::Fnstcw | FpuOp::Fnstsw => 2,
        _ if i.width == Width::Word => 2,
        _ => 4,
    }
}

/// Bytes of the piece that starts at `done` within the operand: each has an effective address of its own, so
/// that an operand at the end of a 16-bit address space wraps around between them. A register of ten bytes is
/// two pieces.
fn piece(i: &Insn, done: u32) -> u32 {
    let (unit, ten) = (unit(i), |n: u32| if n.is_multiple_of(10) { 8 } else { 2 });
    match i.fpu {
        _ if i.fpu_mem != FpuMem::None => ten(done),
        FpuOp::Fnsave | FpuOp::Frstor if done >= 7 * unit => ten(done - 7 * unit),
        _ => unit,
    }
}

/// Calls `f` for each piece of an operand of `total` bytes: its offset in the segment and within the operand,
/// and its length.
fn for_each_piece(
    cpu: &Cpu,
    i: &Insn,
    total: usize,
    mut f: impl FnMut(u32, usize, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let start = ea(cpu, i);
    let mut done = 0;
    while done < total {
        let len = (piece(i, done as u32) as usize).min(total - done);
        f(start.wrapping_add(done as u32) & i.addr_mask, done, len)?;
        done += len;
    }
    Ok(())
}

/// What the seam is asked for at a time: words, where alignment is checked and a doubleword would not be
/// aligned.
fn step(cpu: &Cpu, at: Linear, left: usize) -> usize {
    if left < 4 || cpu.checks_alignment() && at.0 & 3 != 0 { 2 } else { 4 }
}

/// Reads `bytes.len()` bytes, an even number, at the memory operand.
pub(in crate::exec::ops) fn read<E: Env>(
    cpu: &Cpu,
    env: &mut E,
    i: &Insn,
    bytes: &mut [u8],
) -> Result<(), Fault> {
    for_each_piece(cpu, i, bytes.len(), |offset, done, len| {
        let mut at = readable(cpu, i.seg, offset, len as u32)?;
        if done == 0 {
            aligned(cpu, i, at)?;
        }
        let mut rest = &mut bytes[done..done + len];
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(step(cpu, at, rest.len()));
            match now.len() {
                4 => now.copy_from_slice(&env.load::<u32>(cpu, at, cpu.user)?.to_le_bytes()),
                _ => now.copy_from_slice(&env.load::<u16>(cpu, at, cpu.user)?.to_le_bytes()),
            }
            at = at.offset(now.len() as u32);
            rest = later;
        }
        Ok(())
    })
}

/// Checks that `total` bytes at the memory operand can be written.
pub(super) fn check<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, total: usize) -> Result<(), Fault> {
    for_each_piece(cpu, i, total, |offset, done, len| {
        let at = writable(cpu, i.seg, offset, len as u32)?;
        if done == 0 {
            aligned(cpu, i, at)?;
        }
        env.probe(cpu, at, len as u32, cpu.user, true)
    })
}

/// Writes `bytes`, an even number, at the memory operand.
pub(in crate::exec::ops) fn write<E: Env>(
    cpu: &Cpu,
    env: &mut E,
    i: &Insn,
    bytes: &[u8],
) -> Result<(), Fault> {
    check(cpu, env, i, bytes.len())?;
    for_each_piece(cpu, i, bytes.len(), |offset, done, len| {
        let mut at = writable(cpu, i.seg, offset, len as u32)?;
        let mut rest = &bytes[done..done + len];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(step(cpu, at, rest.len()));
            match *now {
                [a, b, c, d] => env.store(cpu, at, u32::from_le_bytes([a, b, c, d]), cpu.user)?,
                [a, b] => env.store(cpu, at, u16::from_le_bytes([a, b]), cpu.user)?,
                _ => {}
            }
            at = at.offset(now.len() as u32);
            rest = later;
        }
        Ok(())
    })
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

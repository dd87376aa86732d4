//! IN and OUT, and the permission to use a port (SDM vol. 1, 18.5).

use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::gpr::{EAX, EDX};
use crate::cpu::{Cpu, Fault, Word};
use crate::decode::{Insn, Place};
use crate::exec::bind::binders;
use crate::exec::operand::by_width;
use crate::exec::task;
use crate::exec::vmx::intercept::{PortAccess, io};
use crate::exec::{Env, Handler};

binders! { i, E;
    In => by_width!(i, input, E),
    Out => by_width!(i, output, E),
}

/// Whether the program may use the port: by CPL and IOPL, or by the task's I/O permission bit map, which
/// alone counts in virtual-8086 mode.
///
/// # Errors
/// #GP(0) if it may not, or what reading the bit map raises.
pub fn check_port<E: Env>(cpu: &Cpu, env: &mut E, port: u16, width: Width) -> Result<(), Fault> {
    if !cpu.protected() || (!cpu.v86() && cpu.cpl <= cpu.iopl()) {
        return Ok(());
    }
    check_bit_map(cpu, env, port, width)
}

#[cold]
fn check_bit_map<E: Env>(cpu: &Cpu, env: &mut E, port: u16, width: Width) -> Result<(), Fault> {
    // The processor reads two bytes, so that an access that spans bytes of the map sees all its bits.
    let offset = task::io_map(cpu, env)? + u32::from(port >> 3);
    if offset + 1 > cpu.tr.limit {
        return Err(Fault::GP0);
    }
    let bits: u16 = env.load(cpu, Linear(cpu.tr.base.wrapping_add(offset)), false)?;
    let wanted = (1 << width.bytes()) - 1;
    if (bits >> (port & 7)) & wanted == 0 { Ok(()) } else { Err(Fault::GP0) }
}

fn port(cpu: &Cpu, operand: Place, i: &Insn) -> u16 {
    match operand {
        Place::Imm => i.imm as u16 & 0xff,
        _ => cpu.regs[EDX] as u16,
    }
}

// IN acc, port
fn input<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let port = port(cpu, i.src, i);
    check_port(cpu, env, port, W::WIDTH)?;
    io(cpu, env, i, PortAccess { port, width: W::WIDTH, input: true, string: None })?;
    let v = env.port_in(cpu, port, W::WIDTH);
    cpu.set(EAX as u8, W::from_u32(v));
    Ok(())
}

// OUT port, acc
fn output<E: Env, W: Word>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let port = port(cpu, i.dst, i);
    check_port(cpu, env, port, W::WIDTH)?;
    io(cpu, env, i, PortAccess { port, width: W::WIDTH, input: false, string: None })?;
    env.port_out(cpu, port, W::WIDTH, cpu.get::<W>(EAX as u8).u());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Eflags, Segment};
    use crate::exec::testing::{World, flat, real, step, v86};

    const OUT_DX_AL: &[u8] = &[0xee];
    const OUT_DX_AX: &[u8] = &[0x66, 0xef];

    /// A TSS at 5000h that ends after the map's byte for ports 3F8h-3FFh and the closing byte.
    fn with_tss(mut cpu: Cpu) -> (Cpu, World) {
        let mut world = World::new();
        world.put(0x5066, &[0x68, 0]);
        world.put(0x5068, &[0xff; 0x81]);
        world.put(0x5068 + 0x7f, &[0b0000_1111]);
        cpu.tr = Segment::system(0x40, 0x5000, 0x68 + 0x80, 0x8b);
        (cpu, world)
    }

    fn out(cpu: &mut Cpu, world: &mut World, port: u32, code: &[u8]) -> Result<(), Fault> {
        cpu.regs[EDX] = port;
        step(cpu, world, code)
    }

    #[test]
    fn iopl_opens_all_ports_in_protected_mode() {
        let (mut cpu, mut world) = with_tss(flat(3));
        cpu.set_eflags(Eflags::IOPL);
        assert_eq!(out(&mut cpu, &mut world, 0x20, OUT_DX_AL), Ok(()));
        assert_eq!(out(&mut real(), &mut world, 0x20, OUT_DX_AL), Ok(()));
        assert_eq!(world.written.len(), 2);
    }

    #[test]
    fn the_bit_map_opens_single_ports() {
        let (mut cpu, mut world) = with_tss(flat(3));
        assert_eq!(out(&mut cpu, &mut world, 0x3fc, OUT_DX_AL), Ok(()));
        assert_eq!(out(&mut cpu, &mut world, 0x3fb, OUT_DX_AL), Err(Fault::GP0));
        assert_eq!(out(&mut cpu, &mut world, 0x3fe, OUT_DX_AX), Ok(()));
        assert_eq!(out(&mut cpu, &mut world, 0x3ff, OUT_DX_AX), Err(Fault::GP0));
        assert_eq!(out(&mut cpu, &mut world, 0x400, OUT_DX_AL), Err(Fault::GP0));
        assert_eq!(world.written, [(0x3fc, 0), (0x3fe, 0)]);
    }

    #[test]
    fn the_bit_map_alone_counts_in_v86_mode() {
        let (mut cpu, mut world) = with_tss(v86(3));
        assert_eq!(out(&mut cpu, &mut world, 0x20, OUT_DX_AL), Err(Fault::GP0));
        assert_eq!(out(&mut cpu, &mut world, 0x3fc, OUT_DX_AL), Ok(()));
    }

    #[test]
    fn a_16_bit_tss_has_no_map() {
        let (mut cpu, mut world) = with_tss(flat(3));
        cpu.tr.attr = 0x83;
        assert_eq!(out(&mut cpu, &mut world, 0x3fc, OUT_DX_AL), Err(Fault::GP0));
    }
}

//! Virtual interrupts: the virtual-8086 mode extensions, and those of protected mode (SDM vol. 3, 20.3 and 20.4).
//! With CR4.VME or CR4.PVI, programs whose IOPL does not let them change IF change VIF in its place, and fault only
//! where an interrupt waits for them, which VIP tells; INT n of an 8086 program may stay in the program.

use super::Env;
use super::frame::Frame;
use super::task;
use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::{Cpu, Cr4, Eflags, Fault, Segment, gpr};
use crate::decode::SegReg;

/// The bytes of the software interrupt redirection bit map, which ends where the I/O map begins.
const REDIRECTION_BYTES: u32 = 32;

/// Whether CLI and STI mean VIF where they may not change IF.
pub fn virtualizes_if(cpu: &Cpu) -> bool {
    if cpu.v86() { cpu.cr4.contains(Cr4::VME) } else { cpu.cpl == 3 && cpu.cr4.contains(Cr4::PVI) }
}

/// STI that means VIF.
///
/// # Errors
/// #GP(0) if an interrupt waits.
pub fn set_virtual_if(cpu: &mut Cpu) -> Result<(), Fault> {
    if cpu.system_flags.contains(Eflags::VIP) {
        return Err(Fault::GP0);
    }
    cpu.system_flags |= Eflags::VIF;
    Ok(())
}

/// Whether PUSHF, POPF and IRET of `width` in virtual-8086 mode mean VIF: VME and 16 bits.
fn virtualizes_flags(cpu: &Cpu, width: Width) -> bool {
    cpu.cr4.contains(Cr4::VME) && width == Width::Word
}

/// The FLAGS that an 8086 program with an IOPL below 3 sees: VIF is its IF, and its IOPL is 3.
fn virtual_flags(cpu: &Cpu) -> Eflags {
    let flags = cpu.eflags();
    let mut seen = flags | Eflags::IOPL;
    seen.set(Eflags::IF, flags.contains(Eflags::VIF));
    seen
}

/// What PUSHF of `width` pushes in virtual-8086 mode with an IOPL below 3.
///
/// # Errors
/// #GP(0) without VME, and for PUSHFD.
pub fn pushed_flags(cpu: &Cpu, width: Width) -> Result<Eflags, Fault> {
    if virtualizes_flags(cpu, width) { Ok(virtual_flags(cpu)) } else { Err(Fault::GP0) }
}

/// Whether POPF and IRET of `width` may run in virtual-8086 mode with an IOPL below 3.
///
/// # Errors
/// #GP(0) if not.
pub fn may_pop_flags(cpu: &Cpu, width: Width) -> Result<(), Fault> {
    if virtualizes_flags(cpu, width) { Ok(()) } else { Err(Fault::GP0) }
}

/// FLAGS after POPF or IRET of `image`, in virtual-8086 mode with VME and an IOPL below 3.
///
/// # Errors
/// #GP(0) if the program would step, or take interrupts while one waits.
pub fn popped_flags(cpu: &Cpu, image: u32) -> Result<Eflags, Fault> {
    let image = Eflags::from_bits_truncate(image & 0xffff);
    let waits = cpu.system_flags.contains(Eflags::VIP) && image.contains(Eflags::IF);
    if waits || image.contains(Eflags::TF) {
        return Err(Fault::GP0);
    }
    let changed = Eflags::ARITHMETIC | Eflags::TF | Eflags::DF | Eflags::NT;
    let mut flags = (cpu.eflags() - changed) | (image & changed);
    flags.set(Eflags::VIF, image.contains(Eflags::IF));
    Ok(flags)
}

/// Whether INT `vector` of an 8086 program goes through the program's own vector table: its bit of the TSS's
/// redirection bit map is clear. The map is one of VME's.
///
/// # Errors
/// #GP(0) where there is no map; what reading it raises.
pub fn redirects<E: Env>(cpu: &Cpu, env: &mut E, vector: u8) -> Result<bool, Fault> {
    if !cpu.v86() || !cpu.cr4.contains(Cr4::VME) {
        return Ok(false);
    }
    let map = task::io_map(cpu, env)?.checked_sub(REDIRECTION_BYTES).ok_or(Fault::GP0)?;
    let offset = map + u32::from(vector >> 3);
    if offset > cpu.tr.limit {
        return Err(Fault::GP0);
    }
    let bits: u8 = env.load(cpu, Linear(cpu.tr.base.wrapping_add(offset)), false)?;
    Ok(bits >> (vector & 7) & 1 == 0)
}

/// INT `vector` through the interrupt vector table at linear address 0, as in real mode.
///
/// # Errors
/// What the stack or the table raises, and #GP(0) for an IP beyond the limit; nothing has changed then.
pub fn redirect<E: Env>(cpu: &mut Cpu, env: &mut E, vector: u8) -> Result<(), Fault> {
    let at = Linear(u32::from(vector) * 4);
    let ip: u16 = env.load(cpu, at, false)?;
    let cs: u16 = env.load(cpu, at.offset(2), false)?;
    let code = Segment::v86(cs);
    if u32::from(ip) > code.limit {
        return Err(Fault::GP0);
    }
    let owns_if = cpu.iopl() == 3;
    let mut frame = Frame::current(cpu, Width::Word);
    frame.push(if owns_if { cpu.eflags() } else { virtual_flags(cpu) }.bits());
    frame.push(u32::from(cpu.seg(SegReg::Cs).selector.0));
    frame.push(cpu.eip);
    let sp = frame.commit(cpu, env, 0)?;
    cpu.set_seg(SegReg::Cs, code);
    cpu.regs[gpr::ESP] = sp;
    cpu.eip = u32::from(ip);
    let interrupts = if owns_if { Eflags::IF } else { Eflags::VIF };
    cpu.set_eflags(cpu.eflags() - (interrupts | Eflags::TF | Eflags::RF));
    Ok(())
}

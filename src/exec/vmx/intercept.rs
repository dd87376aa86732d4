//! Instructions in non-root operation: which of them cause VM exits, and what some others do differently (SDM
//! vol. 3, 25.1 and 25.3). The semantics ask here, after the faults that have priority; outside of non-root
//! operation nothing is intercepted.

use super::{guest, guest_mut, request, under};
use crate::bus::Width;
use crate::cpu::vmx::field::CR3_TARGETS;
use crate::cpu::vmx::{Exit, Field, Pin, Primary, Reason, Secondary};
use crate::cpu::{Cpu, Cr0, Eflags, Fault};
use crate::decode::insn::NO_REG;
use crate::decode::{Insn, Op, Place, Rep, SegReg};
use crate::exec::Env;
use crate::exec::operand::ea;

/// Exits for `reason`.
#[cold]
fn exit(cpu: &mut Cpu, i: &Insn, reason: Reason, qualification: u32) -> Result<(), Fault> {
    Err(request(cpu, Exit { length: i.len, ..Exit::new(reason, qualification) }))
}

/// Exits in non-root operation, whatever the controls are.
pub fn always(cpu: &mut Cpu, i: &Insn, reason: Reason) -> Result<(), Fault> {
    if guest(cpu).is_some() { exit(cpu, i, reason, 0) } else { Ok(()) }
}

/// Exits under a primary control.
pub fn by(cpu: &mut Cpu, i: &Insn, control: Primary, reason: Reason) -> Result<(), Fault> {
    if under(cpu, control) { exit(cpu, i, reason, 0) } else { Ok(()) }
}

/// Exits under a secondary control.
pub fn by_secondary(cpu: &mut Cpu, i: &Insn, control: Secondary, reason: Reason) -> Result<(), Fault> {
    if guest(cpu).is_some_and(|vmx| vmx.controls.secondary.contains(control)) {
        return exit(cpu, i, reason, 0);
    }
    Ok(())
}

/// INVLPG, with the linear address of its operand.
pub fn invlpg(cpu: &mut Cpu, i: &Insn, linear: u32) -> Result<(), Fault> {
    if under(cpu, Primary::INVLPG) { exit(cpu, i, Reason::Invlpg, linear) } else { Ok(()) }
}

/// An instruction of VMX, which exits with what decoding it tells.
pub fn vmx(cpu: &mut Cpu, i: &Insn, reason: Reason) -> Result<(), Fault> {
    if guest(cpu).is_none() {
        return Ok(());
    }
    let displacement = if has_memory(i) { i.disp } else { 0 };
    let instruction = instruction_information(i);
    let exit = Exit { length: i.len, instruction, ..Exit::new(reason, displacement) };
    Err(request(cpu, exit))
}

fn has_memory(i: &Insn) -> bool {
    i.dst == Place::Mem || i.src == Place::Mem
}

/// VM-exit instruction information of VMX instructions (SDM vol. 3, tables 27-9 to 27-14).
fn instruction_information(i: &Insn) -> u32 {
    let size = address_size(i) << 7;
    let (memory, register, other) = match (i.dst, i.src) {
        (Place::Mem, _) => (true, 0, i.src_reg),
        (_, Place::Mem) => (true, 0, i.dst_reg),
        // VMREAD's destination and VMWRITE's source are in ModRM.rm, the field's encoding in ModRM.reg.
        (Place::Reg, Place::Reg) if i.op == Op::Vmwrite => (false, i.src_reg, i.dst_reg),
        _ => (false, i.dst_reg, i.src_reg),
    };
    let operands = if memory {
        let part = |r: u8, at: u32, absent: u32| if r == NO_REG { 1 << absent } else { u32::from(r) << at };
        u32::from(i.scale) | part(i.index, 18, 22) | part(i.base, 23, 27) | (i.seg as u32) << 15
    } else {
        1 << 10 | u32::from(register) << 3
    };
    size | operands | u32::from(other) << 28
}

fn address_size(i: &Insn) -> u32 {
    u32::from(i.addr_mask != 0xffff)
}

/// Bits of a control-register access's exit qualification (SDM vol. 3, table 27-3).
mod access {
    pub(super) const FROM: u32 = 1 << 4;
    pub(super) const CLTS: u32 = 2 << 4;
    pub(super) const LMSW: u32 = 3 << 4;
    pub(super) const MEMORY: u32 = 1 << 6;
}

/// The CR0 that a guest sees: host-owned bits come from the read shadow.
pub fn seen_cr0(cpu: &Cpu) -> u32 {
    seen(cpu, cpu.cr0.bits(), Field::Cr0Mask, Field::Cr0Shadow)
}

/// The CR4 that a guest sees.
pub fn seen_cr4(cpu: &Cpu) -> u32 {
    seen(cpu, cpu.cr4.bits(), Field::Cr4Mask, Field::Cr4Shadow)
}

fn seen(cpu: &Cpu, real: u32, mask: Field, shadow: Field) -> u32 {
    guest(cpu).map_or(real, |vmx| {
        let mask = vmx.vmcs.get32(mask);
        real & !mask | vmx.vmcs.get32(shadow) & mask
    })
}

/// MOV to CR0: what is loaded, which leaves host-owned bits as they are.
///
/// # Errors
/// An exit when a host-owned bit would become other than its read shadow.
pub fn to_cr0(cpu: &mut Cpu, i: &Insn, value: u32) -> Result<u32, Fault> {
    owned(cpu, i, 0, value, (Field::Cr0Mask, Field::Cr0Shadow))
}

/// MOV to CR4.
///
/// # Errors
/// As [`to_cr0`].
pub fn to_cr4(cpu: &mut Cpu, i: &Insn, value: u32) -> Result<u32, Fault> {
    owned(cpu, i, 4, value, (Field::Cr4Mask, Field::Cr4Shadow))
}

fn owned(cpu: &mut Cpu, i: &Insn, n: u32, value: u32, (mask, shadow): (Field, Field)) -> Result<u32, Fault> {
    let Some(vmx) = guest(cpu) else { return Ok(value) };
    let (mask, shadow) = (vmx.vmcs.get32(mask), vmx.vmcs.get32(shadow));
    if (value ^ shadow) & mask != 0 {
        exit(cpu, i, Reason::ControlRegister, n | u32::from(i.src_reg) << 8)?;
    }
    let real = if n == 0 { cpu.cr0.bits() } else { cpu.cr4.bits() };
    Ok(value & !mask | real & mask)
}

/// MOV to CR3: the values of the target list go through.
pub fn to_cr3(cpu: &mut Cpu, i: &Insn, value: u32) -> Result<(), Fault> {
    let Some(vmx) = guest(cpu).filter(|vmx| vmx.controls.primary.contains(Primary::CR3_LOAD)) else {
        return Ok(());
    };
    let count = vmx.vmcs.get32(Field::Cr3TargetCount) as usize;
    if CR3_TARGETS.iter().take(count).any(|target| vmx.vmcs.get32(*target) == value) {
        return Ok(());
    }
    exit(cpu, i, Reason::ControlRegister, 3 | u32::from(i.src_reg) << 8)
}

/// MOV from CR3.
pub fn from_cr3(cpu: &mut Cpu, i: &Insn) -> Result<(), Fault> {
    if under(cpu, Primary::CR3_STORE) {
        return exit(cpu, i, Reason::ControlRegister, 3 | access::FROM | u32::from(i.dst_reg) << 8);
    }
    Ok(())
}

/// CLTS: whether TS is the guest's to clear.
///
/// # Errors
/// An exit where the host owns TS and its shadow is set.
pub fn clts(cpu: &mut Cpu, i: &Insn) -> Result<bool, Fault> {
    let Some(vmx) = guest(cpu) else { return Ok(true) };
    let ts = Cr0::TS.bits();
    if vmx.vmcs.get32(Field::Cr0Mask) & ts == 0 {
        return Ok(true);
    }
    if vmx.vmcs.get32(Field::Cr0Shadow) & ts != 0 {
        exit(cpu, i, Reason::ControlRegister, access::CLTS)?;
    }
    Ok(false)
}

/// LMSW of `value`: which of PE, MP, EM and TS are the guest's to load.
///
/// # Errors
/// An exit when a host-owned bit would become other than its read shadow. PE is never cleared.
pub fn lmsw(cpu: &mut Cpu, i: &Insn, value: u32) -> Result<u32, Fault> {
    let Some(vmx) = guest(cpu) else { return Ok(15) };
    let (mask, shadow) = (vmx.vmcs.get32(Field::Cr0Mask) & 15, vmx.vmcs.get32(Field::Cr0Shadow));
    let (pe, others) = (mask & 1 & value & !shadow, mask & 14 & (value ^ shadow));
    if pe | others != 0 {
        let mut qualification = access::LMSW | value << 16;
        let mut linear = None;
        if i.dst == Place::Mem {
            qualification |= access::MEMORY;
            linear = Some(cpu.seg(i.seg).base.wrapping_add(ea(cpu, i)));
        }
        let exit = Exit { length: i.len, linear, ..Exit::new(Reason::ControlRegister, qualification) };
        return Err(request(cpu, exit));
    }
    Ok(15 & !mask)
}

/// MOV to or from a debug register; comes before its faults (SDM vol. 3, 25.1.3).
pub fn mov_dr(cpu: &mut Cpu, i: &Insn, from: bool) -> Result<(), Fault> {
    if !under(cpu, Primary::MOV_DR) {
        return Ok(());
    }
    let (debug, general) = if from { (i.src_reg, i.dst_reg) } else { (i.dst_reg, i.src_reg) };
    let qualification = u32::from(debug & 7) | u32::from(from) << 4 | u32::from(general) << 8;
    exit(cpu, i, Reason::MovDr, qualification)
}

/// RDMSR and WRMSR of register `number`, by the MSR bitmaps.
pub fn msr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, number: u32, write: bool) -> Result<(), Fault> {
    let Some(vmx) = guest(cpu) else { return Ok(()) };
    let reason = if write { Reason::Wrmsr } else { Reason::Rdmsr };
    let bitmaps = vmx.controls.primary.contains(Primary::MSR_BITMAPS);
    let base = vmx.vmcs.get32(Field::MsrBitmaps);
    let part = match number {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 0x400,
        _ => return exit(cpu, i, reason, 0),
    };
    let at = base + part + if write { 0x800 } else { 0 };
    if !bitmaps || bit(cpu, env, at, number & 0x1fff) { exit(cpu, i, reason, 0) } else { Ok(()) }
}

/// Bit `n` of the bitmap at the physical address `at`.
fn bit<E: Env>(cpu: &Cpu, env: &mut E, at: u32, n: u32) -> bool {
    env.read_physical(cpu, at + (n >> 5) * 4) >> (n & 31) & 1 != 0
}

/// An access to `port`, after the checks of I/O privilege.
#[derive(Clone, Copy)]
pub struct PortAccess {
    /// The first port.
    pub port: u16,
    /// The width.
    pub width: Width,
    /// IN or INS.
    pub input: bool,
    /// INS and OUTS: the linear address of the operand.
    pub string: Option<u32>,
}

/// IN, OUT, INS and OUTS, by the I/O bitmaps or by "unconditional I/O exiting".
#[inline]
pub fn io<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, on: PortAccess) -> Result<(), Fault> {
    if guest(cpu).is_none() { Ok(()) } else { guest_io(cpu, env, i, on) }
}

#[cold]
fn guest_io<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn, on: PortAccess) -> Result<(), Fault> {
    let controls = guest(cpu).map_or(Primary::empty(), |vmx| vmx.controls.primary);
    let exits = if controls.contains(Primary::IO_BITMAPS) {
        (0..on.width.bytes()).any(|n| port_exits(cpu, env, u32::from(on.port) + n))
    } else {
        controls.contains(Primary::UNCONDITIONAL_IO)
    };
    if !exits {
        return Ok(());
    }
    let string = on.string.is_some();
    let immediate = !string && (i.dst == Place::Imm || i.src == Place::Imm);
    let qualification = (on.width.bytes() - 1)
        | u32::from(on.input) << 3
        | u32::from(string) << 4
        | u32::from(string && i.rep != Rep::Once) << 5
        | u32::from(immediate) << 6
        | u32::from(on.port) << 16;
    let instruction = if string {
        let segment = if on.input { SegReg::Es } else { i.seg };
        address_size(i) << 7 | (segment as u32) << 15
    } else {
        0
    };
    let exit = Exit { length: i.len, instruction, linear: on.string, ..Exit::new(Reason::Io, qualification) };
    Err(request(cpu, exit))
}

/// Whether the bitmaps send a port to the hypervisor; beyond the last port everything goes there.
fn port_exits<E: Env>(cpu: &Cpu, env: &mut E, port: u32) -> bool {
    let Some(vmx) = guest(cpu) else { return false };
    let [a, b] = [Field::IoBitmapA, Field::IoBitmapB].map(|field| vmx.vmcs.get32(field));
    match port {
        0..=0x7fff => bit(cpu, env, a, port),
        0x8000..=0xffff => bit(cpu, env, b, port - 0x8000),
        _ => true,
    }
}

/// A task switch, which no guest makes by itself. `source` is the manual's: CALL 0, IRET 1, JMP 2; an event
/// through a task gate is noted as being delivered. `flags` is the EFLAGS image that the old task's state
/// would get.
pub fn task_switch(cpu: &mut Cpu, selector: u16, source: u32, flags: Eflags) -> Result<(), Fault> {
    let Some(vmx) = guest(cpu) else { return Ok(()) };
    let (source, length) = if vmx.vectoring.is_some() { (3, 0) } else { (source, vmx.length) };
    let qualification = u32::from(selector) | source << 30;
    let resume_flag = flags.contains(Eflags::RF);
    let exit = Exit { length, resume_flag, ..Exit::new(Reason::TaskSwitch, qualification) };
    Err(request(cpu, exit))
}

/// IRET: which blocking of NMIs ends (SDM vol. 3, 25.3). Whether any did.
pub fn unblock_nmi(cpu: &mut Cpu) -> bool {
    if let Some(vmx) = guest_mut(cpu) {
        if vmx.controls.pin.contains(Pin::VIRTUAL_NMIS) {
            return std::mem::take(&mut vmx.virtual_nmi_blocked);
        }
        if vmx.controls.pin.contains(Pin::NMI) {
            return false;
        }
    }
    std::mem::take(&mut cpu.nmi_blocked)
}

/// An IRET that faults, which ends a guest's blocking of NMIs all the same: the exit that the fault may cause
/// tells of that (SDM vol. 3, 25.3 and 27.2.2).
pub fn faulting_iret(cpu: &mut Cpu) {
    if guest(cpu).is_none() {
        return;
    }
    let unblocked = unblock_nmi(cpu);
    if let Some(vmx) = guest_mut(cpu) {
        vmx.unblocked_nmi = unblocked;
    }
}

//! Delivery of interrupts and exceptions: through the interrupt vector table in real mode, through the IDT's
//! gates in protected and virtual-8086 mode; double faults and shutdown (SDM vol. 3, 6; vol. 2, INT n).

use super::Env;
use super::frame::Frame;
use super::segload::{StackFaults, find, mark_accessed, stack_segment_for};
use super::task::{self, Switch};
use super::{vme, vmx};
use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::control::{DR6_BD, DR6_BS};
use crate::cpu::segment::Descriptor;
use crate::cpu::{Activity, Cpu, Eflags, Fault, Segment, Selector, Vector, gpr};
use crate::decode::SegReg;

pub use crate::cpu::event::Event;

/// The processor gave up: a fault while a double fault was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TripleFault {
    /// The event that was to be delivered at first.
    pub first: Event,
    /// What went wrong while it was.
    pub second: Fault,
    /// What went wrong while the double fault was.
    pub third: Fault,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// The handler is about to run: the event's, or that of a fault which took the event's place.
    Delivered,
    /// A fault is still to be delivered, when time has moved on.
    Again(Fault),
    /// A VM exit is due instead.
    VmExit,
}

/// Events tried in one tick.
const SERIAL: u32 = 4;

/// Delivers `event`, and what goes wrong on the way: a second fault of the contributory kind becomes #DF, one
/// more shuts the processor down (SDM vol. 3, 6.15, interrupt 8). Calls `seen` with each event as it is
/// tried.
///
/// Faults of other kinds are handled one after the other, and that need not end: #AC for an unaligned stack
/// of a handler in ring 3 raises #AC again. Real processors then loop in their microcode, deaf to interrupts;
/// here the fault comes back after `SERIAL` tries, to be delivered when time has moved on.
///
/// # Errors
/// [`TripleFault`]; the processor is in shutdown then.
pub fn raise<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    event: Event,
    mut seen: impl FnMut(&Cpu, Event),
) -> Result<Raised, TripleFault> {
    if vmx::event::exits(cpu, event, 0) {
        return Ok(Raised::VmExit);
    }
    cpu.shadow = Default::default();
    let mut current = event;
    let mut second = None;
    let mut tried = 0;
    loop {
        tried += 1;
        seen(cpu, current);
        let Err(next) = deliver(cpu, env, current) else {
            cpu.refresh();
            return Ok(Raised::Delivered);
        };
        vmx::event::rewind_injected(cpu);
        if next.is_vm_exit() || vmx::event::exits(cpu, Event::Exception(next), 0) {
            cpu.switched_task = false;
            return Ok(Raised::VmExit);
        }
        // CR2 tells of the page fault met last, also where it becomes a double fault.
        if let Some(at) = next.address() {
            cpu.cr2 = at;
        }
        // EIP is the new task's if one was entered; there is no instruction here to put it back for.
        cpu.switched_task = false;
        if current.exception() == Some(Vector::Df as u8) {
            if vmx::guest(cpu).is_some() {
                vmx::event::triple_fault(cpu);
                return Ok(Raised::VmExit);
            }
            cpu.activity = Activity::Shutdown;
            cpu.refresh();
            let second = second.unwrap_or(Fault::DF);
            return Err(TripleFault { first: event, second, third: next });
        }
        if doubles(current, next) {
            second = Some(next);
            current = Event::Exception(Fault::DF);
            if vmx::event::exits(cpu, current, 0) {
                return Ok(Raised::VmExit);
            }
        } else if tried < SERIAL {
            current = Event::Exception(next);
        } else {
            cpu.refresh();
            return Ok(Raised::Again(next));
        }
    }
}

/// Whether `second`, met while `first` was delivered, makes a double fault (SDM vol. 3, table 6-5).
fn doubles(first: Event, second: Fault) -> bool {
    let contributory = |v: u8| matches!(v, 0 | 10..=13);
    let page_fault = |v| v == Vector::Pf as u8;
    let second = second.vector();
    match first.exception() {
        Some(first) if page_fault(first) => contributory(second) || page_fault(second),
        Some(first) => contributory(first) && contributory(second),
        None => false,
    }
}

/// Delivers one event.
///
/// # Errors
/// The fault met on the way; nothing has changed then, unless a task switch had been committed.
pub fn deliver<E: Env>(cpu: &mut Cpu, env: &mut E, event: Event) -> Result<(), Fault> {
    note(cpu, event);
    vmx::event::begin(cpu, event);
    let result = if cpu.protected() { protected(cpu, env, event) } else { real(cpu, env, event) };
    match result {
        Err(f) if event.software() || f.is_vm_exit() => Err(f),
        Err(f) => Err(f.external()),
        Ok(()) => {
            vmx::event::end(cpu);
            if event.nmi() {
                vmx::event::block_nmi(cpu);
            }
            cpu.mid_string = false;
            // The handler starts with TF clear: no single step is due at its first instruction.
            cpu.debug_pending &= !DR6_BS;
            if cpu.activity == Activity::Halted {
                cpu.activity = Activity::Running;
            }
            cpu.refresh();
            Ok(())
        }
    }
}

/// CR2 and DR6 are set before delivery, and stay set if it fails.
fn note(cpu: &mut Cpu, event: Event) {
    if let Event::Exception(f) | Event::PrivilegedSoftware(f) = event {
        if let Some(at) = f.address() {
            cpu.cr2 = at;
        }
        if f.is(Vector::Db) {
            cpu.dr[6] |= f.dr6();
            cpu.dr[7] &= !crate::cpu::control::DR7_GD;
        }
    }
}

/// The EFLAGS image that is pushed: RF is set where the return is to an instruction that has begun (faults,
/// and what comes between the iterations of a REP), so that a code breakpoint at it does not hit again (SDM
/// vol. 3, 17.3.1.1). Of the debug exceptions only general detect is such a fault: a code breakpoint comes
/// before its instruction.
fn pushed_flags(cpu: &Cpu, event: Event) -> Eflags {
    let mut flags = cpu.eflags();
    let begun = match event {
        Event::Exception(f) | Event::PrivilegedSoftware(f) if f.is(Vector::Db) => {
            f.dr6() & DR6_BD != 0 || cpu.mid_string
        }
        Event::Exception(f) => !f.is(Vector::Df),
        Event::External(_) | Event::Nmi => cpu.mid_string,
        _ => false,
    };
    if begun {
        flags |= Eflags::RF;
    }
    flags
}

fn real<E: Env>(cpu: &mut Cpu, env: &mut E, event: Event) -> Result<(), Fault> {
    let offset = u32::from(event.vector()) * 4;
    if offset + 3 > u32::from(cpu.idtr.limit) {
        return Err(Fault::gp(event.idt_code()));
    }
    let at = Linear(cpu.idtr.base.wrapping_add(offset));
    let ip: u16 = env.load(cpu, at, false)?;
    let cs: u16 = env.load(cpu, at.offset(2), false)?;
    let mut frame = Frame::current(cpu, Width::Word);
    frame.push(cpu.eflags().bits());
    frame.push(u32::from(cpu.seg(SegReg::Cs).selector.0));
    frame.push(cpu.eip);
    let sp = frame.commit(cpu, env, 0)?;
    let code = cpu.seg(SegReg::Cs).real_reload(cs);
    if u32::from(ip) > code.limit {
        return Err(Fault::GP0);
    }
    cpu.regs[gpr::ESP] = sp;
    cpu.set_seg(SegReg::Cs, code);
    cpu.eip = u32::from(ip);
    let cleared = Eflags::IF | Eflags::TF | Eflags::AC | Eflags::RF;
    cpu.set_eflags(cpu.eflags() - cleared);
    Ok(())
}

// Gate types (SDM vol. 3, table 3-2).
const TASK_GATE: u8 = 5;
const INTERRUPT_GATE_16: u8 = 6;
const TRAP_GATE_16: u8 = 7;
const INTERRUPT_GATE_32: u8 = 14;
const TRAP_GATE_32: u8 = 15;

fn protected<E: Env>(cpu: &mut Cpu, env: &mut E, event: Event) -> Result<(), Fault> {
    if event.int_n() && vme::redirects(cpu, env, event.vector())? {
        return vme::redirect(cpu, env, event.vector());
    }
    let offset = u32::from(event.vector()) * 8;
    let code = event.idt_code();
    if offset + 7 > u32::from(cpu.idtr.limit) {
        return Err(Fault::gp(code));
    }
    let at = Linear(cpu.idtr.base.wrapping_add(offset));
    let low: u32 = env.load(cpu, at, false)?;
    let high: u32 = env.load(cpu, at.offset(4), false)?;
    let gate = Descriptor(u64::from(low) | (u64::from(high) << 32));
    let kinds = [TASK_GATE, INTERRUPT_GATE_16, TRAP_GATE_16, INTERRUPT_GATE_32, TRAP_GATE_32];
    if gate.is_segment() || !kinds.contains(&gate.kind()) || (event.software() && gate.dpl() < cpu.cpl) {
        return Err(Fault::gp(code));
    }
    if !gate.present() {
        return Err(Fault::np(code));
    }
    if gate.kind() == TASK_GATE {
        return through_task_gate(cpu, env, event, gate);
    }
    through_gate(cpu, env, event, gate)
}

fn through_task_gate<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    event: Event,
    gate: Descriptor,
) -> Result<(), Fault> {
    let tss = task::find_available(cpu, env, gate.gate_selector())?;
    let flags = pushed_flags(cpu, event);
    task::switch(cpu, env, tss, Switch::Call, flags)?;
    if let Some(code) = event.error_code() {
        let width = if tss.is_32bit() { Width::Dword } else { Width::Word };
        let mut frame = Frame::current(cpu, width);
        frame.push(u32::from(code));
        cpu.regs[gpr::ESP] = frame.commit(cpu, env, 0)?;
    }
    task::check_entry(cpu)
}

/// Interrupt and trap gates.
fn through_gate<E: Env>(cpu: &mut Cpu, env: &mut E, event: Event, gate: Descriptor) -> Result<(), Fault> {
    let sel = gate.gate_selector();
    if sel.is_null() {
        return Err(Fault::GP0);
    }
    let gp = Fault::gp(sel.code());
    let found = find(cpu, env, sel, gp)?;
    let d = found.descriptor;
    if !d.is_code() || d.dpl() > cpu.cpl {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    let inner = !d.is_conforming() && d.dpl() < cpu.cpl;
    if cpu.v86() && (!inner || d.dpl() != 0) {
        return Err(gp);
    }
    let width = if gate.kind() >= INTERRUPT_GATE_32 { Width::Dword } else { Width::Word };
    let cpl = if inner { d.dpl() } else { cpu.cpl };
    let (ss, esp) =
        if inner { inner_stack(cpu, env, cpl)? } else { (*cpu.seg(SegReg::Ss), cpu.regs[gpr::ESP]) };
    let code = if inner { ss.selector.code() } else { 0 };
    let mut frame = Frame::new(ss, esp, cpl == 3, width);
    if inner {
        push_outer(cpu, &mut frame);
    }
    frame.push(pushed_flags(cpu, event).bits());
    frame.push(u32::from(cpu.seg(SegReg::Cs).selector.0));
    frame.push(cpu.eip);
    if let Some(code) = event.error_code() {
        frame.push(u32::from(code));
    }
    let eip = if width == Width::Dword { gate.gate_offset() } else { gate.gate_offset() & 0xffff };
    frame.check_room(code)?;
    if eip > d.limit() {
        return Err(Fault::GP0);
    }
    let sp = frame.commit(cpu, env, code)?;
    let d = mark_accessed(cpu, env, found)?;
    enter(cpu, d.load((sel.0 & !3) | u16::from(cpl)), eip, &frame, sp, inner);
    let mut cleared = Eflags::TF | Eflags::NT | Eflags::VM | Eflags::RF;
    if matches!(gate.kind(), INTERRUPT_GATE_16 | INTERRUPT_GATE_32) {
        cleared |= Eflags::IF;
    }
    cpu.set_eflags(cpu.eflags() - cleared);
    Ok(())
}

/// What an inner-level frame saves first: the V86 segments, if we come from there, then the outer stack.
fn push_outer(cpu: &Cpu, frame: &mut Frame) {
    if cpu.v86() {
        for s in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
            frame.push(u32::from(cpu.seg(s).selector.0));
        }
    }
    frame.push(u32::from(cpu.seg(SegReg::Ss).selector.0));
    frame.push(cpu.regs[gpr::ESP]);
}

fn enter(cpu: &mut Cpu, cs: Segment, eip: u32, frame: &Frame, sp: u32, inner: bool) {
    if inner {
        if cpu.v86() {
            for s in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
                cpu.set_seg(s, Segment::null(0));
            }
        }
        cpu.set_seg(SegReg::Ss, frame.ss);
        cpu.system_flags -= Eflags::VM;
        cpu.set_cpl(cs.selector.rpl());
    }
    cpu.regs[gpr::ESP] = sp;
    cpu.set_seg(SegReg::Cs, cs);
    cpu.eip = eip;
}

/// The stack that the current TSS names for level `cpl`.
///
/// # Errors
/// #TS, #SS, #PF.
pub fn inner_stack<E: Env>(cpu: &Cpu, env: &mut E, cpl: u8) -> Result<(Segment, u32), Fault> {
    let (esp, ss) = task::stack_for(cpu, env, cpl)?;
    let faults = StackFaults { bad: Fault::ts, null: Fault::ts(0) };
    Ok((stack_segment_for(cpu, env, ss, cpl, &faults)?, esp))
}

/// The selector of a gate's or a pointer's target with its RPL replaced.
pub fn with_rpl(selector: Selector, rpl: u8) -> u16 {
    (selector.0 & !3) | u16::from(rpl)
}

//! Far control transfers: JMP, CALL, RET and IRET between segments, levels and tasks; INT and its kin;
//! SYSENTER and SYSEXIT (SDM vol. 3, 5.8; vol. 2).

use crate::bus::Width;
use crate::cpu::segment::{Descriptor, attr};
use crate::cpu::{Cpu, Eflags, Fault, Segment, Selector, gpr};
use crate::decode::{Insn, SegReg};
use crate::exec::bind::binders;
use crate::exec::event::{self, Event, inner_stack, with_rpl};
use crate::exec::frame::{Frame, peek};
use crate::exec::operand::{ea, load};
use crate::exec::segload::{Found, find, mark_accessed};
use crate::exec::task::{self, Switch};
use crate::exec::{Env, Handler, vme, vmx};

binders! { i, E;
    JmpFar     => jmp_pointer,
    JmpFarMem  => jmp_memory,
    CallFar    => call_pointer,
    CallFarMem => call_memory,
    Retf       => retf,
    Iret       => iret,
    Int        => int,
    Int3       => int3,
    Into       => into,
    Int1       => int1,
    Sysenter   => sysenter,
    Sysexit => sysexit,
}

/// A far pointer: selector and offset.
#[derive(Clone, Copy)]
struct Pointer {
    sel: Selector,
    offset: u32,
}

fn masked(offset: u32, width: Width) -> u32 {
    offset & if width == Width::Dword { !0 } else { 0xffff }
}

fn pointer_in_code(i: &Insn) -> Pointer {
    Pointer { sel: Selector(i.selector), offset: masked(i.imm, i.width) }
}

fn pointer_in_memory<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<Pointer, Fault> {
    let at = ea(cpu, i);
    let offset = match i.width {
        Width::Dword => load::<u32, E>(cpu, env, i.seg, at)?,
        _ => u32::from(load::<u16, E>(cpu, env, i.seg, at)?),
    };
    let next = at.wrapping_add(i.width.bytes()) & i.addr_mask;
    Ok(Pointer { sel: Selector(load::<u16, E>(cpu, env, i.seg, next)?), offset })
}

// JMP ptr16:16, ptr16:32
fn jmp_pointer<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    jmp(cpu, env, pointer_in_code(i))
}

// JMP m16:16, m16:32
fn jmp_memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    let to = pointer_in_memory(cpu, env, i)?;
    jmp(cpu, env, to)
}

// CALL ptr16:16, ptr16:32
fn call_pointer<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    call(cpu, env, pointer_in_code(i), i.width)
}

// CALL m16:16, m16:32
fn call_memory<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    let to = pointer_in_memory(cpu, env, i)?;
    call(cpu, env, to, i.width)
}

/// CS in real or virtual-8086 mode: base 16 times the selector; limit and D stay in real mode.
fn real_code(cpu: &Cpu, sel: Selector) -> Segment {
    if cpu.v86() { Segment::v86(sel.0) } else { cpu.seg(SegReg::Cs).real_reload(sel.0) }
}

/// What a far pointer in protected mode names.
enum Destination {
    Code { found: Found, offset: u32 },
    CallGate { gate: Descriptor, found: Found, sel: Selector },
    Task(task::Tss),
}

/// Finds what a far JMP or CALL goes to, and makes the checks that both have in common.
fn destination<E: Env>(cpu: &Cpu, env: &mut E, to: Pointer) -> Result<Destination, Fault> {
    if to.sel.is_null() {
        return Err(Fault::GP0);
    }
    let gp = Fault::gp(to.sel.code());
    let found = find(cpu, env, to.sel, gp)?;
    let d = found.descriptor;
    if d.is_segment() {
        check_code(cpu, d, to.sel)?;
        return Ok(Destination::Code { found, offset: to.offset });
    }
    let is_tss = task::is_available_tss(d.kind());
    if !matches!(d.kind(), 4 | 5 | 12) && !is_tss {
        return Err(gp);
    }
    if d.dpl() < cpu.cpl || d.dpl() < to.sel.rpl() {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(to.sel.code()));
    }
    if is_tss {
        return Ok(Destination::Task(task::find_available(cpu, env, to.sel)?));
    }
    if d.kind() == 5 {
        return Ok(Destination::Task(task::find_available(cpu, env, d.gate_selector())?));
    }
    let sel = d.gate_selector();
    if sel.is_null() {
        return Err(Fault::GP0);
    }
    let gp = Fault::gp(sel.code());
    let found = find(cpu, env, sel, gp)?;
    if !found.descriptor.is_code() || found.descriptor.dpl() > cpu.cpl {
        return Err(gp);
    }
    Ok(Destination::CallGate { gate: d, found, sel })
}

/// Direct transfer to a code segment: the privilege checks (SDM vol. 3, 5.8.1).
fn check_code(cpu: &Cpu, d: Descriptor, sel: Selector) -> Result<(), Fault> {
    let allowed =
        if d.is_conforming() { d.dpl() <= cpu.cpl } else { sel.rpl() <= cpu.cpl && d.dpl() == cpu.cpl };
    if !d.is_code() || !allowed {
        return Err(Fault::gp(sel.code()));
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    Ok(())
}

fn check_offset(limit: u32, offset: u32) -> Result<(), Fault> {
    if offset > limit { Err(Fault::GP0) } else { Ok(()) }
}

/// Loads CS with `found` at level `cpl` and goes to `eip`.
fn enter_code<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    found: Found,
    sel: Selector,
    cpl: u8,
    eip: u32,
) -> Result<(), Fault> {
    let d = mark_accessed(cpu, env, found)?;
    cpu.set_seg(SegReg::Cs, d.load(with_rpl(sel, cpl)));
    cpu.eip = eip;
    Ok(())
}

fn gate_offset(gate: Descriptor) -> (u32, Width) {
    if gate.kind() == 12 {
        (gate.gate_offset(), Width::Dword)
    } else {
        (gate.gate_offset() & 0xffff, Width::Word)
    }
}

fn jmp<E: Env>(cpu: &mut Cpu, env: &mut E, to: Pointer) -> Result<(), Fault> {
    if !cpu.selectors() {
        let code = real_code(cpu, to.sel);
        check_offset(code.limit, to.offset)?;
        cpu.set_seg(SegReg::Cs, code);
        cpu.eip = to.offset;
        return Ok(());
    }
    match destination(cpu, env, to)? {
        Destination::Code { found, offset } => {
            check_offset(found.descriptor.limit(), offset)?;
            enter_code(cpu, env, found, to.sel, cpu.cpl, offset)
        }
        Destination::CallGate { gate, found, sel } => {
            let d = found.descriptor;
            if !d.is_conforming() && d.dpl() != cpu.cpl {
                return Err(Fault::gp(sel.code()));
            }
            if !d.present() {
                return Err(Fault::np(sel.code()));
            }
            let (offset, _) = gate_offset(gate);
            check_offset(d.limit(), offset)?;
            enter_code(cpu, env, found, sel, cpu.cpl, offset)
        }
        Destination::Task(tss) => switch_task(cpu, env, tss, Switch::Jump),
    }
}

fn switch_task<E: Env>(cpu: &mut Cpu, env: &mut E, tss: task::Tss, kind: Switch) -> Result<(), Fault> {
    let flags = cpu.eflags();
    task::switch(cpu, env, tss, kind, flags)?;
    task::check_entry(cpu)
}

fn call<E: Env>(cpu: &mut Cpu, env: &mut E, to: Pointer, width: Width) -> Result<(), Fault> {
    if !cpu.selectors() {
        let code = real_code(cpu, to.sel);
        let sp = push_return(cpu, env, width, |_| check_offset(code.limit, to.offset))?;
        cpu.regs[gpr::ESP] = sp;
        cpu.set_seg(SegReg::Cs, code);
        cpu.eip = to.offset;
        return Ok(());
    }
    match destination(cpu, env, to)? {
        Destination::Code { found, offset } => {
            let limit = found.descriptor.limit();
            let sp = push_return(cpu, env, width, |_| check_offset(limit, offset))?;
            enter_code(cpu, env, found, to.sel, cpu.cpl, offset)?;
            cpu.regs[gpr::ESP] = sp;
            Ok(())
        }
        Destination::CallGate { gate, found, sel } => call_gate(cpu, env, gate, found, sel),
        Destination::Task(tss) => switch_task(cpu, env, tss, Switch::Call),
    }
}

/// Pushes CS and EIP on the current stack once there is room and `check` is content; returns the new stack
/// pointer.
fn push_return<E: Env>(
    cpu: &Cpu,
    env: &mut E,
    width: Width,
    check: impl FnOnce(&Cpu) -> Result<(), Fault>,
) -> Result<u32, Fault> {
    let mut frame = Frame::current(cpu, width);
    frame.push(u32::from(cpu.seg(SegReg::Cs).selector.0));
    frame.push(cpu.eip);
    frame.check_room(0)?;
    check(cpu)?;
    frame.commit(cpu, env, 0)
}

/// CALL through a call gate (SDM vol. 3, 5.8.3).
fn call_gate<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    gate: Descriptor,
    found: Found,
    sel: Selector,
) -> Result<(), Fault> {
    let d = found.descriptor;
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    let (offset, width) = gate_offset(gate);
    if d.is_conforming() || d.dpl() == cpu.cpl {
        let sp = push_return(cpu, env, width, |_| check_offset(d.limit(), offset))?;
        enter_code(cpu, env, found, sel, cpu.cpl, offset)?;
        cpu.regs[gpr::ESP] = sp;
        return Ok(());
    }
    let cpl = d.dpl();
    let (ss, esp) = inner_stack(cpu, env, cpl)?;
    let mut frame = Frame::new(ss, esp, false, width);
    frame.push(u32::from(cpu.seg(SegReg::Ss).selector.0));
    frame.push(cpu.regs[gpr::ESP]);
    for n in (0..gate.gate_parameters()).rev() {
        frame.push(peek(cpu, env, n, width, 0)?);
    }
    frame.push(u32::from(cpu.seg(SegReg::Cs).selector.0));
    frame.push(cpu.eip);
    frame.check_room(ss.selector.code())?;
    check_offset(d.limit(), offset)?;
    let sp = frame.commit(cpu, env, ss.selector.code())?;
    enter_code(cpu, env, found, sel, cpl, offset)?;
    cpu.set_seg(SegReg::Ss, ss);
    cpu.regs[gpr::ESP] = sp;
    cpu.set_cpl(cpl);
    Ok(())
}

/// Where a RET or IRET in protected mode returns to, checked.
struct Return {
    found: Found,
    sel: Selector,
    eip: u32,
}

fn check_return<E: Env>(cpu: &Cpu, env: &mut E, sel: Selector, eip: u32) -> Result<Return, Fault> {
    if sel.is_null() {
        return Err(Fault::GP0);
    }
    let gp = Fault::gp(sel.code());
    let found = find(cpu, env, sel, gp)?;
    let d = found.descriptor;
    let level_fits = if d.is_conforming() { d.dpl() <= sel.rpl() } else { d.dpl() == sel.rpl() };
    if !d.is_code() || sel.rpl() < cpu.cpl || !level_fits {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    Ok(Return { found, sel, eip })
}

/// The outer stack of a return, checked: SS with its descriptor, ESP.
fn outer_stack<E: Env>(cpu: &Cpu, env: &mut E, ss: u16, cpl: u8) -> Result<Segment, Fault> {
    let sel = Selector(ss);
    if sel.is_null() {
        return Err(Fault::GP0);
    }
    let gp = Fault::gp(sel.code());
    let found = find(cpu, env, sel, gp)?;
    let d = found.descriptor;
    if sel.rpl() != cpl || !d.is_writable_data() || d.dpl() != cpl {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::ss(sel.code()));
    }
    Ok(mark_accessed(cpu, env, found)?.load(ss))
}

/// Data segments that the outer level may not use become null (SDM vol. 3, 5.8.6).
fn drop_inner_segments(cpu: &mut Cpu) {
    for s in [SegReg::Es, SegReg::Fs, SegReg::Gs, SegReg::Ds] {
        let seg = *cpu.seg(s);
        let conforming = seg.attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
        if seg.usable() && !conforming && seg.dpl() < cpu.cpl {
            cpu.set_seg(s, Segment::null(0));
        }
    }
}

/// Loads CS:EIP, and at an outer level the stack. `skip` bytes of parameters are released on both stacks.
fn return_to<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    to: &Return,
    slots: u32,
    width: Width,
    skip: u32,
) -> Result<(), Fault> {
    let cpl = to.sel.rpl();
    let released = slots * width.bytes() + skip;
    if cpl == cpu.cpl {
        check_offset(to.found.descriptor.limit(), to.eip)?;
        enter_code(cpu, env, to.found, to.sel, cpl, to.eip)?;
        cpu.set_sp(cpu.sp().wrapping_add(released));
        return Ok(());
    }
    let esp = peek(cpu, env, slots, width, skip)?;
    let ss = peek(cpu, env, slots + 1, width, skip)? as u16;
    let ss = outer_stack(cpu, env, ss, cpl)?;
    check_offset(to.found.descriptor.limit(), to.eip)?;
    enter_code(cpu, env, to.found, to.sel, cpl, to.eip)?;
    cpu.set_seg(SegReg::Ss, ss);
    // A 16-bit operand size gives 16 bits; a 16-bit stack keeps the upper half of ESP.
    if width == Width::Dword && ss.big() {
        cpu.regs[gpr::ESP] = esp;
    } else if ss.big() {
        cpu.regs[gpr::ESP] = esp & 0xffff;
    } else {
        cpu.set_sp(esp);
    }
    cpu.set_sp(cpu.sp().wrapping_add(skip));
    cpu.set_cpl(cpl);
    drop_inner_segments(cpu);
    Ok(())
}

// RETF, RETF imm16
fn retf<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let eip = masked(peek(cpu, env, 0, i.width, 0)?, i.width);
    let sel = Selector(peek(cpu, env, 1, i.width, 0)? as u16);
    let skip = i.imm & 0xffff;
    if !cpu.selectors() {
        let code = real_code(cpu, sel);
        check_offset(code.limit, eip)?;
        cpu.set_seg(SegReg::Cs, code);
        cpu.eip = eip;
        cpu.set_sp(cpu.sp().wrapping_add(2 * i.width.bytes() + skip));
        return Ok(());
    }
    let to = check_return(cpu, env, sel, eip)?;
    return_to(cpu, env, &to, 2, i.width, skip)
}

/// The flags that IRET may change at the current level.
fn iret_mask(cpu: &Cpu, width: Width) -> Eflags {
    let mut mask = Eflags::ARITHMETIC | Eflags::TF | Eflags::DF | Eflags::NT;
    if width == Width::Dword {
        mask |= Eflags::RF | Eflags::AC | Eflags::ID;
    }
    if cpu.cpl <= cpu.iopl() {
        mask |= Eflags::IF;
    }
    if cpu.cpl == 0 {
        mask |= Eflags::IOPL;
        if width == Width::Dword {
            mask |= Eflags::VIF | Eflags::VIP;
        }
    }
    mask
}

/// EFLAGS with the bits of `mask` from `image`.
fn merged(cpu: &Cpu, image: u32, mask: Eflags) -> Eflags {
    (cpu.eflags() - mask) | (Eflags::from_bits_truncate(image) & mask)
}

// IRET, IRETD
fn iret<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    let result = if !cpu.protected() {
        iret_real(cpu, env, i)
    } else if cpu.v86() {
        iret_v86(cpu, env, i)
    } else if cpu.system_flags.contains(Eflags::NT) {
        iret_task(cpu, env)
    } else {
        iret_protected(cpu, env, i)
    };
    match result {
        Ok(()) => _ = vmx::intercept::unblock_nmi(cpu),
        Err(fault) if !fault.is_vm_exit() => vmx::intercept::faulting_iret(cpu),
        Err(_) => {}
    }
    result
}

fn iret_real<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let mask = iret_mask(cpu, i.width);
    iret_flat(cpu, env, i, |cpu, image| Ok(merged(cpu, image, mask)))
}

fn iret_v86<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let mask = iret_mask(cpu, i.width) - Eflags::IOPL;
    if cpu.iopl() == 3 {
        return iret_flat(cpu, env, i, |cpu, image| Ok(merged(cpu, image, mask)));
    }
    vme::may_pop_flags(cpu, i.width)?;
    iret_flat(cpu, env, i, vme::popped_flags)
}

/// Real and virtual-8086 mode: EIP, CS, FLAGS, of which `popped` makes the new ones.
fn iret_flat<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    i: &Insn,
    popped: impl FnOnce(&Cpu, u32) -> Result<Eflags, Fault>,
) -> Result<(), Fault> {
    let eip = peek(cpu, env, 0, i.width, 0)?;
    let sel = Selector(peek(cpu, env, 1, i.width, 0)? as u16);
    let image = peek(cpu, env, 2, i.width, 0)?;
    let code = real_code(cpu, sel);
    check_offset(code.limit, eip)?;
    let flags = popped(cpu, image)?;
    cpu.set_seg(SegReg::Cs, code);
    cpu.eip = eip;
    cpu.set_sp(cpu.sp().wrapping_add(3 * i.width.bytes()));
    cpu.set_eflags(flags);
    Ok(())
}

fn iret_task<E: Env>(cpu: &mut Cpu, env: &mut E) -> Result<(), Fault> {
    let tss = task::find_previous(cpu, env)?;
    switch_task(cpu, env, tss, Switch::Return)
}

fn iret_protected<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let eip = masked(peek(cpu, env, 0, i.width, 0)?, i.width);
    let sel = Selector(peek(cpu, env, 1, i.width, 0)? as u16);
    let image = peek(cpu, env, 2, i.width, 0)?;
    if i.width == Width::Dword && image & Eflags::VM.bits() != 0 && cpu.cpl == 0 {
        return iret_to_v86(cpu, env, eip, sel, image);
    }
    let mask = iret_mask(cpu, i.width);
    let to = check_return(cpu, env, sel, eip)?;
    return_to(cpu, env, &to, 3, i.width, 0)?;
    cpu.set_eflags(merged(cpu, image, mask));
    Ok(())
}

/// From CPL 0 into virtual-8086 mode: ESP, SS, ES, DS, FS, GS follow on the stack.
fn iret_to_v86<E: Env>(cpu: &mut Cpu, env: &mut E, eip: u32, cs: Selector, image: u32) -> Result<(), Fault> {
    let mut words = [0u32; 6];
    for (n, w) in words.iter_mut().enumerate() {
        *w = peek(cpu, env, 3 + n as u32, Width::Dword, 0)?;
    }
    let [esp, ss, es, ds, fs, gs] = words;
    check_offset(0xffff, eip & 0xffff)?;
    cpu.set_eflags(Eflags::from_bits_truncate(image));
    cpu.set_seg(SegReg::Cs, Segment::v86(cs.0));
    cpu.set_seg(SegReg::Ss, Segment::v86(ss as u16));
    cpu.set_seg(SegReg::Es, Segment::v86(es as u16));
    cpu.set_seg(SegReg::Ds, Segment::v86(ds as u16));
    cpu.set_seg(SegReg::Fs, Segment::v86(fs as u16));
    cpu.set_seg(SegReg::Gs, Segment::v86(gs as u16));
    cpu.eip = eip & 0xffff;
    cpu.regs[gpr::ESP] = esp;
    cpu.set_cpl(3);
    Ok(())
}

fn software<E: Env>(cpu: &mut Cpu, env: &mut E, event: Event) -> Result<(), Fault> {
    event::deliver(cpu, env, event)?;
    env.took_software_interrupt(event.vector());
    Ok(())
}

// INT n: in virtual-8086 mode with IOPL 3 (SDM vol. 3, 20.2.7), or to the program itself with VME (20.3)
fn int<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.v86() && cpu.iopl() < 3 && !vme::redirects(cpu, env, i.imm as u8)? {
        return Err(Fault::GP0);
    }
    vmx::event::note_length(cpu, i.len);
    software(cpu, env, Event::SoftwareVector(i.imm as u8))
}

// INT3: not IOPL-sensitive
fn int3<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    trap(cpu, i, Event::Software(Fault::BP))?;
    software(cpu, env, Event::Software(Fault::BP))
}

/// In non-root operation: an exit, if the exception bitmap sends `event` to the hypervisor.
fn trap(cpu: &mut Cpu, i: &Insn, event: Event) -> Result<(), Fault> {
    vmx::event::note_length(cpu, i.len);
    if vmx::event::exits(cpu, event, i.len) { Err(Fault::VM_EXIT) } else { Ok(()) }
}

// INTO
fn into<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.lazy.of() {
        return Ok(());
    }
    trap(cpu, i, Event::Software(Fault::OF))?;
    software(cpu, env, Event::Software(Fault::OF))
}

// INT1 (F1): a debug trap that no DPL check guards
fn int1<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    let event = Event::PrivilegedSoftware(Fault::debug(0));
    trap(cpu, i, event)?;
    event::deliver(cpu, env, event)
}

// SYSENTER: to CPL 0 with flat segments (SDM vol. 2, SYSENTER)
fn sysenter<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let cs = cpu.msrs.sysenter_cs as u16;
    if !cpu.protected() || cs & 0xfffc == 0 {
        return Err(Fault::GP0);
    }
    cpu.set_eflags(cpu.eflags() - (Eflags::VM | Eflags::IF | Eflags::RF));
    cpu.set_seg(SegReg::Cs, Segment::with(cs & 0xfffc, 0, !0, 0xc9b));
    cpu.set_seg(SegReg::Ss, Segment::with((cs & 0xfffc) + 8, 0, !0, 0xc93));
    cpu.regs[gpr::ESP] = cpu.msrs.sysenter_esp;
    cpu.eip = cpu.msrs.sysenter_eip;
    cpu.set_cpl(0);
    Ok(())
}

// SYSEXIT: to CPL 3 at EDX with the stack at ECX
fn sysexit<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    let cs = cpu.msrs.sysenter_cs as u16;
    if !cpu.protected() || cs & 0xfffc == 0 || cpu.cpl != 0 {
        return Err(Fault::GP0);
    }
    cpu.set_seg(SegReg::Cs, Segment::with((cs.wrapping_add(16) & 0xfffc) | 3, 0, !0, 0xcfb));
    cpu.set_seg(SegReg::Ss, Segment::with((cs.wrapping_add(24) & 0xfffc) | 3, 0, !0, 0xcf3));
    cpu.regs[gpr::ESP] = cpu.regs[gpr::ECX];
    cpu.eip = cpu.regs[gpr::EDX];
    cpu.set_cpl(3);
    Ok(())
}

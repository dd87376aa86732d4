//! Mistakes with interrupts and in their handlers (SDM vol. 3, 6.12; the 8259A's modes).

use super::controllers::{blocked, in_service};
use crate::cpu::Eflags;
use crate::debug::chain::vector_text;
use crate::debug::facts::Facts;
use crate::debug::walk::gate;
use crate::decode::{Op, SegReg};
use crate::exec::event::Event;
use crate::machine::history::Record;

pub(super) fn pic_not_remapped(f: &Facts<'_>) -> Option<String> {
    let last = f.history.iter().rev().find(|r| !r.chained)?;
    let Event::External(v @ 8..=15) = last.event else { return None };
    let base = f.machine.world.board.interrupt_controllers()[0].base;
    (f.cpu.selectors() && base == 8).then(|| {
        let looks = if v == 8 { ", which looks like a double fault" } else { "" };
        format!(
            "IRQ{} arrives at vector {v}{looks}: the PIC was not remapped; program its ICW2 to 0x20 and 0x28 before STI",
            v - 8
        )
    })
}

/// The last event that was delivered, before anything was met afterwards.
fn delivered<'f>(f: &'f Facts<'_>) -> Option<&'f Record> {
    let mut events = f.history.iter().rev();
    if f.last_is_fatal() {
        // The last chain was not delivered.
        events.find(|r| !r.chained)?;
    }
    events.next()
}

pub(super) fn error_code_not_popped(f: &Facts<'_>) -> Option<String> {
    let last = delivered(f).filter(|_| f.last_is_fatal() && f.insn.is_some_and(|i| i.op == Op::Iret))?;
    let Event::Exception(fault) = last.event else { return None };
    let code = fault.code()?;
    let top: [Option<u32>; 3] = std::array::from_fn(|n| f.dword(f.stack().wrapping_add(4 * n as u32)));
    let is = [Some(u32::from(code)), Some(last.eip), Some(u32::from(last.cs))];
    (top[..2] == is[..2] && top[2].is_some_and(|cs| cs & 0xffff == u32::from(last.cs))).then(|| {
        format!(
            "the handler of {} did not pop the error code: IRET found it ({code:#x}) where EIP should be; ADD ESP, 4 before IRET",
            vector_text(fault.vector())
        )
    })
}

pub(super) fn ret_instead_of_iret(f: &Facts<'_>) -> Option<String> {
    let last = delivered(f).filter(|r| r.cpl == f.cpu.cpl && f.cpu.code32())?;
    // EIP was popped; CS and EFLAGS were left.
    let esp = f.stack();
    let left = f.dword(esp)? & 0xffff == u32::from(last.cs);
    let flags = f.dword(esp.wrapping_add(4))?;
    let gone = f.dword(esp.wrapping_sub(4))? == last.eip;
    let base = f.cpu.seg(SegReg::Ss).base;
    let frame = esp.wrapping_sub(base) == last.regs[4].wrapping_sub(8);
    let flags = flags & 2 != 0 && flags & 0xffc0_8028 == 0;
    (left && flags && gone && frame).then(|| {
        format!(
            "the handler of {} returned with RET instead of IRET: CS and EFLAGS are still on the stack, and interrupts stay off",
            vector_text(last.event.vector())
        )
    })
}

pub(super) fn gate_16(f: &Facts<'_>) -> Option<String> {
    let last = delivered(f).filter(|_| f.cpu.selectors())?;
    let g = gate(f, last.event.vector());
    let raw = g.raw.filter(|_| g.wrong.is_none())?;
    let (kind, offset) = (raw.kind(), raw.gate_offset());
    let cut = offset > 0xffff && f.cpu.eip.abs_diff(offset) > 0x1000;
    (matches!(kind, 6 | 7) && cut).then(|| {
        format!(
            "the IDT gate of {} is a 16-bit one (type {kind}): the handler's offset {offset:#x} was cut to 16 bits; type 0xe or 0xf was meant (flags 0x8e, not 0x86)",
            vector_text(g.vector)
        )
    })
}

pub(super) fn no_eoi(f: &Facts<'_>) -> Option<String> {
    let on = f.now().system_flags.contains(Eflags::IF);
    let irq = in_service(f).filter(|_| on && !f.died() && blocked(f))?;
    Some(format!(
        "interrupt with no EOI: IRQ{irq} is still in service, so the PIC holds back every request of its priority or below; its handler must write 20h to port 20h{}",
        if irq >= 8 { " and to port A0h" } else { "" }
    ))
}

pub(super) fn irqs_masked(f: &Facts<'_>) -> Option<String> {
    let on = f.now().system_flags.contains(Eflags::IF);
    let board = &f.machine.world.board;
    let [master, _] = board.interrupt_controllers();
    (on && !f.died() && master.imr == 0xff && !board.apic_is_open()).then(|| {
        "interrupts are on and the PIC masks all of them: port 21h holds 0xff; clear the bit of each IRQ that has a handler".to_owned()
    })
}

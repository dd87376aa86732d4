//! Mistakes with segments and privilege: what protected mode asks of descriptors and selectors (SDM vol. 3,
//! 3.4, 5).

use crate::cpu::segment::{Descriptor, attr};
use crate::cpu::{Fault, Segment, Selector, Vector};
use crate::debug::facts::Facts;
use crate::debug::walk::{Named, Wrong, gate, named};
use crate::decode::op::Ring;
use crate::decode::{Op, Place, SegReg};

pub(super) fn forgot_far_jump(f: &Facts<'_>) -> Option<String> {
    let cs = f.cpu.seg(SegReg::Cs);
    let real = cs.attr & attr::CODE == 0 && cs.base == u32::from(cs.selector.0) << 4;
    (f.cpu.selectors() && real).then(|| {
        format!(
            "there was no far jump after PE was set: CS still holds what real mode left in it (selector {:04x}, base {:#x}, 16-bit); JMP 08h:label right after MOV CR0 loads the code segment",
            cs.selector.0, cs.base
        )
    })
}

pub(super) fn code_16(f: &Facts<'_>) -> Option<String> {
    let cs = f.cpu.seg(SegReg::Cs);
    let code = cs.attr & attr::CODE != 0;
    (f.cpu.selectors() && code && !cs.big()).then(|| {
        format!(
            "the D bit of the GDT descriptor of CS ({:04x}) is clear: 32-bit code runs as 16-bit; set bit 6 of byte 6 (flags 0xcf, not 0x8f)",
            cs.selector.0
        )
    })
}

/// The segment and the offset of the memory operand at EIP.
fn operand(f: &Facts<'_>) -> Option<(SegReg, u32)> {
    let insn = f.insn?;
    if insn.dst != Place::Mem && insn.src != Place::Mem {
        return None;
    }
    let index = f.cpu.reg(insn.index) << insn.scale;
    let at = f.cpu.reg(insn.base).wrapping_add(index).wrapping_add(insn.disp);
    Some((insn.seg, at & insn.addr_mask))
}

/// The segment, its register and the offset that a #GP(0) or #SS(0) in protected mode came from.
fn refused(f: &Facts<'_>) -> Option<(SegReg, Segment, u32)> {
    let first = f.first()?;
    let zero = first == Fault::GP0 || first == Fault::SS0;
    let (s, at) = operand(f).filter(|_| zero && f.cpu.selectors())?;
    Some((s, *f.cpu.seg(s), at))
}

pub(super) fn not_reloaded(f: &Facts<'_>) -> Option<String> {
    let (s, segment, at) = refused(f)?;
    let real = segment.limit == 0xffff && segment.base == u32::from(segment.selector.0) << 4;
    (real && !segment.in_limit(at, 1)).then(|| {
        let name = s.name().to_uppercase();
        format!(
            "{name} still holds what real mode left in it (base {:#x}, limit 0xffff), and the access is at {at:#x}: load {name} with the data selector after the far jump",
            segment.base
        )
    })
}

pub(super) fn null_segment(f: &Facts<'_>) -> Option<String> {
    let (s, segment, at) = refused(f)?;
    let name = s.name().to_uppercase();
    (!segment.usable()).then(|| {
        format!("the access at {at:#x} goes through {name}, which holds the null selector: load a data selector first")
    })
}

pub(super) fn limit(f: &Facts<'_>) -> Option<String> {
    let (s, segment, at) = refused(f)?;
    let beyond = segment.usable() && !segment.in_limit(at, 1);
    beyond.then(|| {
        let grain = if segment.attr & attr::GRANULAR == 0 {
            ": the descriptor's G bit is clear, so its limit counts bytes and not pages"
        } else {
            ""
        };
        format!(
            "the access at {at:#x} is beyond the limit {:#x} of {}{grain}",
            segment.limit,
            s.name().to_uppercase()
        )
    })
}

/// The selector of the first fault's error code, if that names the GDT or an LDT.
fn selected(f: &Facts<'_>) -> Option<(Fault, Selector)> {
    let first = f.first().filter(|_| f.cpu.selectors())?;
    let kinds = [Vector::Gp, Vector::Np, Vector::Ss, Vector::Ts];
    let code = first.code().filter(|_| kinds.into_iter().any(|v| first.is(v)))?;
    (code & 2 == 0 && code & 0xfffc != 0).then_some((first, Selector(code & 0xfffc)))
}

fn descriptor(f: &Facts<'_>) -> Option<(Selector, Descriptor)> {
    let (_, selector) = selected(f)?;
    match named(f, selector) {
        Named::Found(d) => Some((selector, d)),
        _ => None,
    }
}

pub(super) fn gdt_not_loaded(f: &Facts<'_>) -> Option<String> {
    let (_, selector) = selected(f)?;
    (!selector.local() && f.cpu.gdtr.limit < 8).then(|| {
        format!(
            "selector {:#x} was used and no GDT is loaded (GDTR base {:#x}, limit {:#x}): run LGDT first; what a boot loader left in the segment registers does not last",
            selector.0, f.cpu.gdtr.base, f.cpu.gdtr.limit
        )
    })
}

pub(super) fn beyond_gdt(f: &Facts<'_>) -> Option<String> {
    let (_, selector) = selected(f)?;
    let beyond = !selector.local() && named(f, selector) == Named::BeyondLimit && f.cpu.gdtr.limit >= 8;
    beyond.then(|| {
        format!(
            "selector {:#x} is beyond the GDT, whose limit is {:#x} ({} descriptors): the limit is the table's size in bytes minus 1",
            selector.0,
            f.cpu.gdtr.limit,
            (u32::from(f.cpu.gdtr.limit) + 1) / 8
        )
    })
}

pub(super) fn descriptor_empty(f: &Facts<'_>) -> Option<String> {
    let (selector, d) = descriptor(f)?;
    (d.0 == 0).then(|| {
        format!(
            "selector {:#x} names an empty GDT entry: is the base in GDTR ({:#x}) where the table is?",
            selector.0, f.cpu.gdtr.base
        )
    })
}

pub(super) fn not_present(f: &Facts<'_>) -> Option<String> {
    let (selector, d) = descriptor(f)?;
    (d.0 != 0 && !d.present()).then(|| {
        format!(
            "the descriptor that selector {:#x} names is not present: its access byte is {:#04x}, and bit 7 (P) is clear",
            selector.0,
            d.attr() & 0xff
        )
    })
}

fn transfers(f: &Facts<'_>) -> bool {
    let far = [Op::JmpFar, Op::CallFar, Op::JmpFarMem, Op::CallFarMem, Op::Iret, Op::Retf];
    f.insn.is_some_and(|i| far.contains(&i.op))
}

pub(super) fn jump_to_data(f: &Facts<'_>) -> Option<String> {
    let (selector, d) = descriptor(f)?;
    (transfers(f) && d.is_segment() && !d.is_code()).then(|| {
        format!(
            "the far transfer goes to selector {:#x}, which is a data segment: CS needs a code segment (the first is often 0x8)",
            selector.0
        )
    })
}

pub(super) fn code_in_ss(f: &Facts<'_>) -> Option<String> {
    let (selector, d) = descriptor(f)?;
    let loads = f.insn.is_some_and(|i| matches!(i.op, Op::MovToSeg | Op::PopSeg | Op::LoadFar));
    (loads && d.is_code() && d.present()).then(|| {
        format!(
            "selector {:#x} is a code segment, and a stack or data segment register was loaded with it: the data selector was meant (often 0x10)",
            selector.0
        )
    })
}

pub(super) fn selector_rpl(f: &Facts<'_>) -> Option<String> {
    let (selector, d) = descriptor(f)?;
    let esp = f.stack();
    let wanted = Selector(f.dword(esp.wrapping_add(4))? as u16);
    let back = f.insn.is_some_and(|i| matches!(i.op, Op::Iret | Op::Retf));
    let wrong = back && d.is_code() && wanted.code() == selector.0 && wanted.rpl() != d.dpl();
    wrong.then(|| {
        format!(
            "the return goes to CS {:#x} with RPL {}, and that descriptor's DPL is {}: for user mode the selector takes RPL 3 and the descriptor DPL 3 ({:#x})",
            wanted.0,
            wanted.rpl(),
            d.dpl(),
            selector.0 | u16::from(d.dpl())
        )
    })
}

pub(super) fn int_gate_dpl(f: &Facts<'_>) -> Option<String> {
    let first = f.first().filter(|x| x.is(Vector::Gp) && f.cpu.selectors())?;
    let software = f.insn.is_some_and(|i| matches!(i.op, Op::Int | Op::Int3 | Op::Into));
    let code = first.code().filter(|c| c & 2 != 0 && software)?;
    let g = gate(f, (code >> 3) as u8);
    let dpl = g.raw.filter(|_| g.wrong.is_none() || g.wrong == Some(Wrong::InnerToOuter))?.dpl();
    (dpl < f.cpu.cpl).then(|| {
        format!(
            "ring {} ran INT {:#x}, and the gate's DPL is {dpl}: a system-call gate needs DPL 3 (flags 0xee or 0xef, not 0x8e)",
            f.cpu.cpl, g.vector
        )
    })
}

/// Whether the first fault is #GP(0), outside ring 0.
fn user_gp(f: &Facts<'_>) -> bool {
    f.first() == Some(Fault::GP0) && f.cpu.selectors() && f.cpu.cpl > 0
}

pub(super) fn privileged_in_user(f: &Facts<'_>) -> Option<String> {
    let op = f.insn.filter(|_| user_gp(f))?.op;
    let privileged = op.facts().ring == Ring::Cpl0;
    let io = op.facts().ring == Ring::Iopl && f.cpu.cpl > f.cpu.iopl();
    (privileged || io).then(|| {
        format!(
            "ring {} ran {}, which only ring 0 may: a system call has to do that for it",
            f.cpu.cpl,
            format!("{op:?}").to_uppercase()
        )
    })
}

pub(super) fn io_in_user(f: &Facts<'_>) -> Option<String> {
    let op = f.insn.filter(|_| user_gp(f))?.op;
    let io = matches!(op, Op::In | Op::Out | Op::Ins | Op::Outs) && f.cpu.cpl > f.cpu.iopl();
    io.then(|| {
        format!(
            "ring {} used a port, with IOPL {} and no permission in the TSS's bitmap: raise IOPL in the EFLAGS that IRET loads, or clear the port's bit",
            f.cpu.cpl,
            f.cpu.iopl()
        )
    })
}

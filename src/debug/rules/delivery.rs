//! Why an exception or interrupt could not be delivered: the IDT and its gates (SDM vol. 3, 6.10-6.12).

use crate::cpu::{Fault, Vector};
use crate::debug::chain::vector_text;
use crate::debug::facts::Facts;
use crate::debug::walk::{Gate, Named, Wrong, gate, kind_name, named};

/// The first gate of the chain that could not be gone through.
pub(super) fn blamed(f: &Facts<'_>) -> Option<Gate> {
    if !f.last_is_fatal() || !f.cpu.protected() {
        return None;
    }
    // INT n has no event of its own: the error code of its #GP or #NP names the gate.
    let named = f.first().filter(|x| !x.is(Vector::Pf)).and_then(Fault::code).filter(|c| c & 2 != 0);
    // What a handler was found for, was delivered.
    let tried = f.chain.iter().filter(|_| f.died()).map(|l| l.record.event.vector());
    named.map(|c| (c >> 3) as u8).into_iter().chain(tried).map(|v| gate(f, v)).find(|g| g.wrong.is_some())
}

fn blamed_for(f: &Facts<'_>, wrong: Wrong) -> Option<Gate> {
    blamed(f).filter(|g| g.wrong == Some(wrong))
}

pub(super) fn idt_not_loaded(f: &Facts<'_>) -> Option<String> {
    let reset = f.cpu.idtr.base == 0 && matches!(f.cpu.idtr.limit, 0xffff | 0x3ff);
    let g = blamed(f).filter(|_| reset)?;
    Some(format!(
        "no IDT was loaded: IDTR still holds its value from reset (base 0, limit {:#x}), so {} has no handler; run LIDT before the first exception can come",
        f.cpu.idtr.limit,
        vector_text(g.vector)
    ))
}

pub(super) fn limit_zero(f: &Facts<'_>) -> Option<String> {
    (f.died() && f.cpu.idtr.limit < 7).then(|| {
        format!(
            "the IDT limit is {:#x}: not one gate fits; LIDT takes the size of the table minus 1, 0x7ff for 256 gates (check the 6-byte operand: limit first, then base)",
            f.cpu.idtr.limit
        )
    })
}

pub(super) fn limit_entries(f: &Facts<'_>) -> Option<String> {
    blamed_for(f, Wrong::BeyondLimit).filter(|_| matches!(f.cpu.idtr.limit, 0xff | 0x100))?;
    Some(format!(
        "the IDT limit is {:#x}: LIDT was given the number of gates, not their size in bytes minus 1 (0x7ff)",
        f.cpu.idtr.limit
    ))
}

pub(super) fn limit_size(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::BeyondLimit).filter(|_| f.cpu.idtr.limit.is_multiple_of(8))?;
    Some(format!(
        "the IDT limit is {:#x}: LIDT was given a size, not the size minus 1, and the table ends before {}",
        f.cpu.idtr.limit,
        vector_text(g.vector)
    ))
}

pub(super) fn limit_short(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::BeyondLimit)?;
    Some(format!(
        "the IDT ends before {}: its limit is {:#x}, and that gate takes bytes {:#x} to {:#x}",
        vector_text(g.vector),
        f.cpu.idtr.limit,
        u32::from(g.vector) * 8,
        u32::from(g.vector) * 8 + 7
    ))
}

pub(super) fn gate_empty(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::Empty)?;
    Some(format!("the IDT gate of {} is empty: no handler was installed for it", vector_text(g.vector)))
}

pub(super) fn gate_type(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::BadType)?;
    Some(format!(
        "the IDT gate of {} has type {:#x}: an interrupt gate is 0xe, a trap gate 0xf (the byte 0x8e or 0x8f)",
        vector_text(g.vector),
        g.raw?.attr() & 0x1f
    ))
}

pub(super) fn gate_not_present(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::NotPresent)?;
    Some(format!(
        "the P bit of the IDT gate of {} is clear: its flags are {:#04x}, where {:#04x} was meant",
        vector_text(g.vector),
        g.raw?.attr() & 0xff,
        g.raw?.attr() & 0xff | 0x80
    ))
}

pub(super) fn selector_null(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::Selector(Named::Null))?;
    Some(format!(
        "the selector in the IDT gate of {} is 0: it must name the kernel's code segment",
        vector_text(g.vector)
    ))
}

pub(super) fn selector_data(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::NotCode)?;
    let selector = g.raw?.gate_selector();
    let Named::Found(d) = named(f, selector) else { return None };
    Some(format!(
        "the gate's selector is {}: the IDT gate of {} holds {:#x}, and a handler needs a code segment (often 0x8)",
        if d.is_segment() { "the data segment" } else { kind_name(d) },
        vector_text(g.vector),
        selector.0
    ))
}

pub(super) fn selector_beyond(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::Selector(Named::BeyondLimit))?;
    let selector = g.raw?.gate_selector().0;
    if f.cpu.gdtr.limit == 0 {
        return Some(format!(
            "the IDT gate of {} names selector {selector:#x}, and no GDT was loaded: a boot loader's segments live in the hidden parts only; run LGDT and reload the segments before the first exception",
            vector_text(g.vector)
        ));
    }
    Some(format!(
        "the selector {selector:#x} in the IDT gate of {} is beyond the GDT, whose limit is {:#x}",
        vector_text(g.vector),
        f.cpu.gdtr.limit
    ))
}

pub(super) fn code_not_present(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::CodeNotPresent)?;
    Some(format!(
        "the code segment {:#x} that the IDT gate of {} names is not present: bit 7 of its access byte is clear",
        g.raw?.gate_selector().0,
        vector_text(g.vector)
    ))
}

pub(super) fn offset(f: &Facts<'_>) -> Option<String> {
    let g = blamed_for(f, Wrong::Offset)?;
    Some(format!(
        "the handler's offset {:#x} in the IDT gate of {} is beyond the limit of code segment {:#x}",
        g.raw?.gate_offset(),
        vector_text(g.vector),
        g.raw?.gate_selector().0
    ))
}

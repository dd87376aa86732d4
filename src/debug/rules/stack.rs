//! Mistakes with stacks: the one that is in use, and the one that the TSS names for ring 0 (SDM vol. 3,
//! 6.12.1, 7.2.1).

use crate::cpu::{Cr0, Selector};
use crate::debug::facts::Facts;
use crate::debug::walk::{Named, Stopped, gate, named, pages};

/// A push reaches this far below ESP at most.
const FRAME: u32 = 64;
/// Occurrences of one return address above ESP that make a recursion.
const REPEATS: usize = 6;

/// The page fault of a push: its address, close below ESP.
fn push_fault(f: &Facts<'_>) -> Option<u32> {
    let top = f.stack();
    f.page_faults().filter_map(|x| x.address()).find(|at| top.wrapping_sub(*at) <= FRAME)
}

pub(super) fn overflow(f: &Facts<'_>) -> Option<String> {
    let at = push_fault(f).filter(|_| f.cpu.cr0.contains(Cr0::PG))?;
    // The stack that is still there begins at the next page.
    let above = if f.dword(f.stack()).is_some() { f.stack() } else { (at & !0xfff).wrapping_add(0x1000) };
    let words: Vec<u32> = (0..128).map_while(|n| f.dword(above.wrapping_add(4 * n))).collect();
    let seen = |w: u32| words.iter().filter(|&&x| x == w).count();
    let again = words.iter().copied().find(|&w| w != 0 && seen(w) >= REPEATS && f.translate(w).is_some())?;
    Some(format!(
        "the stack overflowed into the unmapped page at {:#010x}: it is full of the return address {}, so a function calls itself without end",
        at & !0xfff,
        f.place(again)
    ))
}

pub(super) fn unmapped(f: &Facts<'_>) -> Option<String> {
    let at = push_fault(f).filter(|_| f.cpu.cr0.contains(Cr0::PG) && f.cpu.cpl == 0)?;
    let absent = matches!(pages(f, at, 2).stopped, Stopped::PdeNotPresent | Stopped::PteNotPresent);
    absent.then(|| {
        format!(
            "the stack is in a page that is not mapped: ESP is {:#010x}, and the push at {at:#010x} found nothing; it was never set, has overflowed, or still holds a physical address",
            f.esp()
        )
    })
}

/// Whether a delivery from ring 1-3 needed the stack of ring 0 and did not get on.
fn needed_inner(f: &Facts<'_>) -> bool {
    let first = f.chain.first().map(|l| gate(f, l.record.event.vector()));
    f.died() && f.cpu.protected() && f.cpu.cpl > 0 && first.is_some_and(|g| g.wrong.is_none())
}

pub(super) fn no_task_register(f: &Facts<'_>) -> Option<String> {
    (needed_inner(f) && f.cpu.tr.selector.is_null()).then(|| {
        format!(
            "no TSS was loaded: the task register is 0, and an exception from ring {} takes its stack from the TSS; build one with SS0 and ESP0 and run LTR",
            f.cpu.cpl
        )
    })
}

/// ESP0 and SS0 of a 32-bit TSS.
fn inner(f: &Facts<'_>) -> Option<(u32, Selector)> {
    let wide = f.cpu.tr.attr & 8 != 0 && !f.cpu.tr.selector.is_null();
    if !needed_inner(f) || !wide {
        return None;
    }
    let base = f.cpu.tr.base;
    Some((f.dword(base.wrapping_add(4))?, Selector(f.dword(base.wrapping_add(8))? as u16)))
}

pub(super) fn esp0_zero(f: &Facts<'_>) -> Option<String> {
    let (esp0, _) = inner(f)?;
    (esp0 == 0).then(|| {
        format!(
            "ESP0 in the TSS is 0: the exception from ring {} found no stack for ring 0 (the first push goes to {:#x}); set ESP0 to the top of the kernel's stack",
            f.cpu.cpl,
            0u32.wrapping_sub(4)
        )
    })
}

pub(super) fn ss0_bad(f: &Facts<'_>) -> Option<String> {
    let (_, ss0) = inner(f)?;
    let why = match named(f, ss0) {
        Named::Null => "the null selector",
        Named::BeyondLimit => "a selector beyond the GDT",
        Named::Unmapped => "a descriptor that is not mapped",
        Named::Found(d) if !d.is_writable_data() => "no writable data segment",
        Named::Found(d) if d.dpl() != 0 || ss0.rpl() != 0 => "no segment of ring 0",
        Named::Found(_) => return None,
    };
    Some(format!("SS0 in the TSS is {:#x}: {why}; it must be the kernel's data selector", ss0.0))
}

pub(super) fn in_nothing(f: &Facts<'_>) -> Option<String> {
    let at = f.translate(f.stack().wrapping_sub(4))?;
    (f.cpu.protected() && f.open_bus(at)).then(|| {
        format!(
            "the stack is where this machine has no memory: ESP is {:#010x}; pushes are lost, and RET reads ones; set ESP before the first CALL",
            f.esp()
        )
    })
}

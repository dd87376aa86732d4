//! The processor's own walks, again and step by step, without side effects: through an IDT gate (SDM vol. 3,
//! 6.11), to a descriptor (3.5.1), through the page tables (4.3). Each says which bit fails.

use super::facts::Facts;
use crate::addr::Linear;
use crate::cpu::fault::pf;
use crate::cpu::segment::Descriptor;
use crate::cpu::{Cr0, Cr4, Selector};
use crate::mmu::pae;
use crate::mmu::paging::entry;
use crate::mmu::reserved::Reserved;

/// What is wrong with a descriptor as the target of a gate, or that nothing is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Null,
    BeyondLimit,
    Unmapped,
    Found(Descriptor),
}

/// What is wrong with a gate, the first thing the processor would stumble over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    BeyondLimit,
    Unmapped,
    Empty,
    BadType,
    NotPresent,
    Selector(Named),
    NotCode,
    CodeNotPresent,
    InnerToOuter,
    Offset,
}

/// An IDT entry.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    pub(super) vector: u8,
    pub(super) at: u32,
    pub(super) raw: Option<Descriptor>,
    pub(super) wrong: Option<Wrong>,
}

const TASK_GATE: u8 = 5;
const KINDS: [u8; 5] = [TASK_GATE, 6, 7, 14, 15];

pub(super) fn gate(f: &Facts<'_>, vector: u8) -> Gate {
    let offset = u32::from(vector) * 8;
    let at = f.cpu.idtr.base.wrapping_add(offset);
    let mut gate = Gate { vector, at, raw: None, wrong: None };
    if offset + 7 > u32::from(f.cpu.idtr.limit) {
        gate.wrong = Some(Wrong::BeyondLimit);
        return gate;
    }
    gate.raw = f.qword(at).map(Descriptor);
    gate.wrong = gate.raw.map_or(Some(Wrong::Unmapped), |d| wrong_with(f, d));
    gate
}

fn wrong_with(f: &Facts<'_>, gate: Descriptor) -> Option<Wrong> {
    if gate.0 == 0 {
        return Some(Wrong::Empty);
    }
    if gate.is_segment() || !KINDS.contains(&gate.kind()) {
        return Some(Wrong::BadType);
    }
    if !gate.present() {
        return Some(Wrong::NotPresent);
    }
    if gate.kind() == TASK_GATE {
        return None;
    }
    let d = match named(f, gate.gate_selector()) {
        Named::Found(d) => d,
        other => return Some(Wrong::Selector(other)),
    };
    let offset = if gate.kind() & 8 != 0 { gate.gate_offset() } else { gate.gate_offset() & 0xffff };
    if !d.is_code() {
        Some(Wrong::NotCode)
    } else if !d.present() {
        Some(Wrong::CodeNotPresent)
    } else if d.dpl() > f.cpu.cpl {
        Some(Wrong::InnerToOuter)
    } else {
        (offset > d.limit()).then_some(Wrong::Offset)
    }
}

/// The descriptor that `selector` names.
pub(super) fn named(f: &Facts<'_>, selector: Selector) -> Named {
    if selector.is_null() {
        return Named::Null;
    }
    let (base, limit) = match selector.local() {
        true => (f.cpu.ldtr.base, if f.cpu.ldtr.usable() { f.cpu.ldtr.limit } else { 0 }),
        false => (f.cpu.gdtr.base, u32::from(f.cpu.gdtr.limit)),
    };
    if selector.offset() + 7 > limit {
        return Named::BeyondLimit;
    }
    f.qword(base.wrapping_add(selector.offset())).map_or(Named::Unmapped, |d| Named::Found(Descriptor(d)))
}

/// The walk through a gate, a line for each table.
pub(super) fn gate_lines(f: &Facts<'_>, vector: u8) -> Vec<String> {
    let g = gate(f, vector);
    let mut lines = Vec::new();
    let Some(d) = g.raw else {
        let why = if g.wrong == Some(Wrong::BeyondLimit) {
            format!("<- beyond the limit {:#06x}", f.cpu.idtr.limit)
        } else {
            "<- this page is not mapped".into()
        };
        return vec![format!("IDT entry {vector:#04x} at {:#010x} {why}", g.at)];
    };
    let why = match g.wrong {
        Some(Wrong::Empty) => "  <- all zero: no gate",
        Some(Wrong::BadType) => "  <- type: no interrupt, trap or task gate",
        Some(Wrong::NotPresent) => "  <- P is clear",
        _ => "",
    };
    lines.push(format!(
        "IDT entry {vector:#04x} at {:#010x}: {:016x}  selector {:04x} offset {:08x} type {:x} DPL {} P {}{why}",
        g.at,
        d.0,
        d.gate_selector().0,
        d.gate_offset(),
        d.kind(),
        d.dpl(),
        u8::from(d.present())
    ));
    if why.is_empty() {
        lines.push(descriptor_line(f, d.gate_selector(), g.wrong));
    }
    lines
}

/// A descriptor in a line; `wrong` is what a gate holds against it.
pub(super) fn descriptor_line(f: &Facts<'_>, selector: Selector, wrong: Option<Wrong>) -> String {
    let table = if selector.local() { "LDT" } else { "GDT" };
    let entry = format!("{table} entry {} (selector {:04x})", selector.offset() / 8, selector.0);
    let d = match named(f, selector) {
        Named::Null => return format!("{entry}  <- the null selector"),
        Named::BeyondLimit => {
            return format!("{entry}  <- beyond the table's limit {:#06x}", f.cpu.gdtr.limit);
        }
        Named::Unmapped => return format!("{entry}  <- its page is not mapped"),
        Named::Found(d) => d,
    };
    let why = match wrong {
        Some(Wrong::NotCode) => "  <- not a code segment",
        Some(Wrong::CodeNotPresent) => "  <- P is clear",
        Some(Wrong::InnerToOuter) => "  <- DPL is above CPL",
        Some(Wrong::Offset) => "  <- the gate's offset is beyond its limit",
        _ if d.0 == 0 => "  <- all zero: no descriptor",
        _ if !d.present() => "  <- P is clear",
        _ => "",
    };
    format!(
        "{entry}: {:016x}  base {:08x} limit {:08x} type {} DPL {} P {} D/B {}{why}",
        d.0,
        d.base(),
        d.limit(),
        kind_name(d),
        d.dpl(),
        u8::from(d.present()),
        u8::from(d.attr() & crate::cpu::segment::attr::BIG != 0)
    )
}

/// What a descriptor is, in words.
pub(super) fn kind_name(d: Descriptor) -> &'static str {
    if d.0 == 0 {
        "nothing"
    } else if d.is_code() {
        "code"
    } else if d.is_segment() {
        "data"
    } else {
        match d.kind() {
            1 | 9 => "TSS",
            3 | 11 => "busy TSS",
            2 => "LDT",
            4 | 12 => "call gate",
            5 => "task gate",
            _ => "system",
        }
    }
}

/// What stops an access in the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    PointerNotPresent,
    PdeNotPresent,
    PteNotPresent,
    PdeReserved,
    PteReserved,
    PdeNotUser,
    PteNotUser,
    PdeReadOnly,
    PteReadOnly,
    Nothing,
}

/// A walk: the entries seen, and where it stops. Entries of 32-bit paging have their upper half clear.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageWalk {
    /// With PAE, the register that is the top level.
    pub(super) pointer: Option<u64>,
    pub(super) pde_at: u32,
    pub(super) pde: u64,
    /// Address and value, if the walk comes that far.
    pub(super) pte: Option<(u32, u64)>,
    pub(super) stopped: Stopped,
}

/// How entries are laid out: PAE's, or those of 32-bit paging.
struct Layout {
    pae: bool,
    /// Whether a PDE may map a large page.
    large: bool,
    /// Reserved bits.
    reserved: Reserved,
}

impl Layout {
    fn of(f: &Facts<'_>) -> Self {
        let pae = f.cpu.cr4.contains(Cr4::PAE);
        let pse = f.cpu.cr4.contains(Cr4::PSE);
        Self { pae, large: pae || pse, reserved: Reserved::of(f.cpu) }
    }
    fn read(&self, f: &Facts<'_>, at: u32) -> u64 {
        let low = u64::from(f.physical(at));
        if self.pae { low | u64::from(f.physical(at.wrapping_add(4))) << 32 } else { low }
    }
    fn pte_at(&self, pde: u64, at: u32) -> u32 {
        if self.pae {
            pae::pte_address(pde, Linear(at)).0
        } else {
            (pde as u32 & entry::FRAME) | (((at >> 12) & 0x3ff) << 2)
        }
    }
}

/// Walks to `at` for the access that the page-fault error code `code` tells of.
pub(super) fn pages(f: &Facts<'_>, at: u32, code: u16) -> PageWalk {
    let layout = Layout::of(f);
    let pointer = layout.pae.then(|| f.cpu.pdptes[(at >> 30) as usize]);
    let pde_at = match pointer {
        Some(p) => pae::pde_address(p, Linear(at)).0,
        None => (f.cpu.cr3 & entry::FRAME) | ((at >> 22) << 2),
    };
    if pointer.is_some_and(|p| !pae::present(p)) {
        return PageWalk { pointer, pde_at, pde: 0, pte: None, stopped: Stopped::PointerNotPresent };
    }
    let pde = layout.read(f, pde_at);
    let done = |pte, stopped| PageWalk { pointer, pde_at, pde, pte, stopped };
    let (pde_bits, large) = (pde as u32, pae::large(pde) && layout.large);
    if !pae::present(pde) {
        return done(None, Stopped::PdeNotPresent);
    }
    if pde & layout.reserved.of_pde(large) != 0 {
        return done(None, Stopped::PdeReserved);
    }
    let refused =
        rights(f, pde_bits, code).map(|r| if r { Stopped::PdeNotUser } else { Stopped::PdeReadOnly });
    if large {
        return done(None, refused.unwrap_or(Stopped::Nothing));
    }
    let pte_at = layout.pte_at(pde, at);
    let pte = layout.read(f, pte_at);
    let stopped = if !pae::present(pte) {
        Stopped::PteNotPresent
    } else if pte & layout.reserved.small != 0 {
        Stopped::PteReserved
    } else if let Some(refused) = refused {
        refused
    } else if let Some(user) = rights(f, pte as u32, code) {
        if user { Stopped::PteNotUser } else { Stopped::PteReadOnly }
    } else {
        Stopped::Nothing
    };
    done(Some((pte_at, pte)), stopped)
}

/// What `entry` refuses to the access: `Some(true)` by U/S, `Some(false)` by R/W.
fn rights(f: &Facts<'_>, entry: u32, code: u16) -> Option<bool> {
    let user = code & pf::USER != 0;
    if user && entry & entry::USER == 0 {
        return Some(true);
    }
    let heeds = user || f.cpu.cr0.contains(Cr0::WP);
    (code & pf::WRITE != 0 && heeds && entry & entry::WRITE == 0).then_some(false)
}

/// The walk, a line for each level.
pub(super) fn page_lines(f: &Facts<'_>, at: u32, code: u16) -> Vec<String> {
    let w = pages(f, at, code);
    let why = |stops: [(Stopped, &str); 4]| {
        let found = stops.iter().find(|(s, _)| *s == w.stopped);
        found.map_or(String::new(), |(_, text)| format!("  <- {text}"))
    };
    let pae = w.pointer.is_some();
    let (pde_reserved, pte_reserved) = match pae {
        true => ("a reserved bit (32-63, in a large page 12-20) is set", "a reserved bit (7, 32-63) is set"),
        false => ("a reserved bit (12-21) is set", "bit 7 is set and reserved"),
    };
    let pde = why([
        (Stopped::PdeNotPresent, "P (bit 0) is clear: not present"),
        (Stopped::PdeReserved, pde_reserved),
        (Stopped::PdeNotUser, "U/S (bit 2) is clear: supervisor only"),
        (Stopped::PdeReadOnly, "R/W (bit 1) is clear: read-only"),
    ]);
    let pte = why([
        (Stopped::PteNotPresent, "P (bit 0) is clear: not present"),
        (Stopped::PteReserved, pte_reserved),
        (Stopped::PteNotUser, "U/S (bit 2) is clear: supervisor only"),
        (Stopped::PteReadOnly, "R/W (bit 1) is clear: read-only"),
    ]);
    let mut lines = vec![format!("CR3 {:#010x}", f.cpu.cr3)];
    if let Some(pointer) = w.pointer {
        let absent = w.stopped == Stopped::PointerNotPresent;
        let why = if absent { "  <- P (bit 0) is clear: not present" } else { "" };
        lines.push(format!("PDPTE register {}: {pointer:016x}{why}", at >> 30));
        if absent {
            return lines;
        }
    }
    let (shift, mask) = if pae { (21, 0x1ff) } else { (22, 0x3ff) };
    let bits = |e| entry_bits(e, pae);
    lines.push(format!("PDE {:#x} at {:#010x}: {}{pde}", at >> shift & mask, w.pde_at, bits(w.pde)));
    if let Some((pte_at, value)) = w.pte {
        lines.push(format!("PTE {:#x} at {pte_at:#010x}: {}{pte}", at >> 12 & mask, bits(value)));
    }
    if w.stopped == Stopped::Nothing {
        lines.push(
            "the tables allow it now: they were changed after the fault, or a stale TLB entry served".into(),
        );
    }
    lines
}

fn entry_bits(e: u64, pae: bool) -> String {
    let bit = |mask: u32, name: &'static str| if e as u32 & mask != 0 { name } else { "-" };
    let digits = if pae { 16 } else { 8 };
    format!(
        "{e:0digits$x} [{} {} {} {}]",
        bit(entry::PRESENT, "P"),
        bit(entry::WRITE, "W"),
        bit(entry::USER, "U"),
        bit(entry::LARGE, "PS")
    )
}

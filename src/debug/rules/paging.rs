//! Mistakes with page tables (SDM vol. 3, 4.3, 4.6, 4.7).

use crate::cpu::fault::pf;
use crate::cpu::{Cr0, Cr4, Fault};
use crate::debug::facts::Facts;
use crate::debug::walk::{PageWalk, Stopped, pages};
use crate::mmu::paging::entry;

fn on(f: &Facts<'_>) -> bool {
    f.cpu.cr0.contains(Cr0::PG)
}

/// The page faults of the chain with their walks.
fn walks(f: &Facts<'_>) -> impl Iterator<Item = (Fault, u32, PageWalk)> {
    f.page_faults().filter_map(|x| {
        let at = x.address()?;
        on(f).then(|| (x, at, pages(f, at, x.code().unwrap_or(0))))
    })
}

/// The page fault that comes first, if its walk stops there.
fn stopped(f: &Facts<'_>, stops: &[Stopped]) -> Option<(Fault, u32, PageWalk)> {
    walks(f).next().filter(|(_, _, w)| stops.contains(&w.stopped))
}

const ABSENT: [Stopped; 3] = [Stopped::PointerNotPresent, Stopped::PdeNotPresent, Stopped::PteNotPresent];

fn pae(f: &Facts<'_>) -> bool {
    f.cpu.cr4.contains(Cr4::PAE)
}

pub(super) fn cr3_linear(f: &Facts<'_>) -> Option<String> {
    let outside = on(f) && f.open_bus(f.cpu.cr3 & entry::FRAME);
    outside.then(|| {
        format!(
            "CR3 points at a linear address: it is {:#010x}, where this machine has no memory; CR3 takes the physical address of the page directory",
            f.cpu.cr3
        )
    })
}

pub(super) fn directory_empty(f: &Facts<'_>) -> Option<String> {
    walks(f).next()?;
    if pae(f) {
        let none = f.cpu.pdptes.iter().all(|&p| !crate::mmu::pae::present(p));
        return none.then(|| {
            format!(
                "none of the four entries of the page-directory-pointer table at CR3 ({:#010x}) was present when they were loaded: with CR4.PAE, CR3 takes the address of that table, and each load of CR3 reads it",
                f.cpu.cr3 & !0x1f
            )
        });
    }
    let at = f.cpu.cr3 & entry::FRAME;
    let directory: [u8; 4096] = f.physical_bytes(at);
    directory.iter().all(|&b| b == 0).then(|| {
        format!(
            "the page directory at CR3 ({at:#010x}) is empty: it was not filled before paging was turned on, or lies elsewhere"
        )
    })
}

pub(super) fn large_without_pse(f: &Facts<'_>) -> Option<String> {
    let ignored = !f.cpu.cr4.contains(Cr4::PSE) && !pae(f);
    let (_, _, w) = walks(f)
        .find(|(_, _, w)| w.pde as u32 & (entry::PRESENT | entry::LARGE) == entry::PRESENT | entry::LARGE)?;
    ignored.then(|| {
        format!(
            "the PDE at {:#010x} has PS (bit 7) set for a 4 MiB page, and CR4.PSE is clear: the processor takes it for a page table; set CR4 bit 4 before paging",
            w.pde_at
        )
    })
}

pub(super) fn table_outside_ram(f: &Facts<'_>) -> Option<String> {
    let eip = f.cpu.linear_eip();
    // Where nothing answers, entries read as ones, and everything seems to be mapped.
    let code = on(f).then(|| (eip, pages(f, eip, 0)));
    let mut all = walks(f).map(|(_, at, w)| (at, w)).chain(code);
    let (at, w) = all.find(|(_, w)| w.pte.is_some_and(|(at, _)| f.open_bus(at)))?;
    Some(format!(
        "the PDE for {at:#010x} ({:08x}) names a page table where this machine has no memory: an entry takes the physical address of the table, not its linear one",
        w.pde
    ))
}

pub(super) fn not_identity(f: &Facts<'_>) -> Option<String> {
    let (_, at, _) = stopped(f, &ABSENT)?;
    let eip = f.cpu.linear_eip();
    // MOV CR0, EAX: 0F 22 C0. It is read at its physical address, where it ran from.
    let before: [u8; 3] = f.physical_bytes(eip.wrapping_sub(3));
    let just = before[..2] == [0x0f, 0x22] && before[2] & 0xf8 == 0xc0;
    (at == eip && just).then(|| {
        format!(
            "paging was turned on by code that the page tables do not map: the next instruction, at {at:#010x}, cannot be fetched; map the page of that code to itself until the kernel has jumped to its own addresses"
        )
    })
}

/// The first page fault that lies in a table of `size` bytes at `base`.
fn in_table(f: &Facts<'_>, base: u32, limit: u16) -> Option<u32> {
    let within = |at: u32| at.wrapping_sub(base) <= u32::from(limit);
    walks(f).find(|(_, at, w)| within(*at) && ABSENT.contains(&w.stopped)).map(|(_, at, _)| at)
}

pub(super) fn gdt_unmapped(f: &Facts<'_>) -> Option<String> {
    let at = in_table(f, f.cpu.gdtr.base, f.cpu.gdtr.limit).filter(|_| f.cpu.gdtr.limit != 0)?;
    Some(format!(
        "the GDT is in a page that is not mapped: GDTR says {:#010x}, and the descriptor at {at:#010x} cannot be read; GDTR takes a linear address, so map the page or load GDTR anew after paging is on",
        f.cpu.gdtr.base
    ))
}

pub(super) fn idt_unmapped(f: &Facts<'_>) -> Option<String> {
    let loaded = f.cpu.idtr.base != 0;
    let at = in_table(f, f.cpu.idtr.base, f.cpu.idtr.limit).filter(|_| loaded)?;
    Some(format!(
        "the IDT is in a page that is not mapped: IDTR says {:#010x}, and the gate at {at:#010x} cannot be read; IDTR takes a linear address",
        f.cpu.idtr.base
    ))
}

pub(super) fn null_pointer(f: &Facts<'_>) -> Option<String> {
    let first = f.first().filter(|_| on(f))?;
    let at = first.address().filter(|&at| at < 0x1000)?;
    Some(if at == f.cpu.linear_eip() {
        format!("a call or jump through a null pointer: EIP is {at:#x}, in a page that is not mapped")
    } else {
        format!("a null pointer was used: the access is at {at:#x}, in page 0, which is not mapped")
    })
}

pub(super) fn pde_not_user(f: &Facts<'_>) -> Option<String> {
    let (_, at, w) = stopped(f, &[Stopped::PdeNotUser])?;
    Some(format!(
        "the PDE for {at:#010x} ({:08x}) is present but not user: ring 3 needs U/S (bit 2) in the directory's entry too, not only in the page's",
        w.pde
    ))
}

pub(super) fn pte_not_user(f: &Facts<'_>) -> Option<String> {
    let (_, at, w) = stopped(f, &[Stopped::PteNotUser])?;
    Some(format!(
        "the PTE for {at:#010x} ({:08x}) is present but not user: set U/S (bit 2) for pages that ring 3 uses",
        w.pte?.1
    ))
}

pub(super) fn read_only(f: &Facts<'_>) -> Option<String> {
    let (fault, at, w) = stopped(f, &[Stopped::PdeReadOnly, Stopped::PteReadOnly])?;
    let level = if w.stopped == Stopped::PdeReadOnly { "PDE" } else { "PTE" };
    let wp = if fault.code()? & pf::USER == 0 { "; CR0.WP makes ring 0 heed it" } else { "" };
    Some(format!("a write to a read-only page at {at:#010x}: R/W (bit 1) of its {level} is clear{wp}"))
}

pub(super) fn reserved_bit(f: &Facts<'_>) -> Option<String> {
    let (_, at, w) = stopped(f, &[Stopped::PdeReserved, Stopped::PteReserved])?;
    let value = w.pte.map_or(w.pde, |(_, pte)| pte);
    if pae(f) {
        return Some(format!(
            "the page-table entry for {at:#010x} ({value:016x}) has a reserved bit set: physical addresses have 32 bits here and there is no execute-disable, so bits 32-63 must be 0, as must bits 12-20 of a 2 MiB page and bit 7 of a PTE"
        ));
    }
    Some(format!(
        "the page-table entry for {at:#010x} ({value:08x}) has a reserved bit set: the base of a 4 MiB page must be a multiple of 4 MiB, and bit 7 of a PTE must be 0"
    ))
}

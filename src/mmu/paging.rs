//! The page walker: 32-bit paging with 4 KiB and 4 MiB pages (SDM vol. 3, 4.3, 4.6-4.8), and with CR4.PAE
//! that of [`super::pae`]. It is a function of the processor's state and of the tables; the TLB keeps what it
//! returns.

pub use super::mapping::{Access, Mapping, TableMemory, entry};
use super::mapping::{page_fault, permit, set_bits, used};
use super::reserved::Reserved;
use crate::addr::{GuestPhys, Linear};
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Cr0, Cr4, Fault};

/// Translates the page of `at` for `access`, setting accessed and dirty bits. With paging off every address
/// is its own frame.
///
/// # Errors
/// #PF.
pub fn walk(cpu: &Cpu, mem: &mut impl TableMemory, at: Linear, access: Access) -> Result<Mapping, Fault> {
    if !cpu.cr0.contains(Cr0::PG) {
        return Ok(Mapping {
            frame: GuestPhys(at.0).page(),
            user: true,
            write: true,
            execute: true,
            dirty: true,
            global: true,
            large: false,
        });
    }
    if cpu.cr4.contains(Cr4::PAE) {
        return super::pae::walk(cpu, mem, at, access);
    }
    let pde_at = GuestPhys((cpu.cr3 & entry::FRAME) | ((at.0 >> 22) << 2));
    let pde = mem.read_entry(pde_at);
    if pde & entry::PRESENT == 0 {
        return Err(page_fault(cpu, at, access, 0));
    }
    if pde & entry::LARGE != 0 && cpu.cr4.contains(Cr4::PSE) {
        return walk_large(cpu, mem, at, access, (pde_at, pde));
    }
    let pte_at = GuestPhys((pde & entry::FRAME) | (((at.0 >> 12) & 0x3ff) << 2));
    let pte = mem.read_entry(pte_at);
    if pte & entry::PRESENT == 0 {
        return Err(page_fault(cpu, at, access, 0));
    }
    if u64::from(pte) & Reserved::of(cpu).small != 0 {
        return Err(page_fault(cpu, at, access, pf::PRESENT | pf::RESERVED));
    }
    let both = pde & pte;
    let mapping = Mapping {
        frame: GuestPhys(pte & entry::FRAME),
        user: both & entry::USER != 0,
        write: both & entry::WRITE != 0,
        execute: true,
        dirty: access.write || pte & entry::DIRTY != 0,
        global: pte & entry::GLOBAL != 0 && cpu.cr4.contains(Cr4::PGE),
        large: false,
    };
    permit(cpu, at, access, &mapping)?;
    set_bits(mem, pde_at, pde, entry::ACCESSED);
    set_bits(mem, pte_at, pte, used(access));
    Ok(mapping)
}

fn walk_large(
    cpu: &Cpu,
    mem: &mut impl TableMemory,
    at: Linear,
    access: Access,
    (pde_at, pde): (GuestPhys, u32),
) -> Result<Mapping, Fault> {
    if u64::from(pde) & Reserved::of(cpu).large != 0 {
        return Err(page_fault(cpu, at, access, pf::PRESENT | pf::RESERVED));
    }
    let mapping = Mapping {
        frame: GuestPhys((pde & entry::LARGE_FRAME) | (at.0 & !entry::LARGE_FRAME & entry::FRAME)),
        user: pde & entry::USER != 0,
        write: pde & entry::WRITE != 0,
        execute: true,
        dirty: access.write || pde & entry::DIRTY != 0,
        global: pde & entry::GLOBAL != 0 && cpu.cr4.contains(Cr4::PGE),
        large: true,
    };
    permit(cpu, at, access, &mapping)?;
    set_bits(mem, pde_at, pde, used(access));
    Ok(mapping)
}

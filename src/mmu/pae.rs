//! PAE paging (SDM vol. 3, 4.4): tables of 64-bit entries, pages of 4 KiB and 2 MiB. [`super::paging::walk`]
//! comes here when CR4.PAE is set, and the observers that show page tables take the layout from here.
//!
//! The top level is not walked: its four entries are registers, [`Cpu::pdptes`], loaded with CR3 and with
//! changes of CR0 and CR4 by [`load_pointers`].
//!
//! Reserved bits of the lower levels are in [`super::reserved`]. Bit 63 is reserved in the top level, always.

pub use super::mapping::read_wide as read;
use super::mapping::{Access, Mapping, TableMemory, entry, page_fault, permit, set_bits, used};
use super::reserved::{EXECUTE_DISABLE, Reserved};
use crate::addr::{GuestPhys, Linear};
use crate::cpu::{Cpu, Cr4, Fault};

/// The page frame in an entry.
pub const FRAME: u64 = 0xffff_f000;
/// The frame of a 2 MiB page.
pub const LARGE_FRAME: u64 = 0xffe0_0000;
/// What is reserved in a page-directory-pointer-table entry: bits 1, 2 and 5-8, and beyond the physical address.
pub const POINTER_RESERVED: u64 = 0xffff_ffff_0000_01e6;

/// Whether `e` is present.
pub fn present(e: u64) -> bool {
    e as u32 & entry::PRESENT != 0
}

/// Whether the PDE `e` maps a 2 MiB page. CR4.PSE does not matter.
pub fn large(e: u64) -> bool {
    e as u32 & entry::LARGE != 0
}

/// Where the PDE for `at` stands in the directory that `pointer` names.
pub fn pde_address(pointer: u64, at: Linear) -> GuestPhys {
    GuestPhys((pointer & FRAME) as u32 | (at.0 >> 21 & 0x1ff) << 3)
}

/// Where the PTE for `at` stands in the table that `pde` names.
pub fn pte_address(pde: u64, at: Linear) -> GuestPhys {
    GuestPhys((pde & FRAME) as u32 | (at.0 >> 12 & 0x1ff) << 3)
}

/// The four entries of the page-directory-pointer table at `cr3`; `None` if a present one has reserved bits
/// set, which is #GP(0) to the instruction that loads them (SDM vol. 3, 4.4.1).
pub fn load_pointers(mem: &impl TableMemory, cr3: u32) -> Option<[u64; 4]> {
    let table = GuestPhys(cr3 & !0x1f);
    let pointers = [0, 8, 16, 24].map(|offset| read(mem, table.offset(offset)));
    let valid = pointers.iter().all(|&p| !present(p) || p & POINTER_RESERVED == 0);
    valid.then_some(pointers)
}

pub(super) fn walk(
    cpu: &Cpu,
    mem: &mut impl TableMemory,
    at: Linear,
    access: Access,
) -> Result<Mapping, Fault> {
    let pointer = cpu.pdptes[(at.0 >> 30) as usize];
    if !present(pointer) {
        return Err(page_fault(cpu, at, access, 0));
    }
    let pde_at = pde_address(pointer, at);
    let pde = read_present(cpu, mem, pde_at, at, access)?;
    if large(pde) {
        return walk_large(cpu, mem, at, access, (pde_at, pde));
    }
    let reserved = Reserved::of(cpu);
    heed_reserved(cpu, pde, reserved.table, at, access)?;
    let pte_at = pte_address(pde, at);
    let pte = read_present(cpu, mem, pte_at, at, access)?;
    heed_reserved(cpu, pte, reserved.small, at, access)?;
    let execute = (pde | pte) & EXECUTE_DISABLE == 0;
    let mapping = Mapping { execute, ..mapping(cpu, access, pte, pde & pte, pte & FRAME) };
    permit(cpu, at, access, &mapping)?;
    set_bits(mem, pde_at, pde as u32, entry::ACCESSED);
    set_bits(mem, pte_at, pte as u32, used(access));
    Ok(mapping)
}

fn walk_large(
    cpu: &Cpu,
    mem: &mut impl TableMemory,
    at: Linear,
    access: Access,
    (pde_at, pde): (GuestPhys, u64),
) -> Result<Mapping, Fault> {
    heed_reserved(cpu, pde, Reserved::of(cpu).large, at, access)?;
    let frame = pde & LARGE_FRAME | u64::from(at.0) & !LARGE_FRAME & FRAME;
    let execute = pde & EXECUTE_DISABLE == 0;
    let mapping = Mapping { large: true, execute, ..mapping(cpu, access, pde, pde, frame) };
    permit(cpu, at, access, &mapping)?;
    set_bits(mem, pde_at, pde as u32, used(access));
    Ok(mapping)
}

/// The mapping that `leaf` gives, with the rights that all levels give.
fn mapping(cpu: &Cpu, access: Access, leaf: u64, rights: u64, frame: u64) -> Mapping {
    let (leaf, rights) = (leaf as u32, rights as u32);
    Mapping {
        frame: GuestPhys(frame as u32),
        user: rights & entry::USER != 0,
        write: rights & entry::WRITE != 0,
        execute: true,
        dirty: access.write || leaf & entry::DIRTY != 0,
        global: leaf & entry::GLOBAL != 0 && cpu.cr4.contains(Cr4::PGE),
        large: false,
    }
}

fn read_present(
    cpu: &Cpu,
    mem: &impl TableMemory,
    entry_at: GuestPhys,
    at: Linear,
    access: Access,
) -> Result<u64, Fault> {
    let e = read(mem, entry_at);
    if present(e) { Ok(e) } else { Err(page_fault(cpu, at, access, 0)) }
}

fn heed_reserved(cpu: &Cpu, e: u64, reserved: u64, at: Linear, access: Access) -> Result<(), Fault> {
    use crate::cpu::fault::pf;
    if e & reserved == 0 { Ok(()) } else { Err(page_fault(cpu, at, access, pf::PRESENT | pf::RESERVED)) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tables;
    use super::*;
    use crate::cpu::Cr0;

    const READ: Access = Access::read(false);
    const WRITE: Access = Access::write(false);

    fn processor() -> Cpu {
        let mut cpu = Cpu::new();
        cpu.cr0 = Cr0::PE | Cr0::PG;
        cpu.cr4 = Cr4::PAE;
        cpu.pdptes = [0x1001, 0, 0, 0x2001];
        cpu
    }

    #[test]
    fn three_levels_lead_to_a_page() {
        let (cpu, mut mem) = (processor(), Tables::default());
        mem.put(0x2000 + 8 * 0x155, 0x3003);
        mem.put(0x3000 + 8 * 0x0aa, 0xabcd_e003);
        let at = Linear(3 << 30 | 0x155 << 21 | 0xaa << 12 | 0x123);
        let m = walk(&cpu, &mut mem, at, WRITE).unwrap();
        assert_eq!(
            (m.frame, m.user, m.write, m.dirty, m.large),
            (GuestPhys(0xabcd_e000), false, true, true, false)
        );
        assert_eq!((mem.get(0x2000 + 8 * 0x155), mem.get(0x3000 + 8 * 0xaa)), (0x3023, 0xabcd_e063));
    }

    #[test]
    fn a_large_page_is_of_two_megabytes() {
        let (cpu, mut mem) = (processor(), Tables::default());
        mem.put(0x1008, 0x0060_0083);
        let m = walk(&cpu, &mut mem, Linear(0x0023_4567), READ).unwrap();
        assert_eq!((m.frame, m.large, m.dirty), (GuestPhys(0x0063_4000), true, false));
        assert_eq!(mem.get(0x1008), 0x0060_00a3);
    }

    #[test]
    fn reserved_bits_fault_and_change_nothing() {
        let cpu = processor();
        for (pde, pte) in [
            (0x1_0000_3003, 0x5003),
            (1 << 63 | 0x3003, 0x5003),
            (0x3003, 0x5083),
            (0x3003, 0x1_0000_5003),
            (0x3003, 1 << 63 | 0x5003),
            (0x0020_1083, 0),
            (0x0030_0083, 0),
        ] {
            let mut mem = Tables::default();
            mem.put(0x1000, pde);
            mem.put(0x3000, pte);
            let fault = walk(&cpu, &mut mem, Linear(0), WRITE).unwrap_err();
            assert_eq!(fault.code(), Some(0xb), "{pde:x} {pte:x}");
            assert_eq!((mem.get(0x1000), mem.get(0x3000)), (pde, pte));
        }
    }

    #[test]
    fn execute_disable_forbids_fetches_alone() {
        let mut cpu = processor();
        cpu.msrs.efer = crate::cpu::control::EFER_NXE;
        for (pde, pte) in [(0x3003, 1 << 63 | 0x5003), (1 << 63 | 0x3003, 0x5003), (1 << 63 | 0x0020_0083, 0)]
        {
            let mut mem = Tables::default();
            mem.put(0x1000, pde);
            mem.put(0x3000, pte);
            let fault = walk(&cpu, &mut mem, Linear(0), Access::fetch(false)).unwrap_err();
            assert_eq!(fault.code(), Some(0x11), "{pde:x} {pte:x}");
            assert!(walk(&cpu, &mut mem, Linear(0), WRITE).is_ok());
        }
        let absent = walk(&cpu, &mut Tables::default(), Linear(0), Access::fetch(true)).unwrap_err();
        assert_eq!(absent.code(), Some(0x14));
    }

    #[test]
    fn absent_levels_fault_without_the_present_bit() {
        let (cpu, mut mem) = (processor(), Tables::default());
        for at in [0x4000_0000, 0x8000_0000, 0] {
            let fault = walk(&cpu, &mut mem, Linear(at), READ).unwrap_err();
            assert_eq!((fault.code(), fault.address()), (Some(0), Some(at)));
        }
    }

    #[test]
    fn pointers_with_reserved_bits_are_not_loaded() {
        let mut mem = Tables::default();
        mem.put(0x5020, 0x6001);
        mem.put(0x5028, 0x7fe6);
        assert_eq!(load_pointers(&mem, 0x503f), Some([0x6001, 0x7fe6, 0, 0]));
        for bad in [0x7003, 0x7005, 0x7021, 0x7101, 1 << 32 | 0x7001, 1 << 63 | 0x7001] {
            mem.put(0x5038, bad);
            assert_eq!(load_pointers(&mem, 0x5020), None, "{bad:x}");
        }
    }
}

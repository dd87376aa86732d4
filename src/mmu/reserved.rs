//! Reserved bits of page-table entries (SDM vol. 3, 4.3 and 4.4.2). Which these are depends on the mode, on the
//! processor's features and on IA32_EFER.NXE; an entry with one of them set is a page fault with RSVD.
//!
//! Physical addresses have 32 bits, and CPUID says so (leaf 80000008H): the buses have no more. So bits 32-62 of
//! PAE's entries are reserved, and there is no PSE-36.

use crate::cpu::{Cpu, Cr4, Features};

/// Execute-disable, with IA32_EFER.NXE.
pub const EXECUTE_DISABLE: u64 = 1 << 63;
/// Beyond the physical address, with bit 63.
const UPPER: u64 = 0xffff_ffff_0000_0000;
/// Bits 12-21 of a 4 MiB PDE.
const LARGE_4M: u64 = 0x003f_f000;
/// Bits 12-20 of a 2 MiB PDE.
const LARGE_2M: u64 = 0x001f_f000;
/// PAT in the PDE of a large page.
const LARGE_PAT: u64 = 1 << 12;
/// PAT in a PTE.
const SMALL_PAT: u64 = 1 << 7;

/// The reserved bits of each kind of entry. Entries of 32-bit paging have their upper half clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Of a PDE that names a table.
    pub table: u64,
    /// Of a PDE that maps a large page.
    pub large: u64,
    /// Of a PTE.
    pub small: u64,
}

impl Reserved {
    /// The bits that `cpu` heeds now.
    #[inline]
    pub fn of(cpu: &Cpu) -> Self {
        let pat = cpu.features.contains(Features::PAT);
        let without_pat = |bits: u64, pat_bit: u64| if pat { bits & !pat_bit } else { bits };
        if cpu.cr4.contains(Cr4::PAE) {
            let upper = if cpu.execute_disable() { UPPER & !EXECUTE_DISABLE } else { UPPER };
            return Self {
                table: upper,
                large: upper | without_pat(LARGE_2M, LARGE_PAT),
                small: upper | without_pat(SMALL_PAT, SMALL_PAT),
            };
        }
        // Without CR4.PSE nothing is reserved, and no page is large.
        let small = if cpu.cr4.contains(Cr4::PSE) { without_pat(SMALL_PAT, SMALL_PAT) } else { 0 };
        Self { table: 0, large: without_pat(LARGE_4M, LARGE_PAT), small }
    }

    /// The bits of the PDE `pde`, which is one that maps a page if `large`.
    pub fn of_pde(&self, large: bool) -> u64 {
        if large { self.large } else { self.table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::control::EFER_NXE;

    #[test]
    fn pat_and_execute_disable_make_bits_of_reserved_ones() {
        let mut cpu = Cpu::new();
        assert_eq!(Reserved::of(&cpu), Reserved { table: 0, large: 0x3f_f000, small: 0 });
        cpu.cr4 = Cr4::PSE;
        assert_eq!(Reserved::of(&cpu).small, SMALL_PAT);
        cpu.features |= Features::PAT | Features::NX;
        assert_eq!(Reserved::of(&cpu), Reserved { table: 0, large: 0x3f_e000, small: 0 });
        cpu.cr4 = Cr4::PAE;
        assert_eq!(Reserved::of(&cpu), Reserved { table: UPPER, large: UPPER | 0x1f_e000, small: UPPER });
        cpu.msrs.efer = EFER_NXE;
        assert_eq!(Reserved::of(&cpu).small, 0x7fff_ffff_0000_0000);
    }
}

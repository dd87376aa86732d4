//! The guest's address spaces: what tells one from another, and how their page tables are laid out.

use crate::addr::GuestPhys;
use crate::cpu::{Cpu, Cr0, Cr4};
use crate::mmu::pae;
use crate::report::{Key, Top};
use crate::vmm::invariants;

/// The address space that `cpu` is in.
pub fn key_of(cpu: &Cpu) -> Key {
    let paging = cpu.cr0.contains(Cr0::PG);
    let top = if !paging {
        Top::Off
    } else if cpu.cr4.contains(Cr4::PAE) {
        let pointers = invariants::loaded_pointers(cpu);
        Top::Pointers(pointers.map(|p| pae::present(p).then_some(GuestPhys((p & pae::FRAME) as u32))))
    } else {
        Top::Directory(GuestPhys(cpu.cr3).page())
    };
    let two = matches!(top, Top::Directory(_));
    Key {
        top,
        pse: two && cpu.cr4.contains(Cr4::PSE) && invariants::pse_counts(),
        wp: paging && cpu.cr0.contains(Cr0::WP) && invariants::wp_counts(),
    }
}

/// How the guest's page tables are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    /// Two levels of 32-bit entries.
    Two,
    /// PAE: 64-bit entries.
    Pae,
}

impl Layout {
    /// The layout of an address space whose translations start at `top`.
    pub(super) fn of(top: Top) -> Self {
        if matches!(top, Top::Pointers(_)) { Self::Pae } else { Self::Two }
    }

    /// Bytes of an entry.
    pub(super) fn entry(self) -> u32 {
        match self {
            Self::Two => 4,
            Self::Pae => invariants::bytes_of_pae_entry(),
        }
    }
    /// log2 of the bytes that an entry of a directory stands for.
    pub(super) fn directory_shift(self) -> u32 {
        match self {
            Self::Two => 22,
            Self::Pae => 21,
        }
    }
}

//! Address newtypes: which space a number lives in is part of its type.
//!
//! A segmented address becomes a [`Linear`] one (SDM vol. 3, 3.4), paging makes that a [`GuestPhys`] one
//! (vol. 3, 4.3), and under a monitor a frame map makes that a machine address.

use serde::{Deserialize, Serialize};
use std::fmt;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u32 = 1 << PAGE_SHIFT;
/// Mask of the offset within a page.
pub const PAGE_OFFSET: u32 = PAGE_SIZE - 1;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The address of the page that holds this address.
            #[inline(always)]
            pub const fn page(self) -> Self {
                Self(self.0 & !PAGE_OFFSET)
            }
            /// The page number.
            #[inline(always)]
            pub const fn page_number(self) -> u32 {
                self.0 >> PAGE_SHIFT
            }
            /// The offset within the page, in bytes.
            #[inline(always)]
            pub const fn page_offset(self) -> u32 {
                self.0 & PAGE_OFFSET
            }
            /// The address `n` bytes on, modulo 4 GiB.
            #[inline(always)]
            #[must_use]
            pub const fn offset(self, n: u32) -> Self {
                Self(self.0.wrapping_add(n))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#010x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A linear address: segment base plus offset, before paging.
    Linear
}
address! {
    /// A guest-physical address: what the guest's page tables and devices speak of. The seam between
    /// processor and world speaks of physical addresses by this type too: under a monitor, while the real
    /// processor runs the guest, those are machine addresses, and only the world's slow path knows.
    GuestPhys
}
address! {
    /// A machine address: where in the memory of the real machine. On the bare machine it equals the
    /// guest-physical one; a monitor's frame map sets them apart.
    MachineAddr
}

//! Where the page tables of a kernel lie: those of two address spaces, each in both formats, without PAE and with it.

/// The tables of an address space in one format.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub(super) pae: bool,
    /// What CR3 holds: the directory, or the directory pointers.
    pub(super) cr3: u32,
    /// The directory of the first 4 GiB or 1 GiB.
    pub(super) directory: u32,
    /// The tables of the first 2 MiB, of the window and of the code window.
    pub(super) identity: u32,
    pub(super) window: u32,
    pub(super) code: u32,
}

/// With PAE: the directory of the last GiB, whose pointer is absent at first.
pub(super) const TOP_DIRECTORY: u32 = 0x2_7000;

impl Tables {
    /// All four.
    pub(super) fn all() -> [Self; 4] {
        [Self::new(0, false), Self::new(1, false), Self::new(0, true), Self::new(1, true)]
    }

    pub(super) fn new(space: usize, pae: bool) -> Self {
        let at = |plain: [u32; 2], pae_ones: [u32; 2]| if pae { pae_ones[space] } else { plain[space] };
        let directory = at([0x1_0000, 0x1_3000], [0x2_0000, 0x2_1000]);
        Self {
            pae,
            cr3: if pae { 0x2_6000 + 0x20 * space as u32 } else { directory },
            directory,
            identity: at([0x1_1000; 2], [0x2_8000; 2]),
            window: at([0x1_2000, 0x1_4000], [0x2_2000, 0x2_3000]),
            code: at([0x1_5000, 0x1_6000], [0x2_4000, 0x2_5000]),
        }
    }

    /// Bytes of an entry.
    pub(super) fn size(self) -> u32 {
        if self.pae { 8 } else { 4 }
    }

    /// The address of the directory entry of a linear address below 1 GiB.
    pub(super) fn pde(self, linear: u32) -> u32 {
        self.directory + self.size() * (linear >> if self.pae { 21 } else { 22 })
    }

    /// The address of the last directory pointer.
    pub(super) fn last_pointer(self) -> u32 {
        self.cr3 + 24
    }
}

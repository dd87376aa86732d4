//! Where the page tables of a kernel lie: those of two address spaces, each in both formats, without PAE and with it.

use super::image::WINDOW;

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
    /// With PAE: the directory of the far places.
    pub(super) far_directory: Option<u32>,
}

/// Where the window may be seen a second time.
pub(super) const ALIAS: u32 = 0x4000_0000;
/// Where it is seen once in each 4 MiB, and in how many of them.
pub(super) const FAR: u32 = 0x8000_0000;
pub(super) const FAR_COUNT: u32 = 28;

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
            far_directory: pae.then_some([0x2_9000, 0x2_a000][space]),
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

    /// The addresses of the directory entries of the far places.
    pub(super) fn far(self) -> impl Iterator<Item = u32> {
        let (first, step) = match self.far_directory {
            Some(directory) => (directory, 16),
            None => (self.directory + (FAR >> 22) * 4, 4),
        };
        (0..FAR_COUNT).map(move |n| first + n * step)
    }

    /// The address of the entry by which the window is seen a second time: a directory pointer with PAE.
    pub(super) fn alias(self) -> u32 {
        if self.pae { self.cr3 + 8 } else { self.pde(ALIAS + WINDOW) }
    }

    /// The address of the last directory pointer.
    pub(super) fn last_pointer(self) -> u32 {
        self.cr3 + 24
    }
}

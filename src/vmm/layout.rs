//! Where the monitor lives: the last 4 MiB of every linear address space, and which of its pages hold what
//! the real processor reads by itself. Guest segments end below it (Bugnion et al., TOCS 2012, 4.2: truncated
//! segments).

use crate::addr::{Linear, MachineAddr, PAGE_SIZE};

/// The first linear address of the monitor's region.
pub const BASE: u32 = 0xffc0_0000;
/// Pages of a descriptor table of the largest size.
pub const TABLE_PAGES: usize = 16;
/// The real GDT.
pub const GDT: Linear = Linear(BASE);
/// The real LDT.
pub const LDT: Linear = Linear(GDT.0 + TABLE_PAGES as u32 * PAGE_SIZE);
/// The real IDT.
pub const IDT: Linear = Linear(LDT.0 + TABLE_PAGES as u32 * PAGE_SIZE);
/// The real TSS.
pub const TSS: Linear = Linear(IDT.0 + PAGE_SIZE);
/// Pages of all that.
pub const PAGES: usize = 2 * TABLE_PAGES + 2;

/// Where nothing is ever mapped: as many bytes as a descriptor table may have.
pub const NOWHERE: Linear = Linear(BASE + 0x20_0000);

/// Whether `at` is where concealed descriptor tables are.
pub fn is_nowhere(at: Linear) -> bool {
    (NOWHERE.0..NOWHERE.0 + 0x1_0000).contains(&at.0)
}

/// Bytes of the real TSS less one. Its I/O bit map would start right behind: so it denies every port.
pub const TSS_LIMIT: u32 = 0x67;
/// The selectors of the monitor's own descriptors, the last ones of the real GDT.
pub const LDT_SELECTOR: u16 = 0xfff0;
/// The real task register.
pub const TSS_SELECTOR: u16 = 0xfff8;

/// The machine frames of the region's pages, in order.
#[derive(Clone, Debug)]
pub struct Frames(pub Vec<MachineAddr>);

impl Frames {
    /// The machine address of a linear one in the region.
    pub fn at(&self, linear: Linear) -> MachineAddr {
        let offset = linear.0 - BASE;
        self.0[(offset / PAGE_SIZE) as usize].offset(offset % PAGE_SIZE)
    }
}

//! The real descriptor tables: shadows of the guest's GDT and LDT, beside the monitor's own IDT and TSS. The
//! guest's tables are traced: a write to one takes effect in its shadow before the guest runs on (Bugnion et
//! al., TOCS 2012, 4.2).
//!
//! A shadow descriptor is present only where a load can go unseen and still leave the guest's memory as the
//! load would: the accessed bits of the descriptor and of the pages that it lies in are set already. All
//! other loads fault, and are emulated.

use super::invariants;
use super::layout::{self, Frames};
use super::memory::FrameTraces;
use super::shadow_descriptor::{self, Ring};
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_OFFSET, PAGE_SIZE};
use crate::bus::phys::{PhysMap, Target};
use crate::cpu::control::{Dr7, Watch};
use crate::cpu::segment::Descriptor;
use crate::cpu::{Cpu, Selector};
use crate::machine::World;
use crate::mem::Ram;
use crate::report::Reason;
use std::ops::Range;

/// Bytes of a descriptor.
const SIZE: u32 = 8;

/// Where a page of a guest's table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// The frame, if the page is mapped to RAM or ROM.
    frame: Option<GuestPhys>,
    /// The accessed bits of its page-table entries are set.
    accessed: bool,
}

/// First bytes and lengths of what the guest's data breakpoints on reads watch; an unused one has no bytes.
type Watches = [(u32, u32); 4];

/// The data breakpoints of `cpu` on reads. (A load that writes the accessed bit is never unseen.)
fn watches_of(cpu: &Cpu) -> Watches {
    let dr7 = Dr7(cpu.dr[7]);
    if (0..4).all(|n| !dr7.enabled(n)) {
        return Watches::default();
    }
    std::array::from_fn(|n| {
        let reads = dr7.enabled(n) && dr7.watch(n) == Watch::Access;
        if reads { (cpu.dr[n] & !(dr7.len(n) - 1), dr7.len(n)) } else { (0, 0) }
    })
}

/// One guest table and its shadow.
struct Table {
    shadow: Linear,
    /// The guest's base and the first offset beyond its limit; 0 if there is no table.
    base: u32,
    end: u32,
    pages: Vec<Page>,
    /// The guest's descriptors by slot.
    guest: Vec<Descriptor>,
    /// Slots whose shadow depends on the ring that runs.
    by_ring: Vec<usize>,
    watches: Watches,
}

impl Table {
    fn new(shadow: Linear) -> Self {
        let pages = Vec::new();
        let watches = Watches::default();
        Self { shadow, base: 0, end: 0, pages, guest: Vec::new(), by_ring: Vec::new(), watches }
    }

    /// The pages that the guest's table touches.
    fn page_addresses(&self) -> impl Iterator<Item = Linear> + use<> {
        let (base, end) = (self.base, self.end);
        let first = base & !PAGE_OFFSET;
        let bytes = u64::from(end / SIZE * SIZE);
        let count = if bytes == 0 { 0 } else { (u64::from(base & PAGE_OFFSET) + bytes).div_ceil(4096) };
        (0..count as u32).map(move |n| Linear(first.wrapping_add(n * PAGE_SIZE)))
    }

    fn page_of(&self, offset: u32) -> Option<&Page> {
        self.pages.get((((self.base & PAGE_OFFSET) + offset) / PAGE_SIZE) as usize)
    }

    /// The slots that `len` bytes at `at` touch.
    fn slots(&self, at: Linear, len: u32) -> Range<usize> {
        // The table may begin behind `at`, or wrap.
        let first = i64::from(at.0.wrapping_sub(self.base) as i32);
        let end = (first + i64::from(len) + i64::from(SIZE) - 1) / i64::from(SIZE);
        let slot = |n: i64| usize::try_from(n).unwrap_or(0).min(self.guest.len());
        slot(first / i64::from(SIZE))..slot(end)
    }

    /// Whether reads of `slot` hit a data breakpoint of the guest's.
    fn is_watched(&self, slot: usize) -> bool {
        self.watches.iter().any(|&(start, len)| len > 0 && self.slots(Linear(start), len).contains(&slot))
    }

    /// The guest's descriptor in `slot`, and whether a load of it goes unseen: it leaves the guest's page
    /// tables alone, and hits no breakpoint.
    fn read(&self, world: &World, slot: usize) -> (Descriptor, bool) {
        let offset = slot as u32 * SIZE;
        let mut bytes = [0; SIZE as usize];
        let mut loadable = !self.is_watched(slot);
        for (n, byte) in (0u32..).zip(&mut bytes) {
            let Some(&Page { frame: Some(frame), accessed }) = self.page_of(offset + n) else {
                return (Descriptor(0), false);
            };
            loadable &= accessed;
            let at = frame.offset(self.base.wrapping_add(offset + n) & PAGE_OFFSET);
            world.map.read(at, std::slice::from_mut(byte));
        }
        (Descriptor(u64::from_le_bytes(bytes)), loadable)
    }

    fn load_slot(&mut self, world: &mut World, frames: &Frames, slot: usize, ring: Ring) {
        let (d, loadable) = self.read(world, slot);
        self.guest[slot] = d;
        let shaded = shadow_descriptor::descriptor(d, ring, loadable);
        let depends = shaded != shadow_descriptor::descriptor(d, other(ring), loadable);
        match self.by_ring.binary_search(&slot) {
            Ok(n) if !depends => _ = self.by_ring.remove(n),
            Err(n) if depends => self.by_ring.insert(n, slot),
            _ => {}
        }
        put(&mut world.map.ram, frames, self.shadow, slot, shaded);
    }

    /// Empties the shadow.
    fn clear(&mut self, ram: &mut Ram, frames: &Frames) {
        for slot in 0..self.guest.len() {
            put(ram, frames, self.shadow, slot, Descriptor(0));
        }
        self.guest.clear();
        self.by_ring.clear();
    }
}

/// The guest's GDT: its base, and the first offset beyond its limit.
fn gdt_of(cpu: &Cpu) -> (u32, u32) {
    (cpu.gdtr.base, u32::from(cpu.gdtr.limit) + 1)
}

/// The guest's LDT: its base, and the first offset beyond its limit; 0 without one. The LDT at 0 that a reset
/// leaves is no table that a guest means.
fn ldt_of(cpu: &Cpu) -> (u32, u32) {
    if cpu.ldtr.usable() && !cpu.ldtr.selector.is_null() {
        (cpu.ldtr.base, cpu.ldtr.limit.min(0xffff) + 1)
    } else {
        (0, 0)
    }
}

fn other(ring: Ring) -> Ring {
    match ring {
        Ring::Kernel => Ring::User,
        Ring::User => Ring::Kernel,
    }
}

/// Slots of the real GDT that are the monitor's.
fn is_monitors(table: Linear, slot: usize) -> bool {
    table == layout::GDT && slot as u32 * SIZE >= u32::from(layout::LDT_SELECTOR)
}

fn put(ram: &mut Ram, frames: &Frames, table: Linear, slot: usize, d: Descriptor) {
    if !is_monitors(table, slot) {
        ram.write(frames.at(table.offset(slot as u32 * SIZE)), &d.0.to_le_bytes());
    }
}

/// All real descriptor tables.
pub struct Descriptors {
    frames: Frames,
    gdt: Table,
    ldt: Table,
    ring: Ring,
    /// Moves on when a guest descriptor may have changed.
    version: u64,
    /// Entries that walks of the guest's page tables had written when the tables were last found.
    walks: u64,
}

impl Descriptors {
    /// Tables with the monitor's own descriptors, and none of the guest's.
    pub fn new(ram: &mut Ram, frames: Frames) -> Self {
        write_own(ram, &frames);
        Self {
            frames,
            gdt: Table::new(layout::GDT),
            ldt: Table::new(layout::LDT),
            ring: Ring::Kernel,
            version: 0,
            walks: 0,
        }
    }

    /// The guest's descriptor that `selector` names, as the shadow has it.
    pub fn guest(&self, selector: Selector) -> Option<Descriptor> {
        let table = if selector.local() { &self.ldt } else { &self.gdt };
        table.guest.get(selector.offset() as usize / SIZE as usize).copied()
    }

    /// Moves on when a guest descriptor may have changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the guest's table registers changed, or a page of a table has been accessed for the first
    /// time.
    pub fn outdated(&self, cpu: &Cpu, map: &PhysMap) -> bool {
        let ldt = ldt_of(cpu);
        let moved = (self.gdt.base, self.gdt.end) != gdt_of(cpu) || (self.ldt.base, self.ldt.end) != ldt;
        moved
            || self.gdt.watches != watches_of(cpu)
            || (self.walks != map.entries_written() && self.unaccessed())
    }

    fn unaccessed(&self) -> bool {
        self.gdt.pages.iter().chain(&self.ldt.pages).any(|p| !p.accessed)
    }

    /// Brings the shadows up to the guest's GDTR and LDTR, to where the guest's page tables now have its
    /// tables, and to the guest's data breakpoints.
    pub fn refresh(&mut self, cpu: &Cpu, world: &mut World, traces: &mut dyn FrameTraces) {
        let watches = watches_of(cpu);
        for table in [&mut self.gdt, &mut self.ldt] {
            let before = std::mem::replace(&mut table.watches, watches);
            if before == watches {
                continue;
            }
            for (start, len) in before.into_iter().chain(watches).filter(|(_, len)| *len > 0) {
                for slot in table.slots(Linear(start), len) {
                    table.load_slot(world, &self.frames, slot, self.ring);
                }
            }
        }
        let changed = self.resolve(cpu, world, traces, true, gdt_of(cpu))
            | self.resolve(cpu, world, traces, false, ldt_of(cpu));
        self.version += u64::from(changed);
        self.walks = world.map.entries_written();
    }

    /// Finds one table's pages; if they are others than before, its shadow is made anew. Returns whether it
    /// was.
    fn resolve(
        &mut self,
        cpu: &Cpu,
        world: &mut World,
        traces: &mut dyn FrameTraces,
        global: bool,
        (base, end): (u32, u32),
    ) -> bool {
        let table = if global { &mut self.gdt } else { &mut self.ldt };
        let moved = (table.base, table.end) != (base, end);
        let probe = Table { base, end, ..Table::new(table.shadow) };
        let pages: Vec<Page> = probe
            .page_addresses()
            .map(|at| {
                let found = world.peek_used(cpu, at);
                let in_ram = |f: &GuestPhys| world.map.backing(*f).write == Target::Ram;
                let readable =
                    |f: &GuestPhys| matches!(world.map.backing(*f).read, Target::Ram | Target::Rom);
                Page {
                    frame: found.map(|f| f.0).filter(readable),
                    accessed: found.is_some_and(|f| f.1 && in_ram(&f.0)),
                }
            })
            .collect();
        if !moved && pages == table.pages {
            return false;
        }
        let old = std::mem::replace(&mut table.pages, pages);
        table.clear(&mut world.map.ram, &self.frames);
        (table.base, table.end) = (base, end);
        table.guest = vec![Descriptor(0); (end / SIZE) as usize];
        for frame in old.iter().filter_map(|p| p.frame) {
            if !self.uses(frame) {
                traces.untrace(&mut world.map, frame, Reason::DESCRIPTORS);
            }
        }
        let table = if global { &mut self.gdt } else { &mut self.ldt };
        for frame in table.pages.iter().filter_map(|p| p.frame) {
            traces.trace(&mut world.map, frame, Reason::DESCRIPTORS);
        }
        for slot in 0..table.guest.len() {
            table.load_slot(world, &self.frames, slot, self.ring);
        }
        true
    }

    fn uses(&self, frame: GuestPhys) -> bool {
        self.gdt.pages.iter().chain(&self.ldt.pages).any(|p| p.frame == Some(frame))
    }

    /// `len` bytes at `at`, in a frame traced for its descriptors, were written.
    pub fn written(&mut self, world: &mut World, at: GuestPhys, len: u32) {
        if !invariants::descriptor_writes_are_seen() {
            return;
        }
        for table in [&mut self.gdt, &mut self.ldt] {
            let of_frame = |(page, of): (Linear, &Page)| (of.frame == Some(at.page())).then_some(page);
            let pages: Vec<_> = table.page_addresses().zip(&table.pages).filter_map(of_frame).collect();
            for page in pages {
                for slot in table.slots(page.offset(at.page_offset()), len) {
                    table.load_slot(world, &self.frames, slot, self.ring);
                }
            }
        }
        self.version += 1;
    }

    /// Makes the shadows fit for code of `ring`.
    pub fn set_ring(&mut self, ram: &mut Ram, ring: Ring) {
        if self.ring == ring {
            return;
        }
        self.ring = ring;
        for table in [&self.gdt, &self.ldt] {
            for &slot in &table.by_ring {
                // Every slot that depends on the ring is loadable.
                let shaded = shadow_descriptor::descriptor(table.guest[slot], ring, true);
                put(ram, &self.frames, table.shadow, slot, shaded);
            }
        }
    }

    /// Forgets the guest's tables.
    pub fn forget(&mut self, world: &mut World, traces: &mut dyn FrameTraces) {
        for table in [&mut self.gdt, &mut self.ldt] {
            table.clear(&mut world.map.ram, &self.frames);
            for frame in std::mem::take(&mut table.pages).iter().filter_map(|p| p.frame) {
                traces.untrace(&mut world.map, frame, Reason::DESCRIPTORS);
            }
            (table.base, table.end) = (0, 0);
        }
        self.version += 1;
    }

    /// The machine frames of the monitor's region.
    pub fn frames(&self) -> &[MachineAddr] {
        &self.frames.0
    }
}

/// The monitor's own descriptors: its LDT and TSS in the GDT, an IDT whose gates nobody but the processor may
/// use, a TSS that denies every port.
fn write_own(ram: &mut Ram, frames: &Frames) {
    let system = |base: Linear, limit: u32, kind: u64| {
        let (base, limit) = (u64::from(base.0), u64::from(limit));
        (limit & 0xffff) | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (base >> 24) << 56
    };
    let own = [
        (layout::LDT_SELECTOR, system(layout::LDT, 0xffff, 2)),
        (layout::TSS_SELECTOR, system(layout::TSS, layout::TSS_LIMIT, 0xb)),
    ];
    for (selector, d) in own {
        ram.write(frames.at(layout::GDT.offset(u32::from(selector))), &d.to_le_bytes());
    }
    // A fault arrives as a value and not at a stub, so the gates lead nowhere: that they are there, present
    // and of ring 0 alone, is what makes INT n fault.
    let gate: u64 = 0x8e << 40;
    for vector in 0..256 {
        ram.write(frames.at(layout::IDT.offset(vector * SIZE)), &gate.to_le_bytes());
    }
    let io_map_base = (layout::TSS_LIMIT as u16 + 1).to_le_bytes();
    ram.write(frames.at(layout::TSS.offset(0x66)), &io_map_base);
}

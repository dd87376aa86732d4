//! One address space as three see it: the guest's page tables, the monitor's shadow of them or the extended page
//! tables behind them, and the TLB of the processor that uses these. For an observer: no bit is set, no entry is made. `subring mmu`
//! shows it.

use crate::addr::{GuestPhys, Linear, PAGE_SHIFT, PAGE_SIZE};
use crate::bus::phys::{Backing, PhysMap, Target};
use crate::cpu::{Cpu, Cr0, Cr4};
use crate::machine::tables::Tables;
use crate::machine::world::World;
use crate::machine::{Machine, NestedView, ShadowView};
use crate::mmu::pae;
use crate::mmu::paging::{TableMemory, entry};
use crate::mmu::reserved::Reserved;
use crate::mmu::tlb::Cached;
use crate::report::{Leaf, NestedLeaf, Noted, Reason, Root};
use serde::Serialize;
use std::ops::RangeInclusive;

/// How a page is mapped by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// By a page table.
    Small,
    /// As part of a 4 MiB page.
    Large4M,
    /// As part of a 2 MiB page of PAE.
    Large2M,
    /// Paging is off: linear addresses are guest-physical.
    Unpaged,
}

/// What the guest's tables say of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestEntry {
    /// The frame.
    pub frame: GuestPhys,
    /// U/S of all levels.
    pub user: bool,
    /// R/W of all levels.
    pub write: bool,
    /// The accessed bit, at the last level.
    pub accessed: bool,
    /// The dirty bit.
    pub dirty: bool,
    /// The translation survives a load of CR3.
    pub global: bool,
    /// A reserved bit is set: every access faults.
    pub reserved: bool,
    /// How large the page is.
    pub size: Size,
    /// Where the entry of the last level stands; nowhere if paging is off.
    pub entry: Option<GuestPhys>,
}

/// What the three make of each other. Several may hold of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The guest maps the page, and the shadow does not: the next access is a hidden page fault.
    Missing,
    /// The guest maps the page, and the extended page tables do not map its frame: the next access is an EPT
    /// violation.
    Unmapped,
    /// The shadow says otherwise, or allows more, than the guest's tables do now.
    Stale,
    /// The TLB says otherwise, or allows more, than the tables that it is filled from.
    StaleTlb,
    /// Writes fault because the guest's dirty bit is still to be set.
    Clean,
    /// Writes fault because the frame is one of the guest's page tables.
    PageTable,
    /// Writes fault because the frame holds the guest's GDT or LDT.
    Descriptors,
    /// Writes fault because the shadow is filled for reads so far.
    ReadSoFar,
    /// User code faults: the guest's kernel may write to this page, its user code only read, and the kernel
    /// wrote last.
    KernelsForNow,
    /// A chip or nothing answers there: the shadow never maps it.
    Mmio,
    /// Writes fault because the frame is a copy of a ROM's page.
    Rom,
    /// A reserved bit is set in the guest's entry.
    Reserved,
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its linear address.
    pub at: Linear,
    /// What the guest's tables say, if anything.
    pub guest: Option<GuestEntry>,
    /// What the shadow says, if anything, and the guest frame that it means.
    pub shadow: Option<(Leaf, Option<GuestPhys>)>,
    /// What extended page tables say of the guest's frame, if anything.
    pub nested: Option<NestedLeaf>,
    /// What the TLB holds.
    pub tlb: Option<Cached>,
    /// Why the guest's frame is traced.
    pub traced: Reason,
    /// What they make of each other.
    pub marks: Vec<Mark>,
}

/// An address space, as it is now.
pub struct View<'a> {
    machine: &'a Machine,
    /// The monitor's shadow page tables, if there are any.
    pub shadow: Option<&'a dyn ShadowView>,
    /// The shadow of the address space that the guest is in, if it has been made.
    pub root: Option<Root>,
    /// The monitor's extended page tables, if there are any.
    pub nested: Option<&'a dyn NestedView>,
}

impl<'a> View<'a> {
    /// What `machine` is in. [`Machine::follow`] is to be called before.
    pub fn of(machine: &'a Machine) -> Self {
        let shadow = machine.shadow();
        let root = shadow.and_then(|shadow| shadow.space_of(&machine.cpu));
        Self { machine, shadow, root, nested: machine.nested() }
    }

    /// The pages among `pages` (page numbers) that somebody maps, or of which the journal tells, upwards. In
    /// 2 MiB without any that is mapped nothing is looked for, unless there is little to look at.
    pub fn pages(&self, pages: RangeInclusive<u32>) -> Vec<Page> {
        let (first, last) = pages.into_inner();
        let region = 21 - PAGE_SHIFT;
        let shadowed = self.shadowed();
        let mut found = Vec::new();
        for n in first >> region..=last >> region {
            let (low, high) = (n << region, (n << region) + (1 << region) - 1);
            let (low, high) = (low.max(first), high.min(last));
            let from = shadowed.partition_point(|page| *page < low);
            let any_shadow = shadowed.get(from).is_some_and(|page| *page <= high);
            let any_guest = self.paging()
                && has_directory_entry(&self.machine.cpu, &self.machine.world, Linear(low << PAGE_SHIFT));
            if any_shadow || any_guest || high - low < 64 {
                found.extend((low..=high).filter_map(|n| self.page(Linear(n << PAGE_SHIFT))));
            }
        }
        found
    }

    fn map(&self) -> &'a PhysMap {
        &self.machine.world.map
    }

    /// Whether CR0.PG is set.
    pub fn paging(&self) -> bool {
        self.machine.cpu.cr0.contains(Cr0::PG)
    }

    /// The page numbers that the shadow maps, upwards; without paging, of a guest on extended page tables, the
    /// frames that these map.
    pub fn shadowed(&self) -> Vec<u32> {
        if let Some(nested) = self.nested.filter(|_| !self.paging()) {
            return nested.leaves(&self.map().ram).into_iter().map(|(at, _)| at.page_number()).collect();
        }
        let Some((shadow, root)) = self.shadow.zip(self.root) else { return Vec::new() };
        let leaves = shadow.leaves(&self.map().ram, root);
        leaves.into_iter().map(|(at, _)| at.page_number()).collect()
    }

    /// The page of `at`, if there is something to say of it.
    fn page(&self, at: Linear) -> Option<Page> {
        let (cpu, map) = (&self.machine.cpu, self.map());
        let guest = guest_entry(cpu, &self.machine.world, at);
        let leaf = self.shadow.zip(self.root).and_then(|(shadow, root)| shadow.entry(&map.ram, root, at));
        let shadow = leaf.map(|leaf| (leaf, map.guest_address(leaf.frame)));
        let nested = self.nested.zip(guest).and_then(|(nested, g)| nested.entry(&map.ram, g.frame));
        let tlb = self.machine.world.running_tlb().cached(at);
        // With paging off the guest has a mapping for everything, which says nothing.
        let unpaged = guest.is_none_or(|g| g.size == Size::Unpaged);
        let anything = shadow.is_some() || tlb.is_some() || nested.is_some() || !unpaged;
        if !anything && self.history(at).is_empty() {
            return None;
        }
        let traced = self.shadow.zip(guest).map_or(Reason::empty(), |(shadow, g)| shadow.traced(g.frame));
        let mut page = Page { at, guest, shadow, nested, tlb, traced, marks: Vec::new() };
        page.marks = self.marks(&page);
        Some(page)
    }

    fn marks(&self, page: &Page) -> Vec<Mark> {
        let mut marks = Vec::new();
        if page.guest.is_some_and(|g| g.reserved) {
            marks.push(Mark::Reserved);
        }
        if self.shadow.is_some() {
            self.shadow_marks(page, &mut marks);
        }
        if self.nested.is_some() {
            marks.extend(self.nested_mark(page));
        }
        if self.tlb_is_stale(page) {
            marks.push(Mark::StaleTlb);
        }
        marks
    }

    /// What extended page tables make of the guest's frame.
    fn nested_mark(&self, page: &Page) -> Option<Mark> {
        let g = page.guest.filter(|g| !g.reserved)?;
        let backing = self.map().backing(g.frame);
        match (page.nested, backing.read) {
            (None, Target::Ram | Target::Rom) => Some(Mark::Unmapped),
            (None, Target::Chip | Target::Open) => Some(Mark::Mmio),
            (Some(leaf), Target::Rom) if !leaf.write => Some(Mark::Rom),
            (Some(leaf), _) if !leaf.write => Some(Mark::Mmio),
            (Some(_), _) => None,
        }
    }

    fn shadow_marks(&self, page: &Page, marks: &mut Vec<Mark>) {
        let usable = page.guest.filter(|g| !g.reserved);
        let Some(g) = usable else {
            if page.shadow.is_some() {
                marks.push(Mark::Stale);
            }
            return;
        };
        let backing = self.map().backing(g.frame);
        let Some((leaf, frame)) = page.shadow else {
            let maps = matches!(backing.read, Target::Ram | Target::Rom);
            marks.push(if maps { Mark::Missing } else { Mark::Mmio });
            return;
        };
        let wp = self.machine.cpu.cr0.contains(Cr0::WP);
        let writes = g.write || (!wp && !leaf.user);
        if frame != Some(g.frame) || (leaf.user && !g.user) || (leaf.write && !(writes && g.dirty)) {
            marks.push(Mark::Stale);
            return;
        }
        if g.user && !leaf.user {
            marks.push(Mark::KernelsForNow);
        }
        if !leaf.write && (g.write || !wp) {
            marks.extend(self.why_protected(&g, page.traced, backing));
        }
    }

    fn why_protected(&self, g: &GuestEntry, traced: Reason, backing: Backing) -> Vec<Mark> {
        let mut why = Vec::new();
        if traced.contains(Reason::PAGE_TABLE) {
            why.push(Mark::PageTable);
        }
        if traced.contains(Reason::DESCRIPTORS) {
            why.push(Mark::Descriptors);
        }
        if backing.read == Target::Rom {
            why.push(Mark::Rom);
        } else if backing.write != Target::Ram {
            why.push(Mark::Mmio);
        }
        if why.is_empty() {
            why.push(if g.dirty || !g.write { Mark::ReadSoFar } else { Mark::Clean });
        }
        why
    }

    /// Whether the TLB holds what the tables that it is filled from do not say.
    fn tlb_is_stale(&self, page: &Page) -> bool {
        let Some(t) = page.tlb else { return false };
        let (frame, user, write) = match (self.shadow, page.shadow, page.guest) {
            (Some(_), Some((leaf, _)), _) => (leaf.frame.0, leaf.user, leaf.write),
            (None, _, Some(g)) if self.nested.is_some() && !g.reserved => {
                let Some(leaf) = page.nested else { return true };
                let wp = self.machine.cpu.cr0.contains(Cr0::WP);
                (leaf.frame.0, g.user, (g.write || !(t.user || wp)) && g.dirty && leaf.write)
            }
            (None, _, Some(g)) if !g.reserved => {
                let wp = self.machine.cpu.cr0.contains(Cr0::WP);
                (g.frame.0, g.user, (g.write || !(t.user || wp)) && g.dirty)
            }
            _ => return true,
        };
        t.frame.0 != frame || (t.user && !user) || (t.write && !write)
    }

    /// What happened to the shadow's entry for the page of `at`, the oldest first, if a journal was kept.
    pub fn history(&self, at: Linear) -> Vec<&'a Noted> {
        let Some((shadow, root)) = self.shadow.zip(self.root) else { return Vec::new() };
        shadow.journal().map_or_else(Vec::new, |j| j.of(root, at).collect())
    }
}

/// Whether the guest's directory has a present entry for `at`.
fn has_directory_entry(cpu: &Cpu, world: &World, at: Linear) -> bool {
    let tables = world.tables(cpu.now);
    if cpu.cr4.contains(Cr4::PAE) {
        let pointer = cpu.pdptes[(at.0 >> 30) as usize];
        return pae::present(pointer) && pae::present(pae::read(&tables, pae::pde_address(pointer, at)));
    }
    let pde_at = GuestPhys(cpu.cr3).page().offset((at.0 >> 22) << 2);
    tables.read_entry(pde_at) & entry::PRESENT != 0
}

/// The entry of the guest's tables at which a walk for `at` ends, and the name of its table; `None` if no
/// entry in memory decides.
pub fn deciding_entry(cpu: &Cpu, world: &World, at: Linear) -> Option<(GuestPhys, &'static str)> {
    const DIRECTORY: &str = "page-directory";
    const TABLE: &str = "page-table";
    if !cpu.cr0.contains(Cr0::PG) {
        return None;
    }
    let tables = world.tables(cpu.now);
    if cpu.cr4.contains(Cr4::PAE) {
        let pointer = cpu.pdptes[(at.0 >> 30) as usize];
        if !pae::present(pointer) {
            return None;
        }
        let pde_at = pae::pde_address(pointer, at);
        let pde = pae::read(&tables, pde_at);
        let ends = !pae::present(pde) || pae::large(pde);
        return Some(if ends { (pde_at, DIRECTORY) } else { (pae::pte_address(pde, at), TABLE) });
    }
    let pde_at = GuestPhys(cpu.cr3).page().offset((at.0 >> 22) << 2);
    let pde = tables.read_entry(pde_at);
    let large = pde & entry::LARGE != 0 && cpu.cr4.contains(Cr4::PSE);
    if pde & entry::PRESENT == 0 || large {
        return Some((pde_at, DIRECTORY));
    }
    Some((GuestPhys(pde & entry::FRAME).offset((at.0 >> PAGE_SHIFT & 0x3ff) << 2), TABLE))
}

/// What the guest's tables say of the page of `at`.
pub fn guest_entry(cpu: &Cpu, world: &World, at: Linear) -> Option<GuestEntry> {
    let found = if !cpu.cr0.contains(Cr0::PG) {
        Some(unpaged(at))
    } else if cpu.cr4.contains(Cr4::PAE) {
        three_levels(cpu, &world.tables(cpu.now), at)
    } else {
        two_levels(cpu, &world.tables(cpu.now), at)
    };
    found.map(|g| GuestEntry {
        frame: world.map.gated(g.frame),
        global: g.global && (g.size == Size::Unpaged || cpu.cr4.contains(Cr4::PGE)),
        ..g
    })
}

fn unpaged(at: Linear) -> GuestEntry {
    GuestEntry {
        frame: GuestPhys(at.0).page(),
        user: true,
        write: true,
        accessed: true,
        dirty: true,
        global: true,
        reserved: false,
        size: Size::Unpaged,
        entry: None,
    }
}

/// The entry `leaf` at `at`, with the rights that all levels give.
fn of_leaf(leaf: u32, rights: u32, frame: u32, size: Size, at: GuestPhys) -> GuestEntry {
    GuestEntry {
        frame: GuestPhys(frame),
        user: rights & entry::USER != 0,
        write: rights & entry::WRITE != 0,
        accessed: leaf & entry::ACCESSED != 0,
        dirty: leaf & entry::DIRTY != 0,
        global: leaf & entry::GLOBAL != 0,
        reserved: false,
        size,
        entry: Some(at),
    }
}

fn two_levels(cpu: &Cpu, tables: &Tables<'_>, at: Linear) -> Option<GuestEntry> {
    let pse = cpu.cr4.contains(Cr4::PSE);
    let pde_at = GuestPhys(cpu.cr3).page().offset((at.0 >> 22) << 2);
    let pde = tables.read_entry(pde_at);
    if pde & entry::PRESENT == 0 {
        return None;
    }
    if pde & entry::LARGE != 0 && pse {
        let frame = pde & entry::LARGE_FRAME | at.0 & !entry::LARGE_FRAME & entry::FRAME;
        let reserved = u64::from(pde) & Reserved::of(cpu).large != 0;
        return Some(GuestEntry { reserved, ..of_leaf(pde, pde, frame, Size::Large4M, pde_at) });
    }
    let pte_at = GuestPhys(pde & entry::FRAME).offset((at.0 >> PAGE_SHIFT & 0x3ff) << 2);
    let pte = tables.read_entry(pte_at);
    let reserved = u64::from(pte) & Reserved::of(cpu).small != 0;
    let found = GuestEntry { reserved, ..of_leaf(pte, pde & pte, pte & entry::FRAME, Size::Small, pte_at) };
    (pte & entry::PRESENT != 0).then_some(found)
}

fn three_levels(cpu: &Cpu, tables: &Tables<'_>, at: Linear) -> Option<GuestEntry> {
    let pointer = cpu.pdptes[(at.0 >> 30) as usize];
    if !pae::present(pointer) {
        return None;
    }
    let pde_at = pae::pde_address(pointer, at);
    let pde = pae::read(tables, pde_at);
    if !pae::present(pde) {
        return None;
    }
    if pae::large(pde) {
        let frame = (pde & pae::LARGE_FRAME) as u32 | at.0 & 0x001f_ffff & !(PAGE_SIZE - 1);
        let reserved = pde & Reserved::of(cpu).large != 0;
        return Some(GuestEntry {
            reserved,
            ..of_leaf(pde as u32, pde as u32, frame, Size::Large2M, pde_at)
        });
    }
    let pte_at = pae::pte_address(pde, at);
    let pte = pae::read(tables, pte_at);
    let bits = Reserved::of(cpu);
    let reserved = pde & bits.table != 0 || pte & bits.small != 0;
    let rights = (pde & pte) as u32;
    let found = GuestEntry {
        reserved,
        ..of_leaf(pte as u32, rights, (pte & pae::FRAME) as u32, Size::Small, pte_at)
    };
    pae::present(pte).then_some(found)
}

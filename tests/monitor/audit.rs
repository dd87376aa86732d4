//! What must hold of a monitor's structures between two instructions.
//!
//! **Shadow coherence**: each shadow entry allows no more than the guest's tables allow now (with a virtual TLB: than they
//! allow, or allowed when the guest last flushed), and maps the frame that they name. **Resource control**: no entry
//! maps a frame that is neither the guest's nor a true copy of its ROM that it cannot write to, none lets a traced frame be written, and the monitor's pages are its own.

use subring::addr::{GuestPhys, Linear, MachineAddr};
use subring::cpu::{Cpu, Cr0, Cr4};
use subring::machine::tables::Tables;
use subring::machine::world::World;
use subring::machine::{Machine, NestedView, ShadowView};
use subring::mmu::paging::{Access, Mapping, TableMemory, walk};
use subring::report::{Key, Leaf, Reason, Top};

/// The guest's tables, left as they are; whether a walk would have set a bit.
struct Untouched<'a>(Tables<'a>, bool);

impl TableMemory for Untouched<'_> {
    fn read_entry(&self, at: GuestPhys) -> u32 {
        self.0.read_entry(at)
    }
    fn write_entry(&mut self, _: GuestPhys, _: u32) {
        self.1 = true;
    }
}

/// What the guest's tables say of an access; `None` if they forbid it or, if `strict`, would have a bit set first.
pub(super) fn allowed(m: &Machine, at: Linear, access: Access, strict: bool) -> Option<Mapping> {
    allowed_in(&m.cpu, &m.world, at, access, strict)
}

fn allowed_in(cpu: &Cpu, world: &World, at: Linear, access: Access, strict: bool) -> Option<Mapping> {
    let mut tables = Untouched(world.tables(cpu.now), false);
    let mapping = walk(cpu, &mut tables, at, access).ok()?;
    (!strict || !tables.1).then_some(mapping)
}

/// The processor of `m` as it would be in the address space of `key`.
fn in_space(m: &Machine, key: &Key) -> Cpu {
    let mut cpu = m.cpu.clone();
    cpu.cr0.set(Cr0::PG, key.top != Top::Off);
    cpu.cr0.set(Cr0::WP, key.wp);
    cpu.cr4.set(Cr4::PSE, key.pse);
    cpu.cr4.set(Cr4::PAE, matches!(key.top, Top::Pointers(_)));
    match key.top {
        Top::Off => {}
        Top::Directory(at) => cpu.cr3 = at.0,
        Top::Pointers(at) => cpu.pdptes = at.map(|at| at.map_or(0, |at| u64::from(at.0) | 1)),
    }
    cpu
}

/// Holds what the monitor under `m` maps against what is the guest's; how many entries of extended page tables
/// there were. `fresh`: no entry of a shadow may be stale.
pub(super) fn audit(m: &Machine, fresh: bool) -> Result<u64, String> {
    match (m.shadow(), m.nested()) {
        (Some(mmu), _) => audit_shadow(m, mmu, fresh).map(|()| 0),
        (_, Some(nested)) => audit_nested(m, nested),
        (None, None) => Err("no tables".into()),
    }
}

/// Holds extended page tables against the memory map: each entry maps the frame that answers there, and lets a
/// frame be written only if it is RAM.
fn audit_nested(m: &Machine, nested: &dyn NestedView) -> Result<u64, String> {
    let map = &m.world.map;
    let leaves = nested.leaves(&map.ram);
    for (at, leaf) in &leaves {
        // What answers at an address, and the A20 gate, may have changed since the guest last ran.
        let own =
            map.p2m().guest(leaf.frame).is_some_and(|frame| frame == *at || frame.0 == at.0 & !(1 << 20));
        let copied = || map.guest_address(leaf.frame).is_some_and(|rom| is_copied(m, leaf.frame, rom));
        if !own && (leaf.write || !copied()) {
            return Err(format!("{at}: {leaf:?} is neither the guest's frame nor a true copy of its ROM"));
        }
    }
    Ok(leaves.len() as u64)
}

/// Holds the address spaces that the monitor under `m` keeps against the guest's tables.
fn audit_shadow(m: &Machine, mmu: &dyn ShadowView, fresh: bool) -> Result<(), String> {
    // What the guest did last reaches the shadow before the guest runs on.
    let synced = mmu.is_entered(&m.cpu) && !m.world.map.traces.is_hit();
    let spaces = mmu.spaces();
    for (at, why) in mmu.all_traced() {
        if why.contains(Reason::PAGE_TABLE) && mmu.roles(at).is_empty() {
            return Err(format!("{at} is traced as a page table, and is none"));
        }
    }
    for root in mmu.roots() {
        let key = spaces.iter().find(|(_, of)| *of == root).map(|(key, _)| key);
        let cpu = if fresh && synced {
            Some(in_space(m, key.ok_or("a shadow of no address space")?))
        } else {
            None
        };
        for (at, leaf) in mmu.leaves(&m.world.map.ram, root) {
            let Some(frame) = m.world.map.guest_address(leaf.frame) else {
                return Err(format!("{at}: a frame of the monitor's is mapped"));
            };
            if m.world.map.p2m().guest(leaf.frame).is_none()
                && (leaf.write || !is_copied(m, leaf.frame, frame))
            {
                return Err(format!("{at}: {leaf:?} is no copy of the ROM page {frame}, or can be written"));
            }
            if leaf.write && synced && !mmu.traced(frame).is_empty() {
                return Err(format!("{at}: the traced frame {frame} can be written"));
            }
            if let Some(cpu) = &cpu {
                coherent(cpu, &m.world, at, leaf, frame)?;
            }
        }
    }
    Ok(())
}

/// Whether the frame holds what the guest's ROM has at `page`.
fn is_copied(m: &Machine, frame: MachineAddr, page: GuestPhys) -> bool {
    let map = &m.world.map;
    let copy = map.ram.page(frame);
    copy.iter().zip(0..).all(|(byte, n)| *byte == map.rom_byte(page.offset(n)))
}

fn coherent(cpu: &Cpu, world: &World, at: Linear, leaf: Leaf, frame: GuestPhys) -> Result<(), String> {
    let accesses = [(false, false), (true, false), (leaf.user, true)];
    for (user, write) in accesses {
        if (user && !leaf.user) || (write && !leaf.write) {
            continue;
        }
        match allowed_in(cpu, world, at, Access::data(user, write), true) {
            Some(mapping) if world.map.gated(mapping.frame) == frame => {}
            Some(mapping) => return Err(format!("{at}: {} here, {frame} in the shadow", mapping.frame)),
            None => {
                return Err(format!(
                    "{at}: {leaf:?} allows what the guest's tables do not (user {user}, write {write})"
                ));
            }
        }
    }
    Ok(())
}

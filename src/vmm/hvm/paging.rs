//! Who translates the guest's addresses, and bringing tables up to what the guest and its chips did since the
//! guest last ran.

use super::v::Translation;
use crate::addr::MachineAddr;
use crate::cpu::Cpu;
use crate::machine::{Flushes, ShadowView, World};
use crate::mmu::tlb::Tlb;
use crate::report::{NestedFigures, Obstacle, Reason, ShadowFigures, Walks};
use crate::vmm::invariants;
use crate::vmm::memory::{NestedMmu, ShadowMmu};

/// The MMU below the guest.
pub(in crate::vmm) enum Paging {
    /// Shadow page tables.
    Shadow(Box<ShadowMmu>),
    /// Extended page tables.
    Nested(NestedMmu),
}

impl Paging {
    /// The shadow MMU, if there is one.
    pub(super) fn shadow(&self) -> Option<&ShadowMmu> {
        match self {
            Self::Shadow(mmu) => Some(mmu),
            Self::Nested(_) => None,
        }
    }

    /// As [`Paging::shadow`], to change.
    pub(super) fn shadow_mut(&mut self) -> Option<&mut ShadowMmu> {
        match self {
            Self::Shadow(mmu) => Some(mmu),
            Self::Nested(_) => None,
        }
    }

    /// The nested MMU, if there is one.
    pub(super) fn nested(&self) -> Option<&NestedMmu> {
        match self {
            Self::Shadow(_) => None,
            Self::Nested(mmu) => Some(mmu),
        }
    }

    /// The EPT pointer, under nested paging.
    pub(super) fn ept_pointer(&self) -> Option<u64> {
        match self {
            Self::Shadow(_) => None,
            Self::Nested(mmu) => Some(mmu.extended().pointer()),
        }
    }

    /// What translates now.
    ///
    /// # Errors
    /// [`Obstacle::NoShadow`].
    pub(super) fn translation(&self) -> Result<Translation, Obstacle> {
        match self {
            Self::Shadow(mmu) => {
                let root = mmu.directory().ok_or(Obstacle::NoShadow)?;
                Ok(Translation::Shadow(root.0))
            }
            Self::Nested(_) => Ok(Translation::Nested),
        }
    }

    /// The frames that hold tables.
    pub(super) fn frames(&self) -> Vec<MachineAddr> {
        match self {
            Self::Shadow(mmu) => mmu.table_frames().collect(),
            Self::Nested(mmu) => mmu.extended().table_frames().collect(),
        }
    }

    /// Figures for a report.
    pub(super) fn figures(&self, walks: Walks) -> (Option<ShadowFigures>, Option<NestedFigures>) {
        match self {
            Self::Shadow(mmu) => {
                let (counts, most_tables) = (mmu.counts().clone(), mmu.most_tables());
                (Some(ShadowFigures { counts, most_tables }), None)
            }
            Self::Nested(mmu) => {
                let (counts, most_tables) = (mmu.counted().clone(), mmu.extended().frames().1);
                (None, Some(NestedFigures { counts, walks, most_tables }))
            }
        }
    }

    /// Drops all translations: what answers where has changed.
    fn forget(&mut self, world: &mut World) {
        match self {
            Self::Shadow(mmu) => mmu.forget(&mut world.map),
            Self::Nested(mmu) => mmu.forget(&mut world.map),
        }
        _ = world.take_flushes();
        _ = world.map.traces.take_hits();
    }

    /// Brings tables up to what the guest did, and enters the address space that `guest` is in. `anew`: the
    /// memory map is another one. `wrote`: the instruction that was emulated last wrote to a traced frame.
    pub(super) fn sync(&mut self, guest: &Cpu, world: &mut World, anew: bool, wrote: bool) {
        if anew {
            self.forget(world);
        }
        match self {
            Self::Shadow(mmu) => sync_shadow(mmu, guest, world, wrote),
            Self::Nested(_) => {
                if world.has_flushes() {
                    follow(&world.take_flushes(), world.machine_tlb());
                }
            }
        }
    }

    /// The processor drops what the tables no longer say.
    pub(super) fn drop_stale(&mut self, world: &mut World) {
        match self {
            Self::Shadow(mmu) => mmu.drop_stale(world),
            Self::Nested(mmu) => {
                if mmu.take_stale() && invariants::tlb_follows_shadow() {
                    world.machine_tlb().flush(true);
                }
            }
        }
    }
}

/// An emulated instruction flushed the virtual TLB. What it stands for goes as INVVPID drops it: single pages, all, or
/// all but global pages.
fn follow(flushes: &Flushes, tlb: &mut Tlb) {
    if flushes.all {
        tlb.flush(flushes.globals);
    }
    flushes.pages.iter().for_each(|&at| tlb.invalidate(at));
}

fn sync_shadow(mmu: &mut ShadowMmu, guest: &Cpu, world: &mut World, wrote: bool) {
    if world.map.traces.is_hit() {
        if !wrote {
            mmu.note_origin(guest, world, true);
        }
        for (at, len) in world.map.traces.take_hits() {
            if mmu.why_traced(at).contains(Reason::PAGE_TABLE) {
                mmu.written(&mut world.map, at, len);
            }
        }
    }
    if world.has_flushes() {
        let flushes = world.take_flushes();
        mmu.flushed(&mut world.map, &flushes);
    }
    mmu.enter(guest, &mut world.map);
}

//! The shadow MMU: translations from guest-linear to machine addresses, made lazily from the guest's page
//! tables and the frame map, and kept coherent with the guest's tables by one of two policies.
//!
//! An entry allows what the guest's tables allow, and less where the monitor must see an access: writes while
//! the guest's dirty bit is clear (so that the walk sets it), writes to traced frames and to ROM, all
//! accesses to chips. What it allows less than the guest shows as a hidden page fault, which the guest never
//! learns of.

mod extended;
mod nested;
mod pool;
mod rom;
mod shadow;
mod space;
mod tables;
mod trace;
mod vtlb;

use super::invariants;
use crate::addr::{GuestPhys, Linear, MachineAddr};
use crate::bus::phys::{PhysMap, Target};
use crate::cell::Coherence;
use crate::cpu::{Cpu, Cr0, Fault};
use crate::decode::MAX_INSN_LEN;
use crate::machine::{Flushes, Walked, World};
use crate::mmu::paging::{Access, Mapping};
use crate::report::{About, Journal, Key, Origin, Reason, Role, Root};
pub use extended::ExtendedTables;
pub use nested::{NestedMmu, Violated};
pub use pool::FramePool;
use rom::Roms;
pub use shadow::Shadow;
use space::Layout;
pub use space::key_of;
pub use tables::{Exhausted, PageTables};

/// Fewest frames for tables: one instruction must find all the pages that it touches mapped at once, and each
/// may lie in another 4 MiB.
pub const FEWEST_FRAMES: u32 = 16;

/// A translation that was just made.
pub(super) struct Fill<'a> {
    root: Root,
    layout: Layout,
    at: Linear,
    mapping: &'a Mapping,
    /// The guest's entries that it was made from, from the top.
    entries: &'a [GuestPhys],
}

/// Traces guest frames that hold what the monitor shadows: no translation lets a traced frame be written.
pub trait FrameTraces {
    /// Traces the frame of `at`.
    fn trace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason);
    /// Takes one reason to trace the frame of `at` away.
    fn untrace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason);
}

impl FrameTraces for ShadowMmu {
    fn trace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason) {
        self.shadow.trace(map, at, why);
    }

    fn untrace(&mut self, map: &mut PhysMap, at: GuestPhys, why: Reason) {
        self.shadow.untrace(map, at, why);
    }
}

/// How the shadow is kept coherent with the guest's tables. The two ways are [`trace::Trace`] and
/// [`vtlb::Vtlb`].
trait Policy {
    /// The address space for `key`, made if need be.
    fn space(&mut self, shadow: &mut Shadow, map: &mut PhysMap, key: Key) -> Result<Root, Exhausted>;
    /// A translation is about to be made.
    fn filling(&mut self, shadow: &mut Shadow, map: &mut PhysMap, fill: &Fill<'_>);
    /// The guest flushed its TLB, or pages of it.
    fn flushed(&mut self, shadow: &mut Shadow, map: &mut PhysMap, flushes: &Flushes);
    /// A frame that is traced as a page table was written.
    fn written(&mut self, shadow: &mut Shadow, map: &mut PhysMap, at: GuestPhys, len: u32);
    /// A frame is needed: frees at least one. `current` must stay, but may be emptied.
    fn evict(&mut self, shadow: &mut Shadow, map: &mut PhysMap, current: Option<Root>);
    /// Drops everything that can be.
    fn forget(&mut self, shadow: &mut Shadow, map: &mut PhysMap);
    /// The address spaces that are kept, for an observer.
    fn spaces(&self) -> Vec<(Key, Root)>;
    /// What the frame of `at` is to the guest's page tables, for an observer; nothing if it is not traced for
    /// that.
    fn roles(&self, at: GuestPhys) -> Vec<Role> {
        let _ = at;
        Vec::new()
    }
}

/// What became of a page fault of the real processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The fault was hidden: the translation is there now.
    Filled,
    /// The fault would be hidden, but the guest's walk sets accessed or dirty bits, which the instruction may
    /// not see when it reads again: it is to be emulated, with its accesses in their order.
    Marks,
    /// The guest's own tables forbid the access.
    Guest(Fault),
    /// The frame is traced: the write is to be emulated.
    Traced(Reason),
    /// A chip or nothing is there, or a ROM that takes no write: the access is to be emulated.
    Mmio,
}

/// The shadow MMU.
pub struct ShadowMmu {
    /// The translations and the traces.
    pub(in crate::vmm) shadow: Shadow,
    policy: Box<dyn Policy>,
    roms: Roms,
    current: Option<(Key, Root)>,
}

impl ShadowMmu {
    /// An empty shadow over `target`, kept coherent as `coherence` says, with `rom_frames` for copies of the
    /// guest's ROM.
    pub fn new(target: PageTables, coherence: Coherence, rom_frames: Vec<MachineAddr>) -> Self {
        let policy: Box<dyn Policy> = match coherence {
            Coherence::Trace => Box::new(trace::Trace::default()),
            Coherence::Vtlb => Box::new(vtlb::Vtlb::default()),
        };
        Self { shadow: Shadow::new(target), policy, roms: Roms::new(rom_frames), current: None }
    }

    /// The page directory of the current address space, for the real CR3.
    pub fn directory(&self) -> Option<MachineAddr> {
        self.shadow.target.directory()
    }

    /// The frames that hold tables.
    pub fn table_frames(&self) -> impl Iterator<Item = MachineAddr> + '_ {
        self.shadow.target.table_frames()
    }

    /// Frames that held tables, the most at a time.
    pub fn most_tables(&self) -> usize {
        self.shadow.target.frames().1
    }

    /// Why the frame of `at` is traced; empty if it is not.
    pub fn why_traced(&self, at: GuestPhys) -> Reason {
        self.shadow.traced(at)
    }

    /// The history of entries, if an observer keeps one.
    pub fn journal_mut(&mut self) -> Option<&mut Journal> {
        self.shadow.journal.as_mut()
    }

    /// The real TLB forgets what the shadow no longer says.
    pub fn drop_stale(&mut self, world: &mut World) {
        let stale = self.shadow.target.take_stale();
        let tlb = world.machine_tlb();
        if !invariants::tlb_follows_shadow() {
            return;
        }
        if stale.all {
            tlb.flush(true);
        } else {
            stale.pages.into_iter().for_each(|at| tlb.invalidate(at));
        }
    }

    /// Tells the journal, if there is one, whose changes come next.
    pub fn note_origin(&mut self, guest: &Cpu, world: &World, outside: bool) {
        if let Some(journal) = self.journal_mut() {
            let bytes = world.peek(guest, Linear(guest.linear_eip()), MAX_INSN_LEN);
            journal.set_origin(Origin::of(guest, bytes, outside));
        }
    }

    /// The address space that the real processor uses.
    pub fn current_space(&self) -> Option<(Key, Root)> {
        self.current
    }

    /// The address spaces that are kept, for an observer.
    pub fn kept_spaces(&self) -> Vec<(Key, Root)> {
        self.policy.spaces()
    }

    /// What the frame of `at` is to the guest's page tables, for an observer.
    pub fn roles_of(&self, at: GuestPhys) -> Vec<Role> {
        self.policy.roles(at)
    }

    /// Whether the current address space is the one that `cpu` is in.
    pub fn is_in_space_of(&self, cpu: &Cpu) -> bool {
        self.current.is_some_and(|(key, _)| key == key_of(cpu))
    }

    /// Makes the address space that `cpu` is in the current one.
    pub fn enter(&mut self, cpu: &Cpu, map: &mut PhysMap) {
        if self.is_in_space_of(cpu) {
            return;
        }
        let key = key_of(cpu);
        let root = loop {
            match self.policy.space(&mut self.shadow, map, key) {
                Ok(root) => break root,
                Err(Exhausted) => {
                    let current = self.current.map(|(_, root)| root);
                    self.policy.evict(&mut self.shadow, map, current);
                }
            }
        };
        self.shadow.target.switch_root(root);
        self.shadow.counts.switches += 1;
        self.current = Some((key, root));
    }

    // ANCHOR: resolve
    /// Answers a page fault of the real processor at `at`. The instruction is run again, and sees what bits
    /// the guest's walk set; if that may matter to it (`rereads`), and any is to be set, nothing is marked or
    /// mapped.
    pub fn resolve(
        &mut self,
        cpu: &Cpu,
        world: &mut World,
        at: Linear,
        access: Access,
        rereads: impl FnOnce(&World, &Walked) -> bool,
    ) -> Resolution {
        let Some((key, root)) = self.current else { return Resolution::Mmio };
        let walked = match world.walk_guest(cpu, at, access) {
            Ok(walked) => walked,
            Err(fault) => return Resolution::Guest(fault),
        };
        let (mapping, entries) = (&walked.mapping, &walked.entries);
        let map = &mut world.map;
        let backing = map.backing(mapping.frame);
        let frame = match backing.read {
            Target::Ram => Some(map.machine(invariants::small_frame(mapping))),
            Target::Rom => self.roms.copy(map, mapping.frame),
            Target::Chip | Target::Open => invariants::frame_of_chip(map),
        };
        let Some(frame) = frame else { return Resolution::Mmio };
        let fill = Fill { root, layout: Layout::of(key.top), at, mapping, entries };
        self.policy.filling(&mut self.shadow, map, &fill);
        let traced = self.shadow.traced(mapping.frame);
        let guarded = !traced.is_empty() || !invariants::is_ram(backing);
        if access.write && guarded {
            return if traced.is_empty() { Resolution::Mmio } else { Resolution::Traced(traced) };
        }
        if walked.marks() {
            if invariants::marks_wait_for_rereads() && rereads(world, &walked) {
                return Resolution::Marks;
            }
            world.mark_used(cpu, &walked);
        }
        invariants::entries_stay_marked(cpu, world, entries);
        let map = &mut world.map;
        let rights = rights(cpu, mapping, access, guarded);
        self.shadow.about(About::Access(access));
        while self.shadow.map(map, root, at, frame, rights).is_err() {
            self.policy.evict(&mut self.shadow, map, Some(root));
            // The eviction may have dropped what the policy knew of this translation.
            if invariants::fills_are_noted_again() {
                self.policy.filling(&mut self.shadow, map, &fill);
            }
        }
        Resolution::Filled
    }
    // ANCHOR_END: resolve

    /// The guest flushed its TLB, or pages of it.
    pub fn flushed(&mut self, map: &mut PhysMap, flushes: &Flushes) {
        self.policy.flushed(&mut self.shadow, map, flushes);
    }

    /// `len` bytes at `at`, in a frame traced as a page table, were written.
    pub fn written(&mut self, map: &mut PhysMap, at: GuestPhys, len: u32) {
        self.shadow.about(About::Written(at));
        if invariants::writes_are_synced() {
            self.policy.written(&mut self.shadow, map, at, len);
        }
    }

    /// Drops all translations: what answers where has changed.
    pub fn forget(&mut self, map: &mut PhysMap) {
        self.policy.forget(&mut self.shadow, map);
        self.roms.forget(map);
        self.current = None;
    }
}

// ANCHOR: rights
/// User and write bits of the entry for `mapping`, so that `access` goes through: never more than the guest's
/// processor would allow, whoever asks.
fn rights(cpu: &Cpu, mapping: &Mapping, access: Access, guarded: bool) -> (bool, bool) {
    let wp = cpu.cr0.contains(Cr0::WP);
    if access.write && !access.user && !mapping.write && !wp {
        // The guest's kernel may write to a read-only page, its user code may not; the real CR0.WP is set,
        // always. So the page is the kernel's until user code asks for it.
        return (false, !guarded);
    }
    let Mapping { user, write, dirty, .. } = invariants::as_walked(mapping);
    (user, write && dirty && !guarded)
}
// ANCHOR_END: rights

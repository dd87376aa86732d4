//! **Coherence of shadow entries**, step by step. With traces each entry allows no more than the guest's tables do now; with a
//! virtual TLB no more than they do, or did at some point since the guest last flushed (SDM vol. 3, 4.10.4). That is for guests that
//! flush each change before they make the next: any flush counts for all pages.

use super::audit::{self, audit};
use std::collections::{BTreeMap, BTreeSet};
use subring::addr::{GuestPhys, Linear};
use subring::decode::{Decoded, Op, decode};
use subring::machine::Machine;
use subring::mmu::paging::Access;
use subring::report::Leaf;

/// All accesses that there are.
const ACCESSES: [Access; 4] =
    [Access::read(false), Access::write(false), Access::read(true), Access::write(true)];

/// A frame, and how it may be accessed: user, write.
type Allowed = BTreeSet<(GuestPhys, bool, bool)>;

/// Holds one monitor's shadow against the guest's tables.
pub(super) struct Coherent {
    /// Nothing may be stale.
    fresh: bool,
    /// What the guest's tables allowed since the last flush, of the pages that have an entry.
    since: BTreeMap<Linear, Allowed>,
    /// What they allowed before the step, whether or not the page was accessed or dirty already: the step may have made it that,
    /// and changed the entry then.
    before: BTreeMap<Linear, Allowed>,
}

impl Coherent {
    pub(super) fn new(fresh: bool) -> Self {
        Self { fresh, since: BTreeMap::new(), before: BTreeMap::new() }
    }

    /// `other` took a step, which `bare` is about to take.
    pub(super) fn meet(&mut self, other: &Machine, bare: &Machine) {
        if self.fresh {
            return;
        }
        self.before.clear();
        for (at, _) in leaves(other) {
            self.since.entry(at).or_default();
            self.before.insert(at, now(bare, at, false));
        }
    }

    /// `bare` ran these instructions in a tick.
    pub(super) fn follow(&mut self, bare: &Machine, insns: &[(u32, Vec<u8>, bool)]) {
        if self.fresh {
            return;
        }
        let flushed = insns.iter().any(|(_, bytes, code32)| flushes(bytes, *code32));
        for (at, allowed) in &mut self.since {
            if flushed {
                allowed.clear();
            }
            allowed.append(&mut now(bare, *at, true));
        }
    }

    /// Holds the shadow of `other` against it, after both took the step; how many entries there were.
    pub(super) fn check(&self, other: &Machine) -> Result<u64, String> {
        let audited = audit(other, self.fresh)?;
        let Some(mmu) = other.shadow() else { return Ok(audited) };
        // What the guest flushed last reaches the shadow before the guest runs on.
        if !mmu.is_entered(&other.cpu) || other.world.has_flushes() || other.world.map.traces.is_hit() {
            return Ok(0);
        }
        let leaves = leaves(other);
        if !self.fresh {
            leaves.iter().try_for_each(|(at, leaf)| self.was_allowed(other, *at, *leaf))?;
        }
        Ok(leaves.len() as u64)
    }

    fn was_allowed(&self, other: &Machine, at: Linear, leaf: Leaf) -> Result<(), String> {
        let frame = other.world.map.p2m().guest(leaf.frame);
        let (none, after) = (Allowed::new(), now(other, at, false));
        let of = |pages: &BTreeMap<Linear, Allowed>, what: (GuestPhys, bool, bool)| {
            pages.get(&at).unwrap_or(&none).contains(&what)
        };
        for access in ACCESSES {
            if (access.user && !leaf.user) || (access.write && !leaf.write) {
                continue;
            }
            let was = frame.is_some_and(|frame| {
                let what = (frame, access.user, access.write);
                of(&self.since, what) || of(&self.before, what) && !after.contains(&what)
            });
            if !was {
                return Err(format!(
                    "{at}: {leaf:?} allows what the guest's tables did not since its last flush ({access:?})"
                ));
            }
        }
        Ok(())
    }
}

/// The entries of the current address space.
fn leaves(m: &Machine) -> Vec<(Linear, Leaf)> {
    let Some(mmu) = m.shadow() else { return Vec::new() };
    mmu.current().map(|(_, root)| mmu.leaves(&m.world.map.ram, root)).into_iter().flatten().collect()
}

/// What the tables of the guest on `m` allow now of the page at `at`; perhaps only what they allow without setting a bit.
fn now(m: &Machine, at: Linear, strict: bool) -> Allowed {
    let of = |access: Access| {
        let mapping = audit::allowed(m, at, access, strict)?;
        Some((m.world.map.gated(mapping.frame), access.user, access.write))
    };
    ACCESSES.into_iter().filter_map(of).collect()
}

/// Whether the instruction flushes, be it one page.
fn flushes(bytes: &[u8], code32: bool) -> bool {
    matches!(decode(bytes, code32), Decoded::Insn(insn) if matches!(insn.op, Op::MovToCr | Op::Lmsw | Op::Invlpg))
}

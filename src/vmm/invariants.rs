//! Rules of the monitor that tests break, one at a time, to see who notices: see [`super::bug`].
//!
//! Outside of tests every rule holds: a function here is then `true`, does nothing, or gives back what it was
//! given. What it does instead in a test stands here and nowhere else.

use super::bug::{Bug, on};
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_SIZE};
use crate::bus::Ticks;
use crate::bus::phys::{Backing, PhysMap, Target};
use crate::cpu::{Cpu, Eflags};
use crate::decode::{Insn, Op};
use crate::machine::World;
use crate::mmu::paging::{Mapping, TableMemory, entry};
use crate::translate::{RuleId, Treatment};

/// Declares rules that hold or do not.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident, unless $Bug:ident;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(in crate::vmm) fn $name() -> bool {
                !on(Bug::$Bug)
            }
        )*
    };
}

rules! {
    /// A frame that becomes traced is writable nowhere.
    tracing_protects, unless SkipTrace;
    /// A frame that is a page table no longer is traced no longer.
    old_tables_are_released, unless KeepTables;
    /// A write to a traced page table reaches the shadow.
    writes_are_synced, unless ForgetSync;
    /// A translation for which room was made is noted again with the policy.
    fills_are_noted_again, unless ForgetRefilling;
    /// An instruction that may read an entry again does not see it marked.
    marks_wait_for_rereads, unless EarlyMarks;
    /// CR4.PSE tells address spaces apart.
    pse_counts, unless IgnorePse;
    /// CR0.WP tells address spaces apart.
    wp_counts, unless IgnoreWp;
    /// A load of CR3 empties the virtual TLB, but for global pages.
    cr3_loads_flush, unless ForgetCr3;
    /// A flush of all translations takes global ones, too.
    global_flushes_are_whole, unless KeepGlobals;
    /// INVLPG drops a page from the virtual TLB.
    invlpg_drops, unless ForgetInvlpg;
    /// The real TLB forgets what the shadow no longer has.
    tlb_follows_shadow, unless StaleTlb;
    /// A write to the guest's descriptor tables reaches their shadow.
    descriptor_writes_are_seen, unless ForgetDescriptor;
    /// The instruction after a hidden page fault runs by itself.
    filled_runs_again, unless EmulateFilled;
    /// The shadow of STI, or of a load of SS, outlasts an exit.
    shadows_outlast_exits, unless LoseShadow;
    /// The guest sees its own ring in a selector that the real processor loaded.
    selectors_show_the_virtual_ring, unless ShowRpl;
    /// The selectors that x87 noted stay the guest's when CS or SS is loaded in translated code.
    x87_selectors_are_kept, unless LateSelector;
    /// A segment register that an inline sequence loaded is truncated in the real processor.
    loads_are_truncated, unless UncutSegment;
    /// Under VMX the guest reads its own CR0 and CR4.
    control_registers_are_shadowed, unless ShowReal;
    /// IRET in translated code lets NMIs through again.
    iret_unblocks_nmis, unless BlockNmis;
    /// STI and POPF look whether an interrupt waits: in translated code, and by interrupt-window exiting.
    windows_are_seen, unless MissWindow;
}

/// What a walk found of the guest's tables is what the shadow allows.
pub(in crate::vmm) fn as_walked(mapping: &Mapping) -> Mapping {
    Mapping {
        user: mapping.user || on(Bug::WrongUser),
        write: mapping.write || on(Bug::WrongWrite),
        dirty: mapping.dirty || on(Bug::ForgetDirty),
        ..*mapping
    }
}

/// A small page of a large one has a frame of its own.
pub(in crate::vmm) fn small_frame(mapping: &Mapping) -> GuestPhys {
    let first = mapping.large && on(Bug::WrongSplit);
    if first { GuestPhys(mapping.frame.0 & !0x1f_ffff) } else { mapping.frame.page() }
}

/// Where a chip answers, or nobody, there is no frame.
pub(in crate::vmm) fn frame_of_chip(map: &PhysMap) -> Option<MachineAddr> {
    on(Bug::MapChips).then(|| map.machine(GuestPhys(0)))
}

/// Only RAM may be mapped writable.
pub(in crate::vmm) fn is_ram(backing: Backing) -> bool {
    let rom = on(Bug::WritableRom) && backing.read == Target::Rom;
    (backing.read, backing.write) == (Target::Ram, Target::Ram) || rom
}

/// The guest's entries keep the accessed bits that the walk has set.
pub(in crate::vmm) fn entries_stay_marked(cpu: &Cpu, world: &mut World, entries: &[GuestPhys]) {
    if on(Bug::ForgetAccessed) {
        for at in entries {
            let unmarked = world.tables(cpu.now).read_entry(*at) & !entry::ACCESSED;
            world.map.write_used(*at, unmarked);
        }
    }
}

/// A page is mapped to its own frame.
pub(in crate::vmm) fn own_frame(map: &PhysMap, at: Linear, frame: MachineAddr) -> MachineAddr {
    let next = on(Bug::WrongFrame) && at.page_number() % 8 == 5;
    if next { MachineAddr((frame.0 ^ PAGE_SIZE).min(map.ram.size() - PAGE_SIZE)) } else { frame }
}

/// Address spaces under PAE are told apart by what the PDPTE registers were loaded with.
pub(in crate::vmm) fn loaded_pointers(cpu: &Cpu) -> [u64; 4] {
    if on(Bug::StalePointers) { [u64::from(cpu.cr3) | 1; 4] } else { cpu.pdptes }
}

/// An entry of a PAE table has eight bytes.
pub(in crate::vmm) fn bytes_of_pae_entry() -> u32 {
    if on(Bug::HalfEntries) { 4 } else { 8 }
}

/// For want of room the address space goes that was not used for longest.
pub(in crate::vmm) fn last_use(clock: u64) -> u64 {
    if on(Bug::EvictNewest) { !clock } else { clock }
}

/// IF is on in the real flags, and IOPL 0; `flags` has both.
pub(in crate::vmm) fn real_flags(guest: &Cpu, mut flags: Eflags) -> Eflags {
    if on(Bug::PassIf) {
        flags -= Eflags::IF - guest.system_flags;
    }
    if on(Bug::PassIopl) {
        flags |= Eflags::IOPL;
    }
    flags
}

/// The guest's virtual flags are those of before, whatever the real processor's are.
pub(in crate::vmm) fn kept_flags(flags: Eflags) -> Eflags {
    if on(Bug::LoseIf) { flags | Eflags::IF } else { flags }
}

/// A segment's limit is `truncated`, just below the monitor if it would reach there.
pub(in crate::vmm) fn truncation(base: u32, limit: u32, truncated: Option<u32>) -> Option<u32> {
    if on(Bug::SkipTruncation) {
        Some(limit)
    } else if on(Bug::ShortSegments) && base == 0 {
        Some(limit.min(0x3f_ffff))
    } else {
        truncated
    }
}

/// POPF in translated code writes the virtual IF; `before` are the flags before it.
pub(in crate::vmm) fn popf_writes_if(insn: &Insn, before: Eflags, guest: &mut Cpu) {
    if insn.op == Op::Popf && on(Bug::KeepIf) {
        guest.system_flags.set(Eflags::IF, before.contains(Eflags::IF));
    }
}

/// IRET in translated code returns to no other ring.
pub(in crate::vmm) fn is_same_ring(target: u8, current: u8) -> bool {
    target == current || on(Bug::AnyRing)
}

/// An innocuous instruction is carried over as `treatment` says; `adapted` is the rule of adapted sites.
pub(in crate::vmm) fn innocuous_is_carried_over(
    insn: &Insn,
    adapted: RuleId,
    treatment: Treatment,
) -> Treatment {
    match insn.op {
        Op::Inc if on(Bug::NeedlessCallout) => Treatment::Callout(RuleId(0)),
        Op::Inc if on(Bug::EagerAdaptation) => Treatment::Callout(adapted),
        _ => treatment,
    }
}

/// An emulated instruction takes no more time than its own, and a log of exits takes none.
pub(in crate::vmm) fn extra_ticks(logging: bool) -> Ticks {
    if on(Bug::OverBudget) || (on(Bug::CostlyLog) && logging) { 2 } else { 0 }
}

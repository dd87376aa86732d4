//! The monitor owns a real machine, whose memory is not the guest's and whose processor runs the guest
//! de-privileged; what the guest must not do itself arrives here as a fault, an *exit*.
//!
//! The monitor is honest: it uses page tables, descriptor tables and faults, and nothing else. The one
//! licence is that a fault taken while the guest runs arrives as a Rust value, and not at a stub behind an
//! IDT gate.
//!
//! | file | what it is |
//! |---|---|
//! | `layout` | where in linear space the monitor lives |
//! | `vcpu` | V, the map from the virtual processor to the real one, and back |
//! | `shadow_descriptor`, `descriptors` | real descriptors, and the traced guest tables that they shadow |
//! | `memory` | the shadow MMU: frames, tables, and the two ways to keep them coherent |
//! | `views` | what observers see |
//! | `bug`, `invariants` | rules that tests can break, and what holds where none is broken |
//! | `integrity`, `audit` | whether the guest reached state of the monitor's |
//! | `cost` | what exits cost, by a published table |
//! | `ring` | ring compression: the guest on the real processor, exits, emulation |
//! | `trap` | trap and emulate, over `ring` |
//! | `bt` | binary translation of what must not run directly, over `ring` |

mod audit;
pub mod bt;
mod bug;
pub mod cost;
pub mod descriptors;
mod integrity;
mod invariants;
pub mod layout;
pub mod memory;
mod ring;
mod shadow_descriptor;
mod trap;
pub mod vcpu;
mod views;

#[cfg(test)]
#[path = "../../tests/monitor/mod.rs"]
mod tests;

use crate::addr::{MachineAddr, PAGE_SHIFT};
use crate::cell::{Cell, Strategy};
use crate::error::{Error, Result};
use crate::machine::{Machine, Monitor};
use crate::mem::{P2m, Ram};
use crate::translate::{self, Limits, RuleId};
use descriptors::Descriptors;
use layout::Frames;
use memory::{FEWEST_FRAMES, FramePool, PageTables, ShadowMmu};
use ring::{RingCompression, RingMonitor};

/// The most frames for copies of the guest's ROM: all that there can be below 1 MiB.
const ROM_FRAMES: usize = 64;

/// How a monitor is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The strategy, the MMU, how its tables are kept coherent, and the engine.
    pub cell: Cell,
    /// Under binary translation: accesses that keep meeting traces and chips become callouts.
    pub adaptive: bool,
    /// Bytes of the real machine's memory; by default what guest and monitor need.
    pub machine_memory: Option<u64>,
    /// The most frames for shadow page tables.
    pub shadow_frames: u32,
    /// Where frames are: another seed scatters them otherwise.
    pub seed: u64,
    /// Under binary translation: bytes of translated code, at most. When they are used up all of it is thrown
    /// away.
    pub fragment_memory: usize,
    /// Under binary translation, the one rewriting rule that is not in force. Such a run is audited.
    pub without: Option<RuleId>,
    /// Audits the run: looks at each entry whether the guest reached state of the monitor's.
    pub audit: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cell: Cell::TRAP_TRACE,
            adaptive: true,
            machine_memory: None,
            shadow_frames: 4096,
            seed: 1,
            fragment_memory: Limits::default().fragments,
            without: None,
            audit: false,
        }
    }
}

/// Puts `machine` under a monitor.
///
/// # Errors
/// [`Error::Usage`] when the cell has no monitor, when the guest does not fit the machine's memory, or when
/// the shadow's share of it is too small; [`Error::Host`] when the memory cannot be had.
pub fn install(machine: &mut Machine, config: &Config) -> Result<()> {
    let Some(coherence) = config.cell.coherence() else {
        return Err(Error::Usage(format!("{} runs without a monitor: install none", config.cell)));
    };
    let (mut ram, p2m, own) = memory_for(machine, config)?;
    let (region, own) = own.split_at(layout::PAGES);
    let (pool, for_rom) = own.split_at(config.shadow_frames as usize);
    let descriptors = Descriptors::new(&mut ram, Frames(region.to_vec()));
    let pool = FramePool::new(pool.to_vec());
    let tables = PageTables::new(&mut ram, pool, region)
        .map_err(|_| Error::Usage("the monitor has no frame for its own page table".into()))?;
    let mmu = ShadowMmu::new(tables, coherence, for_rom.to_vec());
    let audit = config.audit || config.without.is_some();
    let ring = RingCompression::new(config.cell, mmu, descriptors, audit);
    let monitor: Box<dyn Monitor> = match config.cell.strategy() {
        Strategy::Bt => Box::new(RingMonitor::new(ring, translation(config))),
        Strategy::Bare | Strategy::Trap => Box::new(RingMonitor::new(ring, trap::TrapAndEmulate)),
    };
    machine.virtualize(monitor, ram, p2m);
    Ok(())
}

/// Binary translation as `config` says.
fn translation(config: &Config) -> bt::Translation {
    let mut translator = translate::lookup(config.cell.engine()).unwrap_or_else(translate::portable);
    translator.limits_mut().fragments = config.fragment_memory;
    bt::Translation::new(translator, config.without, config.adaptive)
}

/// The real machine's memory, the guest's place in it, and the frames that are left for the monitor.
fn memory_for(machine: &Machine, config: &Config) -> Result<(Ram, P2m, Vec<MachineAddr>)> {
    if config.shadow_frames < FEWEST_FRAMES {
        return Err(Error::Usage(format!(
            "{} frames for shadow page tables are too few: one instruction may need up to {FEWEST_FRAMES}",
            config.shadow_frames
        )));
    }
    let guest = u64::from(machine.world.map.p2m().size() >> PAGE_SHIFT);
    let needed = guest + layout::PAGES as u64 + u64::from(config.shadow_frames);
    // Without frames for copies of its ROM a guest runs, too: what it does there is emulated.
    let rom = machine.world.map.rom_pages().min(ROM_FRAMES);
    let frames = config.machine_memory.map_or(needed + rom as u64, |bytes| bytes >> PAGE_SHIFT);
    if frames < needed {
        return Err(Error::Usage(format!(
            "the machine has {} KiB of memory, and this guest with its monitor needs {} KiB: give more to \
             --machine-mem, or less to --mem or --shadow-frames",
            frames * 4,
            needed * 4
        )));
    }
    if frames >= 1 << 20 {
        return Err(Error::Usage(format!(
            "a machine of {} KiB cannot be built: it has to be smaller than 4 GiB; give less to --mem or \
             --shadow-frames",
            frames * 4
        )));
    }
    let order = shuffled(frames as u32, config.seed);
    let (for_guest, own) = order.split_at(guest as usize);
    let own = own.iter().take(layout::PAGES + config.shadow_frames as usize + rom);
    let own = own.map(|n| MachineAddr(n << PAGE_SHIFT)).collect();
    let p2m = P2m::scattered(for_guest.to_vec(), frames as u32);
    Ok((Ram::of_pages(frames as u32)?, p2m, own))
}

/// The numbers below `n` in an order that depends on the seed alone (Fisher and Yates, with SplitMix64).
fn shuffled(n: u32, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..n as usize).rev() {
        order.swap(i, (next() % (i as u64 + 1)) as usize);
    }
    order
}

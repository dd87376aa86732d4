//! The monitor owns a real machine, whose memory is not the guest's and whose processor runs the guest
//! de-privileged; what the guest must not do itself arrives here as a fault, an *exit*.
//!
//! The monitor is honest: it uses page tables, descriptor tables, faults and VM exits, and nothing else. The one
//! licence is that a fault or a VM exit taken while the guest runs arrives as a Rust value, and not at a stub
//! behind an IDT gate or at the host's RIP.
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
//! | `hvm` | the guest in VMX non-root operation |
//! | `insn`, `place`, `step`, `ledger` | what all of them need: the instruction at hand, where it is, running it on the virtual processor, counts |

mod audit;
pub mod bt;
mod bug;
pub mod cost;
pub mod descriptors;
mod hvm;
mod insn;
mod integrity;
mod invariants;
pub mod layout;
mod ledger;
pub mod memory;
mod place;
mod ring;
mod shadow_descriptor;
mod step;
mod trap;
pub mod vcpu;
mod views;

#[cfg(test)]
#[path = "../../tests/monitor/mod.rs"]
mod tests;

use crate::addr::{MachineAddr, PAGE_SHIFT};
use crate::cell::{Cell, Coherence, Mmu, Strategy, listed};
use crate::cpu::Model;
use crate::error::{Error, Result};
use crate::machine::{Machine, Monitor};
use crate::mem::{P2m, Ram};
use crate::translate::{self, Limits, RuleId};
use descriptors::Descriptors;
use hvm::{Hvm, HvmMonitor, Paging};
use layout::Frames;
use memory::{ExtendedTables, FEWEST_FRAMES, FramePool, NestedMmu, PageTables, ShadowMmu};
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
    /// The real machine's processor under hardware assist; by default the least that the cell needs.
    pub processor: Option<Model>,
    /// Bytes of the real machine's memory; by default what guest and monitor need.
    pub machine_memory: Option<u64>,
    /// The most frames for shadow page tables, or for extended ones.
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
            processor: None,
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
    if !config.cell.has_monitor() {
        return Err(Error::Usage(format!("{} runs without a monitor: install none", config.cell)));
    }
    let (mut ram, p2m, own) = memory_for(machine, config)?;
    let monitor: Box<dyn Monitor> = match config.cell.strategy() {
        Strategy::Hvm => Box::new(HvmMonitor::new(hypervisor(config, &mut ram, &own)?)),
        Strategy::Bt => Box::new(RingMonitor::new(compression(config, &mut ram, &own)?, translation(config))),
        Strategy::Bare | Strategy::Trap => {
            Box::new(RingMonitor::new(compression(config, &mut ram, &own)?, trap::TrapAndEmulate))
        }
    };
    machine.virtualize(monitor, ram, p2m);
    Ok(())
}

/// Ring compression in the frames `own`.
fn compression(config: &Config, ram: &mut Ram, own: &[MachineAddr]) -> Result<RingCompression> {
    let (region, own) = own.split_at(layout::PAGES);
    let mmu = shadow_mmu(config, ram, own, region)?;
    let descriptors = Descriptors::new(ram, Frames(region.to_vec()));
    let audit = config.audit || config.without.is_some();
    Ok(RingCompression::new(config.cell, mmu, descriptors, audit))
}

/// A hypervisor in the frames `own`.
fn hypervisor(config: &Config, ram: &mut Ram, own: &[MachineAddr]) -> Result<Hvm> {
    let model = processor(config)?;
    let (pages, own) = own.split_at(hvm::PAGES);
    let paging = match config.cell.mmu() {
        Mmu::Nested => {
            let (pool, for_rom) = own.split_at(config.shadow_frames as usize);
            let tables = ExtendedTables::new(ram, FramePool::new(pool.to_vec())).map_err(|_| no_frame())?;
            Paging::Nested(NestedMmu::new(tables, for_rom.to_vec()))
        }
        Mmu::Direct | Mmu::Shadow => Paging::Shadow(Box::new(shadow_mmu(config, ram, own, &[])?)),
    };
    let pages = std::array::from_fn(|n| pages[n]);
    Ok(Hvm::new(config.cell, model, ram, pages, paging))
}

/// Whether there is a machine for the cell of `config`.
///
/// # Errors
/// [`Error::Usage`], when the processor lacks what the cell needs.
pub fn can_run(config: &Config) -> Result<()> {
    if config.cell.strategy() == Strategy::Hvm { processor(config).map(|_| ()) } else { Ok(()) }
}

/// The real machine's processor under hardware assist.
///
/// # Errors
/// [`Error::Usage`] for one that cannot run the cell.
fn processor(config: &Config) -> Result<Model> {
    let nested = config.cell.mmu() == Mmu::Nested;
    let model = config.processor.unwrap_or(if nested { Model::YonahEpt } else { Model::Yonah });
    match model.vmx() {
        None => Err(Error::Usage(format!(
            "--strategy hvm needs a processor with VMX, and --cpu {model} has none: give --cpu {}",
            listed(Model::ALL.iter().filter(|model| model.vmx().is_some()))
        ))),
        Some(caps) if nested && caps.ept_vpid == 0 => Err(Error::Usage(format!(
            "--mmu nested needs a processor with extended page tables, and --cpu {model} has none: give --cpu \
             {}, or --mmu shadow",
            Model::YonahEpt
        ))),
        Some(_) => Ok(model),
    }
}

/// The shadow MMU in the frames `own`; each address space maps the pages of `region`.
fn shadow_mmu(
    config: &Config,
    ram: &mut Ram,
    own: &[MachineAddr],
    region: &[MachineAddr],
) -> Result<ShadowMmu> {
    let (pool, for_rom) = own.split_at(config.shadow_frames as usize);
    let tables = PageTables::new(ram, FramePool::new(pool.to_vec()), region).map_err(|_| no_frame())?;
    let coherence = config.cell.coherence().unwrap_or(Coherence::Trace);
    Ok(ShadowMmu::new(tables, coherence, for_rom.to_vec()))
}

fn no_frame() -> Error {
    Error::Usage("the monitor has no frame for its own page table".into())
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
    let pages = if config.cell.strategy() == Strategy::Hvm { hvm::PAGES } else { layout::PAGES };
    let needed = guest + pages as u64 + u64::from(config.shadow_frames);
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
    let own = own.iter().take(pages + config.shadow_frames as usize + rom);
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

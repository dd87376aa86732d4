//! Which shadows of address spaces are kept when there is room for few: those that were used last (the policy with traces).

use super::equivalence::runner;
use super::kernel;
use crate::vmm::bug::{self, Bug};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError};
use std::cell::Cell as Counter;
use subring::addr::{GuestPhys, Linear, MachineAddr, PAGE_SIZE};
use subring::cell::Coherence;
use subring::cpu::{Cr0, Cr4};
use subring::machine::Machine;
use subring::machine::ShadowView;
use subring::mmu::paging::Access;
use subring::report::Top;
use subring::vmm::memory::{FEWEST_FRAMES, FramePool, PageTables, Resolution, ShadowMmu};

/// The guest's directories, of which the first entry is one of tables, and each table maps its first page.
const DIRECTORIES: u32 = 0x10_0000;
const SPACES: u32 = 40;
const TABLES: u32 = 0x18_0000;
/// Frames that the monitor has.
const POOL: u32 = 0x20_0000;

/// Goes through address spaces in the order of `draws`, with an access in each, and holds what is kept against a list by last use.
/// How many were given up.
fn used_last_stay(draws: &[u32]) -> Result<u64, String> {
    let mut m = guest();
    let frames = (0..FEWEST_FRAMES).map(|n| MachineAddr(POOL + n * PAGE_SIZE)).collect();
    let tables =
        PageTables::new(&mut m.world.map.ram, FramePool::new(frames), &[]).map_err(|_| "no frame")?;
    let mut mmu = ShadowMmu::new(tables, Coherence::Trace, Vec::new());
    let mut by_use: Vec<u32> = Vec::new();
    for &n in draws {
        m.cpu.cr3 = DIRECTORIES + n * PAGE_SIZE;
        mmu.enter(&m.cpu, &mut m.world.map);
        let access = Access::read(false);
        let found = mmu.resolve(&m.cpu, &mut m.world, Linear(0), access, |_, _| false);
        if found != Resolution::Filled {
            return Err(format!("space {n}: {found:?}"));
        }
        by_use.retain(|other| *other != n);
        by_use.push(n);
        let mut kept: Vec<u32> = mmu.kept_spaces().iter().map(|(key, _)| number(key.top)).collect();
        let mut last = by_use[by_use.len() - kept.len()..].to_vec();
        kept.sort_unstable();
        last.sort_unstable();
        if kept != last {
            return Err(format!("{kept:?} are kept, of {by_use:?} in the order of their last use"));
        }
    }
    Ok(mmu.counts().spaces_dropped)
}

/// The number of the space with this directory.
fn number(top: Top) -> u32 {
    match top {
        Top::Directory(at) => (at.0 - DIRECTORIES) / PAGE_SIZE,
        other => panic!("{other:?}"),
    }
}

fn guest() -> Machine {
    let mut m = kernel::machine(&[]);
    for n in 0..SPACES {
        let table = TABLES + n * PAGE_SIZE;
        m.store(GuestPhys(DIRECTORIES + n * PAGE_SIZE), &(table | 7).to_le_bytes());
        m.store(GuestPhys(table), &7u32.to_le_bytes());
    }
    m.cpu.cr0 |= Cr0::PG | Cr0::WP;
    m.cpu.cr4 |= Cr4::PSE;
    m
}

/// Random orders, mostly of few spaces at a time.
fn orders(bug: Option<Bug>) -> (Result<(), TestError<Vec<u32>>>, u64) {
    let near = prop_oneof![3 => 0..6u32, 1 => 0..SPACES];
    let dropped = Counter::new(0);
    let result = runner(100).run(&proptest::collection::vec(near, 1..120), |draws| {
        let gone = bug::with(bug, || used_last_stay(&draws)).map_err(TestCaseError::fail)?;
        dropped.set(dropped.get() + gone);
        Ok(())
    });
    (result, dropped.get())
}

#[test]
fn the_address_spaces_that_were_used_last_are_kept() {
    let (result, dropped) = orders(None);
    if let Err(failure) = result {
        panic!("{failure}");
    }
    println!("{dropped} address spaces given up");
    assert!(dropped > 500, "there is too much room: {dropped}");
}

#[test]
fn giving_up_the_newest_is_noticed() {
    let (result, _) = orders(Some(Bug::EvictNewest));
    let Err(TestError::Fail(reason, draws)) = result else { panic!("nobody noticed: {result:?}") };
    println!("EvictNewest: {} in {} steps", reason.message(), draws.len());
}
